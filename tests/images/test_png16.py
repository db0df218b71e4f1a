"""PNG of 16 bits a channel."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from torchvision.io import decode_png

from addersr.images.files import Picture, read, write
from addersr.images.png16 import read_png16, write_png16


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (130, 31)])  # more rows than are filtered at a time
def test_16_bit_png_keeps_every_bit(tmp_path, rng, grey, with_alpha, size, srgb, grey_profile, exif):
    pixels = rng.integers(0, 65536, (*size, 3)).astype(np.uint16)
    if grey:
        pixels[:] = pixels[..., :1]
    alpha = rng.integers(0, 65536, size).astype(np.uint16) if with_alpha else None
    write(tmp_path / "a.png", Picture(pixels, alpha, exif(), grey_profile if grey else srgb, grey=grey))
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


def test_16_bit_is_scaled_and_not_clipped_for_8_bit_formats(tmp_path, smooth):
    pixels = smooth(16, 16, np.uint16)
    write(tmp_path / "a.bmp", Picture(pixels))
    expected = np.round(pixels / 257).astype(np.uint8)
    assert np.array_equal(read(tmp_path / "a.bmp").pixels, expected)
