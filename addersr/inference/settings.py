"""How the results of a batch are made and written."""

from dataclasses import dataclass

from addersr.images import files
from addersr.inference.existing import IfExists
from addersr.inference.sizes import Wanted

__all__ = ["MAX_RESULT_PIXELS", "Settings"]

MAX_RESULT_PIXELS = 4 * files.MAX_PIXELS
"""The largest result by default, in pixels: of the largest picture that is read, at x2."""


@dataclass(frozen=True)
class Settings:
    """How results are made and written; the same for all pictures of a batch."""

    wanted: Wanted
    if_exists: IfExists = "error"
    format: str | None = None
    """Of what goes to standard output, by its name in `addersr.images.files.FORMATS`; None: that of the picture."""
    quality: int = 95
    """Of JPEG and WebP, see `addersr.images.files.write`."""
    lossless: bool = False
    strip: bool = False
    """Leave out EXIF, XMP, IPTC and resolution; what says how colours look is always kept, such as a profile."""
    max_pixels: int | None = None
    """The most of a picture, all its frames together, and of its result; None: what `budget` gives."""
    energy: bool = False
    """Estimate the energy of each."""

    @property
    def budget(self) -> tuple[int, int]:
        """The most pixels of a picture, and of its result."""
        if self.max_pixels is None:
            return files.MAX_PIXELS, MAX_RESULT_PIXELS
        return min(self.max_pixels, files.MAX_PIXELS), self.max_pixels
