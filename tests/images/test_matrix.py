"""Every kind of picture in every format, each held to a program other than ours: Pillow, tifffile, libpng."""

import io
import struct
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms
from torchvision.io import decode_png

from addersr.errors import ImageError
from addersr.images import files
from addersr.images.files import Picture, read, write

CHANNELS = {"grey": 1, "grey alpha": 2, "RGB": 3, "RGBA": 4}


def samples_of(rng, kind, dtype, height=70, width=13):
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, CHANNELS[kind])).astype(dtype)


def picture_of(samples):
    channels = samples.shape[2]
    pixels = np.repeat(samples[..., :1], 3, axis=2) if channels < 3 else samples[..., :3]
    return Picture(pixels, samples[..., -1] if channels in (2, 4) else None, grey=channels < 3)


def assert_holds(picture, samples):
    expected = picture_of(samples)
    assert picture.pixels.dtype == samples.dtype
    assert np.array_equal(picture.pixels, expected.pixels)
    assert picture.grey == expected.grey
    assert (picture.alpha is None) == (expected.alpha is None)
    assert expected.alpha is None or np.array_equal(picture.alpha, expected.alpha)


# Written.


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_is_what_tifffile_reads(tmp_path, rng, exif, kind, dtype):
    """With EXIF in either byte order, which the file takes over."""
    samples = samples_of(rng, kind, dtype)
    for name, metadata in {"a.tif": None, "b.tiff": exif()}.items():
        write(tmp_path / name, replace(picture_of(samples), exif=metadata))
        with tifffile.TiffFile(tmp_path / name) as file:
            page = file.pages[0]
            assert page.photometric.name == ("MINISBLACK" if "grey" in kind else "RGB")
            assert [e.name for e in page.extrasamples] == (["UNASSALPHA"] if CHANNELS[kind] in (2, 4) else [])
            by_tifffile = page.asarray().reshape(samples.shape)
        assert np.array_equal(by_tifffile, samples)
        assert_holds(read(tmp_path / name), samples)


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_what_libpng_reads(tmp_path, rng, kind, dtype):
    samples = samples_of(rng, kind, dtype)
    write(tmp_path / "a.png", picture_of(samples))
    data = torch.frombuffer(bytearray((tmp_path / "a.png").read_bytes()), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # torchvision's decoders are, and serve as an oracle only
        by_libpng = decode_png(data).permute(1, 2, 0).numpy()
    assert by_libpng.dtype == dtype
    assert np.array_equal(by_libpng, samples)


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format", ["jpeg", "webp", "bmp", "gif"])
def test_formats_of_8_bits_are_what_pillow_reads(smooth, kind, dtype, format):
    colour = smooth(40, 24, dtype)
    alpha = np.full((40, 24, 1), np.iinfo(dtype).max, dtype)
    alpha[20:] = 0
    channels = [colour[..., :1] if "grey" in kind else colour] + ([alpha] if CHANNELS[kind] in (2, 4) else [])
    picture = picture_of(np.concatenate(channels, axis=2))
    stream = io.BytesIO()
    write(stream, picture, format=format)
    with Image.open(stream) as image:
        assert image.format == format.upper()
        rgba = np.asarray(image.convert("RGBA")).astype(int)
    expected = (picture.pixels / (1 if dtype == np.uint8 else 257)).round()
    if picture.alpha is not None and format in ("jpeg", "bmp"):
        expected[20:] = 255
        assert (rgba[..., 3] == 255).all()
    elif picture.alpha is not None:
        assert np.array_equal(rgba[..., 3], np.where(alpha[..., 0] > 0, 255, 0))
        rgba, expected = rgba[:20], expected[:20]
    limit = {"jpeg": 4, "webp": 4, "gif": 8, "bmp": 1}[format]
    assert np.abs(rgba[..., :3] - expected).mean() < limit


# Read.

PALETTE = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]


def palette_image():
    image = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12) % 4)
    image.putpalette(PALETTE)
    return image


MADE_BY_PILLOW = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("GIF", mode) for mode in ("L", "P")),
    *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
]


