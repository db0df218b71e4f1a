"""How the results of a batch are made and written."""

from dataclasses import dataclass
from typing import Literal

from addersr.images import files
from addersr.inference.sizes import Wanted

__all__ = ["ALREADY_THERE", "MAX_RESULT_PIXELS", "Settings"]

MAX_RESULT_PIXELS = 4 * files.MAX_PIXELS
"""The largest result by default, in pixels: of the largest picture that is read, at x2."""

ALREADY_THERE = "already exists; --overwrite replaces it, --skip-existing leaves it and does the others"
"""Why a result is refused."""


@dataclass(frozen=True)
class Settings:
    """How results are made and written; the same for all pictures of a batch."""

    wanted: Wanted
    if_exists: Literal["error", "skip", "overwrite"] = "error"
    """A result that is there already fails, is left, which resumes a run that was stopped, or is replaced."""
    format: str | None = None
    """Of what goes to standard output, by its name in `addersr.images.files.FORMATS`; None: that of the picture."""
    quality: int = 95
    """Of JPEG and WebP, see `addersr.images.files.write`."""
    lossless: bool = False
    strip: bool = False
    """Leave out EXIF, XMP and IPTC; the colour profile is always kept, the colours depend on it."""
    max_pixels: int | None = None
    """The most of a picture, all its frames together, and of its result; None: what `budget` gives."""
    energy: bool = False
    """Estimate the energy of each."""

    @property
    def budget(self) -> tuple[int, int]:
        """The most pixels of a picture, and of its result."""
        if self.max_pixels is None:
            return files.MAX_PIXELS, MAX_RESULT_PIXELS
        return self.max_pixels, self.max_pixels
