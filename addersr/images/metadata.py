"""What a file says about its picture: EXIF and XMP, kept true as the picture changes, and what EXIF says of it.

Reading turns a picture upright, so the orientation must go from EXIF and XMP, or a viewer would turn it
again; and upscaling makes it larger, so the sizes they give must follow and the thumbnail, of the old
picture, must go.
"""

import re
import struct
from typing import cast

from PIL import ExifTags

__all__ = [
    "chosen_orientation",
    "exif_resolution",
    "fit_exif",
    "fit_xmp",
    "raw_profile",
    "turned_exif",
    "upright_exif",
    "upright_xmp",
]

_EXIF_HEADER = b"Exif\0\0"
_LONG = 4  # TIFF's type of a 32-bit unsigned integer
_RATIONAL = 5  # and of two of these, numerator and denominator
_INCHES = {2: 1.0, 3: 2.54}  # in what EXIF's ResolutionUnit counts by: inch, centimetre
_ENTRY = 12  # bytes of a directory entry: tag 2, type 2, count 4, value or its offset 4
# Whatever is in a packet, which may be megabytes of a stranger's, these take time in proportion to its length.
_XMP_ORIENTATION = re.compile(
    rb"\s?tiff:Orientation\s*=\s*([\"'])\s*+(\d*+)\s*\1"
    rb"|<tiff:Orientation\s*>\s*+(\d*+)\s*</tiff:Orientation\s*>"
)
_XMP_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b")
_XMP_POINTER = re.compile(
    rb"\s?xmpNote:HasExtendedXMP\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')"
    rb"|<xmpNote:HasExtendedXMP\s*>[^<]*</xmpNote:HasExtendedXMP\s*>"
)
_XMP_SIZE = re.compile(rb"((?:exif:Pixel([XY])Dimension|tiff:Image(Width|Length))\s*(?:=\s*[\"']|>)\s*)\d+")


class _Exif:
    """EXIF edited in place: a TIFF file without a picture, every other byte of which stays where it was.

    Pillow can write EXIF too, but anew: text that is not ASCII turns into question marks, and the notes of
    the camera's maker, which may hold offsets, move. TIFF 6.0, section 2.
    """

    def __init__(self, exif: bytes):
        self.data = bytearray(exif.removeprefix(_EXIF_HEADER))
        self.order = {b"II": "<", b"MM": ">"}[bytes(self.data[:2])]
        self.first = self.number("I", 4)
        self.end = self.first + 2 + _ENTRY * self.number("H", self.first)  # of the first directory's entries
        if self.end > len(self.data):
            raise struct.error("the first directory is cut short")
        # Some writers leave out the four bytes that say there is no other directory.
        self.data.extend(bytes(max(self.end + 4 - len(self.data), 0)))

    def number(self, kind: str, position: int) -> int:
        value: int = struct.unpack_from(self.order + kind, self.data, position)[0]
        return value

    def fraction(self, position: int) -> float:
        """The value of the entry at ``position``.

        Raises:
            KeyError, ZeroDivisionError, struct.error: it is none.
        """
        if self.number("H", position + 2) != _RATIONAL:
            raise KeyError("no fraction")
        place = self.number("I", position + 8)
        return self.number("I", place) / self.number("I", place + 4)

    def entries(self, directory: int) -> dict[int, int]:
        """Tag -> position, of the directory that begins at ``directory``."""
        first = directory + 2
        positions = range(first, first + _ENTRY * self.number("H", directory), _ENTRY)
        return {self.number("H", position): position for position in positions}

    def drop(self, tag: int) -> None:
        """Take an entry out of the first directory."""
        position = self.entries(self.first).get(tag)
        if position is not None:
            self.data[position : self.end + 4] = self.data[position + _ENTRY : self.end + 4] + bytes(_ENTRY)
            self.end -= _ENTRY
            struct.pack_into(self.order + "H", self.data, self.first, self.number("H", self.first) - 1)

    def drop_thumbnail(self) -> None:
        """Forget the second directory, the thumbnail's, and cut the thumbnail off, or blank it if others follow."""
        second = self.number("I", self.end)
        if second == 0:
            return
        struct.pack_into(self.order + "I", self.data, self.end, 0)
        try:
            tags = self.entries(second)
        except struct.error:  # it leads nowhere
            return
        if ExifTags.Base.JpegIFOffset in tags and ExifTags.Base.JpegIFByteCount in tags:
            start = self.number("I", tags[ExifTags.Base.JpegIFOffset] + 8)
            length = self.number("I", tags[ExifTags.Base.JpegIFByteCount] + 8)
            if start < self.end + 4:
                return
            if start + length >= len(self.data) - 1:
                del self.data[start:]
            elif self.data[start : start + 3] == b"\xff\xd8\xff":  # else it is not where it should be
                self.data[start : start + length] = bytes(length)

    def replace(self, directory: int, tag: int, value: int) -> None:
        """Give an entry that is there another whole number."""
        position = self.entries(directory).get(tag)
        if position is not None:
            struct.pack_into(self.order + "HII", self.data, position + 2, _LONG, 1, value)

    def exchange(self, tag: int, other: int) -> None:
        """Have two entries of the first directory change places, if both are there."""
        tags = self.entries(self.first)
        if tag in tags and other in tags:
            here, there = (slice(tags[each] + 2, tags[each] + _ENTRY) for each in (tag, other))
            self.data[here], self.data[there] = self.data[there], self.data[here]

    def tobytes(self) -> bytes | None:
        """The edited EXIF, None if nothing is left in it."""
        return _EXIF_HEADER + bytes(self.data) if self.end > self.first + 2 else None