@pytest.mark.parametrize(("format", "mode"), MADE_BY_PILLOW)
def test_every_mode_of_every_format_is_read(tmp_path, smooth, format, mode):
    image = palette_image() if mode == "P" else Image.fromarray(smooth(8, 12))
    if "A" in mode:
        image.putalpha(Image.fromarray(smooth(8, 12)[..., 1]))
    image = image if mode == "P" else image.convert("RGBA" if "A" in mode else "RGB").convert(mode)
    options = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"subsampling": 0, "quality": 95}}.get(
        format, {}
    )
    image.save(tmp_path / "a", format, **options)
    picture = read(tmp_path / "a")
    assert picture.format == format.lower()
    expected = np.asarray(image.convert("RGBA" if "A" in mode else "RGB")).astype(int)
    assert np.abs(picture.pixels - expected[..., :3]).mean() <= (3 if format == "JPEG" else 0)
    assert (picture.alpha is None) == ("A" not in mode)
    assert picture.alpha is None or np.array_equal(picture.alpha, expected[..., 3])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(tmp_path, format):
    palette_image().save(tmp_path / "a", format, transparency=2)
    picture = read(tmp_path / "a")
    assert picture.alpha[0, :4].tolist() == [255, 255, 0, 255]
    assert picture.pixels[0, :2].tolist() == [[255, 0, 0], [0, 255, 0]]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressions_of_tiff(tmp_path, smooth, compression):
    Image.fromarray(smooth(40, 30)).save(tmp_path / "a.tif", compression=compression)
    assert np.abs(read(tmp_path / "a.tif").pixels.astype(int) - smooth(40, 30)).max() <= (
        9 if compression == "jpeg" else 0
    )


PACKINGS = {"raw": {}, "zlib": {"compression": "zlib"}, "tiled": {"tile": (16, 16)}}


