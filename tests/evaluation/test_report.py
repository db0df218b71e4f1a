"""The cells of a report: what of a difference can be told."""

import math

import pytest

from addersr.evaluation.benchmark import Result
from addersr.evaluation.report import cells


def result(psnr: float, ssim: float, bicubic_psnr: float, bicubic_ssim: float) -> Result:
    return Result(
        model="m", set="s", scale=2, psnr=psnr, ssim=ssim, bicubic_psnr=bicubic_psnr, bicubic_ssim=bicubic_ssim,
        images=1, seconds=1.0, output_pixels=1, parameters=1, precision="float32", self_ensemble=False, lr="made",
        hr_sha256="", lr_sha256=None, identical=[], pictures=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "gain"),
    [
        ((31.0, 0.9, 30.0, 0.8), "+1.00 / +0.1000"),
        ((29.996, 0.79999, 30.0, 0.8), "+0.00 / +0.0000"),
        ((29.99, 0.7999, 30.0, 0.8), "-0.01 / -0.0001"),
        ((50.0, 0.9999, math.inf, 1.0), "- / -0.0001"),
        ((math.inf, 1.0, 30.0, 0.8), "- / +0.2000"),
        ((math.inf, 1.0, math.inf, 1.0), ""),
    ],
)
def test_a_difference_is_told_where_there_is_one(
    scores: tuple[float, float, float, float], gain: str
) -> None:
    assert cells(result(*scores))[5] == gain
