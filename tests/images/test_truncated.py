"""A file cut anywhere is refused, or all that it shows is there."""

import io

import numpy as np
import pytest
from PIL import Image

from addersr.errors import ImageError
from addersr.images.files import Animation, Picture, read_any, write


def pictures(count=3, dtype=np.uint8, alpha=False):
    rng = np.random.default_rng(1)
    top = np.iinfo(dtype).max
    made = []
    for _ in range(count):
        pixels = rng.integers(0, top + 1, (5, 6, 3)).astype(dtype)
        made.append(Picture(pixels, rng.choice([0, top], (5, 6)).astype(dtype) if alpha else None))
    return made


def ours(format, dtype=np.uint8, frames=1, alpha=False, lossless=False):
    stream = io.BytesIO()
    made = pictures(frames, dtype, alpha)
    shown = made[0] if frames == 1 else Animation(tuple(made), (50.0,) * frames)
    write(stream, shown, format=format, lossless=lossless)
    return stream.getvalue()


def pillow_s(format, mode="RGB", frames=1, **options):
    stream = io.BytesIO()
    images = [Image.fromarray(picture.pixels).convert(mode) for picture in pictures(frames)]
    if frames > 1:
        options |= {"save_all": True, "append_images": images[1:], "duration": 50}
    images[0].save(stream, format, **options)
    return stream.getvalue()


FILES = {
    "GIF": lambda: ours("gif"),
    "animated GIF": lambda: ours("gif", frames=3),
    "animated transparent GIF": lambda: ours("gif", frames=3, alpha=True),
    "animated GIF with a comment": lambda: pillow_s("GIF", frames=2, comment=b"one; two;" * 3, loop=0),
    "interlaced GIF": lambda: pillow_s("GIF", "P", interlace=1),
    "PNG": lambda: ours("png"),
    "16-bit PNG": lambda: ours("png", np.uint16),
    "palette PNG": lambda: pillow_s("PNG", "P"),
    "APNG": lambda: ours("png", frames=3),
    "APNG with a picture of its own": lambda: pillow_s("PNG", frames=3, default_image=True),
    "WebP": lambda: ours("webp"),
    "lossless WebP": lambda: ours("webp", lossless=True, alpha=True),
    "animated WebP": lambda: ours("webp", frames=3, lossless=True),
    "JPEG": lambda: ours("jpeg"),
    "progressive JPEG": lambda: pillow_s("JPEG", progressive=True),
    "BMP": lambda: ours("bmp"),
    "TIFF": lambda: ours("tiff"),
    "16-bit TIFF": lambda: ours("tiff", np.uint16),
    "16-bit TIFF with alpha": lambda: ours("tiff", np.uint16, alpha=True),
    "raw TIFF": lambda: pillow_s("TIFF"),
    "LZW TIFF": lambda: pillow_s("TIFF", compression="tiff_lzw"),
    "JPEG TIFF": lambda: pillow_s("TIFF", compression="jpeg"),
    "PackBits TIFF": lambda: pillow_s("TIFF", compression="packbits"),
    "fax TIFF": lambda: pillow_s("TIFF", "1", compression="group4"),
}


def frames_of(shown):
    frames = shown.frames if isinstance(shown, Animation) else (shown,)
    return [(frame.pixels, frame.alpha) for frame in frames]


@pytest.mark.parametrize("name", FILES)
def test_cut_at_every_byte(name):
    data = FILES[name]()
    whole, refusals = frames_of(read_any(io.BytesIO(data))), 0
    for length in range(len(data)):
        try:
            shown = frames_of(read_any(io.BytesIO(data[:length])))
        except ImageError as error:
            assert "\n" not in str(error)
            refusals += 1
            continue
        assert len(shown) == len(whole), length
        for got, expected in zip(shown, whole, strict=True):
            assert np.array_equal(got[0], expected[0]), length
            assert np.array_equal(got[1], expected[1]), length
    assert refusals > len(data) / 2


@pytest.mark.parametrize("name", ["GIF", "interlaced GIF"])
def test_one_image_of_a_gif_is_whole_without_the_trailer(name):
    data = FILES[name]()
    assert np.array_equal(read_any(io.BytesIO(data[:-1])).pixels, read_any(io.BytesIO(data)).pixels)
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_any(io.BytesIO(data[:-2]))


@pytest.mark.parametrize("name", ["animated GIF", "animated GIF with a comment"])
def test_a_gif_ends_where_it_says_so(name):
    data = FILES[name]()
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_any(io.BytesIO(data[:-1]))
    whole = frames_of(read_any(io.BytesIO(data)))
    for behind in (b"\0" * 7, b";", b"garbage, !", b",", data):
        shown = frames_of(read_any(io.BytesIO(data + behind)))
        assert [np.array_equal(a[0], b[0]) for a, b in zip(shown, whole, strict=True)] == [True] * len(whole)
