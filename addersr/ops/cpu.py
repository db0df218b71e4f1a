"""The compiled CPU kernels: finds the library, says why it cannot be used, and calls it.

The library (csrc/) is plain C, loaded by ctypes after torch so that both share one OpenMP pool. It picks AVX-512, AVX2
or portable code when it first runs; the environment variable ADDERSR_ISA=avx512|avx2|portable forces one.
"""

import ctypes
import importlib.util
import os
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

import torch
from torch import Tensor

from addersr.errors import BackendError
from addersr.ops.reference import output_size

Pair = list[int]


class Shape(ctypes.Structure):
    """Adder2dShape of csrc/adder2d.h."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("n", "c", "h", "w", "o", "kh", "kw"),
            *("stride_h", "stride_w", "pad_h", "pad_w", "oh", "ow"),
        )
    ]


def _find() -> str | None:
    """The library's file: beside this one, or in an installation of the same code.

    The second is for a source tree that is in the installation's way: Python looks first where a script lies, and so
    `python app.py` takes the package from there, which has nothing compiled in it.
    """
    name, own = "addersr.ops._kernels", Path(__file__).parent
    spec = importlib.util.find_spec(name)
    for folder in sys.path:
        if spec is not None:
            break
        ops = Path(folder, "addersr", "ops")
        if _code(ops) == _code(own):
            spec = PathFinder.find_spec(name, [str(ops)])
    return None if spec is None else spec.origin


def _code(ops: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ops.glob("*.py")}


@cache
def load() -> ctypes.CDLL | str:
    """The loaded library, or why there is none."""
    path = _find()
    if path is None:
        return (
            f"no compiled kernels beside {__file__}; reinstall with a C++17 compiler and OpenMP (on Debian: apt "
            "install g++), and if you have, run outside the source tree"
        )
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        return f"the compiled kernels could not be loaded: {error}"
    library.addersr_instruction_set.restype = ctypes.c_char_p
    if library.addersr_instruction_set() is None:
        return f"ADDERSR_ISA={os.environ['ADDERSR_ISA']} names an instruction set that this processor does not have"
    pointer, threads = ctypes.c_void_p, ctypes.c_int
    for name, arguments, result in (
        ("adder2d_forward", [pointer] * 4 + [threads], ctypes.c_int),
        ("adder2d_forward_fixed16", [pointer] * 4 + [threads], ctypes.c_int),
        ("adder2d_grad_input", [pointer] * 5 + [threads], ctypes.c_int),
        ("adder2d_packed_floats", [pointer], ctypes.c_int64),
        ("adder2d_pack", [pointer] * 3, None),
        ("unit_forward", [pointer] * 4 + [threads], ctypes.c_int),
        ("unit_backward", [pointer] * 5 + [threads], ctypes.c_int),
        ("unit_infer", [pointer] * 6 + [threads], ctypes.c_int),
        ("sad2d_packed_words", [pointer], ctypes.c_int64),
        ("sad2d_pack", [pointer] * 3, None),
        ("sad2d_workspace", [pointer, threads], ctypes.c_int64),
        ("sad2d_sums", [pointer, pointer, ctypes.c_uint8, *[pointer] * 3, threads], None),
        ("shuffle_conv", [pointer] * 6 + [threads], ctypes.c_int),
        ("sad2d_unit", [pointer] * 8 + [threads], None),
    ):
        function = getattr(library, f"addersr_{name}")
        function.argtypes, function.restype = arguments, result
    return library


def kernels() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        BackendError: there is none.
    """
    library = load()
    if isinstance(library, str):
        raise BackendError(f"the native kernels cannot run: {library}")
    return library


def instruction_set() -> str | None:
    """The instruction set in use (avx512, avx2 or portable), or None if the kernels cannot be used."""
    library = load()
    return None if isinstance(library, str) else library.addersr_instruction_set().decode()


def unavailable_reason(x: Tensor | None = None) -> str | None:
    """Why the kernels cannot run (on `x`, if given), or None if they can."""
    if x is not None:
        if x.device.type != "cpu":
            return f"the tensors are on {x.device}, the kernels run on the CPU"
        if x.dtype != torch.float32:
            return f"the tensors are {x.dtype}, the kernels take torch.float32"
    library = load()
    return library if isinstance(library, str) else None


def forward(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """As `reference.forward`, float32 on the CPU."""
    shape = _shape(x, weight, stride, padding)
    out = torch.empty((shape.n, shape.o, shape.oh, shape.ow), memory_format=torch.channels_last)
    x, weight = x.contiguous(memory_format=torch.channels_last), weight.contiguous()
    if out.numel():
        _call("forward", shape, x, weight, out)
    return out


def forward_fixed16(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor | None:
    """As `forward` in 16-bit fixed point, or None where these values need float32 (csrc/fixed16_kernels.hpp)."""
    shape = _shape(x, weight, stride, padding)
    out = torch.empty((shape.n, shape.o, shape.oh, shape.ow), memory_format=torch.channels_last)
    x, weight = x.contiguous(memory_format=torch.channels_last), weight.contiguous()
    return out if not out.numel() or _call("forward_fixed16", shape, x, weight, out) else None


def grad_input(grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """As `reference.grad_input`, float32 on the CPU."""
    shape = _shape(x, weight, stride, padding)
    grad = grad.contiguous(memory_format=torch.channels_last)
    x, weight = x.contiguous(memory_format=torch.channels_last), weight.contiguous()
    out = torch.empty(x.shape, memory_format=torch.channels_last)
    if out.numel():
        _call("grad_input", shape, grad, x, weight, out)
    return out


def _shape(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Shape:
    o, _, kh, kw = weight.shape
    return Shape(*x.shape, o, kh, kw, *stride, *padding, *output_size(x.shape, weight.shape, stride, padding))


def _call(name: str, shape: Shape, *tensors: Tensor) -> bool:
    """Whether the kernel took the work, which all but `forward_fixed16` do."""
    kernel = getattr(load(), f"addersr_adder2d_{name}")
    outcome = kernel(ctypes.byref(shape), *(t.data_ptr() for t in tensors), torch.get_num_threads())
    if outcome == 1:
        raise MemoryError(f"no memory left in the adder kernel {name}")
    return bool(outcome == 0)
