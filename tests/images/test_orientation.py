"""A picture is turned once, whichever of EXIF, TIFF's own tag and XMP says how, in every format and depth."""

import io
import struct
import zlib
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from addersr.images.files import read, write
from addersr.images.png16 import write_png16
from addersr.inference.survey import probe

# How the stored picture is seen, from the table of the EXIF standard, tag 274: where its row 0 and column 0 are.
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.flipud(np.rot90(stored)),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.fliplr(np.rot90(stored)),
    8: np.rot90,
}


def attribute(orientation):
    return b'<x:xmpmeta><d tiff:Orientation="%d" xmp:Rating="4"/></x:xmpmeta>' % orientation


def quoted(orientation):
    return b"<x:xmpmeta><d tiff:Orientation = '%d' xmp:Rating='4'/></x:xmpmeta>" % orientation


def element(orientation):
    return b"<x:xmpmeta><tiff:Orientation>%d</tiff:Orientation></x:xmpmeta>" % orientation


def other(orientation):
    return orientation % 8 + 1


# What to write for an orientation: EXIF's, or TIFF's own tag; and XMP.
SOURCES = {
    "EXIF": lambda o: (o, None),
    "an attribute of XMP": lambda o: (None, attribute(o)),
    "an attribute of XMP, quoted otherwise": lambda o: (None, quoted(o)),
    "an element of XMP": lambda o: (None, element(o)),
    "both": lambda o: (o, attribute(o)),
    "EXIF, and XMP has another": lambda o: (o, attribute(other(o))),
    "EXIF, and XMP has none that there is": lambda o: (o, element(0)),
    "XMP, and EXIF has none that there is": lambda o: (9, attribute(o)),
    "XMP, and EXIF says that it is unknown": lambda o: (0, element(o)),
}

TIFFS = [
    f"{bits}-bit {channels} {compression} {order}"
    for bits, channels, compression, order in product((8, 16), (1, 2, 3, 4), ("raw", "zlib"), "<>")
]


def exif_of(orientation):
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Camera"
    if orientation is not None:
        tags[ExifTags.Base.Orientation] = orientation
    return tags.tobytes()


def write_tiff(path, samples, compression, order, orientation, xmp):
    channels = samples.shape[2]
    tags = [] if orientation is None else [(274, "H", 1, orientation, True)]
    tags += [] if xmp is None else [(700, "B", len(xmp), xmp, True)]
    tifffile.imwrite(
        path,
        samples[..., 0] if channels == 1 else samples,
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig=None if channels == 1 else "contig",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression=None if compression == "raw" else compression,
        byteorder=order,
        metadata=None,
        extratags=tags,
    )


def itxt(xmp):
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp


def stored_samples(rng, bits, channels):
    return rng.integers(0, 2**bits, (5, 9, channels)).astype(np.uint8 if bits == 8 else np.uint16)


def read_samples(path):
    picture = read(path)
    colours = picture.pixels[..., :1] if picture.grey else picture.pixels
    return colours if picture.alpha is None else np.dstack([colours, picture.alpha])


def check(path, stored, orientation):
    """Read once, written and read again; and its size from its beginning."""
    expected = UPRIGHT[orientation](stored)
    found = read_samples(path)
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)
    seen = probe(path)
    assert seen is None or seen[:2] == expected.shape[:2]
    again = io.BytesIO()
    write(again, read(path), format="tiff")
    assert np.array_equal(read_samples(again), expected)
    again.seek(0)
    with tifffile.TiffFile(again) as file:
        tags = file.pages[0].tags
        assert 274 not in tags and (700 not in tags or b"Orientation" not in tags[700].value)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", TIFFS)
def test_tiff(tmp_path, rng, source, kind):
    depth, channels, compression, order = kind.split()
    for orientation in UPRIGHT:
        stored = stored_samples(rng, int(depth.removesuffix("-bit")), int(channels))
        path = tmp_path / f"{orientation}.tif"
        write_tiff(path, stored, compression, order, *SOURCES[source](orientation))
        check(path, stored, orientation)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("profile", [False, True])
