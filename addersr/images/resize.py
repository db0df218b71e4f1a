"""MATLAB's bicubic `imresize`, pixel for pixel, and the crop that goes before it.

The low-resolution pictures of the super-resolution benchmarks were made by MATLAB. Pillow, OpenCV, torch and
the published Python ports differ from it in the kernel, in the border or in the rounding between the two
passes, by enough to move a score, so it is written out here.
"""

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

_KERNEL_WIDTH = 4.0

_Scalar = TypeVar("_Scalar", bound=np.generic)


def imresize(
    picture: npt.NDArray[Any], scale: float | None = None, *, output_shape: tuple[int, int] | None = None
) -> npt.NDArray[Any]:
    """Resize a picture as MATLAB's ``imresize(picture, scale)`` (bicubic, antialiased when shrinking) does.

    The kernel is Keys' cubic convolution with a = -0.5 (IEEE Trans. ASSP 29(6), 1981), widened by 1/scale
    along an axis that shrinks. The border is mirrored with its edge pixel repeated. The axis with the smaller
    scale goes first, rows on a tie. Integers are rounded half away from zero and saturated after *each* of
    the two passes, because MATLAB keeps the class of its input between them; this reproduces the x2, x3 and
    x4 LR files of Set5 exactly.

    Args:
        picture: (H, W) or (H, W, C), uint8, uint16 or floating point of any range.
        scale: factor for both axes; the result is ceil(scale * H) by ceil(scale * W).
        output_shape: (height, width) of the result, in place of `scale`.

    Returns:
        (H', W') or (H', W', C): of the dtype given if that is uint8 or uint16; otherwise float64, neither
        rounded nor clipped.

    Raises:
        TypeError: another dtype, or not exactly one of `scale` and `output_shape`.
        ValueError: a picture of another rank or with no pixels, or a size that is not positive.
    """
    if picture.ndim not in (2, 3) or 0 in picture.shape:
        raise ValueError(f"picture must be (H, W) or (H, W, C) and not empty, got {picture.shape}")
    if picture.dtype not in (np.uint8, np.uint16) and not np.issubdtype(picture.dtype, np.floating):
        raise TypeError(f"picture must be uint8, uint16 or floating point, got {picture.dtype}")
    lengths = picture.shape[:2]
    if scale is not None and output_shape is None:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be positive, got {scale}")
        targets = (math.ceil(scale * lengths[0]), math.ceil(scale * lengths[1]))
        scales = (scale, scale)
    elif output_shape is not None and scale is None:
        if len(output_shape) != 2 or min(output_shape) < 1:
            raise ValueError(f"output_shape must be two positive integers, got {output_shape}")
        targets = output_shape
        scales = (targets[0] / lengths[0], targets[1] / lengths[1])
    else:
        raise TypeError("give either scale or output_shape")
    result = picture if np.issubdtype(picture.dtype, np.integer) else picture.astype(np.float64)
    for axis in (0, 1) if scales[0] <= scales[1] else (1, 0):
        result = _resize_axis(result, axis, targets[axis], scales[axis])
    return result


def modcrop(picture: npt.NDArray[_Scalar], scale: int) -> npt.NDArray[_Scalar]:
    """Cut the bottom and the right of a picture so that both sides are multiples of `scale`.

    Args:
        picture: (H, W) or (H, W, C).
        scale: a positive integer.

    Returns:
        A view of the picture, (H - H mod scale, W - W mod scale[, C]).

    Raises:
        ValueError: `scale` is not positive, or a side is shorter than `scale`.
    """
    height, width = picture.shape[:2]
    if not 1 <= scale <= min(height, width):
        raise ValueError(f"scale must be from 1 to the shorter side of {width}x{height} pixels, got {scale}")
    return picture[: height - height % scale, : width - width % scale]


def _resize_axis(picture: npt.NDArray[Any], axis: int, target: int, scale: float) -> npt.NDArray[Any]:
    """One pass: every output line along `axis` is a weighted sum of input lines, in float64."""
    lines = np.moveaxis(picture, axis, 0)
    weights = _weights(lines.shape[0], target, scale)
    resized = (weights @ lines.reshape(lines.shape[0], -1)).reshape(target, *lines.shape[1:])
    if np.issubdtype(picture.dtype, np.integer):
        # What is below zero saturates, so half away from zero is half up. In place: `resized` may be large.
        resized += 0.5
        np.floor(resized, out=resized)
        resized = np.clip(resized, 0, np.iinfo(picture.dtype).max, out=resized).astype(picture.dtype)
    return np.ascontiguousarray(np.moveaxis(resized, 0, axis))


def _weights(length: int, target: int, scale: float) -> sparse.csr_array:
    """The (target, length) matrix of one pass, by the formulas of MATLAB's `contributions`.

    An input pixel that the mirror brings in more than once has that many entries in the row, as in MATLAB.
    """
    stretch = min(scale, 1.0)
    width = _KERNEL_WIDTH / stretch
    centres = np.arange(1, target + 1) / scale + 0.5 * (1 - 1 / scale)
    taps = np.floor(centres - width / 2)[:, None] + np.arange(math.ceil(width) + 2)
    values = stretch * _cubic(stretch * (centres[:, None] - taps))
    values /= values.sum(axis=1, keepdims=True)
    mirrored = np.mod(taps.astype(np.int64) - 1, 2 * length)
    mirrored = np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    used = values.any(axis=0)
    values, mirrored = values[:, used], mirrored[:, used]
    row_starts = np.arange(target + 1) * values.shape[1]
    return sparse.csr_array((values.ravel(), mirrored.ravel(), row_starts), shape=(target, length))


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' kernel, equation 15, with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
