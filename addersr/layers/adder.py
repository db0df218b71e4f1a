"""The adder layer, and the unit an adder network is built of."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from addersr.layers.normalization import remember, spans_processes, synchronised, synchronised_unit
from addersr.layers.power import PowerActivation
from addersr.ops import adder2d, unavailable_reason, unit

Shortcut = Literal["learnable", "fixed", "none"]
"""The self-shortcut of a unit: its gain is learned from 1 on, stays 1, or there is no shortcut."""


class AdderConv2d(nn.Module):
    """An adder layer: minus the L1 distance between each filter and each patch (`addersr.ops.adder2d`).

    Shapes: (N, C, H, W) -> (N, O, H', W'). All results are <= 0 and of the order of C * K * K, so a BatchNorm has to
    follow. The filters start from a normal distribution of standard deviation 1, as in AdderNet.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K, both axes.
        stride: both axes.
        padding: zeros on every side; they take part as |0 - w|.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
    ):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W'), in the type of the filters: autocast may hand over a lower one."""
        return adder2d(x.to(self.weight.dtype), self.weight, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        o, c, k, _ = self.weight.shape
        return f"{c}, {o}, kernel_size={k}, stride={self.stride}, padding={self.padding}"


class AdderUnit(nn.Module):
    """AdderSR's unit: adder layer -> BatchNorm -> + gain * x -> ReLU -> power activation, in the authors' order.

    Shapes: (N, C, H, W) -> (N, O, H, W). The self-shortcut restores what an adder layer cannot express, the identity
    (AdderSR, section 3.1). Where O is a multiple of C, each channel of x is repeated O / C
    times, which before a PixelShuffle makes the shortcut an enlargement by nearest neighbour.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: odd.
        batch_norm: normalise; without it the unit hardly trains.
        shortcut: add gain * x with a "learnable" gain, which starts at 1, or a "fixed" one of 1; or "none". As
            `shortcut_kind` takes it.
        relu: rectify before the power activation.
        power: end with the learnable power activation.

    Raises:
        ValueError: an even kernel_size; a shortcut is asked for and O is not a multiple of C, or one of another name.

    References:
        AdderSR, CVPR 2021, arXiv 2009.08891; the order is from the authors' answers in issues 52 and 67 of the
        official AdderNet repository.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        batch_norm: bool = True,
        shortcut: Shortcut | bool = "learnable",
        relu: bool = True,
        power: bool = True,
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        kind = shortcut_kind(shortcut)
        if kind != "none" and out_channels % in_channels:
            raise ValueError(f"a shortcut needs out_channels to be a multiple of in_channels {in_channels}, got "
                             f"{out_channels}")  # fmt: skip
        self.adder = AdderConv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()
        self.repeats = out_channels // in_channels
        self.gain: Tensor | None
        if kind == "fixed":
            self.register_buffer("gain", torch.ones(()))
        else:
            self.gain = nn.Parameter(torch.ones(())) if kind == "learnable" else None
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.power = PowerActivation() if power else nn.Identity()
        # asked here and not in forward, where a compiler would have to trace the question
        self._has_kernels = unavailable_reason("native") is None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W). In training on a CPU, fused where all pieces are there and as made here.

        In the type of the filters, float32 under autocast too: sums of hundreds of magnitudes, of which the
        normalisation takes the mean off again, leave nothing of a half-precision number.
        """
        x = x.to(self.adder.weight.dtype)
        sums = self.adder(x)
        if self._fuses(sums, x):
            return self._fused(sums, x)
        y = synchronised(self.norm, sums) if spans_processes(self.norm) else self.norm(sums)
        if self.gain is not None:
            y = y + self.gain * (x if self.repeats == 1 else x.repeat_interleave(self.repeats, dim=1))
        y = self.power(self.relu(y))
        assert isinstance(y, Tensor)
        return y

    def _fuses(self, sums: Tensor, x: Tensor) -> bool:
        """Whether `_fused` computes this.

        Not with a SyncBatchNorm in the place of BatchNorm; and a single value a channel is left to BatchNorm, which
        refuses it.
        """
        norm = self.norm
        return (
            self.training
            and type(norm) is nn.BatchNorm2d
            and norm.training
            and norm.affine
            and norm.running_mean is not None
            and norm.momentum is not None
            and type(self.relu) is nn.ReLU
            and type(self.power) is PowerActivation
            and sums.device.type == "cpu"
            and sums.dtype == x.dtype == torch.float32
            and sums.numel() > sums.shape[1]
            and self._has_kernels
        )

    def _fused(self, sums: Tensor, x: Tensor) -> Tensor:
        """All that follows the adder layer in one operator, and what BatchNorm remembers of it."""
        norm, power = self.norm, self.power
        assert isinstance(norm, nn.BatchNorm2d) and isinstance(power, PowerActivation)
        shortcut = None if self.gain is None else x
        if spans_processes(norm):
            y: Tensor = synchronised_unit(norm, sums, shortcut, self.gain, power.alpha, power.eps)
            return y
        y, (mean, variance) = unit.unit(
            sums, shortcut, self.gain, norm.weight, norm.bias, power.alpha, norm.eps, power.eps
        )
        remember(norm, mean, variance, sums.numel() // sums.shape[1])
        return y


def shortcut_kind(shortcut: Shortcut | bool) -> Shortcut:
    """The name of a shortcut; true and false, as the first weights files have it, are a learnable one and none.

    Raises:
        ValueError: there is no such shortcut.
    """
    if isinstance(shortcut, bool):
        return "learnable" if shortcut else "none"
    if shortcut not in get_args(Shortcut):
        raise ValueError(f"shortcut must be one of {', '.join(get_args(Shortcut))}, got {shortcut!r}")
    return shortcut
