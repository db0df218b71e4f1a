"""VDSR with a body of adder units: first and last layer are convolutions, as in AdderSR."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addersr.layers import AdderUnit, BoxCoxHighPass
from addersr.layers.adder import Shortcut, shortcut_kind
from addersr.models.edsr import DIV2K_MEAN, ConvUnit, one_of


class VDSR(nn.Module):
    """Very deep super-resolution network (VDSR, CVPR 2016) of adder units (AdderSR, CVPR 2021) or convolutions.

    The picture is enlarged by bicubic interpolation first, and the network adds what is missing: layers in a row, 3x3,
    at the size of the result. Against the paper: RGB in place of Y, one scale a network.

    The interpolation is MATLAB's `imresize` (the cubic kernel of a = -1/2), but that within two pixels of the border
    it renormalises the kernel's weights where MATLAB mirrors the picture.

    Shapes: (N, 3, H, W) RGB in [0, 1] -> (N, 3, s H, s W), about [0, 1] and not clipped. Works on any H, W >= 1.

    Args:
        scale: s, one of 2, 3, 4.
        layers: of 3x3, first and last included.
        channels: width of the body.
        unit: "adder" for adder units, "conv" for the convolutional twin of the same shape.
        batch_norm: BatchNorm in each adder unit; without it, not even VDSR trains (official repository, issue 47).
        shortcut: self-shortcut of each adder unit: "learnable", "fixed" or "none".
        relu: ReLU in each adder unit.
        power: power activation in each adder unit.
        box_cox: offer the Box-Cox high-pass of the enlarged picture to the first layer beside the picture.

    Raises:
        ValueError: a scale, unit or shortcut that there is not; fewer than 3 layers or no channel.

    Attributes:
        scale: s.
        radius: the result at s times a pixel depends on input pixels at most this far away, in either axis.
        config: the arguments above, as JSON can hold them.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int = 2,
        layers: int = 20,
        channels: int = 64,
        unit: str = "adder",
        batch_norm: bool = True,
        shortcut: Shortcut | bool = "learnable",
        relu: bool = True,
        power: bool = True,
        box_cox: bool = True,
    ):
        super().__init__()
        one_of("scale", scale, (2, 3, 4))
        one_of("unit", unit, ("adder", "conv"))
        if layers < 3 or channels < 1:
            raise ValueError(
                f"there must be at least 3 layers and 1 channel, got layers {layers}, channels {channels}"
            )
        self.config: dict[str, Any] = {
            "scale": scale, "layers": layers, "channels": channels, "unit": unit, "batch_norm": batch_norm,
            "shortcut": shortcut_kind(shortcut), "relu": relu, "power": power, "box_cox": box_cox,
        }  # fmt: skip
        self.scale = scale
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN)[:, None, None], persistent=False)
        self.box_cox = BoxCoxHighPass() if box_cox else None
        self.head = nn.Conv2d(6 if box_cox else 3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(
                ConvUnit(channels, channels, relu=True)
                if unit == "conv"
                else AdderUnit(channels, channels, 3, batch_norm, shortcut, relu, power)
                for _ in range(layers - 2)
            )
        )
        # Training begins at the bicubic picture.
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # it has a bias

        reach = layers + (BoxCoxHighPass.radius if box_cox else 0)  # pixels of the enlarged picture
        # And there the cubic kernel reaches less than 2 pixels from a place between pixels.
        self.radius = math.ceil((reach - 0.5) / scale + 0.5) + 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, s H, s W)."""
        # With `antialias`, which does nothing else where a picture grows, the kernel has a = -1/2, without it -3/4.
        picture = F.interpolate(
            x, scale_factor=self.scale, mode="bicubic", align_corners=False, antialias=True
        )
        centred = picture - self.mean
        seen = centred if self.box_cox is None else torch.cat((centred, self.box_cox(picture)), 1)
        residue: Tensor = self.tail(self.body(self.head(seen).relu()))
        return picture + residue
