"""On the CPU an Upscaler runs adder networks fused, in float32 and int8: the same pictures, in memory that is kept."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from addersr.images.files import to_tensor
from addersr.inference import upscaler as module
from addersr.inference.fused import FusedEDSR
from addersr.inference.quantize import input_ranges, quantized
from addersr.inference.upscaler import Upscaler
from addersr.models import EDSR, build
from addersr.ops import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason="no native kernels")

VARIANTS = [
    {"blocks": 2, "channels": 8},
    {"blocks": 8, "channels": 12},
    {"blocks": 16, "channels": 5},
    {"blocks": 1, "channels": 33},
    {"box_cox": False},
    {"power": False, "relu": False},
    {"shortcut": False},
    {"global_skip": "none", "residual_scaling": 1.0},
    {"upsampler": "conv"},
    {"batch_norm": False},
]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def make_int8(model: EDSR) -> EDSR:
    return quantized(model, input_ranges(model, [to_tensor(noise(24, 24))]))


@pytest.mark.parametrize("size", [(1, 1), (13, 21), (7, 34)])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_fused_float32_equals_the_model(busy, overrides, scale, size):
    """As near to the network in float64 as the network in float32 is, but for a factor."""
    model = busy(f"edsr_tiny_x{scale}", **overrides)
    exact_model = build(f"edsr_tiny_x{scale}", **model.config).double().eval()
    exact_model.load_state_dict(model.state_dict())
    upscaler = Upscaler(model)
    assert isinstance(upscaler._network, FusedEDSR)
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact, eager, fused = exact_model(x.double()), model(x), upscaler._network(x)
    error, rounding = ((y - exact).abs().max() for y in (fused, eager))
    assert exact.std() > 0.01 and rounding < 1e-3 * exact.std(), "the comparison would be worth nothing"
    assert error <= 4 * rounding + 1e-6


@pytest.mark.parametrize("upsampler", ["adder", "conv"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fused_int8_is_near_the_model(busy, scale, upsampler):
    """Not equal: the fused maps are in half precision, so that a value may round to the next step of its grid."""
    model = make_int8(busy(f"edsr_tiny_x{scale}", upsampler=upsampler))
    x = to_tensor(noise(17, 22))
    with torch.inference_mode():
        eager = model(x)
        fused = Upscaler(model).upscale_tensor(x)
    difference = (fused - eager.clamp(0, 1)).abs()
    assert difference.mean() < 0.5 / 255 and difference.max() < 8 / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_int8_tiled_equals_whole(busy, scale):
    """Every step is the same for a pixel in any window, but for the head's convolution, which may sum in another order.

    A value that this takes over the edge between two steps of a grid shows as one level of the picture at most, rarely.
    """
    model = make_int8(busy(f"edsr_tiny_x{scale}"))
    whole, tiled = (Upscaler(model, tile=tile)(noise(53, 61)) for tile in (None, 16))
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled != whole).mean() < 1e-3


def addresses(upscaler: Upscaler) -> dict[str, int]:
    return {name: room.data_ptr() for name, room in upscaler._network._maps.items()}


@pytest.mark.parametrize("prepare", [lambda model: model, make_int8], ids=["float32", "int8"])
def test_maps_stay_where_they_are_from_tile_to_tile_and_picture_to_picture(busy, prepare):
    upscaler = Upscaler(prepare(busy("edsr_tiny_x2")), tile=16)
    seen = []
    for size in ((60, 70), (60, 70), (33, 20)):
        upscaler(noise(*size), lambda *_: seen.append(addresses(upscaler)))
    assert len(seen) == 4 * 5 * 2 + 3 * 2
    assert len(seen[0]) == 4 and all(each == seen[0] for each in seen)


def test_threads_do_not_share_a_pass(busy):
    upscaler = Upscaler(make_int8(busy("edsr_tiny_x2", channels=32)), tile=16)
    pictures = [noise(40 + i, 50, seed=i) for i in range(8)]
    alone = [upscaler(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(upscaler, pictures))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_when_memory_runs_out_the_kept_maps_go_and_tiles_become_smaller(busy, monkeypatch):
    class Hungry(FusedEDSR):
        def __call__(self, x):
            result = super().__call__(x)
            windows.append((self, x.shape[2] * x.shape[3]))
            if windows[-1][1] > 60 * 60:
                raise MemoryError
            return result

    windows = []
    model = busy("edsr_tiny_x2")
    picture = noise(120, 110)
    expected = Upscaler(model)(picture)
    monkeypatch.setattr(module, "FusedEDSR", Hungry)
    upscaler = Upscaler(model)
    assert np.abs(upscaler(picture).astype(int) - expected).max() <= 1
    failed = [network for network, pixels in windows if pixels > 60 * 60]
    assert failed and all(network is not upscaler._network for network in failed)
    assert all(room.numel() <= 60 * 60 * 32 for room in upscaler._network._maps.values())


def test_what_cannot_be_fused_runs_as_it_is(busy):
    for model in (busy("edsr_tiny_x2", unit="conv"), busy("edsr_tiny_x2").double()):
        assert Upscaler(model)._network is model
