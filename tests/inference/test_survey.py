"""Sizes from the beginnings of files are those of what is read."""

import os
import threading

import numpy as np
import pytest
import tifffile
from PIL import Image

from addersr.errors import ImageError
from addersr.images import files
from addersr.inference.dry_run import show
from addersr.inference.plan import Job, Plan
from addersr.inference.settings import Settings
from addersr.inference.sizes import Wanted
from addersr.inference.survey import Size, probe


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.gif", "a.bmp"])
def test_still_pictures(tmp_path, name):
    Image.new("RGB", (9, 5)).save(tmp_path / name)
    assert probe(tmp_path / name) == Size(5, 9, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_turned_pictures(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (9, 5)).save(tmp_path / name, exif=exif)
    assert probe(tmp_path / name)[:2] == files.read(tmp_path / name).pixels.shape[:2]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_animations(tmp_path, name):
    frames = [Image.fromarray(np.full((5, 9, 3), level, np.uint8)) for level in (0, 100, 200)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50)
    assert probe(tmp_path / name) == Size(5, 9, 3)


def test_what_is_no_picture_has_no_size(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    assert probe(tmp_path / "a.png") is None
    assert probe(tmp_path / "missing.png") is None
    assert probe(tmp_path) is None


def save_deep(path, kind):
    """A picture of a kind that is never read, and a part of the reason."""
    match kind:
        case "float":
            Image.fromarray(np.zeros((5, 9), np.float32)).save(path, "TIFF")
            return "samples of 32 bits"
        case "whole numbers":
            Image.fromarray(np.zeros((5, 9), np.int32)).save(path, "TIFF")
            return "samples of 32 bits"
        case "planes":
            samples = np.zeros((3, 5, 9), np.uint16)
            tifffile.imwrite(path, samples, photometric="rgb", planarconfig="separate", metadata=None)
            return "separate planes"
        case "pages":
            Image.new("RGB", (9, 5)).save(path, "TIFF", save_all=True, append_images=[Image.new("L", (9, 5))])
            return "a TIFF of 2 pages"
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["float", "whole numbers", "planes", "pages"])
def test_what_is_never_read_has_no_size_and_is_told_of_beforehand(tmp_path, capsys, kind):
    reason = save_deep(tmp_path / "a.tif", kind)
    assert probe(tmp_path / "a.tif") is None
    jobs = [Job(tmp_path / "a.tif", tmp_path / "b.tif")]
    assert show(Plan(jobs, [], []), Settings(Wanted(factor=2)), 2) == 1
    assert reason in capsys.readouterr().err
    with pytest.raises(ImageError, match=reason):
        files.read(tmp_path / "a.tif")


def test_what_comes_through_a_pipe_is_left_there(tmp_path):
    Image.new("RGB", (9, 5)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    os.mkfifo(tmp_path / "pipe.png")
    writer = threading.Thread(target=(tmp_path / "pipe.png").write_bytes, args=(data,))
    writer.start()
    assert probe(tmp_path / "pipe.png") is None
    assert files.format_of(tmp_path / "pipe.png") is None
    assert files.read(tmp_path / "pipe.png").pixels.shape == (5, 9, 3)
    writer.join()
