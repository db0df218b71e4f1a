"""Resolution, and what a PNG says of its colours: every format in and out, held to Pillow and tifffile."""

import io
import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from addersr.images import files
from addersr.images.files import Animation, Picture, read, read_any, write
from addersr.images.picture import RESOLUTIONS
from addersr.images.png16 import COLOUR

# Resolution.


def told(path, format):
    """Pixels an inch, as Pillow reads it."""
    with Image.open(path) as image:
        if format == "webp":
            exif = image.getexif()
            return float(exif[ExifTags.Base.XResolution]), float(exif[ExifTags.Base.YResolution])
        return tuple(map(float, image.info["dpi"]))


@pytest.mark.parametrize("source", ["png", "jpeg", "tiff", "bmp"])
@pytest.mark.parametrize("target", ["png", "16-bit png", "jpeg", "tiff", "16-bit tiff", "bmp"])
def test_the_number_stays_the_same(tmp_path, smooth, source, target):
    depth, format = (np.uint16, target[7:]) if target.startswith("16") else (np.uint8, target)
    Image.fromarray(smooth(8, 12)).save(tmp_path / "a", source, dpi=(300, 240))
    picture = read(tmp_path / "a")
    assert picture.resolution == pytest.approx((300, 240), rel=1e-4)
    write(tmp_path / f"b{files.SUFFIXES[format]}", replace(picture, pixels=smooth(16, 24, depth)))
    assert told(tmp_path / f"b{files.SUFFIXES[format]}", format) == pytest.approx((300, 240), rel=1e-4)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "bmp", "gif"])
def test_none_is_made_up(tmp_path, smooth, format):
    """Pillow writes 96 into a BMP that is given none, and reads 72 from EXIF that has none."""
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Camera"
    Image.fromarray(smooth(8, 12)).save(tmp_path / "a.jpg", exif=tags)
    picture = read(tmp_path / "a.jpg")
    write(tmp_path / f"b{files.SUFFIXES[format]}", picture)
    again = read(tmp_path / f"b{files.SUFFIXES[format]}")
    assert (picture.resolution, again.resolution) == (None, None)


@pytest.mark.parametrize(("unit", "factor"), [(2, 1), (3, 2.54), (None, 1)])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "bmp"])
def test_that_of_exif_counts_where_the_format_has_none(tmp_path, smooth, unit, factor, format):
    tags = Image.Exif()
    tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = 100, 50.5
    if unit:
        tags[ExifTags.Base.ResolutionUnit] = unit
    Image.fromarray(smooth(8, 12)).save(tmp_path / "a.webp", exif=tags)
    picture = read(tmp_path / "a.webp")
    assert picture.resolution == pytest.approx((100 * factor, 50.5 * factor))
    path = tmp_path / f"b{files.SUFFIXES[format]}"
    write(path, picture)
    assert read(path).resolution == pytest.approx(picture.resolution, abs=0.5 if format == "jpeg" else 0.02)
    if format == "webp":
        assert told(path, format) == (100, 50.5)


def test_the_format_s_own_goes_before_that_of_exif(tmp_path, smooth):
    """A camera's 72 stands in EXIF, whatever a program has set since."""
    tags = Image.Exif()
    tags[ExifTags.Base.XResolution] = tags[ExifTags.Base.YResolution] = 72
    for format in ("PNG", "JPEG"):
        Image.fromarray(smooth(8, 12)).save(tmp_path / "a", format, dpi=(300, 300), exif=tags)
        write(tmp_path / "b.tif", read(tmp_path / "a"))
        assert told(tmp_path / "b.tif", "tiff") == pytest.approx((300, 300), rel=1e-4)
        assert read(tmp_path / "b.tif").resolution == pytest.approx((300, 300), rel=1e-4)


