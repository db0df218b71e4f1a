import io
import struct
import subprocess
import sys
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from torchvision.io import decode_png

from addersr.errors import ImageError
from addersr.images import files
from addersr.images.files import Picture, check_writable, from_tensor, read, to_tensor, write
from addersr.images.png16 import read_png16, write_png16

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


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


GREY_PROFILE = grey_profile()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" exif:PixelXDimension="9"'
    b' xmp:Rating="4"/><tiff:Orientation>6</tiff:Orientation><tiff:ImageLength>9</tiff:ImageLength>'
    b"</x:xmpmeta>"
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def smooth(height, width, dtype=np.uint8):
    """A gradient, which lossy formats keep to a few levels."""
    rows, columns = np.mgrid[0:height, 0:width]
    top = np.iinfo(dtype).max
    channels = [rows / height, columns / width, (rows + columns) / (height + width)]
    return (np.stack(channels, 2) * top).astype(dtype)


def exif(orientation=1):
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


# What is written is what is read.


@pytest.mark.parametrize("ending", ["png", "bmp", "webp"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
def test_lossless_formats_keep_every_pixel(tmp_path, rng, ending, size):
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    write(tmp_path / f"a.{ending}", Picture(pixels), quality=100)
    again = read(tmp_path / f"a.{ending}")
    assert again.pixels.dtype == np.uint8
    assert np.array_equal(again.pixels, pixels)
    assert again.alpha is None


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "webp"])
def test_lossy_formats_keep_pixels_closely(tmp_path, ending):
    pixels = smooth(64, 48)
    write(tmp_path / f"a.{ending}", Picture(pixels))
    difference = np.abs(read(tmp_path / f"a.{ending}").pixels.astype(int) - pixels)
    assert difference.mean() < 2


def test_higher_quality_is_nearer(tmp_path, rng):
    pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
    errors = []
    for quality in (10, 60, 95):
        write(tmp_path / "a.jpg", Picture(pixels), quality=quality)
        errors.append(np.abs(read(tmp_path / "a.jpg").pixels.astype(int) - pixels).mean())
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_alpha_and_the_colour_under_it_are_kept(tmp_path, rng, ending):
    pixels = rng.integers(0, 256, (9, 8, 3), np.uint8)
    alpha = rng.integers(0, 256, (9, 8), np.uint8)
    alpha[:3] = 0
    write(tmp_path / f"a.{ending}", Picture(pixels, alpha), quality=100)
    again = read(tmp_path / f"a.{ending}")
    assert np.array_equal(again.alpha, alpha)
    assert np.array_equal(again.pixels, pixels)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (130, 31)])  # more rows than are filtered at a time
def test_16_bit_png_keeps_every_bit(tmp_path, rng, grey, with_alpha, size):
    pixels = rng.integers(0, 65536, (*size, 3)).astype(np.uint16)
    if grey:
        pixels[:] = pixels[..., :1]
    alpha = rng.integers(0, 65536, size).astype(np.uint16) if with_alpha else None
    write(tmp_path / "a.png", Picture(pixels, alpha, exif(), GREY_PROFILE if grey else SRGB, grey=grey))
    again = read(tmp_path / "a.png")
    assert again.pixels.dtype == np.uint16
    assert np.array_equal(again.pixels, pixels)
    assert (again.alpha is None) if alpha is None else np.array_equal(again.alpha, alpha)
    assert again.grey == grey


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_read_and_written_as_libpng_has_it(rng, channels):
    samples = rng.integers(0, 65536, (70, 13, channels)).astype(np.uint16)
    file = io.BytesIO()
    write_png16(file, samples)
    assert np.array_equal(read_png16(file), samples)
    data = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the reason why only this test uses torchvision's decoder
        by_libpng = decode_png(data)
    assert np.array_equal(by_libpng.permute(1, 2, 0).numpy(), samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_interlaced_16_bit_png(tmp_path, rng, channels):
    """Adam7, each of whose passes is a small picture of its own (PNG 8.1)."""
    samples = rng.integers(0, 65536, (11, 13, channels)).astype(np.uint16)
    file = io.BytesIO()
    write_png16(file, samples)
    header = bytearray(file.getvalue()[12:29])
    header[-1] = 1
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, right in passes
        for row in samples[top::down, left::right]
    )
    chunks = [bytes(header), b"IDAT" + zlib.compress(rows), b"IEND"]
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    assert np.array_equal(read_png16(file), samples)


