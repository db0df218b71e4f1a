"""Pictures and metadata to write files of."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def smooth():
    def make(height, width, dtype=np.uint8):
        """A gradient, which lossy formats keep to a few levels."""
        rows, columns = np.mgrid[0:height, 0:width]
        top = np.iinfo(dtype).max
        channels = [rows / height, columns / width, (rows + columns) / (height + width)]
        return (np.stack(channels, 2) * top).astype(dtype)

    return make


@pytest.fixture(scope="session")
def srgb():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="session")
def grey_profile():
    """A whole ICC profile of linear grey: white point D50, an empty curve, which is the identity (ICC.1:2001)."""
    white = struct.pack(">3i", *(round(65536 * value) for value in (0.9642, 1.0, 0.8249)))
    tags = {b"wtpt": b"XYZ " + bytes(4) + white, b"kTRC": b"curv" + bytes(8)}
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content
    size = struct.pack(">I", 128 + len(table) + len(data))
    kind = size + bytes(4) + b"\x02\x10\0\0" + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    return (kind.ljust(68, b"\0") + white).ljust(128, b"\0") + table + data


@pytest.fixture(scope="session")
def xmp_packet():
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" exif:PixelXDimension="9"'
        b' xmp:Rating="4"/><tiff:Orientation>6</tiff:Orientation><tiff:ImageLength>9</tiff:ImageLength>'
        b"</x:xmpmeta>"
    )


@pytest.fixture(scope="session")
def exif():
    """exif(orientation) is EXIF of a camera, with much in it that must be kept or must follow the picture's size."""

    def make(orientation=1):
        tags = Image.Exif()
        tags[ExifTags.Base.Make] = "Camera & S__hne"
        tags[ExifTags.Base.Orientation] = orientation
        tags[ExifTags.Base.ImageWidth] = 9
        photo = tags.get_ifd(ExifTags.IFD.Exif)
        photo[ExifTags.Base.DateTimeOriginal] = "2020:02:02 20:20:20"
        photo[ExifTags.Base.ExifImageWidth] = photo[ExifTags.Base.ExifImageHeight] = 9
        photo[ExifTags.Base.MakerNote] = b"maker\0note"
        tags.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
        # Cameras and programs write UTF-8 where the standard has ASCII; Pillow would write question marks.
        return tags.tobytes().replace(b"S__hne", "Söhne".encode())

    return make
