"""Whole adder units at inference, one kernel call each: sums, folded BatchNorm, shortcut, ReLU, power, residual.

A unit computes, with S its sums of absolute differences and u its input,

    z = scale[o] S + bias[o] + gain u[o // repeats]
    z = max(z, 0) where relu;  z = sign(z) ((|z| + eps)^alpha - eps^alpha) where power
    y = z, or residual + residual_scaling z where there is a residual

Two kinds, for the CPU: `FloatUnit` sums float32 in channels-last memory, `ByteUnit` sums bytes in planes, and its maps
are float16, for it waits for memory. Filters are packed when a unit is made, and a call writes into a tensor that it is
given.
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from addersr.ops import cpu, int8


@dataclass(frozen=True)
class Tail:
    """What follows the sums (see above)."""

    scale: Tensor
    """(O) float32"""
    bias: Tensor
    """(O) float32"""
    gain: float
    """0 where there is no shortcut."""
    relu: bool
    alpha: float
    """1 where there is no power activation."""
    eps: float

    def apply(self, sums: Tensor, x: Tensor) -> Tensor:
        """z in eager torch: sums (N, O, H, W) and input (N, C, H, W) -> (N, O, H, W)."""
        z = sums * self.scale[:, None, None] + self.bias[:, None, None]
        if self.gain:
            z = z + self.gain * x.repeat_interleave(sums.shape[1] // x.shape[1], dim=1)
        if self.relu:
            z = z.relu()
        if self.alpha != 1:
            z = z.sign() * ((z.abs() + self.eps) ** self.alpha - self.eps**self.alpha)
        return z


@dataclass(frozen=True)
class Grid:
    """The bytes that stand for values: byte b for (b - zero) step, b from 0 to `top`."""

    step: float
    zero: int
    top: int

    @staticmethod
    def between(low: float, high: float, bits: int) -> "Grid":
        """The grid of `bits` bits from `low` to `high`, moved by less than a step so that 0 lies on it."""
        top = 2**bits - 1
        # Filters and features may be all alike; any grid does then, for all that differs is excess.
        step = max(high - low, 1e-6 * max(abs(low), abs(high), 1.0)) / top
        return Grid(step, -round(low / step), top)

    @property
    def low(self) -> float:
        """The value of byte 0."""
        return -self.zero * self.step

    @property
    def high(self) -> float:
        """The value of the last byte."""
        return (self.top - self.zero) * self.step

    def bytes_of(self, x: Tensor) -> Tensor:
        """The nearest bytes, uint8; ties to the even step from 0, as the kernels round."""
        levels = (x * torch.tensor(1 / self.step, dtype=x.dtype)).round() + self.zero
        return levels.clamp(0, self.top).to(torch.uint8)

    def excess_of(self, x: Tensor) -> Tensor:
        """How far each value lies beyond the ends."""
        return (x - self.high).relu() + (self.low - x).relu()


class _Tail(ctypes.Structure):
    """UnitTail of csrc/sad2d.h."""

    _fields_ = [
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("gain", ctypes.c_float),
        ("repeats", ctypes.c_int64),
        ("relu", ctypes.c_int32),
        ("power", ctypes.c_int32),
        ("alpha", ctypes.c_float),
        ("eps", ctypes.c_float),
        ("floor", ctypes.c_float),
        ("residual_scaling", ctypes.c_float),
    ]


class _Quantizer(ctypes.Structure):
    """Quantizer of csrc/sad2d.h."""

    _fields_ = [
        ("inverse_step", ctypes.c_float),
        ("step", ctypes.c_float),
        ("zero", ctypes.c_int32),
        ("top", ctypes.c_int32),
    ]


def _c_tail(tail: Tail, channels: int, in_channels: int) -> _Tail:
    # Without a shortcut all channels look at the first one of the input, which is always there.
    repeats = channels // in_channels if tail.gain else channels
    return _Tail(
        tail.scale.data_ptr(), tail.bias.data_ptr(), tail.gain, repeats, tail.relu, tail.alpha != 1, tail.alpha,
        tail.eps, tail.eps**tail.alpha, 1.0,
    )  # fmt: skip


class _ShuffleConvShape(ctypes.Structure):
    """ShuffleConvShape of csrc/sad2d.h."""

    _fields_ = [(name, ctypes.c_int64) for name in ("c", "h", "w", "r")]


def _address(residual: Tensor | None, i: int = 0) -> int | None:
    return None if residual is None else residual[i].data_ptr()


class Workspace:
    """Memory that the quantised kernels work in, and that grows with the largest picture."""

    def __init__(self) -> None:
        self._room = torch.empty(0, dtype=torch.uint8)

    def of(self, kernels: ctypes.CDLL, shape: int8.Shape, threads: int) -> Tensor:
        """At least the bytes that this shape needs."""
        if len(self._room) < kernels.addersr_sad2d_workspace(ctypes.byref(shape), threads):
            self._room = int8.workspace(kernels, shape, threads)
        return self._room


class FloatUnit:
    """A unit in float32 on the native kernels. Its filters are odd in size, at stride 1 with the size kept.

    Args:
        weight: (O, C, K, K) float32 on the CPU, K odd.
        tail: on the CPU.

    Raises:
        BackendError: there are no native kernels here.
    """

    memory_format = torch.channels_last
    dtype = torch.float32

    def __init__(self, weight: Tensor, tail: Tail):
        self._kernels = cpu.kernels()
        self._tail = tail  # keeps its tensors alive
        self.channels = len(weight)
        self._o, self._c, self._k, _ = weight.shape
        self._c_tail = _c_tail(tail, self._o, self._c)
        shape = self._shape(1, self._k, self._k)
        self._packed = torch.zeros(self._kernels.addersr_adder2d_packed_floats(ctypes.byref(shape)))
        weight = weight.contiguous()  # kept until the call is over
        self._kernels.addersr_adder2d_pack(ctypes.byref(shape), weight.data_ptr(), self._packed.data_ptr())

    def __call__(
        self, x: Tensor, out: Tensor, residual: Tensor | None = None, residual_scaling: float = 1.0
    ) -> Tensor:
        """Compute into `out`, which may be `residual` but not `x`, and return it.

        All are float32, channels last in memory: x (N, C, H, W), out and residual (N, O, H, W).
        """
        n, _, h, w = x.shape
        self._c_tail.residual_scaling = residual_scaling
        failed = self._kernels.addersr_unit_infer(
            ctypes.byref(self._shape(n, h, w)), ctypes.byref(self._c_tail), x.data_ptr(), self._packed.data_ptr(),
            _address(residual), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError("no memory left in an adder unit")
        return out

    def _shape(self, n: int, h: int, w: int) -> cpu.Shape:
        pad = self._k // 2
        return cpu.Shape(n, self._c, h, w, self._o, self._k, self._k, 1, 1, pad, pad, h, w)


class ByteUnit:
    """A unit with quantised sums on the native kernels. Filters as in `FloatUnit`.

    Input and filters share one grid. What lies beyond it is exact as long as only one of the two does: filter values
    are clipped and the excess put into the bias beforehand; the input's excess is summed over the window, once for all
    channels.

    Args:
        weight: (O, C, K, K) uint8 on the CPU, K odd.
        grid: what its bytes stand for.
        tail: on the CPU; its scale is for sums of values, not of bytes.
        workspace: units that are never called at the same time may share one.

    Raises:
        BackendError: there are no native kernels here.
        ValueError: a filter has too many values (`int8.MOST_VALUES`).
    """

    memory_format = torch.contiguous_format
    dtype = torch.float16

    def __init__(self, weight: Tensor, grid: Grid, tail: Tail, workspace: "Workspace | None" = None):
        int8.check_size(weight)
        self._kernels = cpu.kernels()
        self._tail = tail  # keeps its tensors alive
        self.channels = len(weight)
        self._o, self._c, self._k, _ = weight.shape
        self._c_tail = _c_tail(tail, self._o, self._c)
        self._grid = _Quantizer(1 / grid.step, grid.step, grid.zero, grid.top)
        self._packed = int8.pack(self._kernels, self._shape(self._k, self._k), weight)
        self._workspace = Workspace() if workspace is None else workspace

    def __call__(
        self, x: Tensor, out: Tensor, residual: Tensor | None = None, residual_scaling: float = 1.0
    ) -> Tensor:
        """As `FloatUnit.__call__`, but float16 and contiguous in memory."""
        threads = torch.get_num_threads()
        shape = self._shape(x.shape[2], x.shape[3])
        room = self._workspace.of(self._kernels, shape, threads)
        self._c_tail.residual_scaling = residual_scaling
        for i in range(len(x)):
            self._kernels.addersr_sad2d_unit(
                ctypes.byref(shape), ctypes.byref(self._grid), ctypes.byref(self._c_tail), x[i].data_ptr(),
                self._packed.data_ptr(), _address(residual, i), out[i].data_ptr(), room.data_ptr(), threads,
            )  # fmt: skip
        return out

    def _shape(self, h: int, w: int) -> int8.Shape:
        pad = self._k // 2
        return int8.Shape(self._c, h, w, self._o, self._k, self._k, 1, 1, pad, pad, h, w)


class ShuffleConv:
    """PixelShuffle(r), a 3x3 convolution to three colours and a sum, in one pass over planes, on the native kernels.

    Args:
        weight: (3, C, 3, 3) float32 on the CPU.
        bias: (3).
        r: 2 or 3.

    Raises:
        BackendError: there are no native kernels here.
    """

    def __init__(self, weight: Tensor, bias: Tensor, r: int):
        self._kernels = cpu.kernels()
        self._weight, self._bias, self._r = weight.detach().permute(1, 2, 3, 0).contiguous(), bias.detach(), r

    def __call__(self, x: Tensor, picture: Tensor) -> Tensor:
        """Add to `picture`, (N, 3, r H, r W) float32, what x, (N, C r r, H, W) float16, gives; both contiguous."""
        shape = _ShuffleConvShape(len(self._weight), *x.shape[2:], self._r)
        for maps, colours in zip(x, picture, strict=True):
            failed = self._kernels.addersr_shuffle_conv(
                ctypes.byref(shape), maps.data_ptr(), self._weight.data_ptr(), self._bias.data_ptr(),
                colours.data_ptr(), colours.data_ptr(), torch.get_num_threads(),
            )  # fmt: skip
            if failed:
                raise MemoryError("no memory left in the last layer")
        return picture
