"""How large a result shall be, how often the network runs for it, and which shipped network suits."""

import math
from dataclasses import dataclass

from addersr import checkpoint
from addersr.errors import CheckpointError

__all__ = ["DEFAULT_SCALE", "Wanted", "default_model", "passes"]

DEFAULT_SCALE = 2
"""For a user who names neither size nor model."""

_SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Wanted:
    """The size of results, by one of three rules."""

    factor: float | None = None
    """Times the picture's own size, above 0; sides are rounded to whole pixels, 1 at least."""
    size: tuple[int, int] | None = None
    """(height, width) of every result; a picture of another shape is stretched."""
    longest: int | None = None
    """The longer side in pixels; the other one follows the picture's shape."""

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the result of a picture of this size."""
        if self.size is not None:
            return self.size
        if self.longest is not None:
            factor = self.longest / max(height, width)
        else:
            assert self.factor is not None
            factor = self.factor
        return max(math.floor(height * factor + 0.5), 1), max(math.floor(width * factor + 0.5), 1)

    def __str__(self) -> str:
        """As it is told to the user: x2, 1920x1080, longest side 2000."""
        if self.size is not None:
            return f"{self.size[1]}x{self.size[0]}"
        return f"x{self.factor:g}" if self.longest is None else f"longest side {self.longest}"


def passes(source: tuple[int, int], target: tuple[int, int], scale: int) -> int:
    """How often a network of ``scale`` runs for the target: until its result has as many pixels as that.

    0 where the picture has them already. For a target of the picture's shape, that is until no side is shorter. For
    one of another shape, a side may be left that resampling stretches. Either way the last result has fewer than
    ``scale**2`` times the pixels of the target, however far the shapes differ.

    Args:
        source, target: (height, width).
        scale: at least 2.
    """
    count, pixels = 0, source[0] * source[1]
    while pixels < target[0] * target[1]:
        count, pixels = count + 1, pixels * scale**2
    return count


def default_model(factor: float | None) -> str:
    """The shipped model for a user who names none.

    The one that overshoots the factor least, so that the least is thrown away; of two that do so equally the one
    that runs fewer times. For sizes that differ from picture to picture (None) the one of `DEFAULT_SCALE`.

    Raises:
        CheckpointError: nothing is shipped.
    """
    if factor is None:
        return checkpoint.default_name(DEFAULT_SCALE)
    names = {}
    for scale in _SCALES:
        try:
            names[scale] = checkpoint.default_name(scale)
        except CheckpointError:
            continue
    if not names:
        return checkpoint.default_name(DEFAULT_SCALE)  # tells that there is none

    def cost(scale: int) -> tuple[int, int]:
        count = 0
        while scale**count < factor:
            count += 1
        return scale**count, count

    return names[min(names, key=cost)]
