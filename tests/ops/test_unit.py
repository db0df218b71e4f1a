"""The fused unit against the same chain of torch modules in float64, within what float32's rounding can do to it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from addersr.layers import PowerActivation
from addersr.ops import unavailable_reason
from addersr.ops.unit import unit

pytestmark = pytest.mark.skipif(unavailable_reason("native") is not None, reason="no compiled kernels")

EPS = float(np.finfo(np.float32).eps)
POWER_ERROR = 2e-6
"""Relative error of a float32 power, where multiply-add rounds twice (csrc/vector_math.hpp)."""
ROUNDINGS = 4
"""In units of EPS, the roundings that z goes through, and those of what follows; long sums are in float64."""
NAMES = ("sums", "x", "gain", "weight", "bias", "alpha")


@dataclass
class Case:
    """The operator's inputs and the gradient of its result."""

    sums: Tensor
    x: Tensor | None
    gain: Tensor | None
    weight: Tensor
    bias: Tensor
    alpha: Tensor
    grad: Tensor

    def inputs(self, convert: Callable[[Tensor], Tensor]) -> list[Tensor | None]:
        tensors = (getattr(self, name) for name in NAMES)
        return [None if tensor is None else convert(tensor) for tensor in tensors]


def random_case(seed: int) -> Case:
    """Sizes beside those of a vector, far means, constant channels; shortcuts none, plain and repeated."""
    rng = np.random.default_rng(seed)
    repeats = [1, 4, 0, 9][seed % 4]
    channels = int(rng.choice([1, 3, 5, 8, 16, 17, 32, 33]))
    n, h, w = (int(v) for v in rng.integers(1, 14, 3))

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(np.asarray(rng.normal(size=shape))).float()

    outputs = channels * max(1, repeats)
    sums = normal(n, outputs, h + 1, w) * 5 - float(rng.choice([0, 30, 3000]))
    if seed % 3 == 0:
        sums[:, 0] = sums[0, 0, 0, 0]
    shortcut = (normal(n, channels, h + 1, w), normal()) if repeats else (None, None)
    alpha = torch.tensor(float(rng.choice([0.3, 0.8, 1.0, 1.3, 3.0])))
    return Case(sums, *shortcut, normal(outputs), normal(outputs), alpha, normal(*sums.shape))


def fused(case: Case, layout: torch.memory_format) -> dict[str, Tensor]:
    """The result, statistics and gradients of the operator."""
    inputs = case.inputs(
        lambda t: t.clone(memory_format=layout if t.dim() == 4 else torch.contiguous_format).requires_grad_()
    )
    y, statistics = unit(*inputs, 1e-5, PowerActivation.eps)
    assert y.is_contiguous(memory_format=torch.channels_last) and not statistics.requires_grad
    y.backward(case.grad.contiguous(memory_format=layout))
    grads = {name: t.grad for name, t in zip(NAMES, inputs, strict=True) if t is not None}
    return {"y": y, "mean": statistics[0], "variance": statistics[1], **grads}