@pytest.mark.parametrize(("unit", "name"), [(2, "INCH"), (3, "CENTIMETER")])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_tiff_s_own_fractions_stay(tmp_path, smooth, unit, name, byteorder):
    given = {"resolution": ((1000, 7), (299_999, 1000)), "resolutionunit": unit}
    tifffile.imwrite(tmp_path / "a.tif", smooth(8, 12), metadata=None, byteorder=byteorder, **given)
    write(tmp_path / "b.tif", read(tmp_path / "a.tif"))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = file.pages[0].tags
        found = [Fraction(*tags[key].value) for key in ("XResolution", "YResolution")]
        assert found == [Fraction(*each) for each in given["resolution"]]
        assert tags["ResolutionUnit"].value.name == name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_a_picture_that_is_turned_has_it_turned(tmp_path, smooth, orientation, format):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    Image.fromarray(smooth(8, 12)).save(tmp_path / "a", format, dpi=(300, 150), exif=tags)
    picture = read(tmp_path / "a")
    height, width = picture.pixels.shape[:2]
    assert picture.resolution == pytest.approx((150, 300) if height > width else (300, 150), rel=1e-4)
    assert (height > width) == (orientation > 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("target", ["jpeg", "png", "tiff", "webp"])
def test_that_of_exif_is_turned_too(smooth, orientation, source, target):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = 300, 150
    stream, again = io.BytesIO(), io.BytesIO()
    Image.fromarray(smooth(8, 12)).save(stream, source, exif=tags)
    picture = read(stream)
    write(again, picture, format=target)
    expected = (150, 300) if orientation > 4 else (300, 150)
    assert picture.resolution == expected
    with Image.open(again) as image:
        exif = image.getexif()
        assert (exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution]) == expected


def test_of_16_bit_grey_with_alpha(tmp_path, rng):
    """Which is read without Pillow."""
    samples = rng.integers(0, 65536, (4, 6, 2)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", samples, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"],
        metadata=None, resolution=(300, 150), resolutionunit=2, extratags=[(274, 3, 1, 6, True)],
    )  # fmt: skip
    picture = read(tmp_path / "a.tif")
    assert (picture.pixels.shape[:2], picture.resolution) == ((6, 4), (150, 300))


def jfif(data, unit, across, down):
    at = data.index(b"JFIF\0") + 7
    return data[:at] + struct.pack(">BHH", unit, across, down) + data[at + 5 :]


@pytest.mark.parametrize("density", [(0, 300, 300), (1, 0, 0), (1, 300, 0), (9, 300, 300)])
def test_what_means_none_is_none(tmp_path, smooth, density):
    stream = io.BytesIO()
    Image.fromarray(smooth(8, 12)).save(stream, "JPEG")
    (tmp_path / "a.jpg").write_bytes(jfif(stream.getvalue(), *density))
    assert read(tmp_path / "a.jpg").resolution is None


@pytest.mark.parametrize("target", ["png", "16-bit png", "jpeg", "tiff", "bmp"])
@pytest.mark.parametrize("least_or_most", [RESOLUTIONS[0], RESOLUTIONS[1] - 1])  # BMP rounds the last one up
def test_the_least_and_the_most_are_written(smooth, target, least_or_most):
    depth, format = (np.uint16, target[7:]) if target.startswith("16") else (np.uint8, target)
    stream = io.BytesIO()
    write(stream, Picture(smooth(8, 12, depth), resolution=(least_or_most, 300)), format=format)
    found = read(stream).resolution
    if format == "jpeg" and least_or_most < 0.5:
        assert found is None  # it has whole numbers
    else:
        assert found == pytest.approx((least_or_most, 300), abs=0.02)


@pytest.mark.parametrize("absurd", [0, 0.019, -72, 65536, float("inf"), float("nan")])
def test_a_picture_has_no_resolution_that_files_cannot_hold(smooth, absurd):
    for resolution in ((absurd, 72), (72, absurd)):
        with pytest.raises(ValueError, match=r"must be 0\.02 to 65535 pixels an inch"):
            Picture(smooth(8, 12), resolution=resolution)


def test_centimetres_of_a_jpeg(tmp_path, smooth):
    stream = io.BytesIO()
    Image.fromarray(smooth(8, 12)).save(stream, "JPEG")
    (tmp_path / "a.jpg").write_bytes(jfif(stream.getvalue(), 2, 100, 50))
    write(tmp_path / "b.jpg", read(tmp_path / "a.jpg"))
    assert told(tmp_path / "b.jpg", "jpeg") == (254, 127)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((0, 1), (1, 1)),
        ((1, 0), (1, 0)),
        ((2**32 - 1, 1), (72, 1)),
        ((1, 2**32 - 1), (1, 2**32 - 1)),
        ((655_359, 10), (72, 1)),
        ((1, 99), (72, 1)),
    ],
)
@pytest.mark.parametrize("format", ["png", "jpeg", "tiff", "bmp", "webp"])
def test_absurd_numbers_stop_nothing(tmp_path, smooth, x, y, format):
    tifffile.imwrite(tmp_path / "a.tif", smooth(8, 12), metadata=None, resolution=((1, 1), (1, 1)))
    data = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        places = [file.pages[0].tags[key].valueoffset for key in ("XResolution", "YResolution")]
    for place, numbers in zip(places, (x, y), strict=True):
        data = data[:place] + struct.pack("<II", *numbers) + data[place + 8 :]
    (tmp_path / "a.tif").write_bytes(data)
    picture = read(tmp_path / "a.tif")
    path = tmp_path / f"b{files.SUFFIXES[format]}"
    write(path, picture)
    assert (read(path).pixels.shape, read(path).resolution) == ((8, 12, 3), None)


