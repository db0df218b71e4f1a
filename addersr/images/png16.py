"""PNG: at 16 bits a channel, of which Pillow gives and takes the upper 8 bits only; and its chunks about colours.

Reading has Pillow's decoder unpack the file's bytes once as they are and once in the other byte order, so
that it gives the upper and then the lower bytes. Writing is a small encoder. (torchvision decodes these files
too, but its decoders are deprecated; imageio goes through Pillow.) PNG specification, third edition (W3C,
2025): chunks 5.3, filters 9, IDAT 10.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from addersr.images.picture import Rows

__all__ = ["COLOUR", "bit_depth", "colour_chunks", "join_bytes", "read_png16", "write_png16"]

COLOUR = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4}
"""The chunks beside a profile that say how colours look (11.3.2), and their lengths; Pillow reads three, writes all."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: PNG's code for grey, grey + alpha, RGB, RGBA
_PAETH = 4
_ROWS = 64  # filtered and compressed at a time, which bounds the memory whatever the picture's size


def bit_depth(file: BinaryIO) -> int:
    """Bits a channel of a PNG, from its header (IHDR, 11.2.1); the file stays where it is."""
    position = file.tell()
    file.seek(24)  # signature 8, chunk length 4, type 4, width 4, height 4
    depth = file.read(1)[0]
    file.seek(position)
    return depth


def colour_chunks(file: BinaryIO) -> tuple[tuple[bytes, bytes], ...]:
    """(type, data) of the first chunk of each kind in `COLOUR`, as they are; the file stays where it is.

    They lie between the header and the picture. The file is a PNG that Pillow has read.
    """
    before, found = file.tell(), dict[bytes, bytes]()
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            break
        if COLOUR.get(kind) == length and kind not in found:
            found[kind] = file.read(length)
            length = 0
        file.seek(length + 4, os.SEEK_CUR)  # over the checksum, too
    file.seek(before)
    return tuple(found.items())


def read_png16(file: BinaryIO) -> NDArray[np.uint16]:
    """The (H, W, C) uint16 samples of a 16-bit PNG, C as in `write_png16`; tRNS is left to the caller.

    Raises:
        Exception: whatever Pillow raises for a damaged file.
    """
    file.seek(25)
    colour_type = file.read(1)[0]
    if colour_type == _COLOUR_TYPE[1]:
        return _unpack(file, "I;16B").astype(np.uint16)[..., None]
    if colour_type == _COLOUR_TYPE[2]:  # four bytes, as RGBA has them: upper and lower of grey, then of alpha
        return _unpack(file, "RGBA").view(">u2").astype(np.uint16)
    mode = "RGB" if colour_type == _COLOUR_TYPE[3] else "RGBA"
    return join_bytes(_unpack(file, f"{mode};16B"), _unpack(file, f"{mode};16L"))


def join_bytes(upper: NDArray[Any], lower: NDArray[Any]) -> NDArray[np.uint16]:
    """The samples whose bytes these are."""
    samples = upper.astype(np.uint16)
    samples <<= 8  # in place, because they may be many
    samples |= lower
    return samples


def _unpack(file: BinaryIO, raw_mode: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The picture with its bytes taken as Pillow's ``raw_mode`` says."""
    file.seek(0)
    with Image.open(file, formats=["PNG"]) as image:
        opened = cast(Any, image)  # `tile` is how Pillow's plugins tell its decoder what the bytes are
        opened.tile = [opened.tile[0]._replace(args=raw_mode)]
        return np.array(image)


def write_png16(file: BinaryIO, samples: Rows, chunks: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Write (H, W, C) uint16 ``samples``, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA, as a PNG.

    ``chunks`` are (type, data) pairs that go between the header and the picture: iCCP, eXIf, iTXt...
    """
    height, width, channels = samples.shape
    file.write(_SIGNATURE)
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0))
    for kind, data in chunks:
        _write_chunk(file, kind, data)

    compressor = zlib.compressobj(6)
    above = np.zeros((1, width * channels * 2), np.uint8)
    for top in range(0, height, _ROWS):
        block = samples[top : top + _ROWS]
        rows = block.astype(">u2").reshape(len(block), -1).view(np.uint8)
        filtered = _paeth(rows, np.concatenate([above, rows[:-1]]), channels * 2)
        kind_column = np.full((len(rows), 1), _PAETH, np.uint8)
        data = compressor.compress(np.concatenate([kind_column, filtered], axis=1).tobytes())
        if data:
            _write_chunk(file, b"IDAT", data)
        above = rows[-1:]
    _write_chunk(file, b"IDAT", compressor.flush())
    _write_chunk(file, b"IEND", b"")


def _paeth(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Each byte minus whichever of left, above, above left is nearest to left + above - above left (9.4)."""
    b = above.astype(np.int16)
    a = np.pad(rows, ((0, 0), (step, 0)))[:, :-step].astype(np.int16)
    c = np.pad(above, ((0, 0), (step, 0)))[:, :-step].astype(np.int16)
    to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    predicted = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
    return (rows - predicted).astype(np.uint8)


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    )
