"""What reading and writing take beside the samples that are read or written: copies are made of a few rows only."""

import io
import tracemalloc

import numpy as np
import pytest

from addersr.images.files import Picture, read, write

WIDTH, HEIGHTS = 300, (600, 3000)  # what is taken for a few rows is the same for both


def picture(height, dtype, alpha):
    pixels = np.zeros((height, WIDTH, 3), dtype)
    return Picture(pixels, np.full((height, WIDTH), 9, dtype) if alpha else None)


def peak(call):
    """Bytes of NumPy's and Python's at the most, above what was there before. Pillow's own do not count."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(make_call, bytes_a_pixel):
    """How many times the bytes of the samples that a taller picture has more the peak is higher."""
    low, high = (peak(make_call(height)) for height in HEIGHTS)
    return (high - low) / (WIDTH * (HEIGHTS[1] - HEIGHTS[0]) * bytes_a_pixel)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("format", "dtype", "times"),
    [
        ("png", np.uint16, 0),  # row by row
        ("tiff", np.uint16, 0),
        ("tiff", np.uint8, 0),
        ("png", np.uint8, 1),  # what Pillow is given
        ("jpeg", np.uint16, 1),  # 8 bits of it, which is half, then laid on white
        ("webp", np.uint16, 1),
    ],
)
def test_writing(format, dtype, alpha, times):
    def make_call(height):
        shown = picture(height, dtype, alpha)
        return lambda: write(io.BytesIO(), shown, format=format)

    assert growth(make_call, (3 + alpha) * np.dtype(dtype).itemsize) < times + 0.1


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("format", "dtype", "times"),
    [
        ("png", np.uint8, 1),
        ("jpeg", np.uint8, 1),
        # The upper and the lower bytes, and both joined; or these, and colour and alpha apart.
        ("png", np.uint16, 2),
        ("tiff", np.uint16, 2),
    ],
)
def test_reading(format, dtype, alpha, times):
    def make_call(height):
        stream = io.BytesIO()
        write(stream, picture(height, dtype, alpha), format=format)
        return lambda: read(stream)

    assert growth(make_call, (3 + alpha) * np.dtype(dtype).itemsize) < times + 0.1
