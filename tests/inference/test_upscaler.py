from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from addersr.errors import AdderSRError, BackendError
from addersr.images.files import Animation, Picture, from_tensor, to_tensor
from addersr.images.resize import imresize
from addersr.inference import upscaler as module
from addersr.inference.upscaler import Upscaler, fill_hidden


class Hungry(nn.Module):
    """Nearest neighbour, x2; runs out of memory above a number of pixels."""

    scale, radius = 2, 1

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.seen = most, error, []

    def forward(self, x):
        self.seen.append(x.shape[2] * x.shape[3])
        if self.seen[-1] > self.most:
            raise self.error
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


def enlarge_whole_and_tiled(model, x, tile):
    return Upscaler(model, tile=None).upscale_tensor(x), Upscaler(model, tile=tile).upscale_tensor(x)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("size", "tile"),
    [((1, 1), 1), ((4, 5), 1), ((3, 40), 16), ((29, 31), 13), ((33, 41), 16), ((33, 41), 32)],
)
def test_tiled_equals_whole_in_float64(busy, scale, size, tile):
    model = busy(f"edsr_tiny_x{scale}").double()
    x = torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(tile))
    whole, tiled = enlarge_whole_and_tiled(model, x, tile)
    assert whole.shape == (1, 3, size[0] * scale, size[1] * scale)
    # Not torch.equal: a convolution may sum in another order for another shape.
    assert (tiled - whole).abs().max() < 1e-12


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_halo_that_is_too_small_shows(busy, scale):
    """The test above can fail: the test network does look far."""
    model = busy(f"edsr_tiny_x{scale}").double()
    x = torch.rand(1, 3, 33, 41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model.radius -= 1
    whole, tiled = enlarge_whole_and_tiled(model, x, 16)
    assert (tiled - whole).abs().max() > 1e-9


@pytest.mark.parametrize("unit", ["adder", "conv"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiled_picture_equals_whole_picture(busy, unit, scale):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    model = busy(f"edsr_tiny_x{scale}", unit=unit)
    whole, tiled = Upscaler(model, tile=None)(pixels), Upscaler(model, tile=16)(pixels)
    # In float32 the last bits may differ, and show only where a value lies on the edge between two levels.
    levels = (
        Upscaler(model, tile=None).upscale_tensor(to_tensor(pixels))[0].permute(1, 2, 0).double().numpy()
        * 255
    )
    differing = tiled != whole
    assert (np.abs(levels % 1 - 0.5)[differing] < 255 * 1e-5).all()
    assert differing.mean() < 1e-3
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_16_bit_picture_tiled(busy):
    pixels = np.random.default_rng(0).integers(0, 65536, (37, 53, 3)).astype(np.uint16)
    model = busy("edsr_tiny_x2")
    whole, tiled = Upscaler(model, tile=None)(pixels), Upscaler(model, tile=16)(pixels)
    assert whole.dtype == tiled.dtype == np.uint16
    assert len(np.unique(whole)) > 2000  # not 8 bits in disguise
    assert np.abs(tiled.astype(int) - whole).max() <= 65535 * 1e-5 + 1


def test_array_is_what_the_network_says(busy):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    model = busy("edsr_tiny_x3", unit="conv")  # adder networks are fused, see test_precision.py
    upscaled = Upscaler(model)(pixels)
    with torch.inference_mode():  # after the above, which has put the weights into another layout
        expected = from_tensor(model(to_tensor(pixels)))
    assert np.array_equal(upscaled, expected)
    assert expected.shape == (60, 90, 3)


def test_tensor_is_clipped_and_keeps_its_type(busy):
    x = torch.rand(2, 3, 9, 8, dtype=torch.float16)
    y = Upscaler(busy("edsr_tiny_x2")).upscale_tensor(x * 3 - 1)
    assert y.dtype == torch.float16
    assert (y.min(), y.max()) == (0, 1)


def test_an_empty_batch_gives_an_empty_batch(busy):
    assert Upscaler(busy("edsr_tiny_x2")).upscale_tensor(torch.empty(0, 3, 9, 8)).shape == (0, 3, 18, 16)


def test_network_is_in_eval_mode_and_no_gradient_is_kept(busy):
    model = busy("edsr_tiny_x2").train()
    y = Upscaler(model).upscale_tensor(torch.rand(1, 3, 9, 8, requires_grad=True))
    assert not model.training
    assert not y.requires_grad


@pytest.mark.parametrize("tile", [None, 16])
def test_progress_counts_every_tile(busy, tile):
    calls = []
    Upscaler(busy("edsr_tiny_x2"), tile=tile)(
        np.zeros((33, 20, 3), np.uint8), lambda *call: calls.append(call)
    )
    total = 1 if tile is None else 3 * 2
    assert calls == [(done, total) for done in range(1, total + 1)]


# The choice of a tile size.


def test_auto_takes_what_fits_whole_and_cuts_what_does_not(busy, monkeypatch):
    upscaler = Upscaler(busy("edsr_tiny_x2", unit="conv"))
    # The widest map of 8 channels x2: the upsampler's 4 x 8 values an LR pixel.
    bytes_per_pixel = 4 * 4 * 8 * module._LIVE_MAPS
    monkeypatch.setattr(module, "_CPU_BUDGET", bytes_per_pixel * 100 * 100)
    assert upscaler._choose_tile(100, 100, 1) is None
    assert upscaler._choose_tile(1, 10_000, 1) is None
    assert upscaler._choose_tile(100, 101, 1) == 100 - 2 * upscaler.radius
    assert upscaler._choose_tile(100, 100, 2) == 70 - 2 * upscaler.radius


def test_auto_bounds_every_window(busy, monkeypatch):
    model = busy("edsr_tiny_x2")
    upscaler = Upscaler(model)
    monkeypatch.setattr(module, "_CPU_BUDGET", upscaler._bytes_per_pixel * 80 * 80)
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:].numel()))
    pixels = np.random.default_rng(0).integers(0, 256, (150, 130, 3), np.uint8)
    result = upscaler(pixels)
    assert len(seen) == 3 * 3
    assert max(seen) <= 80 * 80
    assert np.abs(result.astype(int) - Upscaler(model, tile=None)(pixels)).max() <= 1


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), CPU_ERROR])
def test_auto_halves_the_tile_when_memory_runs_out_and_remembers(error):
    model = Hungry(60 * 60, error)
    upscaler = Upscaler(model)
    model.seen.clear()
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    expected = pixels.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(upscaler(pixels), expected)
    assert model.seen[:3] == [200 * 200, 101 * 101, 52 * 52]
    model.seen.clear()
    assert np.array_equal(upscaler(pixels), expected)
    assert max(model.seen) <= 60 * 60


