"""Any size: the network as often as it takes, then exact resampling."""

import tracemalloc

import numpy as np
import pytest

from addersr.errors import ImageError
from addersr.images.picture import Animation, Picture
from addersr.images.resize import imresize
from addersr.inference import enlarge as module
from addersr.inference.enlarge import check_pixels, enlarge, resample
from addersr.inference.upscaler import Upscaler


@pytest.fixture(scope="module")
def upscaler(busy):
    return Upscaler(busy("edsr_tiny_x2"))


def noise(*shape, dtype=np.uint8):
    most = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, most, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
@pytest.mark.parametrize("shape", [(13, 17, 3), (13, 17), (40, 3, 1)])
@pytest.mark.parametrize("size", [(7, 11), (13, 17), (29, 9), (5, 40)])
def test_in_strips_or_whole_it_is_imresize(monkeypatch, dtype, shape, size):
    picture = noise(*shape, dtype=np.uint16).astype(dtype)
    expected = imresize(picture, output_shape=size)
    for strip in (1, 100, 2**22):
        monkeypatch.setattr(module, "_STRIP", strip)
        for in_place in (False, True):
            given = picture.copy()
            result = resample(given, size, in_place=in_place)
            assert result.dtype == expected.dtype and result.flags.c_contiguous
            np.testing.assert_allclose(result, expected, rtol=1e-12)
            assert in_place or np.array_equal(given, picture)


def test_in_place_it_takes_little_memory_beside_the_result():
    tracemalloc.start()
    try:
        picture = np.zeros((4000, 4000, 3), np.uint16)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = resample(picture, (3000, 3000), in_place=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 1.5 * result.nbytes  # 3.6 times where it is not in place


def test_the_network_s_own_scale_is_the_network(upscaler):
    pixels = noise(9, 12, 3)
    assert np.array_equal(enlarge(upscaler, Picture(pixels), (18, 24)).pixels, upscaler(pixels))


def test_its_own_size_is_the_picture(upscaler):
    picture = Picture(noise(9, 12, 3))
    assert enlarge(upscaler, picture, (9, 12)) is picture


def test_a_larger_size_is_the_network_again_then_smaller(upscaler):
    pixels = noise(9, 12, 3)
    result = enlarge(upscaler, Picture(pixels, grey=True, exif=b"kept"), (25, 30))
    assert np.array_equal(result.pixels, imresize(upscaler(upscaler(pixels)), output_shape=(25, 30)))
    assert (result.grey, result.exif) == (True, b"kept")


@pytest.mark.parametrize("size", [(4, 5), (17, 23)])
def test_alpha_takes_the_size_and_hidden_colour_does_not_show(upscaler, size):
    pixels, alpha = np.full((9, 12, 3), 200, np.uint8), np.full((9, 12), 255, np.uint8)
    pixels[:, 6:], alpha[:, 6:] = 0, 0
    flat = enlarge(upscaler, Picture(np.full_like(pixels, 200)), size).pixels
    result = enlarge(upscaler, Picture(pixels, alpha), size)
    assert result.alpha.shape == size and (result.alpha.min(), result.alpha.max()) == (0, 255)
    assert np.abs(result.pixels.astype(int) - flat)[result.alpha > 0].max() <= 1


def test_an_animation_frame_by_frame(upscaler):
    frames = [Picture(noise(9, 12, 3) // (i + 1)) for i in range(2)]
    result = enlarge(upscaler, Animation(tuple(frames), (40.0, 50.0), 2), (20, 25))
    assert (result.durations, result.plays) == ((40.0, 50.0), 2)
    for frame, made in zip(frames, result.frames, strict=True):
        assert np.array_equal(made.pixels, enlarge(upscaler, frame, (20, 25)).pixels)


def test_progress_is_the_share_of_the_work(busy):
    shares = []
    enlarge(Upscaler(busy("edsr_tiny_x2"), tile=9), Picture(noise(9, 18, 3)), (36, 72), shares.append)
    expected = [0.1, 0.2, *(0.2 + 0.1 * step for step in range(1, 9))]  # 2 tiles, then 8
    assert shares == pytest.approx(expected)


@pytest.mark.parametrize(
    ("target", "frames", "most", "reason"),
    [
        ((20, 20), 1, 399, "a result of 20 x 20 is too many pixels, the budget is 399"),
        ((20, 20), 2, 400, "a result of 20 x 20 x 2 frames is too many"),
        ((21, 20), 1, 420, "would take 40 x 40 pixels on the way, at most 1,500 are made; choose x2"),
        ((400, 2), 1, 800, "would take 40 x 40 pixels on the way, at most 1,500 are made"),
    ],
)
def test_a_result_beyond_the_budget(monkeypatch, target, frames, most, reason):
    monkeypatch.setattr(module, "MAX_RESULT_PIXELS", 1500)
    with pytest.raises(ImageError, match=reason):
        check_pixels((10, 10), target, frames, 2, most)
    check_pixels((10, 10), target, frames, 2, most * 16)


def test_a_long_thin_size_takes_no_more_than_its_own_pixels(upscaler, monkeypatch):
    made, upscale = [], Upscaler.upscale_picture
    monkeypatch.setattr(Upscaler, "upscale_picture", lambda *args: made.append(upscale(*args)) or made[-1])
    result = enlarge(upscaler, Picture(noise(24, 32, 3)), (1, 20_000))
    assert result.pixels.shape == (1, 20_000, 3)
    assert [picture.pixels.shape[:2] for picture in made] == [(48, 64), (96, 128), (192, 256)]


@pytest.mark.parametrize("factor", [0.5, 1, 1.1, 2, 3, 8, 9.5])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_what_comes_between_is_no_reason_where_the_shape_is_kept(factor, scale):
    size = round(100 * factor)
    check_pixels((100, 100), (size, size), 1, scale, size**2)
