"""Blocks of a GIF, walked to its end, which Pillow takes to be wherever the file ends (GIF89a, 1990)."""

from typing import BinaryIO

__all__ = ["check_end"]

_EXTENSION, _IMAGE, _TRAILER = b"!", b",", b";"
_LOOPS = b"NETSCAPE2.0"  # the extension of animations
_HAS_COLOURS, _BITS = 0x80, 0x07  # of the flags of the screen and of each image, 18.c and 20.c


def check_end(file: BinaryIO) -> None:
    """Refuse a file in which a block or the trailer (27) is missing; what lies behind the trailer is nobody's matter.

    Bytes between blocks that begin none are skipped, as Pillow does. One still image is whole without the trailer,
    which some programs leave out.

    Args:
        file: a GIF that Pillow has read.

    Raises:
        ValueError: it is cut short.
    """
    file.seek(0)
    _skip_colours(file, _taken(file, 13)[10])
    images, last, loops = 0, b"", False
    while (kind := file.read(1)) != _TRAILER:
        if not kind:
            if images == 1 and last == _IMAGE and not loops:
                return
            raise ValueError("a GIF without an end")
        last = kind
        if kind == _IMAGE:
            images += 1
            _skip_colours(file, _taken(file, 9)[8])
        if kind in (_IMAGE, _EXTENSION):
            _taken(file, 1)  # bits of the first codes, or the extension's label
            while length := _taken(file, 1)[0]:
                loops |= _taken(file, length) == _LOOPS


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & _HAS_COLOURS:
        _taken(file, 3 << (flags & _BITS) + 1)


def _taken(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise ValueError("a GIF without an end")
    return data
