"""Files made to do harm, or broken: one line of refusal, in little time and memory."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from addersr.errors import ImageError
from addersr.images.files import SUFFIXES, Animation, Picture, read, read_any, write
from addersr.images.metadata import chosen_orientation, fit_xmp, upright_xmp

MEBIBYTE = 2**20


def refused(data, message=""):
    """The refusal of a file, which must be one line and take less than 16 MiB."""
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=message) as caught:
            read_any(io.BytesIO(data))
        assert tracemalloc.get_traced_memory()[1] < 16 * MEBIBYTE
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def png(*chunks, size=(8, 8)):
    head = (b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    rows = (b"IDAT", zlib.compress(bytes((1 + 3 * 8) * 8)))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (head, *chunks, rows, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(*entries, size=64):
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)).ljust(size, b"\0")


PICTURE = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0)]


def test_these_are_pictures_without_the_harm():
    assert read(io.BytesIO(png())).pixels.shape == (8, 8, 3)
    assert read(io.BytesIO(tiff(*PICTURE, size=300))).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iCCP", b"name\0\0" + zlib.compress(bytes(64 * MEBIBYTE), 9)),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"0" * 64 * MEBIBYTE, 9)),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 64 * MEBIBYTE, 9)),
    ],
    ids=["profile", "text", "XMP"],
)
def test_chunks_that_unpack_to_a_thousand_times_their_size(chunk):
    refused(png(chunk), "Decompressed data too large")


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
def test_sizes_that_are_claimed_only(size):
    refused(png(size=size), "too many pixels")
    width, height = size
    refused(tiff((256, 4, 1, width), (257, 4, 1, height), *PICTURE[2:]), "too many pixels")


def test_a_gif_whose_frame_is_larger_than_its_canvas():
    stream = io.BytesIO()
    Image.new("P", (4, 4)).save(stream, "GIF")
    data = bytearray(stream.getvalue())
    position = data.index(b",", 13)
    data[position + 5 : position + 9] = struct.pack("<HH", 65535, 65535)
    refused(bytes(data), "too many pixels|damaged")


def test_a_gif_that_never_ends():
    """A large canvas, and frames of one pixel that cost 20 bytes each."""
    frame = b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\2\2\x44\1\0"
    data = b"GIF89a" + struct.pack("<HH", 3000, 3000) + b"\x80\0\0" + bytes(3) + b"\xff" * 3 + frame * 1000
    with pytest.raises(ImageError, match="an animation of more than 2 frames of 3000 x 3000"):
        read_any(io.BytesIO(data), max_pixels=2 * 3000 * 3000)


def test_an_apng_that_claims_frames():
    animated = (b"acTL", struct.pack(">II", 2**31 - 1, 0))
    frame = (b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 100, 0, 0))
    refused(png(animated, frame), "an animation of more than 10000 frames")


def test_a_tiff_whose_values_overlap():
    """Each of its entries is the whole file."""
    harmful = [(50_000 + index, 7, MEBIBYTE - 9, 5) for index in range(3000)]
    refused(tiff(*PICTURE, *harmful, size=MEBIBYTE), "metadata are larger than the file")


def test_exif_directory_of_a_tiff_whose_values_overlap():
    data = bytearray(tiff(*PICTURE, (34665, 4, 1, 4096), size=MEBIBYTE))
    below = [struct.pack("<HHII", 37_000 + index, 7, MEBIBYTE - 9, 5) for index in range(3000)]
    data[4096 : 4096 + 2 + 12 * 3000] = struct.pack("<H", 3000) + b"".join(below)
    refused(bytes(data), "metadata are larger than the file")


def test_a_tiff_whose_directories_go_in_circles():
    data = tiff(*PICTURE, size=300)
    end = 10 + 12 * len(PICTURE)
    assert read(io.BytesIO(data[:end] + struct.pack("<I", 8) + data[end + 4 :])).pixels.shape == (8, 8, 3)


def overlapping_exif():
    entries = b"".join(struct.pack("<HHII", 40_000 + index, 7, MEBIBYTE - 9, 5) for index in range(3000))
    return (b"II*\0" + struct.pack("<IH", 8, 3000) + entries).ljust(MEBIBYTE, b"\0")


@pytest.mark.parametrize("filling", [b"", b"\xff\xff", b"junk"])
def test_a_jpeg_whose_exif_overlaps(filling):
    """Of which Pillow, which looks for the resolution in it, would make 3 GiB."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    data = stream.getvalue()
    exif = overlapping_exif()
    parts = [b"Exif\0\0" + exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    segments = (filling + b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    data = data[:2] + b"".join(segments) + data[20:]  # in the place of JFIF's segment, which has a resolution
    refused(data, "metadata are larger than the file")


def test_exif_whose_values_overlap_is_not_unfolded():
    exif = overlapping_exif()
    tracemalloc.start()
    try:
        assert read(io.BytesIO(png((b"eXIf", exif)))).pixels.shape == (8, 8, 3)
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "format", [*SUFFIXES, "16-bit tiff", "16-bit png", "animated webp", "animated gif", "animated png"]
)
def test_broken_files_are_read_or_refused_and_nothing_else(format, rng, exif, srgb, xmp_packet):
    """At random, with a fixed seed: cut short, with bytes changed, with a part missing."""
    kind, _, name = format.rpartition(" ")
    pixels = rng.integers(0, 65536 if kind == "16-bit" else 256, (9, 11, 3)).astype(
        np.uint16 if kind == "16-bit" else np.uint8
    )
    picture = Picture(pixels, None, exif(6), srgb, xmp_packet, iptc=b"\x1c\x02\x78\x00\x01A")
    shown = Animation((picture, Picture(pixels[::-1])), (50.0, 60.0)) if kind == "animated" else picture
    stream = io.BytesIO()
    write(stream, shown, format=name)
    whole, refusals = stream.getvalue(), 0
    for _ in range(60):
        data = bytearray(whole)
        place = int(rng.integers(len(data)))
        match rng.integers(3):
            case 0:
                del data[place:]
            case 1:
                del data[place : place + int(rng.integers(1, 9))]
            case 2:
                data[place : place + 4] = rng.bytes(4)
        try:
            read_any(io.BytesIO(data))
        except ImageError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals


GREY_ALPHA_16 = [(258, 3, 2, 16 << 16 | 16), (277, 3, 1, 2), (338, 3, 1, 2)]


@pytest.mark.parametrize("side", [256, 257], ids=["width", "height"])
@pytest.mark.parametrize("kind", [[], GREY_ALPHA_16], ids=["grey", "grey and alpha of 16 bits"])
def test_a_tiff_of_no_pixels(side, kind):
    entries = {entry[0]: entry for entry in [*PICTURE, *kind, (side, 4, 1, 0)]}
    refused(tiff(*sorted(entries.values())), "no width and height")


def test_a_png_of_no_pixels():
    refused(png(size=(0, 8)), "not a PNG|damaged")


XMP_BEGINNINGS = [
    b"<xmp:Thumbnails ", b"<xmp:Thumbnails>", b"<xmp:Thumbnails>x</xmp:Thumbnails ", b'tiff:Orientation="',
    b"<tiff:Orientation>1", b'xmpNote:HasExtendedXMP="', b"<xmpNote:HasExtendedXMP>", b"tiff:ImageWidth='",
]  # fmt: skip


@pytest.mark.parametrize("beginning", XMP_BEGINNINGS)
@pytest.mark.parametrize("repeated", [True, False])
def test_xmp_whose_elements_never_end_takes_no_longer_for_it(beginning, repeated):
    """Of 2 MB: in time that grew with the square it would be hours, in which no other thread gets a turn."""
    packet = beginning * (2 * 10**6 // len(beginning)) if repeated else beginning + b" " * 2 * 10**6
    assert chosen_orientation(None, packet) == 1
    assert fit_xmp(upright_xmp(packet), 3, 4).count(beginning[:8]) >= 1
