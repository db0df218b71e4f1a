"""Runs of `addersr upscale`."""

import json
import shutil

import numpy as np
import pytest
from command_line import contents, upscale
from PIL import Image

from addersr import checkpoint
from addersr.cli import main
from addersr.errors import AdderSRError, CheckpointError
from addersr.images import files
from addersr.inference import command
from addersr.inference.upscaler import Upscaler

# Runs.


def test_results_are_the_upscaler_s(tmp_path, model, capsys, make_picture):
    for name in ("a.png", "deep/b.png"):
        make_picture(tmp_path / "in" / name)
    words = [tmp_path / "in", "-o", tmp_path / "out", "--recursive", "--model", model, "--device", "cpu"]
    assert upscale(*words) == 0
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
        folder / "cut.jpg": "damaged",
        folder / "text.png": "not a PNG, JPEG, WebP",
        tmp_path / "out/wide.webp": "18000 x 2 is too large for ",
    }
    lines = printed.err.splitlines()
    assert printed.out.endswith(", 4 failed\n")
    assert len(lines) == len(reasons)
    for line, (path, reason) in zip(lines, reasons.items(), strict=True):
        assert line.startswith(f"addersr: error: {path}: ")
        assert reason in line


def test_an_output_that_cannot_be_written_is_told_once_before_the_work(
    tmp_path, model, monkeypatch, capsys, make_picture
):
    monkeypatch.setattr(command, "upscale_files", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "file").write_text("here first")
    pictures = [str(make_picture(tmp_path / name)) for name in ("a.png", "b.png")]
    assert main(["upscale", *pictures, "-o", str(tmp_path / "file/out"), "--model", str(model)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "here first"


def test_a_name_that_the_system_refuses_fails_in_one_line(tmp_path, model, capsys, make_picture):
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "out", "--model", model, "--suffix", "x" * 300) == 1
    assert "File name too long" in capsys.readouterr().err
    assert contents(tmp_path / "out") == []


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
    assert (
        upscale(tmp_path / "a.jpg", "-o", tmp_path / "stripped.jpg", "--model", model, "--strip-metadata")
        == 0
    )
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


# Sizes.


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["--scale", "3"], (36, 30)),  # the network twice, then smaller
        (["--scale", "4"], (48, 40)),
        (["--scale", "1.5"], (18, 15)),
        (["--scale", "0.5"], (6, 5)),
        (["--scale", "1"], (12, 10)),
        (["--size", "33x7"], (7, 33)),
        (["--longest", "25"], (25, 21)),
    ],
    ids=str,
)
def test_any_size(tmp_path, model, make_picture, words, size):
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "b.png", "--model", model, *words) == 0
    assert files.read(tmp_path / "b.png").pixels.shape[:2] == size


def test_budgets_of_pixels(tmp_path, model, make_picture, capsys):
    picture = make_picture(tmp_path / "a.png")  # 120 pixels
    words = [picture, "-o", tmp_path / "b.png", "--model", model]
    for more, reason in (
        (["--max-pixels", "119"], "12 is too many pixels, at most 119 are read"),
        (["--max-pixels", "479"], "a result of 20 x 24 is too many pixels, the budget is 479"),
    ):
        for dry in ([], ["--dry-run"]):
            assert upscale(*words, *more, *dry) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert f"{picture}: " in line and reason in line
    assert contents(tmp_path) == ["a.png"]
    assert upscale(*words, "--max-pixels", "480") == 0


