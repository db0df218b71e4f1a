"""Fused units against their definitions in float64, within what rounding can do to them."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor, nn

from addersr.layers import AdderUnit, PowerActivation
from addersr.layers.quantized import QuantizedUnit, folded, fused
from addersr.ops import unavailable_reason
from addersr.ops.fused import ByteUnit, FloatUnit, ShuffleConv

needs_kernels = pytest.mark.skipif(unavailable_reason("native") is not None, reason="no compiled kernels")

ROUNDINGS = 4
"""In epsilons of float32, the roundings of what follows the sums."""
POWER_ERROR = {torch.float32: 2e-6, torch.float16: 1e-5}
"""Relative error of a power by the type of the maps, times 1 + alpha (csrc/vector_math.hpp, csrc/unit_tail.hpp)."""
SURROUNDINGS = 37
"""Values around a tensor, all NaN: odd, so that its first is not aligned."""


def epsilon(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def maps(unit: type[FloatUnit] | type[ByteUnit], values: Tensor) -> Tensor:
    """`values` as this kind of unit takes them, with NaN on both sides in memory."""
    n, c, h, w = values.shape
    last = unit.memory_format == torch.channels_last
    room = torch.full((values.numel() + 2 * SURROUNDINGS,), torch.nan, dtype=unit.dtype)
    inner = room[SURROUNDINGS:-SURROUNDINGS]
    view = inner.view(n, h, w, c).permute(0, 3, 1, 2) if last else inner.view(n, c, h, w)
    return view.copy_(values)


def assert_nothing_around(tensor: Tensor) -> None:
    room = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
    assert room[:SURROUNDINGS].isnan().all() and room[-SURROUNDINGS:].isnan().all()


@dataclass
class Case:
    """A unit to make, and what it is given."""

    channels: int = 8
    outputs: int = 8
    kernel: int = 3
    size: tuple[int, int, int] = (1, 9, 13)
    """N, H, W"""
    alpha: float = 1.25
    gain: float = 0.75
    switches: dict[str, Any] = field(default_factory=dict)
    residual: str = "none"
    """none, apart or in place"""
    scaling: float = 1.0
    grid: tuple[float, float] = (-1.0, 2.0)
    """low and high, for a unit of bytes"""
    bits: int = 8

    def unit(self, x: Tensor) -> AdderUnit:
        """In eval mode with random parameters, its BatchNorm's statistics about those of `x`."""
        rng = np.random.default_rng(self.channels + 10 * self.outputs)

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.normal(size=shape)).float()

        made = AdderUnit(self.channels, self.outputs, self.kernel, **self.switches).eval()
        with torch.no_grad():
            made.adder.weight.copy_(normal(*made.adder.weight.shape))
            if isinstance(made.norm, nn.BatchNorm2d):
                made.norm.weight.copy_(normal(self.outputs))
                made.norm.bias.copy_(normal(self.outputs))
                sums = made.adder(x)
                made.norm.running_mean.copy_(sums.mean((0, 2, 3)) + normal(self.outputs))
                made.norm.running_var.copy_(1 + sums.var((0, 2, 3), correction=0) * normal(self.outputs) ** 2)
            if made.gain is not None:
                made.gain.fill_(self.gain)
            if isinstance(made.power, PowerActivation):
                made.power.alpha.fill_(self.alpha)
        return made

    def features(self, kind: type[FloatUnit] | type[ByteUnit]) -> Tensor:
        """In the units' type, beyond both ends of the grid, and never midway between two of its values."""
        rng = np.random.default_rng(sum(self.size))
        n, h, w = self.size
        low, high = self.grid
        step = ((high - low) or 1) / (2**self.bits - 1)
        steps = rng.integers(-(2**self.bits) // 4, 2**self.bits * 5 // 4, (n, self.channels, h, w))
        offsets = rng.uniform(-0.3, 0.3, steps.shape)
        values = (round(low / step) + steps + offsets) * step
        return maps(kind, torch.from_numpy(values))

    def residuals(self, kind: type[FloatUnit] | type[ByteUnit]) -> Tensor:
        n, h, w = self.size
        return maps(kind, torch.randn(n, self.outputs, h, w, generator=torch.Generator().manual_seed(1)))


CASES = {
    "plain": Case(),
    "one pixel": Case(size=(1, 1, 1)),
    "one row": Case(size=(1, 1, 21)),
    "one column": Case(size=(2, 17, 1)),
    "batch": Case(size=(2, 5, 7), residual="apart", scaling=0.125),
    "odd channels": Case(channels=10, outputs=10, size=(1, 11, 17)),
    "many channels": Case(channels=67, outputs=67, size=(1, 4, 9)),
    "one channel": Case(channels=1, outputs=1, size=(1, 6, 5)),
    "a band and more": Case(channels=3, outputs=3, size=(1, 17, 323)),
    "two bands and more": Case(channels=3, outputs=3, size=(1, 33, 21)),
    "repeats": Case(channels=5, outputs=20, size=(2, 7, 9)),
    "nine repeats": Case(channels=3, outputs=27, size=(1, 7, 19), residual="apart"),
    "1x1": Case(kernel=1, size=(1, 8, 11)),
    "5x5": Case(kernel=5, size=(1, 9, 18)),
    "5x5 of one pixel": Case(kernel=5, size=(2, 1, 1)),
    "no shortcut": Case(channels=5, outputs=7, switches={"shortcut": False}),
    "no relu": Case(switches={"relu": False}, alpha=0.625),
    "no power": Case(switches={"power": False}),
    "no norm": Case(switches={"batch_norm": False, "relu": False}, alpha=0.75),
    "nothing but sums": Case(
        channels=3, switches={"batch_norm": False, "shortcut": False, "relu": False, "power": False}
    ),
    "small alpha": Case(alpha=0.375, size=(1, 12, 15)),
    "alpha of 1": Case(alpha=1.0),
    "large alpha": Case(alpha=2.5),
    "residual": Case(residual="apart", scaling=0.125),
    "in place": Case(residual="in place", scaling=0.125),
    "in place, a batch of repeats": Case(channels=4, outputs=16, size=(2, 6, 18), residual="in place"),
}


def finish(
    case: Case, z: Tensor, slack: Tensor, kind: type[FloatUnit] | type[ByteUnit]
) -> tuple[Tensor, Tensor]:
    """What the unit makes of its normalised sums z in float64, and how far off it may be if z is by `slack`.

    ReLU and power are monotonic, so that the ends of an interval bound it.
    """
    eps, alpha = PowerActivation.eps, case.alpha if case.switches.get("power", True) else 1.0
    residual = case.residuals(kind).double() if case.residual != "none" else torch.zeros(())

    def curve(z: Tensor) -> Tensor:
        z = z.relu() if case.switches.get("relu", True) else z
        return z.sign() * ((z.abs() + eps) ** alpha - eps**alpha)

    y, low, high = curve(z), curve(z - slack), curve(z + slack)
    off = torch.maximum(high - y, y - low)
    if alpha != 1:
        off = off + POWER_ERROR[kind.dtype] * (1 + alpha) * (y.abs() + 2 * eps**alpha)
    result = residual + case.scaling * y
    off = abs(case.scaling) * off + epsilon(torch.float32) * (residual.abs() + abs(case.scaling) * y.abs())
    last = epsilon(kind.dtype) / 2 * (result.abs() + off + torch.finfo(kind.dtype).smallest_normal)
    return result, off + last


def run(case: Case, unit: FloatUnit | ByteUnit, x: Tensor) -> Tensor:
    kind = type(unit)
    residual = None if case.residual == "none" else case.residuals(kind)
    n, h, w = case.size
    out = maps(kind, torch.full((n, case.outputs, h, w), torch.nan))
    if case.residual == "in place":
        assert residual is not None
        out = residual
    before = x.clone()
    assert unit(x, out, residual, case.scaling) is out
    assert torch.equal(x, before)
    assert_nothing_around(out)
    return out.double()


def assert_within(actual: Tensor, expected: Tensor, allowed: Tensor) -> None:
    error = (actual - expected).abs()
    assert actual.shape == expected.shape
    assert (error <= allowed).all(), f"error {error.max():.3g}, {(error / allowed).max():.3g} times the bound"


def normalised(case: Case, unit: AdderUnit, x: Tensor) -> tuple[Tensor, Tensor]:
    """z of an eager unit, straight from its definition in float64, and its rounding in float32."""
    pads, weight = (case.kernel // 2,) * 2, unit.adder.weight.detach().double().numpy()
    args = (x.double().numpy(), weight, (1, 1), pads)
    z = torch.from_numpy(oracle.forward(*args))
    terms = weight[0].size
    slack = 4 * terms**0.5 * epsilon(torch.float32) * torch.from_numpy(oracle.magnitude(*args))
    size = z.abs()
    if isinstance(unit.norm, nn.BatchNorm2d):
        norm = copy.deepcopy(unit.norm).double().eval()
        slope = (norm.weight / (norm.running_var + norm.eps).sqrt()).abs().detach()[:, None, None]
        mean, bias = (v.detach().abs()[:, None, None] for v in (norm.running_mean, norm.bias))
        slack, size = slope * slack, slope * (size + mean) + bias
        z = norm(z).detach()
    if unit.gain is not None:
        shortcut = case.gain * x.double().repeat_interleave(case.outputs // case.channels, dim=1)
        z, size = z + shortcut, size + shortcut.abs()
    return z, slack + ROUNDINGS * epsilon(torch.float32) * size


def alone(case: Case) -> Case:
    """The unit without what it is added to, which an eager unit does not know."""
    return replace(case, residual="none", scaling=1.0)


@needs_kernels
@pytest.mark.parametrize("name", CASES)
def test_float_unit_equals_the_eager_one(name: str) -> None:
    case = CASES[name]
    x = case.features(FloatUnit)
    unit = case.unit(x)
    expected, allowed = finish(case, *normalised(case, unit, x), FloatUnit)
    assert_within(run(case, fused(unit), x), expected, allowed)
    with torch.no_grad():  # the same definition as the layer's own, which in float32 may take 16-bit sums
        assert_within(unit.double()(x.double()), *finish(alone(case), *normalised(case, unit, x), FloatUnit))


BYTE_CASES = CASES | {
    "grid above 0": Case(grid=(0.5, 2.0)),
    "grid below 0": Case(grid=(-2.0, -0.5), residual="apart"),
    "grid of one value": Case(grid=(5.0, 5.0)),
    "five bits": Case(bits=5),
    "one bit": Case(bits=1, kernel=5, channels=3, outputs=12),
}


def quantised(case: Case, unit: QuantizedUnit, x: Tensor) -> tuple[Tensor, Tensor]:
    """z of a quantised unit, straight from its definition in float64, and its rounding in float32."""
    step, zero, top = unit.grid.tolist()
    values, pads = x.double().numpy(), (case.kernel // 2,) * 2
    low, high = -zero * step, (top - zero) * step
    held = np.clip(np.round(values / step) + zero, 0, top)
    sums = step * oracle.sums_of_differences(held, unit.weight.numpy(), (1, 1), pads, np.clip(zero, 0, top))

    def window_sums(values: np.ndarray, outside: float) -> np.ndarray:
        around = ((0, 0), (0, 0), *((p, p) for p in pads))
        padded = np.pad(values, around, constant_values=outside)
        nothing = np.zeros((1, values.shape[1], case.kernel, case.kernel))
        return -oracle.forward(padded, nothing, (1, 1), (0, 0))

    sums = sums + window_sums(abs(values - values.clip(low, high)), abs(np.clip(0, low, high)))
    end = max(abs(low), abs(high))
    magnitude = window_sums(abs(values) + end, end) + sums
    scale, bias = (v.double()[:, None, None] for v in (unit.scale, unit.bias))
    shortcut = x.new_zeros(()).double()
    if case.switches.get("shortcut", True):
        shortcut = case.gain * x.double().repeat_interleave(case.outputs // case.channels, dim=1)
    z = scale * torch.from_numpy(sums) + bias + shortcut
    size = scale.abs() * torch.from_numpy(sums) + bias.abs() + shortcut.abs()
    terms = unit.weight[0].numel()
    slack = 4 * terms**0.5 * epsilon(torch.float32) * scale.abs() * torch.from_numpy(magnitude)
    return z, slack + ROUNDINGS * epsilon(torch.float32) * size


@needs_kernels
@pytest.mark.parametrize("name", BYTE_CASES)
def test_byte_unit_equals_the_eager_one(name: str) -> None:
    case = BYTE_CASES[name]
    x = case.features(ByteUnit)
    unit = QuantizedUnit.of(case.unit(x.float()), *case.grid, case.bits)
    z, slack = quantised(case, unit, x)
    assert_within(unit(x.float()).double(), *finish(alone(case), z, slack, FloatUnit))
    assert_within(run(case, unit.fused(), x), *finish(case, z, slack, ByteUnit))


@needs_kernels
@pytest.mark.parametrize("zero", [100, 101])
def test_ties_round_as_in_eager(zero: int) -> None:
    """Each value midway between two of the grid, which the power of two makes exact."""
    case = Case(1, 1, 1, switches=dict.fromkeys(("batch_norm", "shortcut", "relu", "power"), False))
    unit = case.unit(torch.zeros(1))
    nn.init.zeros_(unit.adder.weight)
    made = QuantizedUnit.of(unit, -zero / 64, (255 - zero) / 64)
    x = maps(ByteUnit, (torch.arange(40.0) - 20.5).view(1, 1, 1, 40) / 64)
    assert torch.equal(made.fused()(x, maps(ByteUnit, x)).float(), made(x.float()))


BOTH_WAYS = (1.0, -1.0)
OUTLIERS = {
    "none": ((), ()),
    "features above": ((1.0,), ()),
    "features below": ((-1.0,), ()),
    "features": (BOTH_WAYS, ()),
    "filters above": ((), (1.0,)),
    "filters below": ((), (-1.0,)),
    "filters": ((), BOTH_WAYS),
    "features above, filters below": ((1.0,), (-1.0,)),
    "features below, filters above": ((-1.0,), (1.0,)),
}


@pytest.mark.parametrize("outliers", OUTLIERS)
@pytest.mark.parametrize("path", ["reference", pytest.param("native", marks=needs_kernels)])
def test_what_lies_beyond_the_grid_is_exact(path: str, outliers: str) -> None:
    """Features and filters on the grid but for outliers: the sums are those of the values themselves.

    One channel, so that a step is more than the rounding of the result.
    """
    low, high, step = -100 / 64, 155 / 64, 1 / 64
    rng = np.random.default_rng(0)
    case = Case(1, 5, 3, switches=dict.fromkeys(("batch_norm", "shortcut", "relu", "power"), False))
    unit = case.unit(torch.zeros(1))

    def values(signs: tuple[float, ...], *shape: int) -> Tensor:
        made = rng.integers(-100, 156, shape) * step
        for sign in signs:
            far = rng.random(shape) < 0.05
            made[far] = sign * rng.uniform(2.5, 3.5, far.sum())
        return torch.from_numpy(made)

    for_features, for_filters = OUTLIERS[outliers]
    x = maps(ByteUnit, values(for_features, 1, 1, 9, 21))
    with torch.no_grad():
        unit.adder.weight.copy_(values(for_filters, 5, 1, 3, 3))
    weight = unit.adder.weight.detach()
    assert (((x < low) | (x > high)).any(), ((weight < low) | (weight > high)).any()) == tuple(
        map(bool, OUTLIERS[outliers])
    )
    made = QuantizedUnit.of(unit, low, high)
    got = (
        made(x.float()) if path == "reference" else made.fused()(x, maps(ByteUnit, torch.zeros(1, 5, 9, 21)))
    )
    args = (x.double().numpy(), weight.double().numpy(), (1, 1), (1, 1))
    exact, size = (torch.from_numpy(f(*args)) for f in (oracle.forward, oracle.magnitude))
    rounding = 12 * epsilon(torch.float32) * size + epsilon(got.dtype) / 2 * exact.abs()
    assert rounding.max() < step
    assert_within(got.double(), exact, rounding)


@needs_kernels
def test_units_do_not_depend_on_threads() -> None:
    case, before = Case(channels=3, outputs=12, size=(1, 33, 337)), torch.get_num_threads()
    for kind in (FloatUnit, ByteUnit):
        x = case.features(kind)
        eager = case.unit(x.float())
        made = QuantizedUnit.of(eager, *case.grid)
        unit = fused(eager) if kind is FloatUnit else made.fused()
        z, slack = normalised(case, eager, x) if kind is FloatUnit else quantised(case, made, x)
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            try:
                results.append(run(case, unit, x))
            finally:
                torch.set_num_threads(before)
        assert_within(results[0], *finish(case, z, slack, kind))
        assert all(torch.equal(result, results[0]) for result in results[1:])


@needs_kernels
def test_filters_in_any_memory_layout() -> None:
    case = Case()
    x = case.features(FloatUnit)
    eager = case.unit(x)
    strided = eager.adder.weight.detach().contiguous(memory_format=torch.channels_last)
    expected = run(case, fused(eager), x)
    assert torch.equal(run(case, FloatUnit(strided, folded(eager)), x), expected)


@needs_kernels
@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (5, 33), (9, 16), (3, 71), (2, 8)])
def test_shuffle_conv_equals_its_pieces(r: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(r)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    h, w = size
    x, picture = maps(ByteUnit, normal(2, 5 * r * r, h, w)), normal(2, 3, r * h, r * w)
    weight, bias = normal(3, 5, 3, 3), normal(3)

    def pieces(x: Tensor, weight: Tensor, bias: Tensor, picture: Tensor) -> Tensor:
        shuffled = nn.functional.pixel_shuffle(x, r)
        return nn.functional.conv2d(shuffled, weight, bias, padding=1) + picture

    exact = [t.double() for t in (x, weight, bias, picture)]
    expected, magnitude = pieces(*exact), pieces(*(t.abs() for t in exact))
    got = ShuffleConv(weight, bias, r)(x, picture)
    oracle.assert_rounded(got.double().numpy(), expected.numpy(), magnitude.numpy(), 9 * 5)
