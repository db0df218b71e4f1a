"""IPTC's records (captions, credits, keywords), in and out of the boxes that formats put them into.

JPEG has them in a Photoshop segment (APP13, "image resources": Adobe Photoshop File Formats Specification), TIFF in a
tag of its own, 33723, or within Photoshop's, 34377. PNG has no place for them; ImageMagick and ExifTool write and read
a text chunk, "Raw profile type iptc", of hexadecimal digits. WebP, GIF and BMP have none.
"""

import struct
import zlib
from typing import Any

from PIL import Image

from addersr.images.metadata import raw_profile

__all__ = ["find_iptc", "jpeg_segment", "png_chunk", "records", "with_segment"]

_RESOURCE = 0x0404
_LONGEST = 65533 - 14  # of a JPEG segment, after its header
_PNG_KEYS = ("Raw profile type iptc", "Raw profile type 8bim")


def find_iptc(image: Image.Image) -> bytes | None:
    """The records that a loaded JPEG or PNG holds; None if there are none, or none that can be taken apart."""
    try:
        if image.format == "PNG":
            text: dict[str, Any] = getattr(image, "text", {})
            profile = next((text[key] for key in _PNG_KEYS if key in text), None)
            return None if profile is None else records(raw_profile(profile))
        return image.info.get("photoshop", {}).get(_RESOURCE) or None
    except (ValueError, struct.error, IndexError):
        return None


def records(data: bytes) -> bytes | None:
    """Resource 0x0404 of Photoshop's; or the data themselves if they are records, which begin with 0x1C.

    Raises:
        struct.error, IndexError: a resource is cut short.
    """
    if data[:1] == b"\x1c":
        return data
    position = 0
    while data[position : position + 4] == b"8BIM":
        (kind,) = struct.unpack_from(">H", data, position + 4)
        name = 1 + data[position + 6]  # its length first, padded to an even number of bytes
        position += 6 + name + name % 2
        (length,) = struct.unpack_from(">I", data, position)
        position += 4
        if kind == _RESOURCE:
            return data[position : position + length]
        position += length + length % 2
    return None


def _resource(iptc: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", _RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def jpeg_segment(iptc: bytes) -> bytes:
    """The APP13 segment that holds the records.

    Raises:
        ValueError: they are longer than a segment.
    """
    resource = _resource(iptc)
    if len(resource) > _LONGEST:
        raise ValueError("IPTC data is too long")
    content = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", 2 + len(content)) + content


def with_segment(jpeg: bytes, segment: bytes) -> bytes:
    """A JPEG with one more segment, behind those at its beginning that must come first (SOI, JFIF, EXIF, XMP)."""
    position = 2
    while jpeg[position : position + 2] in (b"\xff\xe0", b"\xff\xe1"):
        position += 2 + struct.unpack_from(">H", jpeg, position + 2)[0]
    return jpeg[:position] + segment + jpeg[position:]


def png_chunk(iptc: bytes) -> tuple[bytes, bytes]:
    """(type, data) of the text chunk that holds the records."""
    resource = _resource(iptc)
    text = f"\niptc\n{len(resource):8}\n{resource.hex()}\n".encode()
    return b"zTXt", _PNG_KEYS[0].encode() + b"\0\0" + zlib.compress(text)