def test_png(tmp_path, rng, source, bits, channels, profile):
    for turn in UPRIGHT:
        stored = stored_samples(rng, bits, channels)
        orientation, xmp = SOURCES[source](turn)
        chunks = [] if xmp is None else [itxt(xmp)]
        exif = exif_of(orientation).removeprefix(b"Exif\0\0")
        if profile:  # as ImageMagick has EXIF
            text = f"\nexif\n{len(exif) + 6:8}\n{(b'Exif' + bytes(2) + exif).hex()}\n".encode()
            chunks.append((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
        path = tmp_path / f"{turn}.png"
        with path.open("wb") as file:
            if bits == 16:
                write_png16(file, stored, chunks if profile else [*chunks, (b"eXIf", exif)])
            else:
                info = PngImagePlugin.PngInfo()
                for kind, data in chunks:
                    info.add(kind, data)
                image = Image.fromarray(stored[..., 0] if channels == 1 else stored)
                image.save(file, "PNG", pnginfo=info, **({} if profile else {"exif": exif}))
        check(path, stored, turn)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_and_webp(tmp_path, rng, source, format, mode):
    channels = 3 if format == "WEBP" else len(mode)  # it has no grey
    for turn in UPRIGHT:
        orientation, xmp = SOURCES[source](turn)
        given = {"exif": exif_of(orientation), "xmp": xmp or b"", "lossless": True}
        path = tmp_path / f"{turn}"
        Image.fromarray(stored_samples(rng, 8, 3)).convert(mode).save(path, format, **given)
        with Image.open(path) as image:  # which turns neither
            stored = np.asarray(image).reshape(5, 9, channels)
        check(path, stored, turn)


@pytest.mark.parametrize("mode", ["1", "P", "PA", "CMYK", "LAB"])
def test_tiff_of_other_modes(tmp_path, rng, mode):
    """Those that are converted: what comes out is what comes out of the same without an orientation, turned."""
    image = Image.fromarray(stored_samples(rng, 8, 3))
    image = image.convert("RGB" if mode in ("PA", "LAB") else mode)
    if mode == "PA":
        image = image.convert("P").convert("PA")
    if mode == "LAB":
        image = Image.frombytes("LAB", (9, 5), image.tobytes())
    image.save(tmp_path / "a.tif")
    plain = read_samples(tmp_path / "a.tif")
    for orientation in UPRIGHT:
        for tags in ({274: orientation}, {700: attribute(orientation)}):
            image.save(tmp_path / "b.tif", tiffinfo=tags)
            assert np.array_equal(read_samples(tmp_path / "b.tif"), UPRIGHT[orientation](plain))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_is_turned_also_by_a_pillow_that_leaves_it(tmp_path, rng, bits, monkeypatch):
    """What Pillow turns by itself when it loads is its own matter, and has changed before."""
    stored = stored_samples(rng, bits, 3)
    write_tiff(tmp_path / "a.tif", stored, "raw", "<", None, attribute(6))
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load_end", lambda self: None)
    assert np.array_equal(read_samples(tmp_path / "a.tif"), np.rot90(stored, -1))


@pytest.mark.parametrize("kind", [2, 7], ids=["ASCII", "UNDEFINED"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_xmp_of_a_tiff_in_other_types(tmp_path, rng, kind, orientation):
    stored = stored_samples(rng, 8, 3)
    write_tiff(tmp_path / "a.tif", stored, "raw", "<", None, attribute(orientation))
    data = (tmp_path / "a.tif").read_bytes()
    at = data.index(struct.pack("<HH", 700, 1))
    (tmp_path / "a.tif").write_bytes(data[: at + 2] + struct.pack("<H", kind) + data[at + 4 :])
    check(tmp_path / "a.tif", stored, orientation)


@pytest.mark.parametrize(
    ("kind", "count", "field", "turn"),
    [
        (4, 1, struct.pack("<I", 6), 6),  # LONG
        (1, 1, b"\6\0\0\0", 1),  # BYTE, which Pillow takes for no number
        (8, 1, struct.pack("<hh", 6, 0), 6),  # a signed number
        (11, 1, struct.pack("<f", 6), 6),  # a float
        (3, 2, struct.pack("<HH", 6, 1), 6),  # two numbers
        (2, 2, b"6\0\0\0", 1),  # text
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_an_orientation_of_another_type(tmp_path, rng, kind, count, field, turn, bits):
    stored = stored_samples(rng, bits, 3)
    write_tiff(tmp_path / "a.tif", stored, "raw", "<", 6, None)
    data = (tmp_path / "a.tif").read_bytes()
    at = data.index(struct.pack("<HHI", 274, 3, 1))
    entry = struct.pack("<HHI", 274, kind, count) + field
    (tmp_path / "a.tif").write_bytes(data[:at] + entry + data[at + 12 :])
    check(tmp_path / "a.tif", stored, turn)
