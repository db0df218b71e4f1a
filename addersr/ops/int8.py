"""The quantised operation: sums of absolute differences of bytes.

A byte stands for a value on a grid that input and filters share, so that differences of bytes are differences of values
in steps of the grid. See `addersr.layers.quantized` for the grid and what lies beyond its ends.
"""

import ctypes
from collections.abc import Sequence
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor

from addersr.ops import cpu, reference
from addersr.ops.adder2d import check_shapes, pair, unavailable_reason

MOST_VALUES = 2**23
"""Values a filter may have, its rows filled up to a multiple of four: so many differences of at most 255 stay below
2^31, so 32 bits cannot overflow."""


def sad2d(
    x: Tensor,
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    pad_value: int = 0,
) -> Tensor:
    r"""The L1 distance between each filter and each patch of the input, exact in integers.

    .. math:: S(n, o, m, l) = \sum_{c, i, j} |X(n, c, m s + i - p, l s + j - p) - W(o, c, i, j)|

    The fastest that can run computes it: the native kernels on the CPU, Triton's on a GPU, or eager torch. All give the
    same integers.

    Args:
        x: (N, C, H, W) uint8; N may be 0.
        weight: (O, C, Kh, Kw) uint8, on the same device.
        stride: positive, one for both axes or (vertical, horizontal).
        padding: not negative, one for both axes or (vertical, horizontal).
        pad_value: what the outside of the picture counts as, 0 to 255: the byte that stands for 0.

    Returns:
        (N, O, H', W') int32 with H' = (H + 2p - Kh) // s + 1.

    Raises:
        ValueError: types, shapes, devices, stride, padding or pad_value that do not fit, or a filter of more than
            `MOST_VALUES` values.
    """
    steps, pads = pair("stride", stride, 1), pair("padding", padding, 0)
    check_shapes(x, weight, pads)
    if x.dtype != torch.uint8 or weight.dtype != torch.uint8:
        raise ValueError(f"x and weight must be torch.uint8, got {x.dtype} and {weight.dtype}")
    if not isinstance(pad_value, SupportsIndex) or not 0 <= int(pad_value) <= 255:
        raise ValueError(f"pad_value must be 0 to 255, got {pad_value}")
    check_size(weight)
    if x.is_cuda and unavailable_reason("triton") is None:
        from addersr.ops import triton  # at the first call that needs it

        return triton.sad2d(x, weight, steps, pads, pad_value)
    if x.device.type == "cpu" and cpu.unavailable_reason() is None:
        return _native(x, weight, steps, pads, pad_value)
    return _eager(x, weight, steps, pads, pad_value)


def check_size(weight: Tensor) -> None:
    """Raise ValueError where a filter of (O, C, Kh, Kw) has too many values."""
    _, c, kh, kw = weight.shape
    if (values := c * kh * ((kw + 3) // 4 * 4)) > MOST_VALUES:
        raise ValueError(f"a filter may have {MOST_VALUES} values at most, got {values}")


def _eager(x: Tensor, weight: Tensor, stride: list[int], padding: list[int], pad_value: int) -> Tensor:
    """In float64, which holds these integers exactly."""
    around = [padding[1], padding[1], padding[0], padding[0]]
    padded = F.pad(x, around, value=pad_value).double()
    return (-reference.forward(padded, weight.double(), stride, [0, 0])).int()


class Shape(ctypes.Structure):
    """Sad2dShape of csrc/sad2d.h."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("c", "h", "w", "o", "kh", "kw"),
            *("stride_h", "stride_w", "pad_h", "pad_w", "oh", "ow"),
        )
    ]


def pack(library: ctypes.CDLL, shape: Shape, weight: Tensor) -> Tensor:
    """Filters (O, C, Kh, Kw) uint8 as the kernels read them: 32-bit words of four taps."""
    packed = torch.zeros(library.addersr_sad2d_packed_words(ctypes.byref(shape)), dtype=torch.int32)
    weight = weight.contiguous()  # named, or a copy would be freed before the call reads it
    library.addersr_sad2d_pack(ctypes.byref(shape), weight.data_ptr(), packed.data_ptr())
    return packed


def workspace(library: ctypes.CDLL, shape: Shape, threads: int) -> Tensor:
    """Room for the kernels to work in: at least as many bytes as they need, the first at a multiple of 64."""
    room = torch.empty(library.addersr_sad2d_workspace(ctypes.byref(shape), threads) + 63, dtype=torch.uint8)
    return room[-room.data_ptr() % 64 :]


def _native(x: Tensor, weight: Tensor, stride: list[int], padding: list[int], pad_value: int) -> Tensor:
    library = cpu.kernels()
    n, c, h, w = x.shape
    o, _, kh, kw = weight.shape
    oh, ow = reference.output_size(x.shape, weight.shape, stride, padding)
    shape = Shape(c, h, w, o, kh, kw, *stride, *padding, oh, ow)
    threads = torch.get_num_threads()
    packed, room = pack(library, shape, weight), workspace(library, shape, threads)
    result = torch.empty((n, o, oh, ow), dtype=torch.int32)
    for picture, sums in zip(x.contiguous(), result, strict=True):
        library.addersr_sad2d_sums(
            ctypes.byref(shape), picture.data_ptr(), pad_value, packed.data_ptr(), sums.data_ptr(),
            room.data_ptr(), threads,
        )  # fmt: skip
    return result
