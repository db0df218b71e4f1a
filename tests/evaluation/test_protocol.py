"""The protocols: what is cropped, rounded, compared and left out, against definitions written out here."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from addersr.evaluation.metrics import psnr, ssim
from addersr.evaluation.protocol import DEFAULT, PROTOCOLS, Protocol
from addersr.images.resize import imresize

FLOAT_Y, UINT8_Y, SRCNN, VDSR, RGB = (
    PROTOCOLS[name] for name in ("ycbcr-float", "ycbcr-uint8", "srcnn", "vdsr", "rgb")
)
ON_Y = {name: protocol for name, protocol in PROTOCOLS.items() if not protocol.rgb}


def photograph(height: int = 47, width: int = 53, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Waves of another phase in each channel, an edge and noise: (H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    generator = np.random.default_rng(seed)
    channels = [128 + 70 * np.sin(rows / (4 + c)) * np.cos(columns / (6 - c)) for c in range(3)]
    picture = np.stack(channels, axis=-1) + 60 * (columns > rows)[..., None]
    noisy: npt.NDArray[np.float64] = picture + generator.normal(0, 6, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def grey_photograph() -> npt.NDArray[np.uint8]:
    return np.repeat(photograph()[..., :1], 3, axis=-1)


def bt601(rgb: npt.NDArray[Any]) -> npt.NDArray[Any]:
    red, green, blue = (rgb[..., c].astype(np.float64) for c in range(3))
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def to_uint8(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """MATLAB's uint8(); values in these tests lie within 0..255 or are clipped here."""
    return np.clip(np.floor(y + 0.5), 0, 255)


def inner(y: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    return y[scale:-scale, scale:-scale]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_pair_crops_hr_and_makes_lr(protocol: Protocol, scale: int) -> None:
    picture = photograph()
    pair = protocol.pair(picture, scale)
    height, width = 47 // scale, 53 // scale
    np.testing.assert_array_equal(pair.hr, picture[: height * scale, : width * scale])
    assert pair.lr.shape == (height, width, 3)
    if protocol.quantised:
        np.testing.assert_array_equal(pair.lr, imresize(pair.hr, 1 / scale))
        assert pair.lr.dtype == np.uint8
    else:
        expected = np.clip(imresize(pair.hr.astype(np.float64), 1 / scale), 0, 255)
        np.testing.assert_array_equal(pair.lr, expected)
        assert (pair.lr != np.rint(pair.lr)).any()


def test_the_sets_own_lr_is_used_where_lr_is_quantised() -> None:
    lr = photograph(23, 26, seed=1)
    for protocol in (FLOAT_Y, UINT8_Y, RGB):
        np.testing.assert_array_equal(protocol.pair(photograph(), 2, lr=lr).lr, lr)
    np.testing.assert_array_equal(SRCNN.pair(photograph(), 2, lr=lr).lr, SRCNN.pair(photograph(), 2).lr)


def test_an_lr_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="LR must be 26x23 pixels for HR of 52x46 at x2, got 26x24"):
        FLOAT_Y.pair(photograph(), 2, lr=photograph(24, 26))


