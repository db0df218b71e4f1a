"""The adder unit with quantised sums."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addersr.layers.adder import AdderUnit
from addersr.layers.power import PowerActivation
from addersr.ops.fused import ByteUnit, FloatUnit, Grid, Tail, Workspace
from addersr.ops.int8 import sad2d


def folded(unit: AdderUnit) -> Tail:
    """What follows the sums of a unit in eval mode, its BatchNorm folded into scale and bias."""
    scale = -torch.ones(unit.adder.weight.shape[0], dtype=torch.float64)
    bias = torch.zeros_like(scale)
    if isinstance(norm := unit.norm, nn.modules.batchnorm._BatchNorm):
        assert norm.running_mean is not None and norm.running_var is not None
        slope = norm.weight.detach().double().cpu() / (norm.running_var.double().cpu() + norm.eps).sqrt()
        scale, bias = -slope, norm.bias.detach().double().cpu() - slope * norm.running_mean.double().cpu()
    return Tail(
        scale.float(),
        bias.float(),
        gain=0.0 if unit.gain is None else unit.gain.item(),
        relu=isinstance(unit.relu, nn.ReLU),
        alpha=unit.power.alpha.item() if isinstance(unit.power, PowerActivation) else 1.0,
        eps=PowerActivation.eps,
    )


class QuantizedUnit(nn.Module):
    """An `AdderUnit` in eval mode whose sums are of bytes: input and filters on one grid of 2^bits values.

    Shapes: (N, C, H, W) -> (N, O, H, W). The grid spans [low, high]. Where a filter value lies beyond it, |x - w| is
    linear in x over the grid, so the value is clipped and what was cut off is added to the bias of its output channel.
    Where an input lies beyond it, |x - w| exceeds |clip(x) - w| by the same for every channel: what is cut off is
    summed over the window once. Both are exact where only one of the two lies beyond the same end.

    Everything is a buffer, so the state dict is the whole unit. Fresh ones are empty: `of` makes one from a unit.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: odd.
    """

    weight: Tensor
    grid: Tensor
    scale: Tensor
    bias: Tensor
    curve: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3):
        super().__init__()
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("grid", torch.tensor([1.0, 0, 255], dtype=torch.float64))  # step, zero, top
        self.register_buffer("scale", torch.zeros(out_channels))
        self.register_buffer("bias", torch.zeros(out_channels))
        self.register_buffer(
            "curve", torch.tensor([0.0, 0, 1, 0], dtype=torch.float64)
        )  # gain, relu, alpha, eps

    @classmethod
    def of(cls, unit: AdderUnit, low: float, high: float, bits: int = 8) -> "QuantizedUnit":
        """Quantise a unit's filters over [low, high]; `bits` is 1 to 8."""
        tail, grid = folded(unit), Grid.between(low, high, bits)
        filters = unit.adder.weight.detach().cpu()
        made = cls(filters.shape[1], filters.shape[0], filters.shape[2])
        made.weight.copy_(grid.bytes_of(filters))
        made.grid.copy_(torch.tensor([grid.step, grid.zero, grid.top]))
        made.scale.copy_(tail.scale)
        made.bias.copy_(tail.bias + tail.scale * grid.excess_of(filters).sum((1, 2, 3)))
        made.curve.copy_(torch.tensor([tail.gain, tail.relu, tail.alpha, tail.eps], dtype=torch.float64))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W), on any device."""
        grid, tail, k = self._grid(), self._tail(), self.weight.shape[2]
        outside = torch.zeros(1, dtype=x.dtype)
        sums = sad2d(grid.bytes_of(x), self.weight, 1, k // 2, int(grid.bytes_of(outside)))
        beyond_outside = float(grid.excess_of(outside)) * x.shape[1]
        beyond = F.pad(grid.excess_of(x).sum(1, keepdim=True), [k // 2] * 4, value=beyond_outside)
        excess = F.avg_pool2d(beyond, k, stride=1, divisor_override=1)
        return tail.apply(grid.step * sums + excess, x)

    def fused(self, workspace: Workspace | None = None) -> ByteUnit:
        """The unit on the native kernels; units that are never called at the same time may share a workspace.

        Raises:
            BackendError: there are none here.
        """
        return ByteUnit(self.weight, self._grid(), self._tail(), workspace)

    def _grid(self) -> Grid:
        step, zero, top = self.grid.tolist()
        return Grid(step, int(zero), int(top))

    def _tail(self) -> Tail:
        gain, relu, alpha, eps = self.curve.tolist()
        return Tail(self.scale, self.bias, gain, bool(relu), alpha, eps)


def fused(unit: AdderUnit) -> FloatUnit:
    """A unit in eval mode on the native kernels, in float32.

    Raises:
        BackendError: there are none here.
    """
    return FloatUnit(unit.adder.weight.detach(), folded(unit))
