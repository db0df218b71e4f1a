"""Colour conversion: the luma (Y) channel on which super-resolution is scored."""

from typing import Any

import numpy as np
import numpy.typing as npt

_BT601 = np.array([65.481, 128.553, 24.966])


def rgb_to_y(rgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Y of ITU-R BT.601 in studio range, as in MATLAB's ``rgb2ycbcr``.

    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    Args:
        rgb: (..., 3), values 0..255 of any numeric dtype.

    Returns:
        (...) float64, 16..235, not rounded.

    Raises:
        ValueError: the last axis is not 3 long.
    """
    if rgb.ndim < 1 or rgb.shape[-1] != 3:
        raise ValueError(f"rgb must be (..., 3), got {rgb.shape}")
    y: npt.NDArray[np.float64] = 16.0 + rgb.astype(np.float64) @ _BT601 / 255.0
    return y
