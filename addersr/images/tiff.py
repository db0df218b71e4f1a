"""TIFF: its metadata, its samples of 16 bits, and a writer, for what Pillow loses.

Pillow reads TIFF in all its compressions (libtiff), but gives the upper 8 bits of 16-bit RGB only, knows no 16-bit grey
with alpha, and writes neither. tifffile reads and writes these but needs another package for LZW, the commonest
compression, unpacks without a bound on what comes out, and cannot write EXIF's directories. So Pillow's decoder is made
to give the upper and then the lower bytes (`read_16bit`), as for PNG, and the writer is ours: EXIF *is* a TIFF file
without a picture, so the file begins with it, unchanged, and every offset in it, a camera maker's own too, stays true.

TIFF 6.0 (Adobe, 1992), sections 8, 14 and 18.
"""

import struct
import sys
import zlib
from fractions import Fraction
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from addersr.images.ifd import (
    EXIF_TYPES,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Directory,
    Entry,
    Reader,
    entry,
    pack,
    raw_entries,
)
from addersr.images.iptc import records
from addersr.images.metadata import exif_resolution
from addersr.images.picture import NotReadError, Rows
from addersr.images.png16 import join_bytes

__all__ = ["LARGEST", "Tiff", "load_upright", "read_16bit", "write_tiff"]

LARGEST = 2**32 - 2**24
"""Bytes of samples that fit into a file, whose offsets are of 32 bits, with some room for metadata."""

_ROWS = 64  # of a strip
_MOST_PAGES = 1000
_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _EXTRA_SAMPLES = 317, 322, 338
_RESOLUTIONS, _RESOLUTION_UNIT = (282, 283), 296
_XMP, _IPTC, _PHOTOSHOP, _ICC = 700, 33723, 34377, 34675
_DEFLATE = (8, 32946)
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop)
# What describes how or where the file holds its picture, and would be wrong of another: not EXIF's matter.
_STRUCTURE = frozenset(
    {*range(254, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 348)}
    | {*range(512, 533), _XMP, _IPTC, _PHOTOSHOP, _ICC, 37724, 33550, 33922, 34264, 34735, 34736, 34737}
)