@pytest.mark.parametrize(("scale", "least"), [(2, 16), (3, 18), (4, 20)])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_picture_smaller_than_the_window_of_ssim_is_refused(
    protocol: Protocol, scale: int, least: int
) -> None:
    pair = protocol.pair(photograph(least, least), scale)
    assert np.isfinite(protocol.score_compared(protocol.bicubic(pair), pair).ssim)
    with pytest.raises(ValueError, match=f"at least {least}x{least} pixels at x{scale}, got 40x{least - 1}"):
        protocol.pair(photograph(least - 1, 40), scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_float_y(scale: int) -> None:
    """LR and result 8-bit RGB, Y not rounded."""
    pair = FLOAT_Y.pair(photograph(), scale)
    result = imresize(imresize(pair.hr, 1 / scale), scale)
    a, b = inner(bt601(result), scale), inner(bt601(pair.hr), scale)
    for score in (FLOAT_Y.score_compared(FLOAT_Y.bicubic(pair), pair), FLOAT_Y.score(result, pair)):
        assert (score.psnr, score.ssim) == pytest.approx((psnr(a, b), ssim(a, b)), rel=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_uint8_y(scale: int) -> None:
    """LR and result 8-bit RGB, Y rounded."""
    pair = UINT8_Y.pair(photograph(), scale)
    result = imresize(imresize(pair.hr, 1 / scale), scale)
    a, b = inner(to_uint8(bt601(result)), scale), inner(to_uint8(bt601(pair.hr)), scale)
    for score in (UINT8_Y.score_compared(UINT8_Y.bicubic(pair), pair), UINT8_Y.score(result, pair)):
        assert (score.psnr, score.ssim) == pytest.approx((psnr(a, b), ssim(a, b)), rel=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_srcnn_bicubic(scale: int) -> None:
    """Demo_SR.m: 8-bit Y of HR, down and up in floating point, uint8 at the end."""
    pair = SRCNN.pair(photograph(), scale)
    y = to_uint8(bt601(pair.hr))
    result = to_uint8(imresize(imresize(y, 1 / scale), scale))
    score = SRCNN.score_compared(SRCNN.bicubic(pair), pair)
    a, b = inner(result, scale), inner(y, scale)
    assert (score.psnr, score.ssim) == pytest.approx((psnr(a, b), ssim(a, b)), rel=1e-12)


def test_srcnn_result_of_a_network_is_rounded_in_y_alone() -> None:
    pair = SRCNN.pair(photograph(), 2)
    result = np.clip(imresize(pair.lr, 2), 0, 255)
    score = SRCNN.score(result, pair)
    a, b = inner(to_uint8(bt601(result)), 2), inner(to_uint8(bt601(pair.hr)), 2)
    assert (score.psnr, score.ssim) == pytest.approx((psnr(a, b), ssim(a, b)), rel=1e-12)
    assert score != SRCNN.score(np.rint(result), pair)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_vdsr_clips_bicubic_and_nothing_else(scale: int) -> None:
    """The Y of black and white is 16 and 235; bicubic overshoots both at an edge."""
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[:, 20:] = 255
    pair = VDSR.pair(picture, scale)
    free, clipped = SRCNN.bicubic(pair), VDSR.bicubic(pair)
    assert free.min() < 16 and free.max() > 235
    np.testing.assert_array_equal(clipped, free.clip(16, 235))
    assert VDSR.score(picture, pair) == SRCNN.score(picture, pair)


@pytest.mark.parametrize("scale", [2, 3])
def test_rgb(scale: int) -> None:
    """LR and result 8-bit RGB; the squared error is pooled over the channels, SSIM is their mean."""
    pair = RGB.pair(photograph(), scale)
    result = imresize(imresize(pair.hr, 1 / scale), scale)
    a, b = (inner(picture.astype(np.float64), scale) for picture in (result, pair.hr))
    expected = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
    expected_ssim = np.mean([ssim(a[..., c], b[..., c]) for c in range(3)])
    for score in (RGB.score_compared(RGB.bicubic(pair), pair), RGB.score(result, pair)):
        assert (score.psnr, score.ssim) == pytest.approx((expected, expected_ssim), rel=1e-12)


def test_rgb_takes_one_channel_for_three() -> None:
    pair = RGB.pair(grey_photograph(), 2, grey=True)
    values = RGB.bicubic(pair)
    score = RGB.score_compared(values, pair)
    a, b = (inner(picture[..., 0].astype(np.float64), 2) for picture in (values, pair.hr))
    assert (score.psnr, score.ssim) == pytest.approx((psnr(a, b), ssim(a, b)), rel=1e-12)


@pytest.mark.parametrize("protocol", ON_Y.values(), ids=ON_Y)
def test_the_grey_of_one_channel_is_its_y(protocol: Protocol) -> None:
    """Compared in 0..255: the score is that of the one channel, 1.3 dB below Y of three equal ones."""
    grey = grey_photograph()
    pair = protocol.pair(grey, 2, grey=True)
    score = protocol.score_compared(protocol.bicubic(pair), pair)
    hr = pair.hr[..., 0]
    if protocol.quantised:
        result = imresize(imresize(hr, 1 / 2), 2).astype(np.float64)
    else:
        result = imresize(imresize(hr.astype(np.float64), 1 / 2), 2)
        result = to_uint8(result.clip(16, 235) if protocol is VDSR else result)
    a, b = inner(result, 2), inner(hr.astype(np.float64), 2)
    assert (score.psnr, score.ssim) == pytest.approx((psnr(a, b), ssim(a, b)), rel=1e-10)
    as_rgb = protocol.pair(grey, 2)
    if protocol is VDSR:  # it clips the one at 16 and 235, and the other beyond black and white
        return
    difference = protocol.score_compared(protocol.bicubic(as_rgb), as_rgb).psnr - score.psnr
    assert difference == pytest.approx(20 * np.log10(255 / 219), abs=0.05)


@pytest.mark.parametrize("protocol", ON_Y.values(), ids=ON_Y)
def test_a_result_with_unequal_channels_goes_back_to_grey_by_the_weights_of_y(protocol: Protocol) -> None:
    level = np.full((4, 4, 3), 90, np.uint8)
    np.testing.assert_allclose(protocol.compared(level, grey=True), 90, rtol=1e-14)
    reddish = level + np.array([10, 0, 0], np.uint8)
    expected = 90 + 10 * 65.481 / 219
    np.testing.assert_allclose(
        protocol.compared(reddish, grey=True), round(expected) if protocol.rounded_y else expected, rtol=1e-14
    )


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_exactly_scale_pixels_are_left_out_at_each_side(protocol: Protocol, scale: int) -> None:
    pair = protocol.pair(photograph(), scale)
    good = pair.hr.copy()
    assert protocol.score(good, pair).psnr == np.inf
    assert protocol.score(good, pair).ssim == pytest.approx(1.0, abs=1e-12)
    for index in (scale - 1, -scale):
        for axis in (0, 1):
            bad = pair.hr.copy()
            np.moveaxis(bad, axis, 0)[index] ^= 128
            assert protocol.score(bad, pair).psnr == np.inf
    for index in (scale, -scale - 1):
        for axis in (0, 1):
            bad = pair.hr.copy()
            np.moveaxis(bad, axis, 0)[index] ^= 128
            assert protocol.score(bad, pair).psnr < 40


@pytest.mark.parametrize(("value", "rounded"), [(-3.0, 0), (0.4, 0), (0.6, 1), (254.6, 255), (300.0, 255)])
def test_a_rounded_y_has_8_bits(value: float, rounded: int) -> None:
    pixel = np.full((1, 1, 3), value)
    assert FLOAT_Y.compared(pixel, grey=True).item() == pytest.approx(value)
    assert UINT8_Y.compared(pixel, grey=True).item() == SRCNN.compared(pixel, grey=True).item() == rounded


def test_the_protocols_say_what_they_are() -> None:
    assert DEFAULT in PROTOCOLS
    descriptions = [protocol.describe() for protocol in PROTOCOLS.values()]
    assert [description["name"] for description in descriptions] == list(PROTOCOLS)
    assert len({tuple(d[key] for key in ("lr", "result", "channel")) for d in descriptions}) == len(PROTOCOLS)
    assert "not rounded" in FLOAT_Y.describe()["channel"]
    assert "not quantised" in SRCNN.describe()["lr"]
