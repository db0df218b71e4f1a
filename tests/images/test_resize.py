"""MATLAB's bicubic: properties, an exact rational oracle, and the LR files of Set5."""

import math
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from addersr.images.resize import imresize, modcrop

HALF, THIRD, QUARTER = 1 / 2, 1 / 3, 1 / 4
SCALES = [HALF, THIRD, QUARTER, 2, 3, 4]


def random_picture(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def keys(x: Fraction) -> Fraction:
    """Keys' kernel from its conditions: 1 at 0, 0 at the other integers, a = -1/2 is the slope at 1."""
    x, a = abs(x), Fraction(-1, 2)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else Fraction(0)


def exact_line(line: list[Fraction], target: int, scale: Fraction) -> list[Fraction]:
    """One line, in exact arithmetic, by the definition: output pixel i is centred at (i + 1/2)/scale."""
    stretch = min(scale, Fraction(1))
    reach = math.ceil(2 / stretch) + 1
    # Edge pixel repeated, then mirrored, as often as the kernel needs.
    period = line + line[::-1]
    result = []
    for i in range(target):
        centre = (i + Fraction(1, 2)) / scale - Fraction(1, 2)
        near = range(math.floor(centre) - reach, math.floor(centre) + reach + 2)
        weights = {j: keys(stretch * (centre - j)) for j in near}
        total = sum(weights.values())
        result.append(sum((w * period[j % len(period)] for j, w in weights.items()), Fraction(0)) / total)
    return result


def exact_imresize(
    picture: npt.NDArray[Any], targets: tuple[int, int], scales: tuple[Fraction, Fraction], top: int | None
) -> npt.NDArray[Any]:
    """(H, W), pixel by pixel; rounded half up and clipped to 0..top after each pass unless top is None."""
    lines = [[Fraction(value) for value in row] for row in picture.tolist()]
    for axis in (0, 1) if scales[0] <= scales[1] else (1, 0):
        if axis == 0:
            lines = [list(column) for column in zip(*lines, strict=True)]
        lines = [exact_line(line, targets[axis], scales[axis]) for line in lines]
        if top is not None:
            lines = [
                [Fraction(min(max(math.floor(v + Fraction(1, 2)), 0), top)) for v in line] for line in lines
            ]
        if axis == 0:
            lines = [list(row) for row in zip(*lines, strict=True)]
    return np.array([[float(value) for value in line] for line in lines])


@pytest.mark.parametrize("shape", [(12, 8), (13, 7), (5, 3)])
@pytest.mark.parametrize("scale", SCALES)
def test_floating_point_agrees_with_exact_arithmetic(scale: float, shape: tuple[int, int]) -> None:
    picture = random_picture(*shape).astype(np.float64)
    exact_scale = Fraction(scale).limit_denominator(4)
    targets = (math.ceil(exact_scale * shape[0]), math.ceil(exact_scale * shape[1]))
    expected = exact_imresize(picture, targets, (exact_scale, exact_scale), top=None)
    np.testing.assert_allclose(imresize(picture, scale), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", SCALES)
def test_integers_agree_with_exact_arithmetic(scale: float, dtype: Any) -> None:
    height, width = (24, 36) if scale < 1 else (8, 9)
    picture = random_picture(height, width, dtype=dtype)
    exact_scale = Fraction(scale).limit_denominator(4)
    targets = (int(exact_scale * height), int(exact_scale * width))
    expected = exact_imresize(picture, targets, (exact_scale, exact_scale), top=np.iinfo(dtype).max)
    result = imresize(picture, scale)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("targets", [(7, 30), (30, 7), (5, 11), (20, 15)])
def test_output_shape_agrees_with_exact_arithmetic(targets: tuple[int, int]) -> None:
    """The axis with the smaller scale goes first; an axis of scale 1 is left alone."""
    picture = random_picture(20, 15)
    scales = (Fraction(targets[0], 20), Fraction(targets[1], 15))
    np.testing.assert_allclose(
        imresize(picture.astype(np.float32), output_shape=targets),
        exact_imresize(picture, targets, scales, top=None),
        rtol=0,
        atol=1e-10,
    )
    np.testing.assert_array_equal(
        imresize(picture, output_shape=targets), exact_imresize(picture, targets, scales, top=255)
    )


@pytest.mark.parametrize("scale", [*SCALES, 0.37, 1.7])
def test_a_constant_picture_stays_constant(scale: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    picture = np.broadcast_to(levels, (12, 17, 256))
    resized = imresize(picture, scale)
    np.testing.assert_array_equal(resized, np.broadcast_to(levels, resized.shape))
    np.testing.assert_allclose(imresize(np.full((9, 8), 0.3), scale), 0.3, rtol=1e-13)


@pytest.mark.parametrize("scale", SCALES)
def test_flips_and_quarter_turns_commute_in_floating_point(scale: float) -> None:
    picture = random_picture(24, 36, 3).astype(np.float64)
    resized = imresize(picture, scale)
    turns: list[Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = [
        np.flipud,
        np.fliplr,
        np.rot90,
        lambda p: p.transpose(1, 0, 2),
    ]
    for turn in turns:
        np.testing.assert_allclose(imresize(turn(picture), scale), turn(resized), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [HALF, QUARTER, 2, 4])
def test_flips_commute_in_8_bits(scale: float) -> None:
    """The weights of these scales are exact in binary, so that even ties are rounded alike."""
    picture = random_picture(24, 36, 3)
    for flip in (np.flipud, np.fliplr):
        np.testing.assert_array_equal(imresize(flip(picture), scale), flip(imresize(picture, scale)))


def test_enlarging_reproduces_a_quadratic() -> None:
    """Keys' kernel with a = -0.5 is of third order: away from the border polynomials of degree 2 are kept."""
    x = np.arange(20.0)
    centres = (np.arange(60) + 0.5) / 3 - 0.5
    resized = imresize(np.tile(3 + 2 * x - 0.1 * x**2, (4, 1)), output_shape=(4, 60))
    np.testing.assert_allclose(resized[:, 6:-6], np.tile(3 + 2 * centres - 0.1 * centres**2, (4, 1))[:, 6:-6])


@pytest.mark.parametrize("scale", SCALES)
def test_channels_and_memory_layout_make_no_difference(scale: float) -> None:
    picture = random_picture(24, 36, 3)
    resized = imresize(picture, scale)
    assert resized.flags.c_contiguous
    np.testing.assert_array_equal(
        resized, np.stack([imresize(picture[..., c], scale) for c in range(3)], axis=-1)
    )
    np.testing.assert_array_equal(resized, imresize(np.asfortranarray(picture), scale))
    twice = np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(resized, imresize(twice[::2, ::2], scale))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_overshoot_saturates(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    edge = np.zeros((8, 16), dtype)
    edge[:, 8:] = top
    resized = imresize(edge, 2)
    assert imresize(edge.astype(np.float64), 2).max() > top
    assert resized[:, :14].max() == 0
    assert resized[:, 18:].min() == top


def test_the_picture_is_not_changed() -> None:
    for dtype in (np.uint8, np.float64):
        picture = random_picture(9, 9).astype(dtype)
        before = picture.copy()
        imresize(picture, HALF)[:] = 0
        imresize(picture, 1)[:] = 0
        np.testing.assert_array_equal(picture, before)


def test_the_size_is_rounded_up() -> None:
    assert imresize(random_picture(13, 7, 3), HALF).shape == (7, 4, 3)
    assert imresize(random_picture(1, 1), QUARTER).shape == (1, 1)


def test_bad_arguments() -> None:
    picture = random_picture(8, 8)
    with pytest.raises(TypeError, match="either scale or output_shape"):
        imresize(picture)
    with pytest.raises(TypeError, match="either scale or output_shape"):
        imresize(picture, 2, output_shape=(4, 4))
    with pytest.raises(TypeError, match="int64"):
        imresize(picture.astype(np.int64), 2)
    for scale in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="scale must be positive"):
            imresize(picture, scale)
    with pytest.raises(ValueError, match="output_shape"):
        imresize(picture, output_shape=(0, 4))
    with pytest.raises(ValueError, match=r"got \(8,\)"):
        imresize(picture[0], 2)
    with pytest.raises(ValueError, match="not empty"):
        imresize(picture[:0], 2)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_modcrop(scale: int) -> None:
    for picture in (random_picture(13, 17, 3), random_picture(12, 24)):
        cropped = modcrop(picture, scale)
        assert cropped.shape[0] % scale == cropped.shape[1] % scale == 0
        assert all(0 <= a - b < scale for a, b in zip(picture.shape[:2], cropped.shape[:2], strict=True))
        np.testing.assert_array_equal(cropped, picture[: cropped.shape[0], : cropped.shape[1]])


def test_modcrop_refuses_what_leaves_nothing() -> None:
    for scale in (0, 5):
        with pytest.raises(ValueError, match=f"7x4 pixels, got {scale}"):
            modcrop(random_picture(4, 7, 3), scale)


@pytest.mark.skipif(
    "ADDERSR_SETS" not in os.environ, reason="ADDERSR_SETS does not name a folder with Set5 in it"
)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["baby", "bird", "butterfly", "head", "woman"])
def test_the_low_resolution_files_of_set5(name: str, scale: int) -> None:
    folder = Path(os.environ["ADDERSR_SETS"]) / "Set5"
    hr = np.array(Image.open(folder / "HR" / f"{name}.png"))
    lr = np.array(Image.open(folder / "LR_bicubic" / f"X{scale}" / f"{name}x{scale}.png"))
    np.testing.assert_array_equal(imresize(modcrop(hr, scale), 1 / scale), lr)
