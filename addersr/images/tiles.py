"""Tiles of a picture: which window a network must see so that the part it is asked for comes out exact.

Pure geometry in whole LR pixels; no array is touched here. A network of receptive-field radius r computes an
output pixel from the LR pixels at most r away, and from the zero padding beyond the picture's border. A
window that reaches r pixels past the wanted part on every side therefore gives the same values as the whole
picture, provided that it stops at the picture's own border and is never padded there: the network pads the
true border itself. (Padding matters more here than usual: to an adder filter w a zero is not neutral, it
costs |0 - w|.)
"""

from dataclasses import dataclass
from itertools import pairwise, product

__all__ = ["Box", "Tile", "split"]


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows ``top`` to ``bottom`` and columns ``left`` to ``right``, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns, to index an (H, W, ...) array with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def times(self, scale: int) -> "Box":
        """The same rectangle in a picture ``scale`` times larger."""
        return Box(self.top * scale, self.bottom * scale, self.left * scale, self.right * scale)

    def relative_to(self, other: "Box") -> "Box":
        """The same rectangle, counted from the top left corner of ``other``."""
        return Box(
            self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left
        )


@dataclass(frozen=True)
class Tile:
    """One step of a tiled pass, in LR pixels of the whole picture."""

    window: Box
    """What the network reads: ``keep`` and a halo around it, clipped at the picture's borders."""
    keep: Box
    """What is kept of its output; the ``keep`` of all tiles cover the picture once."""

    @property
    def inside(self) -> Box:
        """``keep``, counted from the top left corner of ``window``."""
        return self.keep.relative_to(self.window)


def split(height: int, width: int, tile: int | None, halo: int) -> list[Tile]:
    """Cut a picture into tiles, row by row.

    Args:
        height, width: size of the picture, at least 1.
        tile: longest side of a kept part, at least 1; the sides are made as equal as they can be, so that no
            sliver is left over that would cost a whole halo. None: one tile, the whole picture.
        halo: how far a window reaches past the kept part, at least 0: the network's receptive-field radius.

    Raises:
        ValueError: an argument below its least value.
    """
    least = {
        "height": (height, 1),
        "width": (width, 1),
        "tile": (1 if tile is None else tile, 1),
        "halo": (halo, 0),
    }
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")

    tiles = []
    for (top, bottom), (left, right) in product(_spans(height, tile), _spans(width, tile)):
        keep = Box(top, bottom, left, right)
        window = Box(
            max(top - halo, 0), min(bottom + halo, height), max(left - halo, 0), min(right + halo, width)
        )
        tiles.append(Tile(window, keep))
    return tiles


def _spans(length: int, longest: int | None) -> list[tuple[int, int]]:
    """``length`` cut into the fewest spans of at most ``longest``, whose lengths differ by one at most."""
    count = 1 if longest is None else -(-length // longest)
    return list(pairwise(length * index // count for index in range(count + 1)))
