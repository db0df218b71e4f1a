"""PSNR and SSIM against their formulas, written out here with NumPy and SciPy alone."""

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import convolve2d

from addersr.evaluation.metrics import SSIM_WINDOW, psnr, shave, ssim


def two_pictures(
    height: int = 40, width: int = 31, seed: int = 0
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A smooth picture and a noisy copy of it, 0..255."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    a = 128 + 80 * np.sin(rows / 5) * np.cos(columns / 7)
    return a, np.clip(a + generator.normal(0, 12, a.shape), 0, 255)


def wang_ssim(a: npt.NDArray[Any], b: npt.NDArray[Any], data_range: float) -> float:
    """ssim_index.m of Wang et al., line by line: filter2(window, ..., 'valid') and population moments."""
    offset = np.arange(-5, 6)
    gaussian = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    window = gaussian / gaussian.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2

    def mean(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        filtered: npt.NDArray[Any] = convolve2d(x, window, mode="valid")
        return filtered

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    index = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(index.mean())


def test_psnr_of_a_constant_difference() -> None:
    a = np.full((5, 7), 100.0)
    for difference in (1.0, 7.0, 255.0):
        assert psnr(a, a + difference) == pytest.approx(20 * np.log10(255 / difference))
    assert psnr(a, a + 0.5, data_range=1.0) == pytest.approx(20 * np.log10(2))


def test_psnr_is_its_formula() -> None:
    a, b = two_pictures()
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / ((a - b) ** 2).mean()), rel=1e-12)
    assert psnr(a, b) == psnr(b, a)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    a, _ = two_pictures()
    assert psnr(a, a) == np.inf


@pytest.mark.parametrize("shape", [(11, 11), (12, 30), (40, 31)])
@pytest.mark.parametrize("data_range", [255.0, 1.0])
def test_ssim_is_wangs(shape: tuple[int, int], data_range: float) -> None:
    a, b = (picture * (data_range / 255) for picture in two_pictures(*shape))
    assert ssim(a, b, data_range) == pytest.approx(wang_ssim(a, b, data_range), rel=1e-10)


def test_ssim_is_symmetric_and_1_for_equal_pictures() -> None:
    a, b = two_pictures()
    assert ssim(a, a) == pytest.approx(1.0, abs=1e-12)
    assert ssim(a, b) == pytest.approx(ssim(b, a), rel=1e-12)
    assert ssim(a, b) < 0.99


def test_8_bit_pictures_do_not_wrap_around() -> None:
    a, b = (np.rint(picture).astype(np.uint8) for picture in two_pictures())
    assert psnr(a, b) == psnr(a.astype(np.float64), b.astype(np.float64))
    assert ssim(a, b) == ssim(a.astype(np.float64), b.astype(np.float64))


def test_other_shapes_are_refused() -> None:
    a, b = two_pictures()
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=r"got \(40, 31\) and \(39, 31\)"):
            metric(a, b[1:])
    with pytest.raises(ValueError, match="11x11"):
        ssim(a[: SSIM_WINDOW - 1], b[: SSIM_WINDOW - 1])
    with pytest.raises(ValueError, match=r"got \(40, 31, 1\)"):
        ssim(a[..., None], b[..., None])


def test_shave() -> None:
    picture = np.arange(8 * 9 * 3).reshape(8, 9, 3)
    np.testing.assert_array_equal(shave(picture, 2), picture[2:6, 2:7])
    np.testing.assert_array_equal(shave(picture[..., 0], 0), picture[..., 0])


def test_importing_the_metrics_is_light() -> None:
    code = "import sys, addersr.evaluation.metrics; print({'torch', 'lightning'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