@pytest.mark.parametrize("grey", [False, True])
def test_transparent_colour_of_a_16_bit_png_becomes_alpha(tmp_path, rng, grey):
    samples = rng.integers(0, 65536, (6, 5, 1 if grey else 3)).astype(np.uint16)
    samples[2, 3] = samples[0, 0]
    with (tmp_path / "a.png").open("wb") as file:
        write_png16(file, samples, [(b"tRNS", samples[0, 0].astype(">u2").tobytes())])
    expected = np.full((6, 5), 65535, np.uint16)
    expected[0, 0] = expected[2, 3] = 0
    assert np.array_equal(read(tmp_path / "a.png").alpha, expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_transparent_grey_of_a_png_of_few_bits_becomes_alpha(tmp_path, depth):
    """tRNS holds the sample as the file has it, before it is stretched to 8 bits (PNG 11.3.1.1)."""
    key = 2**depth - 2
    packed = (key << (8 - depth)) | ((1 << (8 - depth)) - 1)  # the key, then samples of all ones
    width = 8 // depth
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", key)),
        (b"IDAT", zlib.compress(bytes([0, packed]))),
        (b"IEND", b""),
    ]
    data = b"".join(
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    picture = read(tmp_path / "a.png")
    assert picture.alpha[0].tolist() == [0] + [255] * (width - 1)
    assert picture.pixels[0, :, 0].tolist() == [key * 255 // (2**depth - 1)] + [255] * (width - 1)


def test_16_bit_is_scaled_and_not_clipped_for_8_bit_formats(tmp_path):
    pixels = smooth(16, 16, np.uint16)
    write(tmp_path / "a.bmp", Picture(pixels))
    expected = np.round(pixels / 257).astype(np.uint8)
    assert np.array_equal(read(tmp_path / "a.bmp").pixels, expected)


# What the file says about the picture.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_is_applied_once(tmp_path, rng, orientation, dtype):
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (4, 6, 3)).astype(dtype)
    with (tmp_path / "turned.png").open("wb") as file:
        chunk = exif(orientation).removeprefix(b"Exif\0\0")
        if dtype == np.uint16:
            write_png16(file, pixels, [(b"eXIf", chunk)])
        else:
            Image.fromarray(pixels).save(file, "PNG", exif=chunk)

    picture = read(tmp_path / "turned.png")
    # The expectation, from the table of the EXIF standard: where row 0 and column 0 of the file are seen.
    row, column = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    sides = {
        "top": picture.pixels[0], "bottom": picture.pixels[-1],
        "left": picture.pixels[:, 0], "right": picture.pixels[:, -1],
    }  # fmt: skip
    assert {tuple(p) for p in sides[row]} == {tuple(p) for p in pixels[0]}
    assert {tuple(p) for p in sides[column]} == {tuple(p) for p in pixels[:, 0]}

    write(tmp_path / "upright.png", picture)
    again = read(tmp_path / "upright.png")
    assert np.array_equal(again.pixels, picture.pixels)
    with Image.open(tmp_path / "upright.png") as image:
        assert ExifTags.Base.Orientation not in image.getexif()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "16.png"])
def test_metadata_is_kept_and_follows_the_new_size(tmp_path, ending):
    Image.fromarray(smooth(6, 9)).save(tmp_path / "a.jpg", exif=exif(6), xmp=XMP, icc_profile=SRGB)
    picture = read(tmp_path / "a.jpg")
    dtype = np.uint16 if ending == "16.png" else np.uint8
    write(tmp_path / f"b.{ending}", replace(picture, pixels=smooth(18, 12, dtype)))

    with Image.open(tmp_path / f"b.{ending}") as image:
        image.load()
        tags = image.getexif()
        photo = tags.get_ifd(ExifTags.IFD.Exif)
        xmp = image.info["xmp"]
        assert image.info["icc_profile"] == SRGB
        assert "Camera & Söhne".encode() in image.info["exif"]
    assert tags[ExifTags.Base.ImageWidth] == 12
    assert ExifTags.Base.Orientation not in tags
    assert photo[ExifTags.Base.DateTimeOriginal] == "2020:02:02 20:20:20"
    assert photo[ExifTags.Base.MakerNote] == b"maker\0note"
    assert (photo[ExifTags.Base.ExifImageWidth], photo[ExifTags.Base.ExifImageHeight]) == (12, 18)
    assert tags.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    assert b"Orientation" not in xmp
    assert b'exif:PixelXDimension="12"' in xmp
    assert b"<tiff:ImageLength>18<" in xmp
    assert b'xmp:Rating="4"' in xmp


