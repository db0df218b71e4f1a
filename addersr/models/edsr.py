"""EDSR with a body of adder units: head and last layer are convolutions, as in AdderSR."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addersr.layers import AdderUnit, BoxCoxHighPass
from addersr.layers.adder import Shortcut, shortcut_kind

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K's training pictures, as EDSR subtracts it."""


class ConvUnit(nn.Module):
    """The unit of the convolutional twin: convolution, and ReLU where `relu`. (N, C, H, W) -> (N, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, relu: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W)."""
        x = self.conv(x)
        return x.relu() if self.relu else x


class ResidualBlock(nn.Module):
    """x + scaling * second(first(x)), same shape. Without the scaling, self-shortcuts would double the signal."""

    def __init__(self, first: nn.Module, second: nn.Module, scaling: float):
        super().__init__()
        self.first, self.second, self.scaling = first, second, scaling

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        residue: Tensor = self.second(self.first(x))
        return torch.add(x, residue, alpha=self.scaling)


class EDSR(nn.Module):
    """Enhanced deep super-resolution network (EDSR, CVPRW 2017) of adder units (AdderSR, CVPR 2021) or convolutions.

    Shapes: (N, 3, H, W) RGB in [0, 1] -> (N, 3, s H, s W), about [0, 1] and not clipped. Works on any H, W >= 1.

    Args:
        scale: s, one of 2, 3, 4.
        blocks: residual blocks in the body.
        channels: width of the body.
        unit: "adder" for adder units, "conv" for the convolutional twin of the same shape.
        upsampler: layers of the sub-pixel upsampler, "adder" or "conv". Ignored by the twin, which has convolutions.
        batch_norm: BatchNorm in each adder unit.
        shortcut: self-shortcut of each adder unit: "learnable", "fixed" or "none".
        relu: ReLU in each adder unit.
        power: power activation in each adder unit.
        box_cox: offer the Box-Cox high-pass of the picture to the head beside the picture.
        residual_scaling: factor on the residue of each block.
        global_skip: "bilinear" adds the bilinearly enlarged picture to the result, so that training, with the last
            layer zero at the start, begins there; "none" leaves it out and starts the last layer as usual.

    Raises:
        ValueError: a scale, unit, upsampler, shortcut or global_skip that there is not; no block or no channel; a
            residual_scaling that is no finite number.

    Attributes:
        scale: s.
        radius: the result at s times a pixel depends on input pixels at most this far away, in either axis.
        config: the arguments above, as JSON can hold them.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int = 2,
        blocks: int = 8,
        channels: int = 32,
        unit: str = "adder",
        upsampler: str = "adder",
        batch_norm: bool = True,
        shortcut: Shortcut | bool = "learnable",
        relu: bool = True,
        power: bool = True,
        box_cox: bool = True,
        residual_scaling: float = 0.1,
        global_skip: str = "bilinear",
    ):
        super().__init__()
        one_of("scale", scale, (2, 3, 4))
        one_of("unit", unit, ("adder", "conv"))
        one_of("upsampler", upsampler, ("adder", "conv"))
        one_of("global_skip", global_skip, ("bilinear", "none"))
        if blocks < 1 or channels < 1:
            raise ValueError(f"blocks and channels must be at least 1, got {blocks} and {channels}")
        if not (isinstance(residual_scaling, int | float) and math.isfinite(residual_scaling)):
            raise ValueError(f"residual_scaling must be a finite number, got {residual_scaling!r}")
        self.config: dict[str, Any] = {
            "scale": scale, "blocks": blocks, "channels": channels, "unit": unit, "upsampler": upsampler,
            "batch_norm": batch_norm, "shortcut": shortcut_kind(shortcut), "relu": relu, "power": power,
            "box_cox": box_cox, "residual_scaling": residual_scaling, "global_skip": global_skip,
        }  # fmt: skip
        self.scale, self.global_skip = scale, global_skip

        def make_unit(kind: str, out_channels: int, rectify: bool) -> nn.Module:
            """A twin's unit rectifies where EDSR's does (`rectify`); an adder unit always, as in AdderSR."""
            if kind == "conv" or unit == "conv":
                return ConvUnit(channels, out_channels, rectify)
            return AdderUnit(channels, out_channels, 3, batch_norm, shortcut, relu, power)

        self.register_buffer("mean", torch.tensor(DIV2K_MEAN)[:, None, None], persistent=False)
        self.box_cox = BoxCoxHighPass() if box_cox else None
        self.head = nn.Conv2d(6 if box_cox else 3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(
                ResidualBlock(
                    make_unit(unit, channels, True), make_unit(unit, channels, False), residual_scaling
                )
                for _ in range(blocks)
            ),
            make_unit(unit, channels, False),
        )
        steps = [2, 2] if scale == 4 else [scale]
        self.upsampler = nn.Sequential(
            *(m for r in steps for m in (make_unit(upsampler, channels * r * r, False), nn.PixelShuffle(r)))
        )
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        if global_skip != "none":
            nn.init.zeros_(self.tail.weight)
            nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # it has a bias

        body = 2 * blocks + 1
        enlarging = sum(1 / math.prod(steps[:i]) for i in range(len(steps))) + 1 / scale
        self.radius = (BoxCoxHighPass.radius if box_cox else 0) + 1 + body + math.ceil(enlarging)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, s H, s W)."""
        centred = x - self.mean
        features = self.head(centred if self.box_cox is None else torch.cat((centred, self.box_cox(x)), 1))
        features = features + self.body(features)
        picture: Tensor = self.tail(self.upsampler(features))
        if self.global_skip == "none":
            return picture + self.mean
        return picture + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raises ValueError where an argument is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