class Tiff:
    """What a TIFF file says about its first picture.

    Raises:
        KeyError, struct.error, ValueError: as `addersr.images.ifd.Reader`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._reader = Reader(file)
        self.order = self._reader.order
        self._tags, _ = self._reader.directory(self._reader.first)
        self.bits = self.numbers(_BITS, (1,))
        """Of each channel."""

    def numbers(self, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
        """The whole numbers under a tag."""
        return self._reader.numbers(self._tags.get(tag)) or default

    def number(self, tag: int, default: int) -> int:
        """The first of them."""
        return self.numbers(tag, (default,))[0]

    def _bytes(self, tag: int) -> bytes | None:
        found = self._tags.get(tag)
        return None if found is None else self._reader.bytes(found)

    def check_pages(self) -> None:
        """Refuse a file of several pictures; smaller versions of another (NewSubfileType, bit 0) are none.

        Raises:
            NotReadError: there are several.
        """
        count, following, seen = 0, self._reader.first, set[int]()
        while following and following not in seen and len(seen) < _MOST_PAGES:
            seen.add(following)
            tags, following = self._reader.directory(following)
            subfile = self._reader.numbers(tags.get(_SUBFILE))
            count += not (subfile and subfile[0] & 1)
        if count > 1:
            raise NotReadError(f"a TIFF of {count} pages; save each as a file of its own")

    def check_planes(self) -> None:
        """Refuse channels of 16 bits whose planes lie one after the other, which Pillow takes for 8 bits.

        Raises:
            NotReadError: they do.
        """
        if self.number(_PLANAR, 1) != 1 and len(self.bits) > 1 and set(self.bits) == {16}:
            raise NotReadError(
                "a TIFF of 16-bit channels in separate planes; save it with interleaved channels"
            )

    @property
    def orientation(self) -> int | None:
        """As EXIF's, 1 to 8; None if the file gives none."""
        return self.number(_ORIENTATION, 0) or None

    @property
    def icc_profile(self) -> bytes | None:
        """The colour profile."""
        return self._bytes(_ICC)

    @property
    def xmp(self) -> bytes | None:
        """The XMP packet."""
        return self._bytes(_XMP)

    @property
    def iptc(self) -> bytes | None:
        """IPTC's records; some writers declare them as 32-bit numbers, the last one filled with zeros."""
        found = self._tags.get(_IPTC)
        if found is not None:
            data = self._reader.bytes(found)
            return (data[:-3] + data[-3:].rstrip(b"\0") if found.kind == LONG else data) or None
        resources = self._bytes(_PHOTOSHOP)
        try:
            return None if resources is None else records(resources)
        except (struct.error, IndexError):
            return None

    @property
    def exif(self) -> bytes | None:
        """What a camera or a program said of the picture, as EXIF; None where that is nothing.

        Raises:
            ValueError: values overlap.
        """
        described = self._described(self._tags, depth=0)
        if not described:
            return None
        mark = {"<": b"II", ">": b"MM"}[self.order]
        return b"Exif\0\0" + mark + struct.pack(f"{self.order}HI", 42, 8) + pack(self.order, described, 8)

    def _described(self, tags: Directory, depth: int) -> Directory:
        """The entries with their values at hand, and with the directories that some of them lead to."""
        found = {}
        for tag, given in tags.items():
            if depth == 0 and tag in _STRUCTURE:
                continue
            if tag in _DIRECTORIES:
                try:
                    below, _ = self._reader.directory(*self._reader.numbers(given)[:1])
                except (TypeError, struct.error):  # it leads nowhere
                    continue
                if depth < 2:
                    found[tag] = Entry(LONG, 1, self._described(below, depth + 1))
            elif given.kind in EXIF_TYPES:
                found[tag] = Entry(given.kind, given.count, self._reader.bytes(given))
        return found

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, as they lie in the file.

        Raises:
            NotReadError: it gives none, or none above 0.
        """
        height, width = self.number(_LENGTH, 0), self.number(_WIDTH, 0)
        if not (height and width):
            raise NotReadError("a TIFF that gives no width and height; get a whole copy of it")
        return height, width

    @property
    def is_grey_alpha_16bit(self) -> bool:
        """Grey with alpha in 16 bits, packed in a way that `read_grey_alpha` knows."""
        return (
            self.bits == (16, 16)
            and self.number(_PHOTOMETRIC, 0) == 1
            and self.numbers(_EXTRA_SAMPLES, ()) == (2,)
            and self.number(_COMPRESSION, 1) in (1, *_DEFLATE)
            and self.number(_PREDICTOR, 1) in (1, 2)
            and self.number(_PLANAR, 1) == 1
            and _TILE_WIDTH not in self._tags
        )

    def read_grey_alpha(self) -> NDArray[np.uint16]:
        """(H, W, 2) samples, where `is_grey_alpha_16bit`; as they lie in the file, not turned.

        Raises:
            ValueError, zlib.error: the file is damaged or cut short.
        """
        height, width = self.size
        rows = min(self.number(_ROWS_PER_STRIP, height), height)
        result = np.empty((height, width, 2), np.uint16)
        offsets, counts = self.numbers(_OFFSETS, ()), self.numbers(_COUNTS, ())
        for top, offset, count in zip(range(0, height, rows), offsets, counts, strict=True):
            block = result[top : top + rows]
            self._file.seek(offset)
            data = self._file.read(min(count, 2 * block.nbytes + 1024))
            if self.number(_COMPRESSION, 1) in _DEFLATE:
                data = zlib.decompressobj().decompress(data, block.nbytes)
            block[:] = np.frombuffer(data, f"{self.order}u2", block.size).reshape(block.shape)
            if self.number(_PREDICTOR, 1) == 2:
                np.cumsum(block, axis=1, dtype=np.uint16, out=block)
        return result


def load_upright(image: TiffImagePlugin.TiffImageFile, orientation: int) -> None:
    """Have Pillow unpack a TIFF that it has opened, and turn it by ``orientation`` (EXIF's) whatever the file says.

    Pillow turns a TIFF when it loads it, as it finds the orientation: in the file's tag, or in XMP as far as it knows
    that. What it has found is replaced, and done by what it offers for that, should it not do it by itself.

    Raises:
        Exception: whatever Pillow raises for a damaged file.
    """
    image.info.pop("xmp", None)  # where Pillow looks for an orientation
    image.getexif()[ExifTags.Base.Orientation] = orientation
    image.load()
    ImageOps.exif_transpose(image, in_place=True)  # nothing, if loading has done it


def read_16bit(
    file: BinaryIO, tiff: Tiff, image: TiffImagePlugin.TiffImageFile, orientation: int
) -> NDArray[np.uint16] | None:
    """The upright (H, W, C) samples of a picture of 12 or 16 bits; C: 1 grey, 3 RGB, 4 RGBA. None for any other.

    Args:
        tiff: its `Tiff.check_planes` has passed.
        image: the same file, opened by Pillow and not loaded.
        orientation: to apply, as EXIF's.

    Raises:
        Exception: whatever Pillow raises for a damaged file.
    """
    if image.mode.startswith("I;16"):
        load_upright(image, orientation)
        grey = np.asarray(image).astype(np.uint16)
        if tiff.bits == (12,):
            grey = (grey.astype(np.uint32) * 65535 // 4095).astype(np.uint16)
        return (65535 - grey if tiff.number(_PHOTOMETRIC, 1) == 0 else grey)[..., None]
    if image.mode not in ("RGB", "RGBA") or set(tiff.bits) != {16}:
        return None

    # libtiff hands over the machine's byte order, whatever the file's.
    little = sys.byteorder == "little" if image.use_load_libtiff else tiff.order == "<"
    mode = "RGBX" if image.mode == "RGB" and tiff.number(_SAMPLES, 3) == 4 else image.mode
    letters = "LB" if little else "BL"
    upper, lower = (_unpack(file, f"{mode};16{letter}", orientation) for letter in letters)
    samples = join_bytes(upper, lower)
    if image.mode == "RGBA" and tiff.numbers(_EXTRA_SAMPLES, ()) == (1,):
        _divide_by_alpha(samples)
    return samples


def _unpack(file: BinaryIO, raw_mode: str, orientation: int) -> NDArray[np.uint8]:
    """The upright picture with its bytes taken as Pillow's ``raw_mode`` says."""
    file.seek(0)
    with Image.open(file, formats=["TIFF"]) as image:
        opened = cast(Any, image)  # `tile` is how Pillow's plugins tell its decoder what the bytes are
        opened.tile = [tile._replace(args=(raw_mode, *tile.args[1:])) for tile in opened.tile]
        load_upright(opened, orientation)
        return np.asarray(image)


def _divide_by_alpha(samples: NDArray[np.uint16]) -> None:
    """Undo the premultiplication of (H, W, 4) RGBA ("associated alpha", section 18), in place."""
    for row in samples:
        alpha = np.maximum(row[:, 3:].astype(np.uint64), 1)
        row[:, :3] = np.minimum((row[:, :3] * np.uint64(65535) + alpha // 2) // alpha, 65535)


def write_tiff(
    file: BinaryIO,
    samples: Rows,
    *,
    exif: bytes | None = None,
    icc_profile: bytes | None = None,
    xmp: bytes | None = None,
    iptc: bytes | None = None,
    resolution: tuple[float, float] | None = None,
) -> None:
    """Write (H, W, C) ``samples``, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA, packed by Deflate.

    Args:
        file: empty, and seekable.
        samples: less than `LARGEST` bytes.
        exif: as `addersr.images.picture.Picture` has it; left out if it cannot be parsed.
        resolution: pixels an inch, across and down, in place of EXIF's.
    """
    height, width, channels = samples.shape
    order, start, entries = _beginning(exif)
    file.write(start)
    offsets, counts = [], []
    for top in range(0, height, _ROWS):
        rows = samples[top : top + _ROWS]
        block = rows.copy()
        block[:, 1:] -= rows[:, :-1]  # predictor 2: from the pixel on the left, modulo 2^bits
        strip = zlib.compress(block.astype(f"{order}u{block.itemsize}", copy=False).tobytes())
        offsets.append(file.tell())
        counts.append(len(strip))
        file.write(strip)
    file.write(bytes(file.tell() % 2))

    entries |= {
        _WIDTH: entry(order, LONG, [width]),
        _LENGTH: entry(order, LONG, [height]),
        _BITS: entry(order, SHORT, [8 * samples.dtype.itemsize] * channels),
        _COMPRESSION: entry(order, SHORT, _DEFLATE[:1]),
        _PHOTOMETRIC: entry(order, SHORT, [1 if channels < 3 else 2]),
        _OFFSETS: entry(order, LONG, offsets),
        _SAMPLES: entry(order, SHORT, [channels]),
        _ROWS_PER_STRIP: entry(order, LONG, [_ROWS]),
        _COUNTS: entry(order, LONG, counts),
        _PLANAR: entry(order, SHORT, [1]),
        _PREDICTOR: entry(order, SHORT, [2]),
    }
    if channels in (2, 4):
        entries[_EXTRA_SAMPLES] = entry(order, SHORT, [2])  # alpha, not multiplied in
    for tag, data in {_XMP: xmp, _IPTC: iptc, _ICC: icc_profile}.items():
        if data is not None:
            entries[tag] = Entry(UNDEFINED, len(data), data)
    if resolution is not None and resolution != exif_resolution(exif):  # else EXIF's own fractions are exact
        entries |= {tag: _fraction(order, each) for tag, each in zip(_RESOLUTIONS, resolution, strict=True)}
        entries[_RESOLUTION_UNIT] = entry(order, SHORT, [2])  # inches
    position = file.tell()
    file.write(pack(order, entries, position))
    file.seek(4)
    file.write(struct.pack(f"{order}I", position))


def _fraction(order: str, value: float) -> Entry:
    """``value`` within `addersr.images.picture.RESOLUTIONS`."""
    ratio = Fraction(value).limit_denominator(2**15)
    return Entry(RATIONAL, 1, struct.pack(f"{order}II", *ratio.as_integer_ratio()))


def _beginning(exif: bytes | None) -> tuple[str, bytes, Directory]:
    """Byte order and first bytes of a file that has this EXIF, and what its first directory must still hold."""
    data = (exif or b"").removeprefix(b"Exif\0\0")
    try:
        order, entries = raw_entries(data)
    except (KeyError, struct.error):  # as for a picture without EXIF
        return "<", b"II*\0" + bytes(4), {}
    described = {tag: given for tag, given in entries.items() if tag not in _STRUCTURE}
    return order, data + bytes(len(data) % 2), described
