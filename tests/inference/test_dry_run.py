"""What a dry run finds out of sizes alone."""

import os

import pytest
from PIL import Image

from addersr.errors import ImageError
from addersr.images.files import read_any
from addersr.inference.dry_run import show
from addersr.inference.plan import Job, Plan
from addersr.inference.settings import Settings
from addersr.inference.sizes import Wanted


@pytest.mark.parametrize(
    ("target", "size", "lossless", "reason"),
    [
        ("b.jpg", None, False, "JPEG holds no animation; write PNG, WebP or GIF instead"),
        ("b.webp", (20, 17_000), False, "17000 x 20 is too large for WEBP, which ends at 16383"),
        ("b.gif", None, True, "GIF is never lossless"),
        ("b.webp", None, True, None),
    ],
)
def test_results_that_their_format_cannot_hold(tmp_path, capsys, target, size, lossless, reason):
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    wanted = Wanted(factor=2) if size is None else Wanted(size=size)
    jobs = [Job(tmp_path / "a.gif", tmp_path / target)]
    assert show(Plan(jobs, [], []), Settings(wanted, lossless=lossless), 2) == (reason is not None)
    printed = capsys.readouterr()
    if reason is None:
        assert printed.out.endswith("b.webp  9x7 -> 18x14, 2 frames\n")
    else:
        assert f"addersr: error: {tmp_path / target}: " in printed.err and reason in printed.err


def test_what_cannot_be_read_is_told_as_reading_tells_it(tmp_path, capsys, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (300, 200)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    jobs = [Job(tmp_path / name, tmp_path / "b.png") for name in ("text.png", "gone.png", "bomb.png")]
    assert show(Plan(jobs, [], []), Settings(Wanted(factor=2)), 2) == 1
    lines = capsys.readouterr().err.splitlines()
    for line, reason in zip(lines, ("not a PNG, JPEG", "no such file", "too many pixels"), strict=True):
        assert reason in line


def test_a_pipe_is_left_unread_and_a_name_of_two_lines_is_told_in_one(tmp_path, capsys):
    os.mkfifo(tmp_path / "a\nb.png")
    jobs = [Job(tmp_path / "a\nb.png", tmp_path / "c.png")]
    assert show(Plan(jobs, [], []), Settings(Wanted(factor=2)), 2) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a\\nb.png -> {tmp_path}/c.png\n"


def test_no_budget_is_beyond_what_is_read(tmp_path, capsys, monkeypatch):
    """With 40 in place of 179 million pixels: the real ones take long to write."""
    for module in ("settings", "dry_run"):
        monkeypatch.setattr(f"addersr.inference.{module}.files.MAX_PIXELS", 40)
    frames = [Image.new("RGB", (4, 5), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    jobs = [Job(tmp_path / "a.gif", tmp_path / "b.gif")]
    settings = Settings(Wanted(factor=2), max_pixels=3_000_000_000)
    assert show(Plan(jobs, [], []), settings, 2) == 1
    assert "4 x 5 x 3 frames is too many pixels, at most 40 are read" in capsys.readouterr().err
    with pytest.raises(ImageError, match="more than 2 frames"):
        read_any(tmp_path / "a.gif", max_pixels=settings.max_pixels)
