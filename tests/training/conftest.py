"""A small data set and the command line that trains on it."""

from collections.abc import Callable
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


@pytest.fixture
def command(data: Path, tmp_path: Path) -> Fit:
    """command("fit", "--trainer.max_steps", "4", ...) runs a subcommand in-process; the run is in tmp_path/run."""

    def run(subcommand: str, *arguments: object) -> int:
        common = {
            "--run_dir": tmp_path / "run",
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
        return main(
            [subcommand, *(str(word) for option in common.items() for word in option), *map(str, arguments)]
        )

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
