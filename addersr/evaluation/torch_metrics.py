"""PSNR and SSIM in torch, on any device: `addersr.evaluation.metrics` for validation during training.

They agree with those to 1e-6. All is computed in float64, which MPS does not have.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from addersr.evaluation.metrics import SSIM_WINDOW

_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def psnr(a: Tensor, b: Tensor, data_range: float = 255.0) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / mean((a - b)^2)).

    Args:
        a, b: of one shape, any dtype.
        data_range: the largest possible difference, 255 for Y.

    Returns:
        Decibels, a float64 scalar; inf where the two are equal.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = _doubles(a, b)
    return 10 * torch.log10(data_range**2 / (a - b).square().mean())


def ssim(a: Tensor, b: Tensor, data_range: float = 255.0) -> Tensor:
    """Structural similarity of Wang et al. (IEEE TIP 13(4), 2004), with the settings of `metrics.ssim`.

    Args:
        a, b: (H, W) of one shape, any dtype, both sides at least `SSIM_WINDOW`.
        data_range: the largest possible difference, 255 for Y.

    Returns:
        A float64 scalar, at most 1, which equal pictures have.

    Raises:
        ValueError: the shapes differ, are not (H, W), or are smaller than the window.
    """
    a, b = _doubles(a, b)
    if a.dim() != 2 or min(a.shape) < SSIM_WINDOW:
        raise ValueError(f"ssim needs (H, W) of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {tuple(a.shape)}")
    offset = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=a.device) - SSIM_WINDOW // 2
    gaussian = torch.exp(-offset.square() / (2 * _SIGMA**2))
    gaussian /= gaussian.sum()
    # The window is a product of a column and a row; where it leaves the picture there is no value.
    moments = torch.stack((a, b, a * a, b * b, a * b))[:, None]
    moments = conv2d(conv2d(moments, gaussian.view(1, 1, -1, 1)), gaussian.view(1, 1, 1, -1))[:, 0]
    mean_a, mean_b, square_a, square_b, product = moments
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    covariance = product - mean_a * mean_b
    variances = square_a - mean_a.square() + square_b - mean_b.square()
    index: Tensor = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    index /= (mean_a.square() + mean_b.square() + c1) * (variances + c2)
    return index.mean()


def _doubles(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape:
        raise ValueError(f"the two pictures must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.double(), b.double()
