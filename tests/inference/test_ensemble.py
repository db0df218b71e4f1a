"""The x8 self-ensemble: turning a picture turns the result, whatever the network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from addersr import checkpoint
from addersr.cli import main
from addersr.images import files
from addersr.images.files import to_tensor
from addersr.inference.ensemble import VIEWS, mean_of_views, seen, unseen
from addersr.inference.fused import FusedEDSR
from addersr.inference.quantize import input_ranges, quantized
from addersr.inference.upscaler import Upscaler
from addersr.ops import cpu

VIEW_NAMES = [f"{turns}{'m' * mirrored}" for turns, mirrored in VIEWS]


def noise(*size: int, dtype=torch.float32) -> torch.Tensor:
    return torch.rand(1, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))


def ensemble(model: nn.Module, x: torch.Tensor, **options: object) -> torch.Tensor:
    return Upscaler(model, self_ensemble=True, **options).upscale_tensor(x)


def test_there_are_eight_views_and_each_is_undone():
    x = noise(5, 7)
    views = {seen(x, *view).numpy().tobytes() for view in VIEWS}
    assert len(views) == len(VIEWS) == 8
    assert all(torch.equal(unseen(seen(x, *view), *view), x) for view in VIEWS)


@pytest.mark.parametrize("view", VIEWS, ids=VIEW_NAMES)
@pytest.mark.parametrize("name", ["edsr_tiny_x2", "vdsr_tiny_x2"])
def test_equivariant_in_float64(busy, name, view):
    model = busy(name).double()
    x = noise(6, 9, dtype=torch.float64)
    difference = ensemble(model, seen(x, *view)) - seen(ensemble(model, x), *view)
    assert difference.abs().max() < 1e-12
    if view != (0, False):  # which the network alone is not
        alone = Upscaler(model).upscale_tensor
        assert (alone(seen(x, *view)) - seen(alone(x), *view)).abs().max() > 1e-4


@pytest.mark.skipif(cpu.unavailable_reason() is not None, reason="no native kernels")
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("view", VIEWS[1::3], ids=VIEW_NAMES[1::3])
def test_equivariant_fused(busy, precision, view):
    model = busy("edsr_tiny_x2")
    x = noise(13, 10)
    if precision == "int8":
        model = quantized(model, input_ranges(model, [x]))
    assert isinstance(Upscaler(model)._network, FusedEDSR)
    difference = (ensemble(model, seen(x, *view)) - seen(ensemble(model, x), *view)).abs()
    # The head's convolution may sum in another order; in int8 that may take a value over the edge between two steps.
    assert difference.mean() < 1e-6 if precision == "float32" else difference.mean() < 0.1 / 255
    assert difference.max() < (1e-5 if precision == "float32" else 1 / 255)


@pytest.mark.parametrize("name", ["edsr_tiny_x2", "edsr_tiny_x4", "vdsr_tiny_x3"])
def test_tiled_equals_whole(busy, name):
    model = busy(name).double()
    x = noise(19, 23, dtype=torch.float64)
    whole, tiled = (ensemble(model, x, tile=tile) for tile in (None, 8))
    assert (tiled - whole).abs().max() < 1e-12


def test_it_is_the_mean_of_the_turned_and_mirrored_pictures_in_numpy(busy):
    model = busy("edsr_tiny_x2", unit="conv").double()
    x = noise(5, 7, dtype=torch.float64)
    results = []
    for mirrored in (False, True):
        for turns in range(4):
            turned = np.rot90(x[0].numpy()[..., ::-1] if mirrored else x[0].numpy(), turns, (1, 2))
            with torch.inference_mode():
                y = model(torch.from_numpy(turned.copy())[None])[0].numpy()
            y = np.rot90(y, -turns, (1, 2))
            results.append(y[..., ::-1] if mirrored else y)
    with torch.inference_mode():
        assert np.abs(mean_of_views(model, x)[0].numpy() - np.mean(results, 0)).max() < 1e-12


class Bilinear(nn.Module):
    """Treats all directions alike."""

    scale, radius = 2, 1

    def forward(self, x):
        self.seen = [*getattr(self, "seen", []), tuple(x.shape)]
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("tile", [None, 5])
def test_an_equivariant_network_gives_what_it_gives_alone(tile):
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 3), np.uint8)
    alone, eight = (
        Upscaler(Bilinear(), tile=tile, self_ensemble=self_ensemble) for self_ensemble in (False, True)
    )
    x = to_tensor(pixels).double()
    torch.testing.assert_close(eight.upscale_tensor(x), alone.upscale_tensor(x), rtol=0, atol=1e-6)
    assert np.abs(eight(pixels).astype(int) - alone(pixels)).max() <= 1  # where a value ends in a half


def test_views_go_through_one_after_the_other():
    network = Bilinear()
    Upscaler(network, tile=None, self_ensemble=True).upscale_tensor(noise(4, 6))
    assert network.seen == [(1, 3, 4, 6), (1, 3, 6, 4)] * 4


class Ramp(nn.Module):
    """From -2 at the left to 2 at the right, whatever the picture."""

    scale, radius = 1, 0

    def forward(self, x):
        return torch.linspace(-2, 2, x.shape[3], dtype=x.dtype).expand(x.shape) + 0.25


def test_the_mean_is_taken_before_clipping():
    assert (ensemble(Ramp(), noise(6, 6)) - 0.25).abs().max() < 1e-6


def test_upscale_takes_it(weights, make_picture, tmp_path):
    picture = make_picture(tmp_path / "a.png")
    words = ["upscale", str(picture), "--model", str(weights[2]), "--self-ensemble", "--tile", "7"]
    assert main([*words, "-o", str(tmp_path / "out.png")]) == 0
    upscaler = Upscaler(checkpoint.load(weights[2]).model, self_ensemble=True)
    expected = upscaler(files.read(picture).pixels)
    assert np.abs(files.read(tmp_path / "out.png").pixels.astype(int) - expected).max() <= 1
    upscaler.self_ensemble = False
    assert np.abs(upscaler(files.read(picture).pixels).astype(int) - expected).max() > 1
