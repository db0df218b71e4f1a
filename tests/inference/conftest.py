import numpy as np
import pytest
import torch
from torch import nn

from addersr import checkpoint
from addersr.images import files
from addersr.images.files import Picture
from addersr.models import EDSR, build


def make_busy(name: str, **overrides: object) -> EDSR:
    """A network whose every part shows in its output: true statistics, a last layer that is not zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(name, **overrides)
    nn.init.normal_(model.tail.weight, std=0.02, generator=generator)
    nn.init.normal_(model.tail.bias, std=0.02, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = (
                1.0  # one picture sets the statistics; with the fresh ones an adder unit gives all zeros
            )
    with torch.no_grad():
        model.train()(torch.rand(2, 3, 24, 24, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def busy():
    return make_busy


@pytest.fixture
def make_picture():
    """make_picture(path) writes noise that depends on the file's name, and its folder, and gives the path back."""

    def make(path, size=(12, 10)):
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(path.name.encode())
        files.write(path, Picture(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)))
        return path

    return make


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Files of tiny x2 and x3 networks, by scale."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {scale: folder / f"tiny_x{scale}.safetensors" for scale in (2, 3)}
    for scale, path in paths.items():
        checkpoint.save(path, make_busy(f"edsr_tiny_x{scale}"), {})
    return paths


@pytest.fixture
def model(weights):
    return weights[2]