def test_a_dry_run_shows_the_sizes_and_makes_nothing(tmp_path, model, make_picture, capsys, monkeypatch):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=turned)
    picture = make_picture(tmp_path / "a.png")
    make_picture(tmp_path / "out/there.png")
    there, text = make_picture(tmp_path / "there.png"), tmp_path / "text.png"
    text.write_text("no picture")
    monkeypatch.setattr(command, "upscale_files", lambda *_, **__: pytest.fail("the work began"))
    words = ["-o", tmp_path / "out", "--model", model, "--dry-run", "--scale", "1.5"]
    before = contents(tmp_path)
    assert upscale(picture, tmp_path / "turned.jpg", *words) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{picture} -> {tmp_path / 'out/a.png'}  10x12 -> 15x18",
        f"{tmp_path / 'turned.jpg'} -> {tmp_path / 'out/turned.jpg'}  4x8 -> 6x12",
    ]
    assert upscale(there, text, *words) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (
        "already exists; --overwrite replaces it" in printed.err and f"{text}: not a PNG, JPEG" in printed.err
    )
    assert upscale(there, *words, "--skip-existing") == 0
    assert capsys.readouterr().out.endswith("there.png  there already\n")
    assert contents(tmp_path) == before


# Formats and animations.


def test_format_and_lossless(tmp_path, model, make_picture):
    picture = make_picture(tmp_path / "a.png")
    words = [picture, "-o", tmp_path / "out", "--model", model]
    for more in ([], ["--format", "webp", "--lossless"], ["--format", "tiff"], ["--format", "jpeg"]):
        assert upscale(*words, *more) == 0
    assert contents(tmp_path / "out") == ["a.jpg", "a.png", "a.tif", "a.webp"]
    exact = files.read(tmp_path / "out/a.png").pixels
    for name in ("a.webp", "a.tif"):
        assert np.array_equal(files.read(tmp_path / "out" / name).pixels, exact)


def test_jpeg_is_never_lossless(tmp_path, model, make_picture, capsys):
    picture = make_picture(tmp_path / "a.jpg")
    words = [picture, "-o", tmp_path / "out", "--model", model, "--lossless"]
    assert main(["upscale", *map(str, words), "--format", "jpeg"]) == 2
    assert "JPEG always loses" in capsys.readouterr().err
    assert upscale(*words) == 1
    assert upscale(*words, "--format", "webp") == 0


def test_an_animation_stays_one(tmp_path, model, capsys):
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[50, 60, 70])
    words = [tmp_path / "a.gif", "-o", tmp_path / "out", "--model", model, "--scale", "3", "--report"]
    assert upscale(*words, tmp_path / "report.jsonl") == 0
    with Image.open(tmp_path / "out/a.gif") as made:
        assert (made.n_frames, made.size) == (3, (27, 21))
    record = json.loads((tmp_path / "report.jsonl").read_text())
    assert (record["frames"], record["output_size"]) == (3, [27, 21])


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("wide.png", ["-o", "-", "--format", "webp"], "16384 x 4 is too large for WEBP"),
        ("moving.gif", ["-o", "-", "--lossless"], "GIF is never lossless"),
        ("moving.gif", ["-o", "out", "--lossless"], "GIF is never lossless"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    tmp_path, model, capsys, monkeypatch, name, words, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("addersr.inference.batch.enlarge", lambda *_: pytest.fail("computed"))
    Image.new("RGB", (8192, 2)).save("wide.png")
    Image.new("P", (4, 4)).save("moving.gif")
    assert upscale(name, *words, "--model", model) == 1
    assert message in capsys.readouterr().err


# The model.


def test_scale_of_the_model_is_used(tmp_path, weights, make_picture):
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "b.png", "--model", weights[3]) == 0
    assert files.read(tmp_path / "b.png").pixels.shape == (36, 30, 3)


def test_unknown_model_name(tmp_path, make_picture):
    with pytest.raises(CheckpointError, match="no_such_model"):
        upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", "no_such_model")
    assert not (tmp_path / "out").exists()


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
        assert upscale(picture, "-o", tmp_path / "b.png", "--overwrite", *words) == 0
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
        ["--scale", "0"],
        ["--scale", "nan"],
        ["--size", "100"],
        ["--longest", "0"],
        ["--name", "{stem}"],
        ["--max-pixels", "0"],
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


def test_linked_folders_are_said_to_be_left_out(capsys):
    with pytest.raises(SystemExit):
        main(["upscale", "--help"])
    assert "not through links to folders" in " ".join(capsys.readouterr().out.split())
