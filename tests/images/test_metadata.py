"""What a file says about its picture: orientation, EXIF, XMP, thumbnails."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image

from addersr.images.files import read, write
from addersr.images.png16 import write_png16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_is_applied_once(tmp_path, rng, orientation, dtype, exif):
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


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "16.png", "tif", "16.tif"])
def test_metadata_is_kept_and_follows_the_new_size(tmp_path, ending, srgb, xmp_packet, smooth, exif):
    Image.fromarray(smooth(6, 9)).save(tmp_path / "a.jpg", exif=exif(6), xmp=xmp_packet, icc_profile=srgb)
    picture = read(tmp_path / "a.jpg")
    dtype = np.uint16 if ending.startswith("16") else np.uint8
    write(tmp_path / f"b.{ending}", replace(picture, pixels=smooth(18, 12, dtype)))

    with Image.open(tmp_path / f"b.{ending}") as image:
        image.load()
        tags = image.getexif()
        photo = tags.get_ifd(ExifTags.IFD.Exif)
        xmp = image.info["xmp"]
        assert image.info["icc_profile"] == srgb
        # Pillow takes text for Latin-1.
        assert tags[ExifTags.Base.Make].encode("latin-1") == "Camera & Söhne".encode()
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
def test_orientation_in_xmp_alone_is_applied_and_dropped(tmp_path, xmp, smooth):
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.jpg", xmp=xmp + b" " * 60_000)
    picture = read(tmp_path / "a.jpg")
    assert picture.pixels.shape == (6, 4, 3)
    assert b"Orientation" not in picture.xmp


@pytest.mark.parametrize("behind", [b"", b"the maker's notes"])
def test_thumbnail_of_the_old_picture_is_dropped(tmp_path, smooth, behind):
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(thumbnail, "JPEG")
    entries = [(0x0103, 3, 6), (0x0201, 4, 56), (0x0202, 4, len(thumbnail.getvalue()))]  # IFD1 starts at 14
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 14)
    tiff += struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", t, k, 1, v) for t, k, v in entries
    )
    tiff += struct.pack("<I", 0)
    tiff = tiff.ljust(56, b"\0") + thumbnail.getvalue() + behind
    Image.fromarray(smooth(16, 16)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + tiff)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)  # the file above is what it is meant to be

    picture = read(tmp_path / "a.jpg")
    assert picture.exif is None or (thumbnail.getvalue() not in picture.exif and behind in picture.exif)
    write(tmp_path / "b.jpg", picture)
    with Image.open(tmp_path / "b.jpg") as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


def test_metadata_behind_the_picture_is_found(tmp_path, rng, exif):
    file = io.BytesIO()
    pixels = rng.integers(0, 65536, (4, 6, 3)).astype(np.uint16)
    write_png16(file, pixels)
    data = exif(6).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    (tmp_path / "a.png").write_bytes(file.getvalue()[:-12] + chunk + file.getvalue()[-12:])
    assert read(tmp_path / "a.png").pixels.shape == (6, 4, 3)


def test_a_thumbnail_that_leads_nowhere_costs_nothing_else(tmp_path, smooth, exif):
    data = bytearray(exif(6))
    entries = data[6 + 8 + 1]  # big-endian, as Pillow writes
    struct.pack_into(">I", data, 6 + 8 + 2 + 12 * entries, 0xFFFF)
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.jpg", exif=bytes(data))
    picture = read(tmp_path / "a.jpg")
    assert picture.pixels.shape == (6, 4, 3)
    assert "Söhne".encode() in picture.exif


def test_exif_of_nothing_but_orientation_is_dropped(tmp_path, smooth):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 3
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.jpg", exif=tags)
    assert read(tmp_path / "a.jpg").exif is None


def test_exif_that_cannot_be_parsed_does_not_stop_the_picture(tmp_path, smooth):
    Image.fromarray(smooth(8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    picture = read(tmp_path / "a.jpg")
    assert picture.pixels.shape == (8, 8, 3)
    write(tmp_path / "b.jpg", picture)


def test_thumbnails_within_xmp_are_dropped(tmp_path, smooth):
    thumbnails = b"<xmp:Thumbnails>\n<rdf:Alt><rdf:li xmpGImg:image='/9j/4AAQ'/></rdf:Alt>\n</xmp:Thumbnails>"
    packet = (
        b"<x><xmp:Rating>4</xmp:Rating>" + thumbnails + b"<xap:Thumbnails a='b' /><dc:title>T</dc:title></x>"
    )
    Image.fromarray(smooth(4, 6)).save(tmp_path / "a.jpg", xmp=packet)
    assert read(tmp_path / "a.jpg").xmp == b"<x><xmp:Rating>4</xmp:Rating><dc:title>T</dc:title></x>"


def extension_segment(digest, content):
    """A segment of XMP that does not fit into the first one (XMP specification, part 3, 1.1.3.1)."""
    data = b"http://ns.adobe.com/xmp/extension/\0" + digest + struct.pack(">II", len(content), 0) + content
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize(
    "pointer",
    [
        b"<d xmpNote:HasExtendedXMP='%s' xmp:Rating='4'/>",
        b"<d xmpNote:HasExtendedXMP = \"%s\" xmp:Rating='4'/>",
        b"<d xmp:Rating='4'><xmpNote:HasExtendedXMP>%s</xmpNote:HasExtendedXMP></d>",
    ],
)
def test_xmp_points_at_no_segments_that_are_not_carried(tmp_path, smooth, pointer):
    digest = b"0123456789ABCDEF0123456789ABCDEF"
    stream = io.BytesIO()
    Image.fromarray(smooth(4, 6)).save(stream, "JPEG", xmp=b"<x>" + pointer % digest + b"</x>")
    data = stream.getvalue()
    at = data.index(b"\xff\xdb")
    whole = data[:at] + extension_segment(digest, b"<x>the rest</x>") + data[at:]
    (tmp_path / "a.jpg").write_bytes(whole)
    picture = read(tmp_path / "a.jpg")
    assert b"HasExtendedXMP" not in picture.xmp and digest not in picture.xmp
    assert b"<d xmp:Rating='4'" in picture.xmp
    write(tmp_path / "b.jpg", picture)
    assert b"xmp/extension" not in (tmp_path / "b.jpg").read_bytes()
