"""How large pictures are, from the beginnings of their files: for a plan that is shown and a bar that is true."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from addersr.images.decode import upright_size
from addersr.images.files import FORMATS
from addersr.unwarned import unwarned

__all__ = ["Size", "probe"]

_ANIMATED = ("GIF", "PNG", "WEBP")  # what other formats have several of are previews and pages


class Size(NamedTuple):
    """Of a picture, upright."""

    height: int
    width: int
    frames: int


def probe(path: Path) -> Size | None:
    """The size of a picture without decoding it; None where it cannot be told: reading it will tell why."""
    try:
        if not path.is_file():  # what a pipe gives can be read once only
            return None
        formats = sorted({name.upper() for name in FORMATS.values()})
        # Warnings would be of odd metadata, and of sizes that are none of our business here.
        with unwarned(), path.open("rb") as file, Image.open(file, formats=formats) as image:
            height, width = upright_size(image, file)
            frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
            return Size(height, width, frames)
    except Exception:  # a parser that is fed a damaged file may raise anything
        return None
