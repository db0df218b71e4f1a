"""Grey, palettes, inks, transparency, and the colour profiles that go with them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from addersr.images.files import Picture, read, write


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_alpha_and_the_colour_under_it_are_kept(tmp_path, rng, ending):
    pixels = rng.integers(0, 256, (9, 8, 3), np.uint8)
    alpha = rng.integers(0, 256, (9, 8), np.uint8)
    alpha[:3] = 0
    write(tmp_path / f"a.{ending}", Picture(pixels, alpha), quality=100)
    again = read(tmp_path / f"a.{ending}")
    assert np.array_equal(again.alpha, alpha)
    assert np.array_equal(again.pixels, pixels)


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


def test_grey_stays_one_channel(tmp_path, smooth):
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


@pytest.mark.parametrize(("fixture", "grey"), [("srgb", False), ("grey_profile", True)])
def test_a_grey_file_is_stored_as_its_profile_asks(tmp_path, request, fixture, grey, smooth):
    profile = request.getfixturevalue(fixture)
    Image.fromarray(smooth(9, 7)[..., 0]).save(tmp_path / "a.jpg", icc_profile=profile)
    picture = read(tmp_path / "a.jpg")
    assert picture.grey is grey
    assert picture.icc_profile == profile


def test_grey_profile_does_not_reach_a_format_without_grey(tmp_path, grey_profile, smooth):
    write(tmp_path / "a.webp", Picture(smooth(9, 7), icc_profile=grey_profile, grey=True))
    assert read(tmp_path / "a.webp").icc_profile is None


def test_grey_goes_through_its_profile_to_a_format_without_grey(tmp_path, grey_profile):
    """sRGB of linear grey: 255 (1.055 (l / 255)^(1 / 2.4) - 0.055)."""
    grey = np.repeat(np.array([0, 55, 128, 255], np.uint8), 8)[None].repeat(8, 0)
    picture = Picture(np.repeat(grey[..., None], 3, axis=2), icc_profile=grey_profile, grey=True)
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
def test_every_mode_of_png_is_read(tmp_path, mode, smooth):
    image = Image.fromarray(smooth(8, 8)).convert("RGBA").convert(mode)
    image.save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png").pixels, np.asarray(image.convert("RGB")))


def test_cmyk_becomes_srgb(tmp_path, srgb):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(
        tmp_path / "a.jpg", icc_profile=srgb[:16] + b"CMYK" + srgb[20:]
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
