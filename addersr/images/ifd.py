"""Directories of TIFF files ("IFD"), which EXIF has too: read without trust, and written. TIFF 6.0, section 2."""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

__all__ = [
    "EXIF_TYPES",
    "LONG",
    "RATIONAL",
    "SHORT",
    "UNDEFINED",
    "Directory",
    "Entry",
    "Reader",
    "entry",
    "pack",
    "raw_entries",
]

SHORT, LONG, RATIONAL, UNDEFINED = 3, 4, 5, 7
_IFD, _LONG8, _SLONG8, _IFD8 = 13, 16, 17, 18  # places of directories; and what BigTIFF has besides
_TYPE_SIZES = dict(enumerate([1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8], start=1))
EXIF_TYPES = frozenset(_TYPE_SIZES)
"""What EXIF may have."""
_TYPE_SIZES |= {_IFD: 4, _LONG8: 8, _SLONG8: 8, _IFD8: 8}
_WHOLE = {1: "B", SHORT: "H", LONG: "I", _IFD: "I", _LONG8: "Q", _IFD8: "Q"}


@dataclass(frozen=True)
class Entry:
    """What a directory says under one tag."""

    kind: int
    """Type of the items: SHORT, LONG..."""
    count: int
    value: "bytes | int | Directory"
    """The items in the byte order of the file; or where they lie in it; or what they lead to."""


Directory: TypeAlias = dict[int, Entry]


class Reader:
    """The directories of a TIFF file, BigTIFF too. Values are read when they are asked for.

    Raises:
        KeyError, struct.error: ``file`` is no TIFF, or its first directory is cut short.
        ValueError: its values overlap.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.order = {b"II": "<", b"MM": ">"}[file.read(2)]
        """Byte order, as `struct` writes it."""
        self._is_big = self.unpack("H", 2)[0] == 43
        (self.first,) = self.unpack("Q", 8) if self._is_big else self.unpack("I", 4)
        """Where the first directory is."""

    def unpack(self, format: str, position: int) -> tuple[int, ...]:
        """Whole numbers, wherever they lie."""
        self._file.seek(position)
        return struct.unpack(self.order + format, self._file.read(struct.calcsize(f"={format}")))

    def directory(self, position: int) -> tuple[Directory, int]:
        """The entries of the directory at ``position``, and where the next one is, 0 if there is none.

        Raises:
            struct.error, ValueError: as for the class.
        """
        count_format, entry_format, offset_format = (
            ("Q", "HHQ8s", "Q") if self._is_big else ("H", "HHI4s", "I")
        )
        (count,) = self.unpack(count_format, position)
        packed = struct.Struct(self.order + entry_format)
        if packed.size * count > self._length:
            raise struct.error("a directory is cut short")
        table = self._file.read(packed.size * count)
        tail = self._file.read(struct.calcsize(f"={offset_format}"))
        # Some writers leave out the bytes that say there is no other directory.
        following = int.from_bytes(tail, "little" if self.order == "<" else "big")
        entries, total = {}, 0
        for tag, kind, items, field in packed.iter_unpack(table):
            length = _TYPE_SIZES.get(kind, 0) * items
            total += length
            if length > len(field):
                entries[tag] = Entry(kind, items, struct.unpack(self.order + offset_format, field)[0])
            elif length:
                entries[tag] = Entry(kind, items, field[:length])
        # Values that overlap would make gigabytes of a small file, in Pillow too, which reads them all.
        if total > self._length:
            raise ValueError("its metadata are larger than the file")
        return entries, following

    def bytes(self, entry: Entry) -> "bytes":
        """The value of an entry in the byte order of the file."""
        if isinstance(entry.value, int):
            self._file.seek(entry.value)
            return self._file.read(_TYPE_SIZES[entry.kind] * entry.count)
        if isinstance(entry.value, dict):
            raise TypeError("a directory has no bytes of its own")
        return entry.value

    def numbers(self, entry: Entry | None) -> tuple[int, ...]:
        """The whole numbers, not negative, of an entry; () if it holds none."""
        format = _WHOLE.get(entry.kind) if entry else None
        if entry is None or format is None:
            return ()
        return struct.unpack(f"{self.order}{entry.count}{format}", self.bytes(entry))


def raw_entries(data: bytes) -> tuple[str, Directory]:
    """Byte order and first directory of ``data``; each value as the four bytes that stand in the directory, be they
    the value itself or its place in ``data``.

    Raises:
        KeyError, struct.error: these are no TIFF.
    """
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, first)
    entries = {}
    for index in range(count):
        tag, kind, items, field = struct.unpack_from(f"{order}HHI4s", data, first + 2 + 12 * index)
        entries[tag] = Entry(kind, items, field)
    return order, entries


def entry(order: str, kind: int, numbers: Iterable[int]) -> Entry:
    """An entry of whole numbers; ``kind`` is SHORT or LONG."""
    values = tuple(numbers)
    return Entry(
        kind, len(values), struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)
    )


def pack(order: str, entries: Directory, start: int) -> bytes:
    """A directory that begins at ``start`` of the file, followed by the values that do not fit into it."""
    table, data = struct.pack(f"{order}H", len(entries)), bytearray()
    behind = start + len(table) + 12 * len(entries) + 4
    for tag, described in sorted(entries.items()):
        value = described.value
        if isinstance(value, int):
            raise TypeError(f"the value of tag {tag} lies in another file")
        is_outside = isinstance(value, dict) or len(value) > 4
        outside = pack(order, value, behind + len(data)) if isinstance(value, dict) else value
        field = struct.pack(f"{order}I", behind + len(data)) if is_outside else outside.ljust(4, b"\0")
        if is_outside:
            data += outside + bytes(len(outside) % 2)
        table += struct.pack(f"{order}HHI", tag, described.kind, described.count) + field
    return table + bytes(4) + bytes(data)
