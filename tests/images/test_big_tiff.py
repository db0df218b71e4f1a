"""BigTIFF, whose places and sizes may be of 64 bits (LONG8)."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from addersr.images.files import read
from addersr.inference.survey import Size, probe

SHORT, LONG, IFD, LONG8, IFD8 = 3, 4, 13, 16, 18
FORMATS = {1: "B", 2: "s", SHORT: "H", LONG: "I", IFD: "I", LONG8: "Q", IFD8: "Q"}


def directory(order, entries):
    """Of (tag, kind, number or bytes), with values of 8 bytes at most."""
    table = struct.pack(f"{order}Q", len(entries))
    for tag, kind, value in sorted(entries):
        count = len(value) if isinstance(value, tuple | bytes) else 1
        values = value if isinstance(value, tuple) else (value,)
        format = f"{count}s" if isinstance(value, bytes) else f"{count}{FORMATS[kind]}"
        table += struct.pack(f"{order}HHQ", tag, kind, count) + struct.pack(order + format, *values).ljust(
            8, b"\0"
        )
    return table + bytes(8)


def big_tiff(samples, *, order="<", kind=LONG8, exif_kind=IFD8):
    """(H, W, C) samples in one strip, with a maker in EXIF and a date in its second directory."""
    height, width, channels = samples.shape
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    below = directory(order, [(ExifTags.Base.ISOSpeedRatings, SHORT, 400), (0xC000, LONG8, 7)])
    bits = 8 * samples.dtype.itemsize
    entries = [
        (256, kind, width), (257, kind, height), (258, SHORT, (bits,) * channels), (259, SHORT, 1),
        (262, SHORT, 1 if channels < 3 else 2), (273, kind, 16), (277, SHORT, channels), (278, kind, height),
        (279, kind, len(data)), (284, SHORT, 1), (ExifTags.Base.Make, 2, b"Camera\0"), (0xC001, LONG8, 7),
        (ExifTags.Base.ExifOffset, exif_kind, 16 + len(data)),
    ]  # fmt: skip
    if channels in (2, 4):
        entries.append((338, SHORT, 2))
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(
        f"{order}HHHQ", 43, 8, 0, 16 + len(data) + len(below)
    )
    return head + data + below + directory(order, entries)


@pytest.mark.parametrize("kind", [LONG, LONG8])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 3), (np.uint16, 1)])
def test_samples_and_sizes(tmp_path, rng, kind, dtype, channels):
    samples = rng.integers(0, np.iinfo(dtype).max, (3, 5, channels), dtype, endpoint=True)
    (tmp_path / "a.tif").write_bytes(big_tiff(samples, kind=kind))
    assert probe(tmp_path / "a.tif") == Size(3, 5, 1)
    picture = read(tmp_path / "a.tif")
    colours = samples if channels == 3 else np.repeat(samples, 3, axis=2)
    assert picture.pixels.dtype == dtype and np.array_equal(picture.pixels, colours)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [LONG, LONG8])
def test_grey_and_alpha_of_16_bits(rng, order, kind):
    samples = rng.integers(0, 2**16, (3, 5, 2), np.uint16)
    picture = read(io.BytesIO(big_tiff(samples, order=order, kind=kind)))
    assert np.array_equal(picture.pixels[..., 1], samples[..., 0])
    assert np.array_equal(picture.alpha, samples[..., 1])


@pytest.mark.parametrize("exif_kind", [LONG, IFD, LONG8, IFD8])
def test_exif_comes_without_what_it_cannot_hold(rng, exif_kind):
    samples = rng.integers(0, 256, (3, 5, 3), np.uint8)
    picture = read(io.BytesIO(big_tiff(samples, exif_kind=exif_kind)))
    exif = Image.Exif()
    exif.load(picture.exif)
    assert dict(exif) == {
        ExifTags.Base.Make: "Camera",
        ExifTags.Base.ExifOffset: exif[ExifTags.Base.ExifOffset],
    }
    assert exif.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.ISOSpeedRatings: 400}
