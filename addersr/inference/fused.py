"""A network prepared for inference on the CPU: every adder unit is one kernel call, and buffers are planned once."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addersr.layers import AdderUnit
from addersr.layers.quantized import QuantizedUnit, fused
from addersr.models import EDSR
from addersr.models.edsr import ResidualBlock
from addersr.ops import cpu
from addersr.ops.fused import ByteUnit, FloatUnit, ShuffleConv, Workspace

Unit = FloatUnit | ByteUnit


class FusedEDSR:
    """An `EDSR` in eval mode on the native kernels: the same result within rounding, a few times faster.

    The units are taken over as they are now: BatchNorm is folded, filters are packed. The maps that they write to and
    the room that they work in are kept from call to call: a second picture of a size, or a smaller one, allocates none
    of them. What torch does at both ends of the network, head, enlarged picture and in float32 the last layers, makes
    tensors as usual. One thread may call it at a time.

    Args:
        model: on the CPU in float32; all its units adder units, or all quantised ones (a convolutional upsampler may
            be among them).

    Raises:
        BackendError: there are no native kernels here.
        ValueError: another network, such as a convolutional twin, which has nothing to fuse.

    Attributes:
        scale, radius: as the model's.
    """

    def __init__(self, model: EDSR):
        if not fusable(model):
            raise ValueError("only an EDSR of adder units on the CPU in float32 can be fused")
        self.scale, self.radius = model.scale, model.radius
        self._model = model.eval()
        *blocks, last = model.body
        room = Workspace()
        self._scaling = model.config["residual_scaling"]
        self._blocks = [
            (_fused(block.first, room), _fused(block.second, room))
            for block in cast(list[ResidualBlock], blocks)
        ]
        self._last = _fused(last, room)
        self._upsampler = [
            _fused(layer, room) if isinstance(layer, AdderUnit | QuantizedUnit) else layer
            for layer in model.upsampler
        ]
        # On planes the last shuffle and the last layer are one kernel; channels last leaves them to torch.
        *rest, shuffle = model.upsampler
        self._shuffle_conv: ShuffleConv | None = None
        if isinstance(self._last, ByteUnit) and isinstance(rest[-1], QuantizedUnit):
            self._upsampler.pop()
            assert isinstance(shuffle, nn.PixelShuffle) and model.tail.bias is not None
            self._shuffle_conv = ShuffleConv(model.tail.weight, model.tail.bias, shuffle.upscale_factor)
        self._format, self._dtype = self._last.memory_format, self._last.dtype
        self._maps: dict[str, Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float32 in [0, 1] on the CPU -> (N, 3, s H, s W), as `EDSR.forward`."""
        with torch.inference_mode():
            model = self._model
            centred = x - model.mean
            seen = centred if model.box_cox is None else torch.cat((centred, model.box_cox(x)), 1)
            head = model.head(seen.contiguous(memory_format=self._format))
            features = self._map("features", head.shape).copy_(head)
            current = features
            for first, second in self._blocks:
                between = first(current, self._map("between", head.shape))
                # In place from the second block on; the first leaves the features for the long skip.
                current = second(between, self._map("body", head.shape), current, self._scaling)
            current = self._last(current, features, features)
            for i, layer in enumerate(self._upsampler):
                if isinstance(layer, nn.Module):
                    current = layer(current.float())
                else:
                    n, _, h, w = current.shape
                    current = current.to(self._dtype, memory_format=self._format)
                    current = layer(
                        current, self._map(f"upsampler {i}", torch.Size((n, layer.channels, h, w)))
                    )
            if self._shuffle_conv is None:
                return self._base(x).add_(model.tail(current.float()))
            return self._shuffle_conv(current, self._base(x))

    def _base(self, x: Tensor) -> Tensor:
        """What the network's last layer is added to, (N, 3, s H, s W) contiguous."""
        if self._model.global_skip == "none":
            n, c, h, w = x.shape
            return self._model.mean.expand(n, c, h * self.scale, w * self.scale).contiguous()
        return F.interpolate(x.contiguous(), scale_factor=self.scale, mode="bilinear", align_corners=False)

    def _map(self, name: str, shape: torch.Size) -> Tensor:
        """A map of this shape in the units' layout, in memory that belongs to `name`."""
        if name not in self._maps or self._maps[name].numel() < shape.numel():
            self._maps[name] = torch.empty(shape.numel(), dtype=self._dtype)
        n, c, h, w = shape
        room = self._maps[name][: shape.numel()]
        if self._format == torch.channels_last:
            return room.view(n, h, w, c).permute(0, 3, 1, 2)
        return room.view(shape)


def fusable(model: nn.Module) -> bool:
    """Whether `FusedEDSR` takes it: an EDSR of adder units in float32, and native kernels that can run it."""
    if not isinstance(model, EDSR) or cpu.unavailable_reason(model.head.weight) is not None:
        return False
    return isinstance(model.body[-1], AdderUnit | QuantizedUnit)


def _fused(unit: nn.Module, workspace: Workspace) -> Unit:
    return unit.fused(workspace) if isinstance(unit, QuantizedUnit) else fused(cast(AdderUnit, unit))
