"""What all tests share, and those of the page: of its logic, and of the program that shows it."""

import numpy as np
import pytest
import torch

from addersr import checkpoint
from addersr.images import files
from addersr.images.files import Picture
from addersr.models import build


@pytest.fixture(autouse=True)
def seed():
    """The same random numbers for a test whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoint.save(path, build("edsr_tiny_x2"), {})
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "holiday.jpg"
    files.write(path, Picture(np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8)))
    return path


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("not a picture")
    return path