def test_memory_that_runs_out_for_two_at_once_leaves_the_smaller_tile():
    model = Hungry(60 * 60, MemoryError())
    upscaler = Upscaler(model)

    class Late(np.ndarray):
        """A picture before whose pixels are there a smaller one has gone through in another thread."""

        def __getitem__(self, place):
            if upscaler._tile is None:
                with ThreadPoolExecutor(1) as other:
                    other.submit(upscaler, np.zeros((100, 100, 3), np.uint8)).result()
                assert upscaler._tile == 50
                model.seen.clear()
            return np.asarray(self)[place]

    upscaler(np.zeros((200, 200, 3), np.uint8).view(Late))
    assert model.seen[0] == 200 * 200 and max(model.seen[1:]) <= 60 * 60
    assert upscaler._tile == 50


def test_the_network_is_replaced_while_no_other_thread_runs_it(monkeypatch):
    prepare, free = Upscaler._prepare, []
    upscaler = Upscaler(Hungry(60 * 60, MemoryError()))

    def note(self):
        free.append(not self._lock.locked())
        return prepare(self)

    monkeypatch.setattr(Upscaler, "_prepare", note)
    upscaler(np.zeros((100, 100, 3), np.uint8))
    assert free == [False]


def test_auto_gives_up_at_the_smallest_tile():
    with pytest.raises(AdderSRError, match="not enough memory even for tiles of 25 pixels"):
        Upscaler(Hungry(20 * 20, CPU_ERROR))(np.zeros((100, 100, 3), np.uint8))


def test_an_explicit_tile_is_never_changed():
    model = Hungry(20 * 20, CPU_ERROR)
    with pytest.raises(AdderSRError, match="not enough memory for tiles of 50 pixels; use --tile auto"):
        Upscaler(model, tile=50)(np.zeros((100, 100, 3), np.uint8))
    assert model.seen == [51 * 51]


def test_other_errors_are_not_mistaken_for_memory():
    with pytest.raises(RuntimeError, match="a bug"):
        Upscaler(Hungry(20 * 20, RuntimeError("a bug")))(np.zeros((100, 100, 3), np.uint8))


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta", "hpu", "mkldnn"])
def test_a_device_that_is_not_there(busy, device):
    with pytest.raises(BackendError, match=f"device '{device}' cannot be used; use cpu or auto"):
        Upscaler(busy("edsr_tiny_x2"), device=device)


