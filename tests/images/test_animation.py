"""Animations: frames, durations and repetitions from any format that has them to any other."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from addersr.errors import ImageError
from addersr.images import files
from addersr.images.files import Animation, Picture, check_writable, read, read_any, write

FORMATS = ["png", "webp", "gif"]
COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]


def frames(alpha=False):
    """A disc of another colour in each frame, which moves; outside it, transparency or grey."""
    rows, columns = np.mgrid[0:20, 0:30]
    made = []
    for index, colour in enumerate(COLOURS):
        inside = (rows - 10) ** 2 + (columns - 6 - 8 * index) ** 2 < 25
        pixels = np.where(inside[..., None], colour, 90).astype(np.uint8)
        made.append(Picture(pixels, np.where(inside, 255, 0).astype(np.uint8) if alpha else None))
    return tuple(made)


def shown(source):
    """RGBA of each frame, durations and the loop count, by Pillow."""
    with Image.open(source) as image:
        result, durations = [], []
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            result.append(np.asarray(image.convert("RGBA")).astype(int))
            durations.append(image.info["duration"])
        return result, durations, image.info.get("loop")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("alpha", [False, True])
def test_what_is_written_is_what_pillow_shows(format, alpha):
    stream = io.BytesIO()
    write(
        stream,
        Animation(frames(alpha), (40.0, 120.0, 300.0), plays=3),
        format=format,
        lossless=format != "gif",
    )
    pictures, durations, loop = shown(stream)
    assert durations == [40, 120, 300]
    assert loop == (2 if format == "gif" else 3)  # GIF counts the repetitions
    for picture, frame in zip(pictures, frames(alpha), strict=True):
        visible = frame.pixels.any(axis=2) if frame.alpha is None else frame.alpha > 0
        assert np.array_equal(picture[visible][:, :3], frame.pixels[visible])
        assert np.array_equal(picture[..., 3], np.where(visible, 255, 0))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("plays", [0, 1, 5])
def test_what_is_written_is_what_is_read(format, plays):
    animation = Animation(frames(alpha=True), (40.0, 120.0, 300.0), plays)
    stream = io.BytesIO()
    write(stream, animation, format=format, lossless=format != "gif")
    again = read_any(stream)
    assert (again.durations, again.plays) == (animation.durations, plays)
    for got, frame in zip(again.frames, animation.frames, strict=True):
        assert got.format == format
        assert np.array_equal(got.alpha, frame.alpha)
        assert np.array_equal(got.pixels[frame.alpha > 0], frame.pixels[frame.alpha > 0])


@pytest.mark.parametrize("plays", [65535, 65536, 65537, 2**32 - 1])
@pytest.mark.parametrize(("format", "most"), [("png", 2**32 - 1), ("webp", 65535), ("gif", 65536)])
def test_more_plays_than_a_format_can_count_are_for_ever(format, most, plays):
    stream = io.BytesIO()
    write(stream, Animation(frames(alpha=False), (40.0, 120.0, 300.0), plays), format=format)
    assert read_any(stream).plays == (plays if plays <= most else 0)


def test_what_a_format_cannot_hold_is_told(tmp_path):
    animation = Animation(frames(alpha=False), (2.0**25, 40.0, 40.0))
    with pytest.raises(ImageError, match=r"a\.webp: cannot be written: .*; write PNG instead"):
        write(tmp_path / "a.webp", animation)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("disposal", [1, 2, 3])
def test_frames_of_a_gif_are_composited(tmp_path, disposal):
    """Each holds a part only and says what becomes of it (GIF89a, 23.c.iv): stays, is cleared, or what was before."""
    pictures = [Image.new("P", (30, 20), 0)]
    for index, column in enumerate((2, 16), start=1):
        pictures.append(Image.new("P", (30, 20), 0))
        pictures[-1].paste(index, (column, 4, column + 10, 14))
    for picture in pictures:
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    pictures[0].save(
        tmp_path / "a.gif",
        save_all=True,
        append_images=pictures[1:],
        disposal=disposal,
        duration=50,
        transparency=0,
    )
    last = read_any(tmp_path / "a.gif").frames[-1]
    assert last.pixels[8, 20].tolist() == [0, 255, 0]
    assert last.alpha[8, 20] == 255
    by_pillow = shown(tmp_path / "a.gif")[0][-1]
    assert np.array_equal(last.alpha, by_pillow[..., 3])


def test_a_gif_that_does_not_say_how_often_is_shown_once(tmp_path):
    images = [Image.fromarray(frame.pixels) for frame in frames()]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=50)
    assert read_any(tmp_path / "a.gif").plays == 1


@pytest.mark.parametrize("alpha", [False, True])
def test_the_picture_for_programs_without_apng_is_no_frame(tmp_path, alpha):
    """Nor does it count among the durations and the repetitions; a frame is laid on nothing of it."""
    given = frames(alpha)
    images = [
        Image.fromarray(frame.pixels if frame.alpha is None else np.dstack([frame.pixels, frame.alpha]))
        for frame in given
    ]
    images[0].save(
        tmp_path / "a.png",
        save_all=True,
        append_images=images[1:],
        default_image=True,
        duration=[40, 70],
        loop=2,
    )
    again = read_any(tmp_path / "a.png")
    assert (again.durations, again.plays) == ((40, 70), 2)
    for got, frame in zip(again.frames, given[1:], strict=True):
        assert np.array_equal(got.pixels, frame.pixels)
        assert frame.alpha is None or np.array_equal(got.alpha, frame.alpha)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_metadata_of_an_animation(exif, srgb, xmp_packet, format):
    about = {"exif": exif(), "icc_profile": srgb, "xmp": xmp_packet}
    stream = io.BytesIO()
    write(stream, Animation(tuple(replace(f, **about) for f in frames()), (50.0,) * 3), format=format)
    again = read_any(stream)
    assert all(frame.icc_profile == srgb and b"Rating" in frame.xmp for frame in again.frames)
    assert all("Söhne".encode() in frame.exif for frame in again.frames)
    assert b'exif:PixelXDimension="30"' in again.frames[0].xmp
    assert files.stripped(again).frames[2] == replace(again.frames[2], exif=None, xmp=None)


def test_an_animation_of_turned_frames_is_upright(tmp_path, exif):
    images = [Image.fromarray(frame.pixels) for frame in frames()]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], exif=exif(6), lossless=True)
    assert files.size(read_any(tmp_path / "a.webp")) == (30, 20)


@pytest.mark.parametrize("format", ["jpeg", "tiff", "bmp"])
def test_formats_without_frames_refuse_them(tmp_path, format):
    path = tmp_path / f"a{files.SUFFIXES[format]}"
    for attempt in (check_writable, write):
        with pytest.raises(ImageError, match="holds no animation; write PNG, WebP or GIF instead"):
            attempt(path, Animation(frames(), (50.0,) * 3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_frames_count_towards_the_pixel_budget(format):
    stream = io.BytesIO()
    write(stream, Animation(frames(), (50.0,) * 3), format=format)
    assert len(read_any(stream, max_pixels=1800).frames) == 3
    with pytest.raises(ImageError, match="an animation of more than 2 frames of 30 x 20"):
        read_any(stream, max_pixels=1799)
    with pytest.raises(ImageError, match="a still picture is needed"):
        read(stream)


def test_one_frame_is_a_still_picture():
    for format in FORMATS:
        stream = io.BytesIO()
        write(stream, Animation(frames()[:1], (50.0,)), format=format)
        assert isinstance(read_any(stream), Picture)
