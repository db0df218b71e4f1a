"""A small data set and the command line that trains on it."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from addersr import checkpoint
from addersr.models import presets
from addersr.training.command import main

Fit = Callable[..., int]
Line = Callable[..., list[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # Lightning calls jsonargparse in ways that will be gone in that package's next version.
            item.add_marker(
                pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
            )


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/, val/ and lr/, each of a few pictures of sharp squares, which bicubic blurs."""
    root = tmp_path_factory.mktemp("data")
    for index, (folder, count) in enumerate({"train": 4, "val": 2, "lr": 1}.items()):
        (root / folder).mkdir()
        for number in range(count):
            coarse = np.random.default_rng((index, number)).integers(256, size=(6, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse.repeat(6, axis=0).repeat(6, axis=1))
            picture.save(root / folder / f"{number:04}.png")
    return root


@pytest.fixture(scope="session")
def command_line(data: Path) -> Line:
    """command_line("fit", run_dir, "--trainer.max_steps", 4, ...) is the command line of a small run."""

    def line(subcommand: str, run_dir: Path, *arguments: object) -> list[str]:
        common = {
            "--run_dir": run_dir,
            "--model.preset": "edsr_tiny_x2",
            "--data.train_dirs": f"[{data / 'train'}]",
            "--data.val_dirs": f"[{data / 'val'}]",
            "--data.cache_dir": data / "cache",
            "--data.patch": 8,
            "--data.batch_size": 2,
            "--trainer.accelerator": "cpu",
            "--trainer.val_check_interval": 2,
            "--trainer.enable_model_summary": "false",
        }
        options = [word for option in common.items() for word in option]
        return [str(word) for word in (subcommand, *options, *arguments)]

    return line


@pytest.fixture
def command(command_line: Line, tmp_path: Path) -> Fit:
    """command("fit", "--trainer.max_steps", "4", ...) runs a subcommand in-process; the run is in tmp_path/run."""

    def run(subcommand: str, *arguments: object) -> int:
        return main(command_line(subcommand, tmp_path / "run", *arguments))

    return run


@pytest.fixture
def last(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """last() is what last.ckpt of the run in tmp_path holds, last("best") what best.ckpt does."""

    def load(name: str = "last") -> dict[str, Any]:
        content: dict[str, Any] = torch.load(
            tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True
        )
        return content

    return load


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network's first weights."""
    path = tmp_path / "first.safetensors"
    checkpoint.save(path, presets.build("edsr_tiny_x2"), {})
    return path


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """said.text is what Lightning told in its log, which it shows on stderr."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
