"""Files of pictures: what is written is what is read, and what cannot be done is told in one line."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from addersr.errors import ImageError
from addersr.images import files
from addersr.images.files import Picture, check_writable, from_tensor, read, to_tensor, write

# What is written is what is read.


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "tif"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
def test_lossless_formats_keep_every_pixel(tmp_path, rng, ending, size):
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    write(tmp_path / f"a.{ending}", Picture(pixels), quality=100)
    again = read(tmp_path / f"a.{ending}")
    assert again.pixels.dtype == np.uint8
    assert np.array_equal(again.pixels, pixels)
    assert again.alpha is None


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "webp"])
def test_lossy_formats_keep_pixels_closely(tmp_path, ending, smooth):
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
        ("text", "not a PNG, JPEG, WebP, TIFF, GIF or BMP picture"),
        ("empty", "not a PNG, JPEG, WebP, TIFF, GIF or BMP picture"),
        ("folder", "Is a directory"),
        ("animation", "an animation, where a still picture is needed"),
        ("cut PNG", "damaged or cut short"),
        ("cut 16-bit PNG", "damaged or cut short"),
        ("cut JPEG", "damaged or cut short"),
        ("cut WEBP", "damaged or cut short"),
        ("cut BMP", "damaged or cut short"),
        ("cut TIFF", "damaged or cut short"),
        ("cut GIF", "damaged or cut short"),
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


def test_running_out_of_memory_is_not_taken_for_damage(tmp_path, monkeypatch, smooth):
    write(tmp_path / "a.png", Picture(smooth(4, 4)))

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(files, "_decode", fail)
    with pytest.raises(MemoryError):
        read(tmp_path / "a.png")


def test_pixel_budget(tmp_path, smooth):
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


@pytest.mark.parametrize("name", ["a.svg", "a", "a.txt"])
def test_unknown_suffix(tmp_path, name, smooth):
    with pytest.raises(ImageError, match="no picture format is named"):
        write(tmp_path / name, Picture(smooth(4, 4)))


def test_metadata_too_long_for_jpeg(tmp_path, smooth):
    with pytest.raises(ImageError, match="write PNG instead"):
        write(tmp_path / "a.jpg", Picture(smooth(4, 4), xmp=b"x" * 70000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "scale", "xmp", "message"),
    [
        ("a.webp", 5000, None, "20000 x 20000 is too large for WEBP"),
        ("a.jpg", 2, b"x" * 70000, "write PNG instead"),
        ("a.svg", 2, None, "no picture format is named"),
        ("file/a.png", 2, None, "Not a directory; choose another place"),
        ("missing/a.png", 2, None, "No such file or directory; choose another place"),
        ("folder.png", 2, None, "Is a directory; choose another place"),
        ("x" * 300 + ".png", 2, None, "File name too long; choose another place"),
    ],
)
def test_what_cannot_be_written_is_known_before(tmp_path, name, scale, xmp, message, smooth):
    (tmp_path / "file").write_text("here first")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=message):
        check_writable(tmp_path / name, Picture(smooth(4, 4), xmp=xmp), scale=scale)


def test_what_can_be_written_leaves_nothing_behind(tmp_path, xmp_packet, smooth, exif):
    check_writable(tmp_path / "a.jpg", Picture(smooth(4, 4), exif=exif(), xmp=xmp_packet), scale=2)
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_a_file_cannot_be_written(tmp_path, smooth):
    (tmp_path / "file").write_text("here first")
    with pytest.raises(ImageError, match="Not a directory; choose another place"):
        write(tmp_path / "file" / "a.png", Picture(smooth(4, 4)))
    assert (tmp_path / "file").read_text() == "here first"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, smooth):
    (tmp_path / "a.png").write_text("the old one")

    def fail(self, file, *args, **kwargs):
        file.write(b"half a pic")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageError, match="No space left on device"):
        write(tmp_path / "a.png", Picture(smooth(4, 4)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "the old one"


def test_name_may_be_as_long_as_the_system_allows_and_in_any_script(tmp_path, smooth):
    name = "写真" * 40 + ".png"  # 244 bytes
    write(tmp_path / name, Picture(smooth(4, 4)))
    assert [p.name for p in tmp_path.iterdir()] == [name]


# Streams.


class Pipe(io.RawIOBase):
    """What standard input may be: no seeking, and perhaps no end."""

    name = "<stdin>"

    def __init__(self, data, *, endless=False):
        self._data = data
        self._endless = endless

    def readable(self):
        return True

    def readinto(self, buffer):
        if self._endless:
            buffer[:] = bytes(len(buffer))
            return len(buffer)
        part, self._data = self._data[: len(buffer)], self._data[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "gif", "bmp"])
def test_a_stream_gets_and_gives_what_a_file_does(tmp_path, smooth, format):
    path = tmp_path / f"a{files.SUFFIXES[format]}"
    write(path, Picture(smooth(9, 7)))
    stream = io.BytesIO()
    write(stream, Picture(smooth(9, 7)), format=format)
    assert stream.getvalue() == path.read_bytes()
    for source in (io.BytesIO(stream.getvalue()), io.BufferedReader(Pipe(stream.getvalue()))):
        again = read(source)
        assert again.format == format
        assert np.array_equal(again.pixels, read(path).pixels)


def test_what_is_wrong_with_a_stream_is_told_by_its_name(smooth):
    with pytest.raises(ImageError, match=r"^<stdin>: not a PNG"):
        read(io.BufferedReader(Pipe(b"no picture")))
    with pytest.raises(ImageError, match=r"^picture: not a PNG"):
        read(io.BytesIO(b"no picture"))
    with pytest.raises(ValueError, match="a stream needs a format"):
        write(io.BytesIO(), Picture(smooth(4, 4)))


def test_a_stream_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(files, "_METADATA", 1000)
    with pytest.raises(ImageError, match="more bytes than a picture of 100 pixels has"):
        read(io.BufferedReader(Pipe(b"", endless=True)), max_pixels=100)


def test_lossless(tmp_path, rng):
    pixels = rng.integers(0, 256, (9, 7, 3), np.uint8)
    for suffix in (".png", ".webp", ".tif", ".bmp"):
        write(tmp_path / f"a{suffix}", Picture(pixels), lossless=True, quality=10)
        assert np.array_equal(read(tmp_path / f"a{suffix}").pixels, pixels)
    for suffix in (".jpg", ".gif"):
        with pytest.raises(ImageError, match="never lossless; write PNG or WebP"):
            write(tmp_path / f"b{suffix}", Picture(pixels), lossless=True)


def test_the_size_of_a_result_may_be_given(tmp_path, smooth):
    check_writable(tmp_path / "a.webp", Picture(smooth(4, 4)), size=(16383, 1))
    with pytest.raises(ImageError, match="1 x 16384 is too large for WEBP"):
        check_writable(tmp_path / "a.webp", Picture(smooth(4, 4)), size=(16384, 1))
    with pytest.raises(ImageError, match="too large for TIFF, which ends at 4 GiB"):
        check_writable(tmp_path / "a.tif", Picture(smooth(4, 4, np.uint16)), size=(30_000, 30_000))


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
    assert {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".gif", ".bmp"} == files.EXTENSIONS
    assert {files.FORMATS[suffix] for suffix in files.SUFFIXES.values()} == set(files.SUFFIXES)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    """In a process of its own, whose files may not grow beyond 4 KiB."""
    code = """
import resource, signal
import numpy as np
from pathlib import Path
from addersr.errors import ImageError
from addersr.images.files import SUFFIXES, Picture, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
for suffix in SUFFIXES.values():
    try:
        write(Path(f"result{suffix}"), Picture(noise))
    except ImageError:
        print("refused", suffix)
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.split("\n")[:-1] == [f"refused {suffix}" for suffix in files.SUFFIXES.values()], (
        answer.stderr
    )
    assert list(tmp_path.iterdir()) == []