def test_a_tile_below_one(busy):
    with pytest.raises(ValueError, match="tile must be at least 1, got 0"):
        Upscaler(busy("edsr_tiny_x2"), tile=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_is_close_to_the_cpu(busy):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    on_cpu = Upscaler(busy("edsr_tiny_x2"))(pixels)
    on_gpu = Upscaler(busy("edsr_tiny_x2"), device="cuda", tile=24)(pixels)
    assert np.abs(on_cpu.astype(int) - on_gpu).max() <= 1


# Pictures.


def test_picture_carries_everything_along(busy):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    picture = Picture(pixels, None, b"exif", b"profile", b"xmp", grey=True)
    upscaler = Upscaler(busy("edsr_tiny_x2"))
    result = upscaler.upscale_picture(picture)
    assert np.array_equal(result.pixels, upscaler(pixels))
    assert (result.exif, result.icc_profile, result.xmp, result.grey) == (b"exif", b"profile", b"xmp", True)
    assert result.alpha is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_bicubic_whatever_its_tiles_and_flat_where_it_was_flat(busy, monkeypatch, dtype):
    top = np.iinfo(dtype).max
    alpha = np.random.default_rng(0).integers(0, top + 1, (40, 50)).astype(dtype)
    alpha[:15], alpha[30:] = 0, top
    picture = Picture(np.zeros((40, 50, 3), dtype), alpha)
    monkeypatch.setattr(module, "_ALPHA_TILE", 16)
    result = Upscaler(busy("edsr_tiny_x3")).upscale_picture(picture)
    assert result.alpha.dtype == dtype
    assert np.array_equal(result.alpha, imresize(alpha, 3))
    assert (result.alpha[: 13 * 3] == 0).all()
    assert (result.alpha[32 * 3 :] == top).all()


def test_hidden_colour_does_not_bleed_into_visible_pixels(busy):
    alpha = np.zeros((30, 30), np.uint8)
    alpha[10:20, 10:20] = 255
    inside = alpha > 0
    results = []
    for hidden in ((0, 0, 0), (255, 0, 255)):
        pixels = np.full((30, 30, 3), hidden, np.uint8)
        pixels[inside] = (200, 180, 90)
        results.append(Upscaler(busy("edsr_tiny_x2")).upscale_picture(Picture(pixels, alpha)).pixels)
    assert np.array_equal(*results)


def test_faint_colour_leaves_no_fringe_and_opaque_colour_as_it_is():
    """A black ring of alpha 1 around an opaque disc."""
    distance = np.hypot(*np.mgrid[-16:17, -16:17])
    alpha = np.select([distance < 8, distance < 10], [255, 1], 0).astype(np.uint8)
    pixels = np.where(alpha[..., None] == 255, np.array((230, 200, 60)), 0).astype(np.uint8)
    filled = fill_hidden(Picture(pixels, alpha)).pixels
    assert np.array_equal(filled[alpha == 255], pixels[alpha == 255])
    assert np.abs(filled[alpha < 255].astype(int) - (230, 200, 60)).max() <= 0.04 * 230


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_no_visible_colour_is_changed(dtype):
    generator = np.random.default_rng(0)
    most = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels, alpha = (
        (generator.random(shape) * most).round(3 if most == 1 else 0).astype(dtype)
        for shape in ((40, 40, 3), (40, 40))
    )
    alpha[:20] = alpha[:20] // 16 if most > 1 else alpha[:20] / 16
    filled = fill_hidden(Picture(pixels, alpha)).pixels
    assert filled.dtype == dtype and not np.array_equal(filled, pixels)
    shown = np.abs(filled - pixels.astype(float)) * (alpha / most)[..., None]
    assert shown.max() <= most / 32 + 1e-6 * most
    assert np.array_equal(filled[alpha > most / 8], pixels[alpha > most / 8])


@pytest.mark.parametrize("level", [1, 100, 255])
def test_an_evenly_transparent_picture_keeps_its_colours(level):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    assert np.array_equal(fill_hidden(Picture(pixels, np.full((9, 8), level, np.uint8))).pixels, pixels)


def test_wholly_transparent_picture(busy):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    upscaler = Upscaler(busy("edsr_tiny_x2"))
    result = upscaler.upscale_picture(Picture(pixels, np.zeros((9, 8), np.uint8)))
    assert np.array_equal(result.pixels, upscaler(pixels))
    assert (result.alpha == 0).all()


def test_an_animation_is_upscaled_frame_by_frame_and_its_progress_is_of_all(busy):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)
    upscaler, calls = Upscaler(busy("edsr_tiny_x2"), tile=5), []
    frames = (Picture(pixels[0], xmp=b"xmp"), Picture(pixels[1], np.full((9, 8), 255, np.uint8)))
    result = upscaler.upscale_picture(
        Animation(frames, (40.0, 50.0), plays=2), lambda *call: calls.append(call)
    )
    assert (result.durations, result.plays) == ((40.0, 50.0), 2)
    for got, frame in zip(result.frames, frames, strict=True):
        assert np.array_equal(got.pixels, upscaler(frame.pixels))
        assert (got.alpha is None) == (frame.alpha is None)
    assert result.frames[0].xmp == b"xmp"
    assert calls == [(done, 8) for done in range(1, 9)]
