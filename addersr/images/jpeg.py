"""Segments of a JPEG, looked at before Pillow opens it (ITU-T T.81, annex B)."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from addersr.images.ifd import Reader

__all__ = ["check_directories"]

_APP1, _APP2, _SCAN = 0xE1, 0xE2, 0xDA
_ALONE = (0x00, 0x01, *range(0xD0, 0xDA))  # markers without a segment, and a stuffed byte


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each, up to the picture's data; what lies between them is skipped, as Pillow does."""
    file.seek(0)
    while byte := file.read(1):
        while byte == b"\xff":
            byte = file.read(1)
            if byte == b"\xff":
                continue
            if not byte or byte[0] == _SCAN:
                return
            if byte[0] not in _ALONE:
                length = int.from_bytes(file.read(2))
                yield byte[0], file.read(max(length - 2, 0))


def check_directories(file: BinaryIO) -> None:
    """Refuse a JPEG of which Pillow, which reads EXIF for the resolution, would make gigabytes.

    Raises:
        ValueError: values overlap in EXIF, or in the list of a multi-picture file.
    """
    exif = bytearray()  # which Pillow puts together from all its segments
    directories = []
    for marker, content in _segments(file):
        if marker == _APP1 and content.startswith(b"Exif\0\0"):
            exif += content[6:]
        elif marker == _APP2 and content.startswith(b"MPF\0"):
            directories.append(content[4:])
    for data in (bytes(exif), *directories):
        try:
            reader = Reader(BytesIO(data))
            reader.directory(reader.first)
        except (KeyError, struct.error):  # damaged: Pillow leaves them
            continue
