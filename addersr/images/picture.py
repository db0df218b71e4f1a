"""What a decoded file is: a picture, or an animation of pictures; and the way to tensors and back.

Here the image contract is kept: files hold uint8 or uint16 RGB in (H, W, 3); inside is float32 RGB in (1, 3, H, W), 0
to 1; nobody else converts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, final, overload

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

__all__ = [
    "RESOLUTIONS",
    "Animation",
    "NotReadError",
    "Picture",
    "Rows",
    "Samples",
    "from_tensor",
    "size",
    "stripped",
    "to_tensor",
]

Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""What files hold; 0 to 255 or 0 to 65535."""


RESOLUTIONS = (0.02, 65535.0)
"""The least and the most pixels an inch that a picture may have: all that every format can say. BMP and PNG count by
the metre, in whole numbers, and JPEG by the inch in 16 bits."""


class Rows(Protocol):
    """(H, W, C) samples that are taken a few rows at a time: an array, or what makes them as they are needed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """An array of these rows."""
        ...


class NotReadError(Exception):
    """A file is whole, but of a kind that is not read; the message says which, and what to do."""


@final
@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright, with what its file said about it.

    Raises:
        ValueError: a resolution outside `RESOLUTIONS`, or none that is a number.
    """

    pixels: Samples
    """(H, W, 3) RGB, uint8 or uint16."""
    alpha: Samples | None = None
    """(H, W) of the same type, 0 transparent; None where the file has no transparency."""
    exif: bytes | None = None
    r"""EXIF: ``Exif\0\0`` and a TIFF structure, without orientation and thumbnail."""
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    grey: bool = False
    """The file has one channel; the three of ``pixels`` are equal, and one is stored again."""
    iptc: bytes | None = None
    """IPTC's records (IIM), as they are in Photoshop's resource 0x0404."""
    resolution: tuple[float, float] | None = None
    """Pixels an inch, across and down, to print it at, within `RESOLUTIONS`; None where the file gives none."""
    colour: tuple[tuple[bytes, bytes], ...] = ()
    """PNG's chunks that say how its colours look (type, data), see `addersr.images.png16.COLOUR`."""
    format: str | None = None
    """What the file was, "png", "jpeg"...; None for a picture that was made here."""

    def __post_init__(self) -> None:
        """Refuse a resolution that would fail when it is written."""
        least, most = RESOLUTIONS
        if self.resolution is not None and not all(least <= each <= most for each in self.resolution):
            raise ValueError(
                f"resolution must be {least} to {most:.0f} pixels an inch, got {self.resolution}"
            )


@final
@dataclass(frozen=True)
class Animation:
    """The frames of a file, each a whole picture of uint8; all of one size, with the same metadata."""

    frames: tuple[Picture, ...]
    """At least one."""
    durations: tuple[float, ...]
    """How long each is shown, in milliseconds."""
    plays: int = 0
    """How many times it is shown; 0: for ever."""

    def map(self, function: Callable[[Picture], Picture]) -> "Animation":
        """The animation of ``function(frame)``."""
        return replace(self, frames=tuple(function(frame) for frame in self.frames))


def size(picture: Picture | Animation) -> tuple[int, int]:
    """Height and width in pixels."""
    first = picture.frames[0] if isinstance(picture, Animation) else picture
    height, width = first.pixels.shape[:2]
    return height, width


@overload
def stripped(picture: Picture) -> Picture: ...
@overload
def stripped(picture: Animation) -> Animation: ...
def stripped(picture: Picture | Animation) -> Picture | Animation:
    """The same without EXIF, XMP, IPTC and resolution; with its colour profile and PNG's chunks of that kind, because
    the colours depend on them."""
    if isinstance(picture, Picture):
        return replace(picture, exif=None, xmp=None, iptc=None, resolution=None)
    return picture.map(stripped)


def to_tensor(pixels: Samples) -> Tensor:
    """(H, W, 3) uint8 or uint16 to (1, 3, H, W) float32 in [0, 1], in channels-last memory."""
    scaled = np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)
    return torch.from_numpy(scaled).permute(2, 0, 1)[None]


def from_tensor(tensor: Tensor, dtype: DTypeLike = np.uint8) -> Samples:
    """(1, 3, H, W) float to (H, W, 3) of ``dtype`` (uint8 or uint16), clipped to [0, 1] and rounded."""
    scaled = tensor.detach()[0].clamp(0, 1).mul(np.iinfo(dtype).max).round()
    return np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy().astype(dtype))