def eager(case: Case) -> dict[str, Tensor]:
    """What the unit computes piece by piece, in float64."""
    sums, x, gain, weight, bias, alpha = case.inputs(lambda t: t.double().requires_grad_())
    norm, power = nn.BatchNorm2d(sums.shape[1], momentum=1).double(), PowerActivation().double()
    norm.weight, norm.bias, power.alpha = (nn.Parameter(t) for t in (weight, bias, alpha))
    z = norm(sums)
    if x is not None:
        z = z + gain * x.repeat_interleave(sums.shape[1] // x.shape[1], dim=1)
    y = power(z.relu())
    y.backward(case.grad.double())
    leaves = [sums, x, gain, norm.weight, norm.bias, power.alpha]
    grads = {name: t.grad for name, t in zip(NAMES, leaves, strict=True) if t is not None}
    count = sums.numel() // sums.shape[1]
    variance = norm.running_var * (count - 1) / count
    return {"y": y, "mean": norm.running_mean, "variance": variance, **grads}


def bounds(case: Case) -> dict[str, Tensor]:
    """How far float32 may be from `eager`: the rounding of z, through ReLU and power, and that of what follows.

    Both have slopes that jump or nearly do at 0, hence the extremes over all z within its rounding.
    """
    sums, x, gain, weight, bias, alpha = case.inputs(lambda t: t.double())
    eps, g = PowerActivation.eps, case.grad.double()
    mean, variance = sums.mean((0, 2, 3), keepdim=True), sums.var((0, 2, 3), keepdim=True, correction=0)
    weight, bias, scale = weight.view(1, -1, 1, 1), bias.view(1, -1, 1, 1), (variance + 1e-5).rsqrt()
    s_hat = (sums - mean) * scale
    shortcut = torch.zeros(()).double()
    if x is not None:
        shortcut = gain * x.repeat_interleave(sums.shape[1] // x.shape[1], dim=1)
    z = weight * s_hat + bias + shortcut
    drift = 1e-12 * mean.abs() * scale  # what float64 leaves of a constant channel
    slack = ROUNDINGS * EPS * ((weight * s_hat).abs() + bias.abs() + shortcut.abs()) + weight.abs() * drift

    def power(z: Tensor) -> Tensor:
        return (z.clamp_min(0) + eps) ** alpha

    def slope(z: Tensor) -> Tensor:
        return torch.where(z > 0, alpha * g * (z.clamp_min(0) + eps) ** (alpha - 1), 0)

    def growth(z: Tensor) -> Tensor:
        u = z.clamp_min(0) + eps
        return torch.where(z > 0, g * (u**alpha * u.log() - eps**alpha * np.log(eps)), 0)

    def spread(f: Callable[[Tensor], Tensor]) -> Tensor:
        just_positive = torch.where(z.abs() <= slack, 1e-30, z)
        return torch.stack([(f(v) - f(z)).abs() for v in (z - slack, z + slack, just_positive)]).amax(0)

    dz = slope(z).abs()
    off = spread(slope) + 2 * POWER_ERROR * dz + ROUNDINGS * EPS * dz
    over = (0, 2, 3)  # everything else is linear in dz
    level, tilt = off.mean(over, True), (off * s_hat.abs()).mean(over, True)
    rounded = ROUNDINGS * EPS * (dz.mean(over, True) + s_hat.abs() * (dz * s_hat.abs()).mean(over, True))
    size = 2 * POWER_ERROR * g.abs() * (power(z) * (z.clamp_min(0) + eps).log().abs() + 10 * eps**alpha)
    result = {
        "y": spread(power) + 2 * POWER_ERROR * power(z),
        "mean": (EPS * variance.sqrt() + 1e-12 * mean.abs()).flatten(),
        "variance": (ROUNDINGS * EPS * variance + (1e-12 * mean) ** 2).flatten(),
        "sums": (weight * scale).abs() * (off + level + s_hat.abs() * tilt + rounded) + 1e-30,
        "weight": (off * s_hat.abs() + dz * drift).sum(over) + 1e-30,
        "bias": off.sum(over) + 1e-30,
        "alpha": (spread(growth) + size).sum(),
    }
    if x is not None:
        folded = off.unflatten(1, (x.shape[1], -1)).sum(2)
        result |= {"x": gain.abs() * folded + 1e-30, "gain": (folded * x.abs()).sum()}
    return result


@pytest.mark.parametrize("seed", range(24))
def test_equals_eager(seed: int) -> None:
    case = random_case(seed)
    layout = torch.channels_last if seed % 2 else torch.contiguous_format
    got, wanted, allowed = fused(case, layout), eager(case), bounds(case)
    assert got.keys() == wanted.keys() == allowed.keys()
    for name, value in got.items():
        error = (value.double() - wanted[name]).abs()
        worst = (error / allowed[name]).max().item()
        assert value.shape == wanted[name].shape
        assert worst <= 1, f"{name}: error {error.max():.3g}, {worst:.3g} times the bound"


def test_result_does_not_depend_on_threads() -> None:
    case, before = random_case(1), torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            results.append(fused(case, torch.channels_last))
        finally:
            torch.set_num_threads(before)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_nan_comes_through() -> None:
    """In a channel of the sums, through its statistics, to the whole channel; in the shortcut, to what it joins."""
    case = random_case(0)
    assert case.x is not None
    case.sums[0, 0, 0, 0] = torch.nan
    case.x[0, 1, 1, 0] = torch.nan
    result = fused(case, torch.channels_last)
    assert result["y"][:, 0].isnan().all() and result["y"].isnan().sum() == result["y"][:, 0].numel() + 1
    assert result["sums"][:, 1].isnan().all() and result["x"][0, 1, 1, 0].isnan()
    assert result["gain"].isnan() and result["alpha"].isnan()
    assert result["y"][:, 2:].isfinite().all() and result["sums"][:, 2:].isfinite().all()


def test_relu_is_exact() -> None:
    """Nothing positive, nothing passed on: where z <= 0 the result and the gradient are 0 and not just small."""
    case = random_case(4)
    result = fused(case, torch.channels_last)
    assert (result["y"] >= 0).all() and (result["y"] == 0).any() and (result["y"] > 0).any()
    assert torch.equal(result["x"] == 0, result["y"] == 0)


# opcheck itself asks for the gradient of tensors that are no leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(seed: int, requires_grad: bool) -> None:
    case = random_case(seed)
    inputs = case.inputs(lambda t: t.clone().requires_grad_(requires_grad))
    torch.library.opcheck(torch.ops.addersr.unit, (*inputs, 1e-5, 1e-4))
    inputs = case.inputs(lambda t: t)
    _, statistics = unit(*inputs, 1e-5, 1e-4)
    torch.library.opcheck(torch.ops.addersr.unit_backward, (case.grad, statistics, *inputs, 1e-5, 1e-4))


def test_second_derivative_is_refused() -> None:
    case = random_case(0)
    inputs = case.inputs(lambda t: t.requires_grad_())
    y, _ = unit(*inputs, 1e-5, 1e-4)
    (grad,) = torch.autograd.grad((y**2).sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        grad.sum().backward()
