"""The elementwise work of an adder unit in training, fused: two walks over memory forward and two backward.

Two operators, `addersr::unit` and `addersr::unit_backward`: float32 on the CPU, by the compiled kernels (csrc/unit.h).
What they do not take, `addersr.layers.AdderUnit` computes piece by piece.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from addersr.ops import cpu

_INPUTS = (
    "Tensor sums, Tensor? x, Tensor? gain, Tensor weight, Tensor bias, Tensor alpha, "
    "float norm_eps, float power_eps"
)
torch.library.define("addersr::unit", f"({_INPUTS}) -> (Tensor, Tensor)")
torch.library.define(
    "addersr::unit_backward",
    f"(Tensor grad, Tensor statistics, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)

Inputs = tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor, Tensor, float, float]
Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def unit(
    sums: Tensor,
    x: Tensor | None,
    gain: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    alpha: Tensor,
    norm_eps: float,
    power_eps: float,
) -> tuple[Tensor, Tensor]:
    """BatchNorm by the batch's own statistics, + gain * x, ReLU, power activation; differentiable once.

    Inputs are taken as valid: all float32 on the CPU, and the compiled kernels there.

    Args:
        sums: (N, O, H, W), what is normalised; N H W at least 1.
        x: (N, C, H, W), O a multiple of C, each channel repeated O / C times; None for no shortcut.
        gain: () factor on `x`, None where that is.
        weight: (O) BatchNorm's factor.
        bias: (O) BatchNorm's summand.
        alpha: () exponent of the power activation.
        norm_eps: added to the variance.
        power_eps: the power activation's shift.

    Returns:
        The result, (N, O, H, W), channels last in memory; and float64 (2, O), each channel's mean and biased
        variance, not differentiable.
    """
    result: tuple[Tensor, Tensor] = torch.ops.addersr.unit(
        sums, x, gain, weight, bias, alpha, norm_eps, power_eps
    )
    return result


class _Shape(ctypes.Structure):
    """UnitShape of csrc/unit.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pixels", "channels", "repeats")),
        *((name, ctypes.c_double) for name in ("norm_eps", "power_eps")),
    ]


class _Pointers(ctypes.Structure):
    """UnitInputs and UnitGradients of csrc/unit.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("sums", "x", "gain", "weight", "bias", "alpha")]


@torch.library.impl("addersr::unit", "CPU")
def _forward(*inputs: *Inputs) -> tuple[Tensor, Tensor]:
    y, statistics = _forward_fake(*inputs)
    shape, maps = _shape(*inputs), _maps(*inputs)
    if cpu.kernels().addersr_unit_forward(
        ctypes.byref(shape),
        ctypes.byref(_pointers(maps)),
        y.data_ptr(),
        statistics.data_ptr(),
        torch.get_num_threads(),
    ):
        raise MemoryError("no memory left in the unit's kernel forward")
    return y, statistics


@torch.library.impl("addersr::unit_backward", "CPU")
def _backward(grad: Tensor, statistics: Tensor, *inputs: *Inputs) -> Six:
    results: Six = _backward_fake(grad, statistics, *inputs)
    shape, maps = _shape(*inputs), _maps(*inputs)
    grad = grad.contiguous(memory_format=torch.channels_last)
    gradients = _pointers([results[0], results[1] if inputs[1] is not None else None, *results[2:]])
    if cpu.kernels().addersr_unit_backward(
        ctypes.byref(shape),
        ctypes.byref(_pointers(maps)),
        statistics.data_ptr(),
        grad.data_ptr(),
        ctypes.byref(gradients),
        torch.get_num_threads(),
    ):
        raise MemoryError("no memory left in the unit's kernel backward")
    return results


def _shape(*inputs: *Inputs) -> _Shape:
    sums, x, *_, norm_eps, power_eps = inputs
    n, o, h, w = sums.shape
    return _Shape(n * h * w, o, 1 if x is None else o // x.shape[1], norm_eps, power_eps)


def _maps(*inputs: *Inputs) -> list[Tensor | None]:
    """The tensors as the kernels read them."""
    sums, x, gain, weight, bias, alpha, *_ = inputs
    sums = sums.contiguous(memory_format=torch.channels_last)
    x = None if x is None else x.contiguous(memory_format=torch.channels_last)
    gain = torch.zeros(()) if gain is None else gain
    return [sums, x, gain, weight.contiguous(), bias.contiguous(), alpha]


def _pointers(tensors: list[Tensor | None]) -> _Pointers:
    return _Pointers(*(None if t is None else t.data_ptr() for t in tensors))


@torch.library.register_fake("addersr::unit")  # type: ignore[untyped-decorator]  # torch has no annotation
def _forward_fake(*inputs: *Inputs) -> tuple[Tensor, Tensor]:
    sums = inputs[0]
    y = torch.empty_like(sums, memory_format=torch.channels_last)
    return y, sums.new_empty((2, sums.shape[1]), dtype=torch.float64)


@torch.library.register_fake("addersr::unit_backward")  # type: ignore[untyped-decorator]  # torch has no annotation
def _backward_fake(grad: Tensor, statistics: Tensor, *inputs: *Inputs) -> Six:
    sums, x, _, weight, bias, alpha, *_ = inputs
    grad_x = sums.new_empty(0) if x is None else torch.empty_like(x, memory_format=torch.channels_last)
    return (
        torch.empty_like(sums, memory_format=torch.channels_last),
        grad_x,
        torch.empty_like(alpha),
        torch.empty_like(weight, memory_format=torch.contiguous_format),
        torch.empty_like(bias, memory_format=torch.contiguous_format),
        torch.empty_like(alpha),
    )


def _save_inputs(ctx: Any, inputs: Inputs, output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.norm_eps, ctx.power_eps = inputs
    statistics = output[1]
    ctx.mark_non_differentiable(statistics)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(statistics, *tensors)


def _gradients(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    statistics, *tensors = ctx.saved_tensors
    results = torch.ops.addersr.unit_backward(grad, statistics, *tensors, ctx.norm_eps, ctx.power_eps)
    given = (None if tensor is None else result for tensor, result in zip(tensors, results, strict=True))
    return (*given, None, None)


torch.library.register_autograd("addersr::unit", _gradients, setup_context=_save_inputs)


def _refuse(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("an adder unit can be differentiated once only: its layer's gradients are surrogates")


torch.library.register_autograd("addersr::unit_backward", _refuse)