def upright_exif(raw: bytes | None) -> tuple[int | None, bytes | None]:
    """The orientation that EXIF gives, None if it gives none, and EXIF without it and without its thumbnail.

    EXIF that cannot be parsed is dropped: damaged metadata is no reason to refuse a picture. (Not by Pillow, whose
    parser takes gigabytes for a small file whose values overlap.)
    """
    if raw is None:
        return None, None
    try:
        exif = _Exif(raw)
        exif.drop_thumbnail()
        position = exif.entries(exif.first).get(ExifTags.Base.Orientation)
        orientation = None if position is None else exif.number("H", position + 8)
        exif.drop(ExifTags.Base.Orientation)
        return orientation, exif.tobytes()
    except (KeyError, struct.error):
        return None, None


def turned_exif(exif: bytes | None) -> bytes | None:
    """EXIF of a picture that was laid on its side: XResolution and YResolution change places.

    None for EXIF that cannot be parsed.
    """
    if exif is None:
        return None
    try:
        turned = _Exif(exif)
        turned.exchange(ExifTags.Base.XResolution, ExifTags.Base.YResolution)
        return turned.tobytes()
    except (KeyError, struct.error):
        return None


def chosen_orientation(given: object, xmp: bytes | None) -> int:
    """The orientation to apply, 1 to 8: what EXIF has ``given``; where that is none of these, XMP's; else 1."""
    match = _XMP_ORIENTATION.search(xmp or b"")
    in_xmp = int((match[2] or match[3] or b"1")[:2]) if match else 1
    # A range tells of anything whether it is one of its numbers; TIFF may hold this one in any type.
    return next((int(cast(float, each)) for each in (given, in_xmp) if each in range(1, 9)), 1)


def raw_profile(text: str) -> bytes:
    r"""The bytes that ImageMagick puts into a text chunk of PNG: "\niptc\n      42\n" and hexadecimal digits.

    Raises:
        ValueError: they are not there.
    """
    _, _name, length, *digits = text.split("\n")
    return bytes.fromhex("".join(digits))[: int(length)]


def fit_exif(exif: bytes | None, height: int, width: int) -> bytes | None:
    """EXIF in which the pixel dimensions that it gives are ``width`` and ``height``.

    None for EXIF that cannot be parsed.
    """
    if exif is None:
        return None
    try:
        edited = _Exif(exif)
        edited.replace(edited.first, ExifTags.Base.ImageWidth, width)
        edited.replace(edited.first, ExifTags.Base.ImageLength, height)
        pointer = edited.entries(edited.first).get(ExifTags.Base.ExifOffset)
        if pointer is not None:
            photo = edited.number("I", pointer + 8)
            edited.replace(photo, ExifTags.Base.ExifImageWidth, width)
            edited.replace(photo, ExifTags.Base.ExifImageHeight, height)
        return edited.tobytes()
    except (KeyError, struct.error):
        return None


def exif_resolution(exif: bytes | None) -> tuple[float, float] | None:
    """Pixels an inch, across and down, of XResolution, YResolution and ResolutionUnit; None where they give none."""
    if exif is None:
        return None
    try:
        parsed = _Exif(exif)
        entries = parsed.entries(parsed.first)
        unit = entries.get(ExifTags.Base.ResolutionUnit)
        factor = _INCHES[2 if unit is None else parsed.number("H", unit + 8)]
        across, down = (
            factor * parsed.fraction(entries[tag])
            for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
        )
    except (KeyError, ZeroDivisionError, struct.error):
        return None
    return across, down


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """XMP without the orientation, thumbnails, and the pointer to JPEG's further packets, which are not carried."""
    if not xmp:
        return None
    for left_out in (_XMP_ORIENTATION, _XMP_POINTER):
        xmp = left_out.sub(b"", xmp)
    return _without_thumbnails(xmp)


def _without_thumbnails(xmp: bytes) -> bytes:
    kept, start = [], 0
    while opening := _XMP_THUMBNAILS.search(xmp, start):
        end = xmp.find(b">", opening.end()) + 1
        if end and xmp[end - 2 : end] != b"/>":
            closing = b"</" + opening[1] + b":Thumbnails"
            inside = xmp.find(closing, end)
            end = xmp.find(b">", inside + len(closing)) + 1 if inside >= 0 else 0
        if not end:  # it never ends
            break
        kept.append(xmp[start : opening.start()])
        start = end
    return b"".join([*kept, xmp[start:]])


def fit_xmp(xmp: bytes | None, height: int, width: int) -> bytes | None:
    """XMP in which the pixel dimensions that it gives are ``width`` and ``height``."""
    if xmp is None:
        return None

    def size(match: re.Match[bytes]) -> bytes:
        is_width = match[2] == b"X" or match[3] == b"Width"
        return match[1] + str(width if is_width else height).encode()

    return _XMP_SIZE.sub(size, xmp)
