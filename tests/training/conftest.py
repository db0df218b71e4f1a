"""A small data set and the command line that trains on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from addersr.training.command import main

Fit = Callable[..., int]


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
