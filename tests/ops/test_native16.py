"""The forward in 16-bit fixed point: its error bound, what it refuses, and what `auto` then does."""

import math

import pytest
import torch
from torch import Tensor

from addersr.errors import BackendError
from addersr.ops import adder2d, cpu

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason="no compiled kernels")

CASES = [(seed, scale, shift) for seed in range(8) for scale, shift in ((1.0, 0.0), (0.2, 0.0), (5.0, 1.0))]


def draw(seed: int, scale: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """x, weight, stride and padding of a random shape; odd numbers of channels among them."""
    generator = torch.Generator().manual_seed(seed)

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    n, c, o, kh, kw = pick(1, 2), pick(1, 40), pick(1, 70), pick(1, 5), pick(1, 5)
    padding, stride = [pick(0, 3), pick(0, 3)], [pick(1, 3), pick(1, 2)]
    x = torch.randn(n, c, kh + pick(0, 15), kw + pick(0, 30), generator=generator) * scale + shift
    weight = torch.randn(o, c, kh, kw, generator=generator)
    return x if seed % 2 else x.contiguous(memory_format=torch.channels_last), weight, stride, padding


def grid_step(x: Tensor, weight: Tensor, padding: list[int]) -> float:
    """The step that the contract states: the narrower range in 2^16 - 1 steps."""
    seen = torch.cat((x.flatten(), torch.zeros(1 if any(padding) else 0)))
    low, high = max(seen.min(), weight.min()), min(seen.max(), weight.max())
    return float(high - low) / 65535


@pytest.mark.parametrize(("seed", "scale", "shift"), CASES)
def test_error_is_at_most_a_step_a_term(seed: int, scale: float, shift: float) -> None:
    x, weight, stride, padding = draw(seed, scale, shift)
    exact = adder2d(x.double(), weight.double(), stride, padding, backend="reference")
    error = (adder2d(x, weight, stride, padding, backend="native16").double() - exact).abs()
    terms = weight[0].numel()
    step = grid_step(x, weight, padding)
    # What the bound leaves to float32: excess and result, sums of `terms` values.
    rounding = 4 * torch.finfo(torch.float32).eps * (terms * (x.abs().max() + weight.abs().max())).double()
    assert (error <= step * terms + rounding).all()


def test_typical_error_is_that_of_rounding_to_the_grid() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 64, 24, 24), torch.randn(16, 64, 3, 3)
    exact = adder2d(x.double(), weight.double(), 1, 0, backend="reference")
    error = (adder2d(x, weight, 1, 0, backend="native16").double() - exact).pow(2).mean().sqrt()
    # Two roundings a term, each of variance step^2 / 12, and independent.
    expected = grid_step(x, weight, [0, 0]) * math.sqrt(576 / 6)
    assert 0.5 * expected < error < 1.5 * expected
    assert error < 3e-6 * exact.abs().mean()


def test_an_outlier_on_one_side_does_not_widen_the_step() -> None:
    torch.manual_seed(0)
    x, weight = torch.rand(1, 16, 12, 12), torch.rand(8, 16, 3, 3)
    for outlier in ("x", "weight"):
        a, b = x.clone(), weight.clone()
        (a if outlier == "x" else b)[0, 3, 1, 1] = 500
        exact = adder2d(a.double(), b.double(), 1, 1, backend="reference")
        result = adder2d(a, b, 1, 1, backend="native16").double()
        assert (result - exact).abs().max() < 2 / 65535 * 144 + 500 * 1e-6


@pytest.mark.parametrize("spoil", ["outliers in both", "infinity", "nan", "too many terms"])
def test_refuses_what_would_lose_too_much_and_auto_takes_float32(spoil: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 8, 9, 9), torch.randn(4, 8, 3, 3)
    if spoil == "outliers in both":
        x[0, 0, 4, 4], weight[1, 2, 1, 1] = 300, 300
    elif spoil == "too many terms":
        x, weight = torch.randn(1, 32001, 1, 1), torch.randn(2, 32001, 1, 1)
    else:
        x[0, 0, 4, 4] = math.inf if spoil == "infinity" else math.nan
    with pytest.raises(BackendError, match=r"native16.*use 'native'"):
        adder2d(x, weight, 1, 0, backend="native16")
    auto, native = adder2d(x, weight, 1, 0), adder2d(x, weight, 1, 0, backend="native")
    assert torch.equal(auto.nan_to_num(7.0), native.nan_to_num(7.0))


def test_auto_takes_it_and_never_gives_more_than_zero() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 9, 11)
    weight = x[:1, :, :3, :3].clone()  # one window is this filter, so one result is about zero
    result = adder2d(x, weight, 1, 1)
    assert torch.equal(result, adder2d(x, weight, 1, 1, backend="native16"))
    assert result.max() <= 0
    assert result.max() > -1e-3
    assert torch.equal(result, adder2d(x, weight, 1, 1))


def test_constant_input_and_filters() -> None:
    for level, value in ((0.5, 0.5), (0.25, -3.0), (0.0, 2.0), (-1.0, 4.0)):
        result = adder2d(torch.full((1, 3, 4, 5), level), torch.full((2, 3, 3, 3), value), 1, 0)
        torch.testing.assert_close(result, torch.full_like(result, -27 * abs(level - value)))


def test_ranges_that_hardly_meet() -> None:
    x, weight = torch.zeros(1, 4, 5, 5), torch.full((3, 4, 3, 3), -1e10)
    x[0, 0, 0, 0], weight[0, 0, 0, 0] = 1e10, 1e-24
    exact = adder2d(x.double(), weight.double(), 1, 0, backend="reference").float()
    torch.testing.assert_close(adder2d(x, weight, 1, 0), exact, rtol=1e-5, atol=0)