@pytest.mark.parametrize(
    ("kind", "packing"),
    [
        (k, p) for k in CHANNELS for p in PACKINGS if (k, p) != ("grey alpha", "tiled")
    ],  # that is refused, see below
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_tiff_keeps_every_bit(tmp_path, rng, kind, packing, byteorder):
    samples, options = samples_of(rng, kind, np.uint16), PACKINGS[packing]
    tifffile.imwrite(
        tmp_path / "a.tif", samples if CHANNELS[kind] > 1 else samples[..., 0], byteorder=byteorder,
        photometric="minisblack" if "grey" in kind else "rgb", planarconfig="contig" if CHANNELS[kind] > 1 else None,
        extrasamples=["unassalpha"] if CHANNELS[kind] in (2, 4) else None, metadata=None, **options,
    )  # fmt: skip
    assert_holds(read(tmp_path / "a.tif"), samples)


def test_16_bit_grey_tiff_of_pillow(tmp_path, rng):
    samples = samples_of(rng, "grey", np.uint16)
    Image.fromarray(samples[..., 0]).save(tmp_path / "a.tif", compression="tiff_lzw")
    assert_holds(read(tmp_path / "a.tif"), samples)


def test_16_bit_grey_tiff_in_which_white_is_zero(tmp_path, rng):
    samples = samples_of(rng, "grey", np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", 65535 - samples[..., 0], photometric="miniswhite", metadata=None)
    assert_holds(read(tmp_path / "a.tif"), samples)


def test_alpha_that_is_multiplied_in_is_divided_out(tmp_path, rng):
    samples = samples_of(rng, "RGBA", np.uint16)
    samples[..., 3] |= 0x8000
    samples[0, 0] = 0
    premultiplied = samples.copy()
    premultiplied[..., :3] = (samples[..., :3] * (samples[..., 3:] / 65535)).round()
    tifffile.imwrite(
        tmp_path / "a.tif", premultiplied, photometric="rgb", extrasamples=["assocalpha"], metadata=None
    )
    picture = read(tmp_path / "a.tif")
    assert np.array_equal(picture.alpha, samples[..., 3])
    assert np.abs(picture.pixels.astype(int) - samples[..., :3]).max() <= 1


REFUSED = {
    "floating point": (np.zeros((8, 8), np.float32), {}),
    "32 bits": (np.zeros((8, 8), np.int32), {}),
    "RGB of floating point": (np.zeros((8, 8, 3), np.float32), {"photometric": "rgb"}),
    "planes": (np.zeros((3, 8, 8), np.uint16), {"photometric": "rgb", "planarconfig": "separate"}),
    "pages": (np.zeros((3, 8, 8), np.uint8), {"photometric": "minisblack"}),
    "tiled grey alpha": (
        np.zeros((16, 16, 2), np.uint16),
        {
            "photometric": "minisblack",
            "planarconfig": "contig",
            "extrasamples": ["unassalpha"],
            "tile": (16, 16),
        },
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_is_refused_and_not_made_less_of(tmp_path, kind):
    samples, options = REFUSED[kind]
    tifffile.imwrite(tmp_path / "a.tif", samples, metadata=None, **options)
    with pytest.raises(ImageError, match=r"32 bits|not a PNG|separate planes|3 pages") as caught:
        read(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)


def test_a_smaller_version_in_a_tiff_is_no_page(tmp_path, smooth):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(smooth(8, 8), photometric="rgb", metadata=None)
        file.write(smooth(4, 4), photometric="rgb", metadata=None, subfiletype=1)
    assert np.array_equal(read(tmp_path / "a.tif").pixels, smooth(8, 8))


# Colour.


def ink_profile():
    """A small CMYK profile whose table says: white without ink, black with black ink (ICC.1, 10.10)."""
    entries = 2
    grid = np.zeros((entries,) * 4 + (3,), np.uint8)
    grid[..., 0] = 255 * (1 - np.indices((entries,) * 4)[3])
    grid[..., 1:] = 128
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = (
        b"mft1" + bytes(4) + bytes([4, 3, entries, 0]) + matrix + identity * 4 + grid.tobytes() + identity * 3
    )
    white = struct.pack(">3i", *(round(65536 * value) for value in (0.9642, 1.0, 0.8249)))
    tags = {b"wtpt": b"XYZ " + bytes(4) + white, b"A2B0": lut}
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content
    header = struct.pack(">I", 128 + len(table) + len(data)) + bytes(4) + b"\x02\x10\0\0" + b"prtrCMYKLab "
    header = (header + bytes(12) + b"acsp").ljust(68, b"\0") + white
    return header.ljust(128, b"\0") + table + data


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile_and_gets_one_of_rgb(tmp_path, format):
    """This profile knows black ink only, so pure cyan is white; Pillow's formula would give (0, 255, 255)."""
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    image.save(tmp_path / "a", format, icc_profile=ink_profile())
    picture = read(tmp_path / "a")
    assert picture.pixels[8, 3].tolist() == pytest.approx([0, 0, 0], abs=6)
    assert picture.pixels[8, 13].tolist() == pytest.approx([255, 255, 255], abs=6)
    assert ImageCms.ImageCmsProfile(io.BytesIO(picture.icc_profile)).profile.xcolor_space.strip() == "RGB"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_a_wide_gamut_profile_is_kept(smooth, srgb, format):
    """Byte by byte; which RGB profile it is, is not looked at."""
    red = srgb.index(b"XYZ ", srgb.index(b"rXYZ") + 4)
    wide = (
        srgb[: red + 8] + struct.pack(">3i", 39_930, 18_320, -70) + srgb[red + 20 :]
    )  # as Display P3's red or so
    assert wide != srgb
    stream = io.BytesIO()
    write(stream, Picture(smooth(8, 8), icc_profile=wide), format=format)
    with Image.open(stream) as image:
        assert image.info["icc_profile"] == wide


@pytest.mark.parametrize("format", ["bmp", "gif"])
def test_a_format_without_profiles_gets_srgb(grey_profile, format):
    """Linear 128 of 255 is 188 in sRGB."""
    stream = io.BytesIO()
    write(
        stream, Picture(np.full((8, 8, 3), 128, np.uint8), icc_profile=grey_profile, grey=True), format=format
    )
    with Image.open(stream) as image:
        assert image.convert("RGB").getpixel((4, 4)) == pytest.approx((188, 188, 188), abs=1)


# Metadata.

IPTC = b"\x1c\x02\x00\x00\x02\x00\x04\x1c\x02\x78\x00\x09A caption"


@pytest.mark.parametrize("source", ["jpeg", "tiff", "png"])
@pytest.mark.parametrize("target", ["jpeg", "tiff", "png"])
def test_iptc_is_kept(tmp_path, smooth, exif, xmp_packet, source, target):
    paths = [tmp_path / f"{i}{files.SUFFIXES[format]}" for i, format in enumerate((source, target))]
    write(paths[0], Picture(smooth(8, 8), iptc=IPTC, exif=exif(), xmp=xmp_packet))
    first = read(paths[0])
    assert first.iptc == IPTC
    write(paths[1], replace(first, pixels=smooth(16, 16)))
    assert read(paths[1]).iptc == IPTC
    stripped = files.stripped(read(paths[1]))
    assert (stripped.exif, stripped.xmp, stripped.iptc) == (None, None, None)


@pytest.mark.parametrize("source", ["jpeg", "tiff", "png"])
def test_iptc_that_ends_in_zeros_keeps_them(tmp_path, smooth, source):
    records = IPTC + b"\x1c\x02\xc8\x00\x04\x01\0\0\0"
    path = tmp_path / f"a{files.SUFFIXES[source]}"
    write(path, Picture(smooth(8, 8), iptc=records))
    assert read(path).iptc == records


def test_zeros_that_fill_the_last_of_a_tiffs_32_bit_numbers_are_no_iptc(tmp_path, smooth):
    filled = IPTC.ljust(-(-len(IPTC) // 4) * 4, b"\0")
    assert len(filled) > len(IPTC)
    numbers = struct.unpack(f"<{len(filled) // 4}I", filled)
    tifffile.imwrite(
        tmp_path / "a.tif", smooth(8, 8), byteorder="<", extratags=[(33723, 4, len(numbers), numbers, True)]
    )
    assert read(tmp_path / "a.tif").iptc == IPTC


@pytest.mark.parametrize("format", ["jpeg", "tiff"])
def test_iptc_is_where_pillow_looks_for_it(smooth, exif, format):
    stream = io.BytesIO()
    write(stream, Picture(smooth(8, 8), iptc=IPTC, exif=exif()), format=format)
    with Image.open(stream) as image:
        found = image.info["photoshop"][0x0404] if format == "jpeg" else image.tag_v2[33723]
        assert found == IPTC
        assert image.getexif()[ExifTags.Base.Make]


def test_exif_of_a_tiff_made_by_pillow(tmp_path, smooth, exif):
    tags = Image.Exif()
    tags.load(exif(6))
    del tags[ExifTags.Base.ImageWidth]  # Pillow would write it as the width of the TIFF
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.tif", exif=tags)
    picture = read(tmp_path / "a.tif")
    assert picture.pixels.shape == (6, 4, 3)
    found = Image.Exif()
    found.load(picture.exif)
    assert not {ExifTags.Base.Orientation, ExifTags.Base.StripOffsets} & set(found)
    photo = found.get_ifd(ExifTags.IFD.Exif)
    assert photo[ExifTags.Base.DateTimeOriginal] == "2020:02:02 20:20:20"
    assert photo[ExifTags.Base.MakerNote] == b"maker\0note"
    assert found.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    write(tmp_path / "b.jpg", picture)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[ExifTags.Base.Make].startswith("Camera &")
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageHeight] == 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", CHANNELS)
def test_orientation_of_a_16_bit_tiff(tmp_path, rng, orientation, kind):
    """As Pillow turns the same numbers in 8 bits."""
    samples = samples_of(rng, kind, np.uint16, 4, 6) & 0xFF
    tifffile.imwrite(
        tmp_path / "a.tif", samples if CHANNELS[kind] > 1 else samples[..., 0],
        photometric="minisblack" if "grey" in kind else "rgb", planarconfig="contig" if CHANNELS[kind] > 1 else None,
        extrasamples=["unassalpha"] if CHANNELS[kind] in (2, 4) else None, metadata=None,
        extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    small = samples.astype(np.uint8)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)  # fmt: skip
    image = Image.fromarray(small[..., 0] if CHANNELS[kind] == 1 else small)
    turned = np.asarray(image if turn is None else image.transpose(turn))
    assert_holds(read(tmp_path / "a.tif"), turned.reshape(*turned.shape[:2], -1).astype(np.uint16))
