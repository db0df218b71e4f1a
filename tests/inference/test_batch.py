import argparse
import contextlib
import fcntl
import os
import re
import shutil
import struct
import termios

import numpy as np
import pytest
from PIL import Image

from addersr import checkpoint
from addersr.cli import main
from addersr.errors import AdderSRError, CheckpointError
from addersr.images import files
from addersr.inference import batch
from addersr.inference.upscaler import Upscaler


def upscale(*words):
    """`addersr upscale` with these words: its exit code."""
    parser = argparse.ArgumentParser()
    batch.add_arguments(parser)
    return batch.run(parser.parse_args([str(word) for word in words]))


def contents(folder):
    """Every file below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def model(weights):
    return weights[2]


# Runs.


def test_results_are_the_upscaler_s(tmp_path, model, capsys, make_picture):
    for name in ("a.png", "deep/b.png"):
        make_picture(tmp_path / "in" / name)
    assert upscale(tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--device", "cpu") == 0
    assert contents(tmp_path / "out") == ["a.png", "deep/b.png"]
    upscaler = Upscaler(checkpoint.load(model).model)
    for name in ("a.png", "deep/b.png"):
        expected = upscaler(files.read(tmp_path / "in" / name).pixels)
        assert np.array_equal(files.read(tmp_path / "out" / name).pixels, expected)
    printed = capsys.readouterr()
    assert printed.out == f"2 written to {tmp_path / 'out'} (x2, tiny_x2)\n"
    assert printed.err == ""


def test_tiles_give_the_same_files(tmp_path, model, make_picture):
    picture = make_picture(tmp_path / "a.png", (50, 60))
    assert upscale(picture, "-o", tmp_path / "whole.png", "--model", model) == 0
    assert upscale(picture, "-o", tmp_path / "tiled.png", "--model", model, "--tile", 16) == 0
    whole, tiled = files.read(tmp_path / "whole.png").pixels, files.read(tmp_path / "tiled.png").pixels
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_one_bad_file_does_not_stop_the_rest(tmp_path, model, capsys, make_picture):
    folder = tmp_path / "in"
    make_picture(folder / "a.png")
    make_picture(folder / "z.jpg", (64, 64))
    (folder / "text.png").write_text("no picture")
    data = (folder / "z.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    make_picture(folder / "wide.webp", (1, 9000))
    missing = tmp_path / "missing.png"
    assert upscale(missing, folder, "-o", tmp_path / "out", "--model", model) == 1
    assert contents(tmp_path / "out") == ["a.png", "z.jpg"]
    printed = capsys.readouterr()
    reasons = {
        missing: "no such file",
        folder / "cut.jpg": "damaged or cut short",
        folder / "text.png": "not a PNG, JPEG, WebP or BMP picture",
        tmp_path / "out/wide.webp": "18000 x 2 is too large for WEBP",
    }
    lines = printed.err.splitlines()
    assert len(lines) == len(reasons)
    for line, (path, reason) in zip(lines, reasons.items(), strict=True):
        assert line.startswith(f"addersr: error: {path}: ")
        assert reason in line
    assert printed.out.endswith(", 4 failed\n")


def test_an_output_that_cannot_be_written_is_told_once_before_the_work(
    tmp_path, monkeypatch, capsys, make_picture
):
    monkeypatch.setattr(checkpoint, "load", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "file").write_text("here first")
    pictures = [str(make_picture(tmp_path / name)) for name in ("a.png", "b.png")]
    assert main(["upscale", *pictures, "-o", str(tmp_path / "file/out"), "--model", "any"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "here first"


def test_where_all_is_done_nothing_needs_to_be_written(tmp_path, model, monkeypatch, make_picture):
    command = [
        make_picture(tmp_path / "a.png"),
        "-o",
        tmp_path / "out",
        "--model",
        model,
        "--if-exists",
        "skip",
    ]
    assert upscale(*command) == 0
    monkeypatch.setattr(batch, "check_output", lambda *_: pytest.fail("tried to write"))
    assert upscale(*command) == 0


def test_a_name_that_the_system_refuses_fails_in_one_line(tmp_path, model, capsys, make_picture):
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "out", "--model", model, "--suffix", "x" * 300) == 1
    assert "File name too long" in capsys.readouterr().err
    assert contents(tmp_path / "out") == []


def test_what_is_there_is_an_error_or_skipped_or_replaced(tmp_path, model, capsys, make_picture):
    picture = make_picture(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    old = tmp_path / "out/a.png"
    old.write_text("the old one")
    command = [picture, "-o", tmp_path / "out", "--model", model]
    assert upscale(*command) == 1
    assert "already exists; use --if-exists overwrite" in capsys.readouterr().err
    assert upscale(*command, "--if-exists", "skip") == 0
    assert "0 written" in capsys.readouterr().out
    assert old.read_text() == "the old one"
    assert upscale(*command, "--if-exists", "overwrite") == 0
    assert files.read(old).pixels.shape == (24, 20, 3)


def test_two_runs_resume(tmp_path, model, capsys, make_picture):
    for name in ("a.png", "b.png"):
        make_picture(tmp_path / "in" / name)
    command = [tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--if-exists", "skip"]
    assert upscale(*command) == 0
    (tmp_path / "out/b.png").unlink()
    assert upscale(*command) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1 written to ")
    assert contents(tmp_path / "out") == ["a.png", "b.png"]


def test_a_run_within_the_input_resumes(tmp_path, model, capsys, make_picture):
    for name in ("a.png", "deep/b.jpg"):
        make_picture(tmp_path / name)
    command = [tmp_path, "-o", tmp_path, "--suffix", "_x2", "--if-exists", "skip", "--model", model]
    for summary in ("2 written", "0 written"):
        assert upscale(*command) == 0
        assert capsys.readouterr().out.startswith(summary)
        assert contents(tmp_path) == ["a.png", "a_x2.png", "deep/b.jpg", "deep/b_x2.jpg"]


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path, model, capsys, make_picture):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").symlink_to("nowhere")
    assert upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model) == 1
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "out/a.png").is_symlink()


def test_what_cannot_be_written_is_known_before_the_network_runs(
    tmp_path, model, monkeypatch, capsys, make_picture
):
    monkeypatch.setattr(Upscaler, "upscale_picture", lambda *_: pytest.fail("the network ran"))
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "out", "--model", model, "--suffix", "x" * 300) == 1
    assert "File name too long" in capsys.readouterr().err


def test_metadata_is_kept_or_stripped(tmp_path, model):
    tags = Image.Exif()
    tags[0x010F] = "Camera"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=tags, xmp=b"<xmp/>")
    assert upscale(tmp_path / "a.jpg", "-o", tmp_path / "kept.jpg", "--model", model) == 0
    assert upscale(tmp_path / "a.jpg", "-o", tmp_path / "stripped.jpg", "--model", model, "--strip") == 0
    kept, stripped = files.read(tmp_path / "kept.jpg"), files.read(tmp_path / "stripped.jpg")
    assert b"Camera" in kept.exif
    assert kept.xmp == b"<xmp/>"
    assert (stripped.exif, stripped.xmp) == (None, None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA error\nmore of it"), "a.png: CUDA error; try"),
    ],
)
def test_an_error_of_the_network_is_a_failure_of_that_picture(
    tmp_path, model, monkeypatch, capsys, make_picture, error, message
):
    pictures = [make_picture(tmp_path / name) for name in ("a.png", "b.png")]
    real = Upscaler.upscale_picture

    def fail_once(self, picture, progress=None):
        monkeypatch.setattr(Upscaler, "upscale_picture", real)
        raise error

    monkeypatch.setattr(Upscaler, "upscale_picture", fail_once)
    assert upscale(*pictures, "-o", tmp_path / "out", "--model", model) == 1
    assert contents(tmp_path / "out") == ["b.png"]
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_an_interrupted_run_tells_what_it_did(tmp_path, model, monkeypatch, capsys, make_picture):
    pictures = [tmp_path / "missing.png", *(make_picture(tmp_path / name) for name in ("a.png", "b.png"))]
    real = Upscaler.upscale_picture

    def interrupt_the_second(self, picture, progress=None):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Upscaler, "upscale_picture", interrupt)
        return real(self, picture, progress)

    monkeypatch.setattr(Upscaler, "upscale_picture", interrupt_the_second)
    assert main(["upscale", *map(str, pictures), "-o", str(tmp_path / "out"), "--model", str(model)]) == 130
    printed = capsys.readouterr()
    assert printed.out.startswith("1 written to ")
    assert "missing.png: no such file" in printed.err
    assert contents(tmp_path / "out") == ["a.png"]


# What a terminal shows.


def upscale_on_terminal(columns, *words):
    """`addersr upscale` with standard error on a terminal that says it is so wide: what is shown there."""
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 20, columns, 0, 0))
    with open(writer, "w", encoding="utf-8") as stream, contextlib.redirect_stderr(stream):
        assert upscale(*words) == 0
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that it has been closed
        while block := os.read(reader, 4096):
            shown += block
    os.close(reader)
    return shown.decode()


@pytest.mark.parametrize("columns", [60, 0])
def test_a_short_job_shows_its_bar(tmp_path, model, make_picture, columns):
    picture = make_picture(tmp_path / "a.png")
    shown = upscale_on_terminal(columns, picture, "-o", tmp_path / "out", "--model", model)
    assert "| 0/1 [" in shown
    assert re.search(r"100%\|.*\| 1/1 \[.*picture", shown)
    assert "tile" not in shown


@pytest.mark.parametrize("columns", [60, 0])
def test_there_is_a_bar_of_pictures_and_one_of_tiles(tmp_path, model, make_picture, columns):
    make_picture(tmp_path / "in/a.png", (8, 8))
    make_picture(tmp_path / "in/b.png", (8, 32))
    words = [tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--tile", 16]
    shown = re.split(r"[\r\n]+", upscale_on_terminal(columns, *words))
    assert [line for line in shown if re.search(r"^b\.png: +50%\|.*\| 1/2 \[.*tile/s", line)]
    assert [line for line in shown if re.search(r"^ *50%\|.*\| 1/2 \[.*picture", line)]
    assert [line for line in shown if re.search(r"^100%\|.*\| 2/2 \[.*picture", line)]
    assert not [line for line in shown if "a.png" in line]  # one tile needs no bar


# The model.


def test_scale_of_the_model_is_used(tmp_path, weights, make_picture):
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "b.png", "--model", weights[3]) == 0
    assert files.read(tmp_path / "b.png").pixels.shape == (36, 30, 3)


def test_scale_that_the_model_does_not_have(tmp_path, model, make_picture):
    picture = make_picture(tmp_path / "a.png")
    with pytest.raises(CheckpointError, match="x2, not x3"):
        upscale(picture, "-o", tmp_path / "out", "--model", model, "--scale", 3)
    assert not (tmp_path / "out").exists()


def test_unknown_model_name(tmp_path, make_picture):
    with pytest.raises(CheckpointError, match="no_such_model"):
        upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", "no_such_model")
    assert not (tmp_path / "out").exists()


def test_scale_that_nobody_has(tmp_path, make_picture):
    with pytest.raises(CheckpointError, match="x7"):
        upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--scale", 7)


def test_weights_of_another_architecture(tmp_path, weights, busy, make_picture):
    other = busy("edsr_tiny_x2", blocks=1)
    other.config["blocks"] = 2
    checkpoint.save(tmp_path / "other.safetensors", other, {})
    with pytest.raises(CheckpointError) as caught:
        upscale(
            make_picture(tmp_path / "a.png"),
            "-o",
            tmp_path / "out",
            "--model",
            tmp_path / "other.safetensors",
        )
    assert len(str(caught.value).splitlines()) == 1


def test_shipped_weights_are_the_default(tmp_path, weights, monkeypatch, make_picture):
    shutil.copy(weights[2], tmp_path / "edsr_small_x2.safetensors")
    shutil.copy(weights[3], tmp_path / "edsr_small_x3.safetensors")
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    picture = make_picture(tmp_path / "a.png")
    for words, height in (([], 24), (["--scale", 3], 36), (["--model", "edsr_small_x3"], 36)):
        assert upscale(picture, "-o", tmp_path / "b.png", "--if-exists", "overwrite", *words) == 0
        assert files.read(tmp_path / "b.png").pixels.shape[0] == height


def test_unknown_device(tmp_path, model, make_picture):
    with pytest.raises(AdderSRError, match="device 'quantum' cannot be used"):
        upscale(
            make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model, "--device", "quantum"
        )


@pytest.mark.parametrize(
    "words",
    [
        ["--tile", "0"],
        ["--tile", "-4"],
        ["--tile", "big"],
        ["--quality", "101"],
        ["--quality", "best"],
        ["--suffix", "a/b"],
        ["--format", "gif"],
        ["--scale", "two"],
    ],
)
def test_wrong_words_are_told_by_the_parser(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        upscale("a.png", "-o", "out", *words)
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_wrong_tile_is_told_what_it_may_be(capsys):
    with pytest.raises(SystemExit):
        upscale("a.png", "-o", "out", "--tile", "foo")
    assert "--tile: must be auto or a whole number from 1, got 'foo'" in capsys.readouterr().err