@pytest.mark.parametrize(
    "xmp",
    [
        b"<d tiff:Orientation='6'/>",
        b'<d tiff:Orientation = "6" />',
        b"<d><tiff:Orientation > 6 </tiff:Orientation></d>",
    ],
)
def test_orientation_in_xmp_alone_is_applied_and_dropped(tmp_path, xmp):
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.jpg", xmp=xmp + b" " * 60_000)
    picture = read(tmp_path / "a.jpg")
    assert picture.pixels.shape == (6, 4, 3)
    assert b"Orientation" not in picture.xmp


def test_thumbnail_of_the_old_picture_is_dropped(tmp_path):
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(thumbnail, "JPEG")
    entries = [(0x0103, 3, 6), (0x0201, 4, 56), (0x0202, 4, len(thumbnail.getvalue()))]  # IFD1 starts at 14
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 14)
    tiff += struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", t, k, 1, v) for t, k, v in entries
    )
    tiff += struct.pack("<I", 0)
    tiff = tiff.ljust(56, b"\0") + thumbnail.getvalue()
    Image.fromarray(smooth(16, 16)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + tiff)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)  # the file above is what it is meant to be

    write(tmp_path / "b.jpg", read(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "b.jpg") as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


def test_metadata_behind_the_picture_is_found(tmp_path, rng):
    file = io.BytesIO()
    pixels = rng.integers(0, 65536, (4, 6, 3)).astype(np.uint16)
    write_png16(file, pixels)
    data = exif(6).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    (tmp_path / "a.png").write_bytes(file.getvalue()[:-12] + chunk + file.getvalue()[-12:])
    assert read(tmp_path / "a.png").pixels.shape == (6, 4, 3)


def test_a_thumbnail_that_leads_nowhere_costs_nothing_else(tmp_path):
    data = bytearray(exif(6))
    entries = data[6 + 8 + 1]  # big-endian, as Pillow writes
    struct.pack_into(">I", data, 6 + 8 + 2 + 12 * entries, 0xFFFF)
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.jpg", exif=bytes(data))
    picture = read(tmp_path / "a.jpg")
    assert picture.pixels.shape == (6, 4, 3)
    assert "Söhne".encode() in picture.exif


def test_exif_of_nothing_but_orientation_is_dropped(tmp_path):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 3
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.jpg", exif=tags)
    assert read(tmp_path / "a.jpg").exif is None


def test_exif_that_cannot_be_parsed_does_not_stop_the_picture(tmp_path):
    Image.fromarray(smooth(8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    picture = read(tmp_path / "a.jpg")
    assert picture.pixels.shape == (8, 8, 3)
    write(tmp_path / "b.jpg", picture)


# Channels.


def test_grey_stays_one_channel(tmp_path):
    grey = smooth(9, 7)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    assert picture.grey
    assert np.array_equal(picture.pixels, np.repeat(grey[..., None], 3, axis=2))
    for ending, mode in {"png": "L", "jpg": "L", "bmp": "L", "webp": "RGB"}.items():
        write(tmp_path / f"b.{ending}", picture)
        with Image.open(tmp_path / f"b.{ending}") as image:
            assert image.mode == mode


def test_grey_result_is_the_luma_of_an_almost_grey_picture(tmp_path, rng):
    pixels = rng.integers(100, 110, (9, 7, 3), np.uint8)
    write(tmp_path / "a.png", Picture(pixels, grey=True))
    by_pillow = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.abs(read(tmp_path / "a.png").pixels[..., 0].astype(int) - by_pillow).max() <= 1


@pytest.mark.parametrize(("profile", "grey"), [(SRGB, False), (GREY_PROFILE, True)])
def test_a_grey_file_is_stored_as_its_profile_asks(tmp_path, profile, grey):
    Image.fromarray(smooth(9, 7)[..., 0]).save(tmp_path / "a.jpg", icc_profile=profile)
    picture = read(tmp_path / "a.jpg")
    assert picture.grey is grey
    assert picture.icc_profile == profile


def test_grey_profile_does_not_reach_a_format_without_grey(tmp_path):
    write(tmp_path / "a.webp", Picture(smooth(9, 7), icc_profile=GREY_PROFILE, grey=True))
    assert read(tmp_path / "a.webp").icc_profile is None


def test_grey_goes_through_its_profile_to_a_format_without_grey(tmp_path):
    """sRGB of linear grey: 255 (1.055 (l / 255)^(1 / 2.4) - 0.055)."""
    grey = np.repeat(np.array([0, 55, 128, 255], np.uint8), 8)[None].repeat(8, 0)
    picture = Picture(np.repeat(grey[..., None], 3, axis=2), icc_profile=GREY_PROFILE, grey=True)
    write(tmp_path / "a.webp", picture, quality=100)
    again = read(tmp_path / "a.webp")
    assert again.pixels[4, ::8, 0].tolist() == pytest.approx([0, 128, 188, 255], abs=1)
    assert np.ptp(again.pixels, axis=2).max() == 0


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (4, 2))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=bytes([255, 40]))
    picture = read(tmp_path / "a.png")
    assert picture.pixels[0, :2].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert picture.alpha[0, :2].tolist() == [255, 40]
    assert not picture.grey


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png_is_read(tmp_path, mode):
    image = Image.fromarray(smooth(8, 8)).convert("RGBA").convert(mode)
    image.save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png").pixels, np.asarray(image.convert("RGB")))


def test_cmyk_becomes_srgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(
        tmp_path / "a.jpg", icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:]
    )
    picture = read(tmp_path / "a.jpg")
    assert picture.pixels[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert picture.icc_profile is None  # it described inks


@pytest.mark.parametrize("ending", ["jpg", "bmp"])
def test_transparency_is_laid_on_white_where_the_format_has_none(tmp_path, ending):
    pixels = np.zeros((8, 24, 3), np.uint8)
    alpha = np.repeat(np.array([0, 128, 255], np.uint8), 8)[None].repeat(8, 0)
    write(tmp_path / f"a.{ending}", Picture(pixels, alpha))
    again = read(tmp_path / f"a.{ending}")
    assert again.alpha is None
    assert again.pixels[4, [2, 12, 20], 0].tolist() == pytest.approx([255, 127, 0], abs=3)


# What cannot be done.


def make_bad(tmp_path, kind):
    path = tmp_path / f"{kind}.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    if kind == "text":
        path.write_text("this is no picture\n" * 50)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "animation":
        frames = [Image.fromarray(noise), Image.fromarray(noise[::-1])]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind.startswith("cut"):
        whole = tmp_path / "whole"
        if kind == "cut 16-bit PNG":
            write(tmp_path / "whole.png", Picture(noise.astype(np.uint16) * 257))
            data = (tmp_path / "whole.png").read_bytes()
        else:
            Image.fromarray(noise).save(whole, kind.removeprefix("cut "))
            data = whole.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "bomb":
        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        packed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("text", "not a PNG, JPEG, WebP or BMP picture"),
        ("empty", "not a PNG, JPEG, WebP or BMP picture"),
        ("folder", "Is a directory"),
        ("animation", "an animation of 2 frames"),
        ("cut PNG", "damaged or cut short"),
        ("cut 16-bit PNG", "damaged or cut short"),
        ("cut JPEG", "damaged or cut short"),
        ("cut WEBP", "damaged or cut short"),
        ("cut BMP", "damaged or cut short"),
        ("bomb", "too many pixels"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(tmp_path, kind, reason):
    path = make_bad(tmp_path, kind)
    with pytest.raises(ImageError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_is_not_taken_for_damage(tmp_path, monkeypatch):
    write(tmp_path / "a.png", Picture(smooth(4, 4)))

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(files, "_decode", fail)
    with pytest.raises(MemoryError):
        read(tmp_path / "a.png")


def test_pixel_budget(tmp_path):
    write(tmp_path / "a.png", Picture(smooth(10, 10)))
    assert read(tmp_path / "a.png", max_pixels=100).pixels.shape == (10, 10, 3)
    with pytest.raises(ImageError, match="10 x 10 is too many pixels, at most 99"):
        read(tmp_path / "a.png", max_pixels=99)


@pytest.mark.parametrize(("name", "limit"), [("a.webp", 16383), ("a.jpg", 65500)])
def test_sides_that_a_format_does_not_hold(tmp_path, name, limit):
    write(tmp_path / name, Picture(np.zeros((1, limit, 3), np.uint8)))
    (tmp_path / name).unlink()
    with pytest.raises(ImageError, match=f"which ends at {limit}; write PNG"):
        write(tmp_path / name, Picture(np.zeros((1, limit + 1, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.gif", "a", "a.txt"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(ImageError, match="no picture format is named"):
        write(tmp_path / name, Picture(smooth(4, 4)))


def test_metadata_too_long_for_jpeg(tmp_path):
    with pytest.raises(ImageError, match="write PNG instead"):
        write(tmp_path / "a.jpg", Picture(smooth(4, 4), xmp=b"x" * 70000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "scale", "xmp", "message"),
    [
        ("a.webp", 5000, None, "20000 x 20000 is too large for WEBP"),
        ("a.jpg", 2, b"x" * 70000, "write PNG instead"),
        ("a.gif", 2, None, "no picture format is named"),
        ("file/a.png", 2, None, "Not a directory; choose another place"),
        ("missing/a.png", 2, None, "No such file or directory; choose another place"),
        ("folder.png", 2, None, "Is a directory; choose another place"),
        ("x" * 300 + ".png", 2, None, "File name too long; choose another place"),
    ],
)
def test_what_cannot_be_written_is_known_before(tmp_path, name, scale, xmp, message):
    (tmp_path / "file").write_text("here first")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=message):
        check_writable(tmp_path / name, Picture(smooth(4, 4), xmp=xmp), scale=scale)


def test_what_can_be_written_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a.jpg", Picture(smooth(4, 4), exif=exif(), xmp=XMP), scale=2)
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("here first")
    with pytest.raises(ImageError, match="Not a directory; choose another place"):
        write(tmp_path / "file" / "a.png", Picture(smooth(4, 4)))
    assert (tmp_path / "file").read_text() == "here first"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("the old one")

    def fail(self, file, *args, **kwargs):
        file.write(b"half a pic")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageError, match="No space left on device"):
        write(tmp_path / "a.png", Picture(smooth(4, 4)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "the old one"


def test_name_may_be_as_long_as_the_system_allows_and_in_any_script(tmp_path):
    name = "写真" * 40 + ".png"  # 244 bytes
    write(tmp_path / name, Picture(smooth(4, 4)))
    assert [p.name for p in tmp_path.iterdir()] == [name]


# Tensors.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tensor_and_back_is_exact_for_every_level(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    pixels = np.stack([levels, levels[::-1], levels], axis=1).reshape(-1, 32, 3)
    tensor = to_tensor(pixels)
    assert tensor.shape == (1, 3, *pixels.shape[:2])
    assert tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (0, 1)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    back = from_tensor(tensor, dtype)
    assert back.dtype == dtype
    assert np.array_equal(back, pixels)


def test_from_tensor_clips_and_rounds():
    tensor = torch.tensor([-0.5, 1.5, 0.4 / 255, 0.6 / 255]).expand(1, 3, 1, 4)
    assert from_tensor(tensor)[0, :, 0].tolist() == [0, 255, 0, 1]


def test_extensions():
    assert {".png", ".jpg", ".jpeg", ".webp"} <= files.EXTENSIONS


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, suffix):
    """In a process of its own, whose files may not grow beyond 4 KiB."""
    code = f"""
import resource, signal
import numpy as np
from pathlib import Path
from addersr.errors import ImageError
from addersr.images.files import Picture, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
try:
    write(Path("result{suffix}"), Picture(noise, None, None, None, None))
except ImageError:
    print("refused")
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout == "refused\n", answer.stderr
    assert list(tmp_path.iterdir()) == []
