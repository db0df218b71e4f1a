"""The grid of bytes that quantised units count in."""

import pytest
import torch

from addersr.ops.fused import Grid

GRIDS = [(-1.0, 2.0), (-0.3, 0.1), (0.0, 3.0), (-2.0, 0.0), (0.7, 0.9), (-5.0, -4.0), (-1e-3, 40.0)]


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("low", "high"), GRIDS)
def test_grid(low: float, high: float, bits: int) -> None:
    grid = Grid.between(low, high, bits)
    assert grid.top == 2**bits - 1 and abs(grid.step * grid.top - (high - low)) < 1e-12
    assert abs(grid.low - low) <= grid.step / 2 and abs(grid.high - high) <= grid.step * 0.500001
    assert grid.low / grid.step == pytest.approx(
        round(grid.low / grid.step), abs=1e-9
    )  # 0 is one of its values
    x = torch.linspace(grid.low - 1, grid.high + 1, 10_001, dtype=torch.float64)
    levels = grid.bytes_of(x)
    assert levels.dtype == torch.uint8 and levels.min() == 0 and levels.max() == grid.top
    held = (levels.double() - grid.zero) * grid.step
    inside = x.clamp(grid.low, grid.high)
    assert (held - inside).abs().max() <= grid.step / 2 * (1 + 1e-9)
    excess = grid.excess_of(x)
    assert (excess >= 0).all() and torch.equal(excess == 0, x == inside)
    torch.testing.assert_close(inside + excess * (x - inside).sign(), x, rtol=0, atol=1e-12)
    if low <= 0 <= high:
        assert (grid.bytes_of(torch.zeros(1)).item() - grid.zero) * grid.step == 0


@pytest.mark.parametrize("value", [0.0, 1e-9, 3.0, -700.0])
def test_grid_of_one_value(value: float) -> None:
    grid = Grid.between(value, value, 8)
    assert 0 < grid.step * grid.top <= 1e-6 * max(abs(value), 1) * (1 + 1e-9)
    x = torch.tensor([value - 2, value, value + 3], dtype=torch.float64)
    assert (x - (grid.bytes_of(x).double() - grid.zero) * grid.step).abs().sub(
        grid.excess_of(x)
    ).abs().max() <= grid.step
    torch.testing.assert_close(grid.excess_of(x), torch.tensor([2.0, 0, 3]).double(), rtol=0, atol=1e-3)
