"""The operation's torch.library schemas, fakes, autograd and choice of implementation. Needs torch only.

Three operators: `addersr::adder2d` and its two surrogate gradients, `addersr::adder2d_grad_input` and
`addersr::adder2d_grad_weight`. Inputs are taken as valid; `adder2d.adder2d` checks them.
"""

import importlib.util
import os
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from addersr.errors import BackendError
from addersr.ops import cpu, reference

Pair = list[int]

_SIZES = "int[2] stride, int[2] padding, str backend"
torch.library.define("addersr::adder2d", f"(Tensor x, Tensor weight, {_SIZES}) -> Tensor")
torch.library.define(
    "addersr::adder2d_grad_input", f"(Tensor grad, Tensor x, Tensor weight, {_SIZES}) -> Tensor"
)
torch.library.define(
    "addersr::adder2d_grad_weight", f"(Tensor grad, Tensor x, Tensor weight, {_SIZES}) -> Tensor"
)


def adder2d(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, backend: str) -> Tensor:
    """Call the registered operator (see `adder2d.adder2d` for the contract)."""
    result: Tensor = torch.ops.addersr.adder2d(x, weight, stride, padding, backend)
    return result


@torch.library.impl("addersr::adder2d", "default")
def _forward(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, backend: str) -> Tensor:
    implementation = _implementation(backend, x)
    if implementation is cpu and backend != "native":
        quick = cpu.forward_fixed16(x, weight, stride, padding)
        if quick is not None:
            return quick
        if backend == "native16":
            raise BackendError(
                "backend 'native16' cannot run: these values would lose too much on a grid of 16 bits; use 'native'"
            )
    result: Tensor = implementation.forward(x, weight, stride, padding)
    return result


@torch.library.impl("addersr::adder2d_grad_input", "default")
def _grad_input(grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, backend: str) -> Tensor:
    result: Tensor = _implementation(backend, x).grad_input(grad, x, weight, stride, padding)
    return result


@torch.library.impl("addersr::adder2d_grad_weight", "default")
def _grad_weight(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, backend: str
) -> Tensor:
    if backend == "reference":
        return reference.grad_weight(grad, x, weight, stride, padding)
    # The surrogate is linear in X and W: a convolution's weight gradient minus W times the sum of grad. On CUDA that
    # convolution is in TF32 unless torch.backends.cudnn.allow_tf32 is off, as in a convolutional network.
    mask = [False, True, False]
    correlation: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask
    )[1]
    total = grad.sum((0, 2, 3), dtype=torch.promote_types(grad.dtype, torch.float32)).to(grad.dtype)
    return (correlation - weight * total[:, None, None, None]).contiguous()


def unavailable_reason(backend: str, x: Tensor | None = None) -> str | None:
    """Why `backend` cannot run (on `x`, if given), or None if it can."""
    if backend in ("native", "native16"):
        return cpu.unavailable_reason(x)
    return _triton_unavailable_reason(x) if backend == "triton" else None


def _triton_unavailable_reason(x: Tensor | None) -> str | None:
    """Asked here, for `addersr.ops.triton` cannot be imported without triton."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; builds of torch for CUDA bring it"
    if x is not None and x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the tensors are {x.dtype}, the kernels take float32, bfloat16 and float16"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if x is not None and not x.is_cuda:
        return f"the tensors are on {x.device}, the kernels run on CUDA devices"
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "there is no CUDA device"
    capability = torch.cuda.get_device_capability(None if x is None else x.device)
    return None if capability >= (8, 0) else f"compute capability {capability} is less than (8, 0)"


def _implementation(backend: str, x: Tensor) -> ModuleType:
    """The module to run; asked when the operator runs and not before, for a compiler cannot trace it."""
    if backend == "auto":
        fast = "triton" if x.is_cuda else "native"
        backend = fast if unavailable_reason(fast, x) is None else "reference"
    elif reason := unavailable_reason(backend, x):
        raise BackendError(f"backend {backend!r} cannot run: {reason}")
    if backend == "triton":
        from addersr.ops import triton  # at the first call that needs it

        return triton
    return cpu if backend in ("native", "native16") else reference


@torch.library.register_fake("addersr::adder2d")  # type: ignore[untyped-decorator]  # torch has no annotation
def _forward_fake(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, backend: str) -> Tensor:
    h, w = reference.output_size(x.shape, weight.shape, stride, padding)
    shape = (x.shape[0], weight.shape[0], h, w)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.register_fake("addersr::adder2d_grad_input")  # type: ignore[untyped-decorator]  # torch has no annotation
def _grad_input_fake(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, backend: str
) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.register_fake("addersr::adder2d_grad_weight")  # type: ignore[untyped-decorator]  # torch has no annotation
def _grad_weight_fake(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, backend: str
) -> Tensor:
    return torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.stride, ctx.padding, ctx.backend = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
    x, weight = ctx.saved_tensors
    rest = (grad, x, weight, ctx.stride, ctx.padding, ctx.backend)
    grad_x = torch.ops.addersr.adder2d_grad_input(*rest) if ctx.needs_input_grad[0] else None
    grad_w = torch.ops.addersr.adder2d_grad_weight(*rest) if ctx.needs_input_grad[1] else None
    return grad_x, grad_w, None, None, None


torch.library.register_autograd("addersr::adder2d", _backward, setup_context=_save_inputs)


def _refuse(ctx: Any, grad: Tensor) -> None:
    raise RuntimeError("adder2d can be differentiated once only: its gradients are surrogates")


torch.library.register_autograd("addersr::adder2d_grad_input", _refuse)
torch.library.register_autograd("addersr::adder2d_grad_weight", _refuse)
