"""PSNR and SSIM in torch against those of scikit-image."""

import math

import numpy as np
import pytest
import torch

from addersr.evaluation import metrics
from addersr.evaluation.metrics import SSIM_WINDOW
from addersr.evaluation.torch_metrics import psnr, ssim


@pytest.mark.parametrize("seed", range(12))
def test_they_agree_with_scikit_image(seed: int) -> None:
    """On pictures of random sizes, from much noise to a single grey level, in 8 bits and in floats."""
    random = np.random.default_rng(seed)
    height, width = random.integers(SSIM_WINDOW, 60, size=2)
    data_range = float(random.choice([1.0, 255.0]))
    smooth = random.uniform(0, data_range, size=(height, 1)) * random.uniform(size=(1, width))
    a = smooth + random.normal(0, 0.02 * data_range, size=smooth.shape)
    b = a + random.normal(0, data_range * 10.0 ** random.uniform(-4, 0), size=a.shape)
    if seed % 3 == 0:
        a, b = (np.clip(x * 255 / data_range, 0, 255).astype(np.uint8) for x in (a, b))
        data_range = 255.0
        b[0, 0] ^= 1  # so that they are not equal
    if seed % 3 == 1:
        a, b = a.astype(np.float32), b.astype(np.float32)
    pair = torch.from_numpy(a), torch.from_numpy(b)
    for ours, theirs in ((psnr, metrics.psnr), (ssim, metrics.ssim)):
        value = ours(*pair, data_range)
        assert value.dtype == torch.float64 and value.shape == ()
        assert abs(value.item() - theirs(a, b, data_range)) <= 1e-6


def test_equal_pictures() -> None:
    flat, noisy = torch.full((11, 11), 7.0), torch.rand(20, 30)
    for picture in (flat, noisy, (noisy * 255).byte()):
        assert psnr(picture, picture).item() == math.inf == metrics.psnr(picture.numpy(), picture.numpy())
        assert ssim(picture, picture).item() == pytest.approx(1.0, abs=1e-6)


def test_mixed_precision_does_not_touch_them() -> None:
    a, b = torch.rand(40, 30) * 255, torch.rand(40, 30) * 255
    with torch.autocast("cpu", torch.bfloat16):
        mixed = psnr(a, b), ssim(a, b)
    assert mixed == (psnr(a, b), ssim(a, b))


def test_other_shapes_are_refused() -> None:
    a = torch.rand(40, 31)
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=r"got \(40, 31\) and \(39, 31\)"):
            metric(a, a[1:])
    for wrong in (a[: SSIM_WINDOW - 1], a[..., None]):
        with pytest.raises(ValueError, match="11x11"):
            ssim(wrong, wrong)
