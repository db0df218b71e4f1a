"""The adder operation on NVIDIA GPUs, in Triton: forward, gradient to the input, sums of absolute differences of bytes.

Imported at the first call that needs it, and the only module that imports triton. Each program owns a block of pixels
times a block of output channels and keeps its sums in registers; it walks over the taps and, four channels at a time,
over what is summed, so there is no temporary of filters x taps x pixels. Two instructions a term where float32 is
summed (subtract, add the magnitude), one for four terms of bytes.

With TRITON_INTERPRET=1 set before this module is imported, Triton's interpreter runs the same kernels on CPU tensors:
how the tests hold them to the oracle without a GPU.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-def, untyped-decorator"
# because triton has no annotations, takes none of typing's in its kernels, and may not be installed

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from addersr.errors import BackendError
from addersr.ops.reference import output_size

Pair = Sequence[int]

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
"""Whether the interpreter runs the kernels."""

_CHANNELS = 4
"""Channels that a program loads at a time: the kernels take multiples of it, the functions below fill up to one."""

_MOST_PIXELS = 2**31 - 256
"""Numbers of pixels are 32-bit in the kernels, offsets of elements are 64-bit."""


def _config(block_p: int, block_o: int, stages: int, warps: int) -> triton.Config:
    blocks = {"block_p": block_p, "block_o": block_o, "stages": stages}
    return triton.Config(blocks, num_warps=warps, num_stages=1)


if INTERPRETED:  # where a program costs about the same whatever its block
    _CONFIGS = [_config(256, 16, 1, warps=4)]
else:
    # Blocks of 32 or 64 sums a thread. With 3 stages what comes next is copied to shared memory in the background,
    # which costs instructions; with 1 the other programs on the multiprocessor cover the wait.
    _CONFIGS = [
        _config(128, 64, 1, warps=4),
        _config(128, 64, 3, warps=4),
        _config(128, 128, 1, warps=8),
        _config(64, 64, 1, warps=4),
        _config(128, 32, 1, warps=4),
    ]
# `magnitude` groups pictures within a factor of four, so that not every size of tile is tuned for.
_SIZES = ["pixels", "magnitude", "height", "width", "out_h", "out_w"]
_TUNED_FOR = ["magnitude", "inner", "outer", "kernel_h", "kernel_w", "stride_h", "stride_w"]


@triton.jit
def _four(block):
    """The four columns of a (rows, 4) block."""
    even, odd = tl.split(tl.reshape(block, (block.shape[0], 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def _add_distance(total, x, filters, packed: tl.constexpr):
    """total (P, O) + |x (P) - filters (O)|, the sum over the four bytes of a word if `packed`."""
    x = x[:, None]
    filters = filters[None, :]
    if not packed:
        total += tl.abs(x - filters)
    elif INTERPRETED:  # which cannot run inline assembly
        for byte in tl.static_range(4):
            total += tl.abs(((x >> (8 * byte)) & 255) - ((filters >> (8 * byte)) & 255))
    else:
        total = tl.inline_asm_elementwise(
            "vabsdiff4.u32.u32.u32.add $0, $1, $2, $3;",
            "=r,r,r,r",
            [x, filters, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    return total


@triton.autotune(_CONFIGS, key=_TUNED_FOR)
@triton.jit(do_not_specialize=[*_SIZES, "outside"])
def _forward_kernel(
    x, weight, y, outside,
    pixels, magnitude, height, width, out_h, out_w,
    inner: tl.constexpr, outer: tl.constexpr, outer4: tl.constexpr, kernel_h: tl.constexpr, kernel_w: tl.constexpr,
    stride_h: tl.constexpr, stride_w: tl.constexpr, pad_h: tl.constexpr, pad_w: tl.constexpr, packed: tl.constexpr,
    block_p: tl.constexpr, block_o: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """x (N, height, width, inner), weight (Kh, Kw, inner, outer4) -> y (N, out_h, out_w, outer), of which `pixels`.

    `outer4` is `outer` filled up to a multiple of four; `outside` is what x is beyond its borders.
    """
    p = tl.program_id(0) * block_p + tl.arange(0, block_p)
    o = tl.program_id(1) * block_o + tl.arange(0, block_o)
    four = tl.arange(0, 4)[None, :]
    image = (p // (out_h * out_w)).to(tl.int64)
    top = p // out_w % out_h * stride_h - pad_h
    left = p % out_w * stride_w - pad_w
    kind = tl.int32 if packed else tl.float32
    total = tl.zeros((block_p, block_o), kind)
    w = weight + o
    stored = o < outer4
    for tap in range(kernel_h * kernel_w):
        row = top + tap // kernel_w
        column = left + tap % kernel_w
        inside = (p < pixels) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        seen = x + ((image * height + row) * width + column) * inner
        for i in tl.range(0, inner, 4, num_stages=stages):
            block = tl.load(seen[:, None] + i + four, mask=inside[:, None], other=outside).to(kind)
            x0, x1, x2, x3 = _four(block)
            total = _add_distance(total, x0, tl.load(w, mask=stored, other=0), packed)
            total = _add_distance(total, x1, tl.load(w + outer4, mask=stored, other=0), packed)
            total = _add_distance(total, x2, tl.load(w + 2 * outer4, mask=stored, other=0), packed)
            total = _add_distance(total, x3, tl.load(w + 3 * outer4, mask=stored, other=0), packed)
            w += 4 * outer4
    result = total if packed else -total
    at = y + p.to(tl.int64)[:, None] * outer + o[None, :]
    tl.store(at, result.to(y.dtype.element_ty), mask=(p < pixels)[:, None] & (o < outer)[None, :])


@triton.jit
def _add_slope(total, half, filters, grad):
    """total (P, O) + clip(filters (O) - half (P, O), 0, 1) grad (P): a saturating subtraction and a multiply-add."""
    return total + tl.clamp(filters[None, :] - half, 0.0, 1.0) * grad[:, None]


@triton.autotune(_CONFIGS, key=_TUNED_FOR)
@triton.jit(do_not_specialize=_SIZES)
def _grad_input_kernel(
    grad, x, weight, grad_x,
    pixels, magnitude, height, width, out_h, out_w,
    inner: tl.constexpr, outer: tl.constexpr, outer4: tl.constexpr, kernel_h: tl.constexpr, kernel_w: tl.constexpr,
    stride_h: tl.constexpr, stride_w: tl.constexpr, pad_h: tl.constexpr, pad_w: tl.constexpr,
    block_p: tl.constexpr, block_o: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """grad (N, out_h, out_w, inner), x (N, height, width, outer) -> grad_x as x, of which `pixels`.

    `inner` counts the operation's filters here, `outer` its input channels. `weight` (Kh, Kw, inner, outer4) holds
    (W + 1) / 2, for HardTanh(W - X) = 2 clip((W + 1) / 2 - X / 2, 0, 1) - 1, whose clipping costs no instruction.
    """
    p = tl.program_id(0) * block_p + tl.arange(0, block_p)
    o = tl.program_id(1) * block_o + tl.arange(0, block_o)
    four = tl.arange(0, 4)[None, :]
    image = (p // (height * width)).to(tl.int64)
    bottom = p // width % height + pad_h
    right = p % width + pad_w
    at = p.to(tl.int64)[:, None] * outer + o[None, :]
    owned = (p < pixels)[:, None] & (o < outer)[None, :]
    half = tl.load(x + at, mask=owned, other=0).to(tl.float32) * 0.5
    total = tl.zeros((block_p, block_o), tl.float32)
    sum_of_grad = tl.zeros((block_p,), tl.float32)
    w = weight + o
    stored = o < outer4
    for tap in range(kernel_h * kernel_w):
        row = bottom - tap // kernel_w
        column = right - tap % kernel_w
        met = (row % stride_h == 0) & (column % stride_w == 0)  # by an output; always at stride 1
        row = row // stride_h
        column = column // stride_w
        inside = (p < pixels) & met & (row >= 0) & (row < out_h) & (column >= 0) & (column < out_w)
        seen = grad + ((image * out_h + row) * out_w + column) * inner
        for i in tl.range(0, inner, 4, num_stages=stages):
            block = tl.load(seen[:, None] + i + four, mask=inside[:, None], other=0).to(tl.float32)
            sum_of_grad += tl.sum(block, 1)
            g0, g1, g2, g3 = _four(block)
            total = _add_slope(total, half, tl.load(w, mask=stored, other=0), g0)
            total = _add_slope(total, half, tl.load(w + outer4, mask=stored, other=0), g1)
            total = _add_slope(total, half, tl.load(w + 2 * outer4, mask=stored, other=0), g2)
            total = _add_slope(total, half, tl.load(w + 3 * outer4, mask=stored, other=0), g3)
            w += 4 * outer4
    result = 2 * total - sum_of_grad[:, None]
    tl.store(grad_x + at, result.to(grad_x.dtype.element_ty), mask=owned)


def forward(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """As `reference.forward`, float32, bfloat16 or float16; sums in float32."""
    out = _result(x, weight, stride, padding, x.dtype)
    filters = _padded(weight.float(), (0, 1), _CHANNELS).permute(2, 3, 1, 0).contiguous()
    _launch_forward(_channels_last(x, _CHANNELS), filters, out, x.shape, stride, padding, outside=0.0)
    return out


def sad2d(
    x: Tensor, weight: Tensor, stride: int | Pair = 1, padding: int | Pair = 0, pad_value: int = 0
) -> Tensor:
    """Sums of absolute differences of bytes, as `int8.sad2d`, which has the contract and checks the arguments.

    (N, C, H, W), (O, C, Kh, Kw), both uint8 on one CUDA device -> (N, O, H', W') int32, channels last. Outside the
    picture there is `pad_value`. Four channels share a 32-bit word, and what C lacks to a multiple of 16 is computed
    in vain. Exact as long as 255 C Kh Kw < 2^31.
    """
    stride, padding = (((v, v) if isinstance(v, int) else v) for v in (stride, padding))
    out = _result(x, weight, stride, padding, torch.int32)
    # Both are filled up with the same value, which adds nothing.
    words = _channels_last(x, 4 * _CHANNELS, pad_value).view(torch.int32)
    o, _, kernel_h, kernel_w = weight.shape
    filters = (
        _channels_last(weight, 4 * _CHANNELS, pad_value).view(torch.int32).view(o, kernel_h, kernel_w, -1)
    )
    packed = _padded(filters, (0,), _CHANNELS).permute(1, 2, 3, 0).contiguous()
    outside = int.from_bytes(bytes([pad_value] * 4), "little", signed=True)
    _launch_forward(words, packed, out, x.shape, stride, padding, outside)
    return out


def grad_input(grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """As `reference.grad_input`, float32, bfloat16 or float16; sums in float32.

    Each term is rounded by float32's epsilon times |grad| max(1, |W|). With a stride of s every input pixel still
    walks over all taps, of which one in s meets an output on either axis.
    """
    n, channels, height, width = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    filters = _padded(weight.float() * 0.5 + 0.5, (0, 1), _CHANNELS).permute(2, 3, 0, 1).contiguous()
    tensors = {
        "grad": _channels_last(grad, _CHANNELS),
        "x": _channels_last(x, 1),
        "weight": filters,
        "grad_x": out,
    }
    size, out_size = (height, width), grad.shape[2:]
    _launch(_grad_input_kernel, n * height * width, channels, size, out_size, stride, padding, **tensors)
    return out


def _result(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dtype: torch.dtype) -> Tensor:
    shape = (x.shape[0], weight.shape[0], *output_size(x.shape, weight.shape, list(stride), list(padding)))
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)


def _launch_forward(
    x: Tensor, filters: Tensor, out: Tensor, shape: Pair, stride: Pair, padding: Pair, outside: float
) -> None:
    """Fill `out` from `_channels_last` x, which had this `shape`, and filters (Kh, Kw, inner, outer4)."""
    n, channels, out_h, out_w = out.shape
    rest = {"x": x, "weight": filters, "y": out, "outside": outside, "packed": out.dtype == torch.int32}
    _launch(_forward_kernel, n * out_h * out_w, channels, shape[2:], (out_h, out_w), stride, padding, **rest)


def _launch(
    kernel: Any, pixels: int, outer: int, size: Pair, out_size: Pair, stride: Pair, padding: Pair, **rest: Any
) -> None:
    """Run a program for each block of pixels times a block of the `outer` channels; `rest` goes to the kernel."""
    if not pixels:
        return
    if pixels > _MOST_PIXELS:
        raise BackendError(f"the kernels take at most {_MOST_PIXELS} pixels at a time, got {pixels}")
    kernel_h, kernel_w, inner, outer4 = rest["weight"].shape
    device = rest["weight"].device

    def grid(blocks: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(pixels, blocks["block_p"]), triton.cdiv(outer, blocks["block_o"])

    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](
            pixels=pixels, magnitude=pixels.bit_length() // 2,
            height=size[0], width=size[1], out_h=out_size[0], out_w=out_size[1],
            inner=inner, outer=outer, outer4=outer4, kernel_h=kernel_h, kernel_w=kernel_w,
            stride_h=stride[0], stride_w=stride[1], pad_h=padding[0], pad_w=padding[1],
            **rest, enable_fp_fusion=True,
        )  # fmt: skip


def _channels_last(x: Tensor, multiple: int, fill: int = 0) -> Tensor:
    """The elements of `x`, its channels filled up to a multiple, in the order N, H, W, C and aligned to 16 bytes."""
    flat = _padded(x, (1,), multiple, fill).permute(0, 2, 3, 1).reshape(-1)
    return flat.clone() if flat.data_ptr() % 16 else flat


def _padded(x: Tensor, axes: tuple[int, ...], multiple: int, fill: int = 0) -> Tensor:
    """`x` with these of its four axes filled up to a multiple."""
    pads = [-x.shape[axis] % multiple if axis in axes else 0 for axis in range(4)]
    return F.pad(x, [0, pads[3], 0, pads[2], 0, pads[1], 0, pads[0]], value=fill) if any(pads) else x