# Colours of a PNG.

CHUNKS = {
    b"gAMA": struct.pack(">I", 100_000),  # linear, which nobody takes for sRGB
    b"cHRM": struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000),  # Display P3
    b"sRGB": b"\1",
    b"cICP": bytes([9, 16, 0, 1]),  # BT.2100 PQ
}


def chunks_of(path):
    """(type, data) of all, in their order."""
    data, position, found = path.read_bytes(), 8, []
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        assert zlib.crc32(kind + content) == checksum
        found.append((kind, content))
        position += 12 + length
    return found


def save_with(image, path, chunks, **options):
    info = PngImagePlugin.PngInfo()
    for kind, data in chunks.items():
        info.add(kind, data)
    image.save(path, "PNG", pnginfo=info, **options)


@pytest.mark.parametrize("kind", CHUNKS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_how_the_colours_look_is_kept_as_it_is(tmp_path, smooth, kind, mode, depth):
    save_with(Image.fromarray(smooth(8, 12)).convert(mode), tmp_path / "a.png", {kind: CHUNKS[kind]})
    picture = read(tmp_path / "a.png")
    assert picture.colour == ((kind, CHUNKS[kind]),)
    alpha = None if picture.alpha is None else np.full((16, 24), np.iinfo(depth).max, depth)
    write(tmp_path / "b.png", files.stripped(replace(picture, pixels=smooth(16, 24, depth), alpha=alpha)))
    found = chunks_of(tmp_path / "b.png")
    assert found.count((kind, CHUNKS[kind])) == 1
    kinds = [kind for kind, _ in found]
    assert kinds.index(kind) < kinds.index(b"IDAT") and kinds.count(kind) == 1
    assert read(tmp_path / "b.png").colour == picture.colour


def test_all_of_them_and_in_an_animation(tmp_path, smooth):
    frames = [Image.fromarray(smooth(8, 12)), Image.new("RGB", (12, 8))]
    save_with(frames[0], tmp_path / "a.png", CHUNKS, save_all=True, append_images=frames[1:], dpi=(300, 300))
    animation = read_any(tmp_path / "a.png")
    assert isinstance(animation, Animation) and dict(animation.frames[0].colour) == CHUNKS
    write(tmp_path / "b.png", animation)
    assert {kind: data for kind, data in chunks_of(tmp_path / "b.png") if kind in COLOUR} == CHUNKS
    assert told(tmp_path / "b.png", "png") == pytest.approx((300, 300), rel=1e-4)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_of_a_profile_and_srgb_a_file_has_one(tmp_path, smooth, srgb, depth):
    write(tmp_path / "a.png", Picture(smooth(8, 12, depth), icc_profile=srgb, colour=tuple(CHUNKS.items())))
    kinds = [kind for kind, _ in chunks_of(tmp_path / "a.png")]
    assert b"iCCP" in kinds and b"sRGB" not in kinds and {b"gAMA", b"cHRM", b"cICP"} < set(kinds)


def test_a_chunk_of_another_length_or_a_second_one_is_left(tmp_path, smooth):
    save_with(Image.fromarray(smooth(8, 12)), tmp_path / "a.png", {b"gAMA": CHUNKS[b"gAMA"]})
    data = (tmp_path / "a.png").read_bytes()

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    more = chunk(b"cICP", b"\1\2\3") + chunk(b"gAMA", bytes(4))
    at = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data[:at] + more + data[at:])
    assert read(tmp_path / "a.png").colour == ((b"gAMA", CHUNKS[b"gAMA"]),)


def test_stripped_of_resolution_and_not_of_colours(smooth, srgb):
    picture = Picture(smooth(8, 12), icc_profile=srgb, resolution=(300, 300), colour=tuple(CHUNKS.items()))
    assert files.stripped(picture) == replace(picture, resolution=None)
