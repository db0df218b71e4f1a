from pathlib import Path

import numpy as np
import pytest

from addersr import checkpoint
from addersr.images import files
from addersr.images.files import Picture
from addersr.models import build
from addersr.page.networks import Networks
from addersr.page.run import Limits, Order, Run


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoint.save(path, build("edsr_tiny_x2"), {})
    return path


@pytest.fixture
def networks(weights):
    return Networks([str(weights)], device="cpu")


@pytest.fixture
def network(networks):
    return networks.get("tiny", 2, "float32")


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


@pytest.fixture
def begin(networks, tmp_path):
    """Make a run of pictures, and start it; the choices are those of `Order`."""
    count = 0

    def run(*pictures: Path, limits: Limits | None = None, start: bool = True, **choices: object) -> Run:
        nonlocal count
        count += 1
        folder = tmp_path / "page" / str(count)
        folder.mkdir(parents=True)
        order = Order(pictures, "tiny", **choices)
        run = Run(networks, order, folder, limits or Limits())
        if start:
            run.start()
        return run

    return run
