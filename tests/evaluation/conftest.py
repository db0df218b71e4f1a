"""A tiny network, two tiny sets, and `addersr bench` on them."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from addersr import checkpoint
from addersr.evaluation.command import add_arguments, run
from addersr.models.presets import build


def saved(preset: str, path: Path) -> Path:
    """A file of random weights."""
    torch.manual_seed(0)
    checkpoint.save(path, build(preset), {})
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("edsr_tiny_x2", tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def weights_x3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("edsr_tiny_x3", tmp_path_factory.mktemp("weights") / "tiny_x3.safetensors")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`Mixed`: RGB of odd size and one channel, LR to be made. `Files`: LR for x2 that is not bicubic."""
    root = tmp_path_factory.mktemp("sets")
    rows, columns = np.mgrid[:45, :51]
    waves = [128 + 90 * np.sin(rows / (3 + c)) * np.cos(columns / 5) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 8, (45, 51, 3))
    picture = np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
    for folder in ("Mixed/HR", "Files/HR", "Files/LR_bicubic/X2"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(picture).save(root / "Mixed/HR/colour.png")
    Image.fromarray(picture[..., 0]).save(root / "Mixed/HR/grey.png")
    Image.fromarray(picture).save(root / "Files/HR/colour.png")
    Image.fromarray(picture[:44:2, :50:2]).save(root / "Files/LR_bicubic/X2/colourx2.png")
    return root


Bench = Callable[..., int]


@pytest.fixture(scope="session")
def bench() -> Bench:
    """Runs `addersr bench --data ROOT` with further words on the CPU, in this process."""

    def bench(root: Path, *arguments: object) -> int:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        return run(parser.parse_args(["--data", str(root), "--device", "cpu", *map(str, arguments)]))

    return bench
