"""PSNR and SSIM of one picture, with the settings of the super-resolution literature.

Both compare one channel, as a rule Y (`addersr.images.color.rgb_to_y`), in the range 0..255. A set's score is
the mean over its pictures; pooling the squared errors over pictures gives another, lower number.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

_Scalar = TypeVar("_Scalar", bound=np.generic)

SSIM_WINDOW = 11
"""Side of Wang's window: a shorter picture has no SSIM."""


def psnr(a: npt.NDArray[Any], b: npt.NDArray[Any], data_range: float = 255.0) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / mean((a - b)^2)).

    Args:
        a, b: arrays of one shape; computed in float64 whatever their dtype.
        data_range: the largest possible difference, 255 for Y.

    Returns:
        Decibels; inf where the two are equal.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(a, b)
    with np.errstate(divide="ignore"):
        return float(
            peak_signal_noise_ratio(a.astype(np.float64), b.astype(np.float64), data_range=data_range)
        )


def ssim(a: npt.NDArray[Any], b: npt.NDArray[Any], data_range: float = 255.0) -> float:
    """Structural similarity of Wang et al. (IEEE TIP 13(4), 2004), as in their MATLAB code and in BasicSR.

    Gaussian window of 11x11 with sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03; the mean over the
    positions where the whole window lies inside the picture. No downsampling.

    Args:
        a, b: (H, W) arrays of one shape, both sides at least `SSIM_WINDOW`; computed in float64.
        data_range: the largest possible difference, 255 for Y.

    Returns:
        At most 1, which equal pictures have.

    Raises:
        ValueError: the shapes differ, are not (H, W), or are smaller than the window.
    """
    _same_shape(a, b)
    if a.ndim != 2 or min(a.shape) < SSIM_WINDOW:
        raise ValueError(f"ssim needs (H, W) of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {a.shape}")
    return float(
        structural_similarity(
            a.astype(np.float64),
            b.astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def shave(picture: npt.NDArray[_Scalar], border: int) -> npt.NDArray[_Scalar]:
    """Leave out `border` pixels at each side, (H, W[, C]) -> (H - 2 border, W - 2 border[, C]), a view."""
    return picture[border : picture.shape[0] - border, border : picture.shape[1] - border]


def _same_shape(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
    if a.shape != b.shape:
        raise ValueError(f"the two pictures must have one shape, got {a.shape} and {b.shape}")
