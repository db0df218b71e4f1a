import argparse
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from addersr import checkpoint
from addersr.cli import main
from addersr.errors import AdderSRError, CheckpointError, ImageError
from addersr.images import files
from addersr.images.files import Picture
from addersr.inference import batch
from addersr.inference.batch import plan
from addersr.inference.upscaler import Upscaler


def make_picture(path, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    files.write(path, Picture(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)))
    return path


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


# Where results go.


def test_files_go_into_the_folder(tmp_path):
    a, b = make_picture(tmp_path / "in/a.jpg"), make_picture(tmp_path / "in/b.png")
    jobs, failed = plan([a, b], tmp_path / "out")
    assert [job.target for job in jobs] == [tmp_path / "out/a.jpg", tmp_path / "out/b.png"]
    assert failed == []


def test_folders_are_mirrored(tmp_path):
    for name in ("z.png", "deep/a.jpg", "deep/er/b.WEBP", ".hidden.png", ".git/c.png"):
        make_picture(tmp_path / "in" / name)
    (tmp_path / "in/notes.md").write_text("not a picture")
    jobs, _ = plan([tmp_path / "in"], tmp_path / "out")
    assert [str(job.target.relative_to(tmp_path / "out")) for job in jobs] == [
        "deep/a.jpg",
        "deep/er/b.WEBP",
        "z.png",
    ]
    jobs, _ = plan([tmp_path / "in"], tmp_path / "out", recursive=False)
    assert [job.target.name for job in jobs] == ["z.png"]


def test_suffix_and_format(tmp_path):
    make_picture(tmp_path / "in/a.b.jpg")
    jobs, _ = plan([tmp_path / "in"], tmp_path / "out", suffix="_x2", format="webp")
    assert [job.target.name for job in jobs] == ["a.b_x2.webp"]


def test_one_picture_may_be_given_its_name(tmp_path):
    picture = make_picture(tmp_path / "a.jpg")
    assert plan([picture], tmp_path / "b.png")[0][0].target == tmp_path / "b.png"
    (tmp_path / "folder.png").mkdir()
    assert plan([picture], tmp_path / "folder.png")[0][0].target == tmp_path / "folder.png/a.jpg"


def test_a_file_of_unknown_suffix_becomes_png(tmp_path):
    assert plan([tmp_path / "a.jpe"], tmp_path / "out")[0][0].target == tmp_path / "out/a.png"


def test_a_file_named_twice_is_done_once(tmp_path):
    picture = make_picture(tmp_path / "in/a.png")
    jobs, failed = plan([picture, tmp_path / "in" / ".." / "in" / "a.png", tmp_path / "in"], tmp_path / "out")
    assert len(jobs) == 1
    assert failed == []


def test_results_within_the_input_are_not_input(tmp_path):
    make_picture(tmp_path / "a.png")
    make_picture(tmp_path / "out/a.png")
    jobs, _ = plan([tmp_path], tmp_path / "out")
    assert [job.source for job in jobs] == [tmp_path / "a.png"]


def test_two_inputs_for_one_result_are_both_refused_and_the_others_done(tmp_path):
    for name in ("one/a.png", "two/a.png", "one/b.png"):
        make_picture(tmp_path / name)
    jobs, failed = plan([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["b.png"]
    assert [line.split(":")[0] for line in failed] == [
        str(tmp_path / "one/a.png"),
        str(tmp_path / "two/a.png"),
    ]
    assert f"would also be that of {tmp_path / 'two/a.png'}" in failed[0]


@pytest.mark.parametrize("alias", [False, True])
def test_an_input_is_never_overwritten(tmp_path, alias):
    make_picture(tmp_path / "in/a.png")
    (tmp_path / "alias").symlink_to(tmp_path / "in")
    jobs, failed = plan([tmp_path / "in"], tmp_path / ("alias" if alias else "in"))
    assert jobs == []
    assert "would overwrite the input" in failed[0]
    assert plan([tmp_path / "in"], tmp_path / "in", suffix="_x2")[1] == []


def test_an_empty_folder_is_a_failure(tmp_path):
    (tmp_path / "in").mkdir()
    jobs, failed = plan([tmp_path / "in"], tmp_path / "out")
    assert jobs == []
    assert "no pictures in this folder" in failed[0]


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("file", {}, "is a file; name a folder"),
        ("out.png", {}, "names one picture, but the input may be several"),
    ],
)
def test_out_that_cannot_take_the_results(tmp_path, out, options, message):
    (tmp_path / "file").write_text("here first")
    pictures = [make_picture(tmp_path / name) for name in ("a.png", "b.png")]
    with pytest.raises(ImageError, match=message):
        plan(pictures, tmp_path / out, **options)


def test_a_named_result_takes_no_suffix(tmp_path):
    with pytest.raises(ImageError, match="leave out --suffix and --format"):
        plan([make_picture(tmp_path / "a.png")], tmp_path / "b.png", suffix="_x2")


# Runs.


def test_results_are_the_upscaler_s(tmp_path, model, capsys):
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


def test_tiles_give_the_same_files(tmp_path, model):
    picture = make_picture(tmp_path / "a.png", (50, 60))
    assert upscale(picture, "-o", tmp_path / "whole.png", "--model", model) == 0
    assert upscale(picture, "-o", tmp_path / "tiled.png", "--model", model, "--tile", 16) == 0
    whole, tiled = files.read(tmp_path / "whole.png").pixels, files.read(tmp_path / "tiled.png").pixels
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_one_bad_file_does_not_stop_the_rest(tmp_path, model, capsys):
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


def test_out_below_a_file_fails_in_one_line(tmp_path, model, capsys):
    (tmp_path / "file").write_text("here first")
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "file/out", "--model", model) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "here first"


def test_a_name_that_the_system_refuses_fails_in_one_line(tmp_path, model, capsys):
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "out", "--model", model, "--suffix", "x" * 300) == 1
    assert "File name too long" in capsys.readouterr().err
    assert contents(tmp_path / "out") == []


def test_what_is_there_is_an_error_or_skipped_or_replaced(tmp_path, model, capsys):
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


def test_two_runs_resume(tmp_path, model, capsys):
    for name in ("a.png", "b.png"):
        make_picture(tmp_path / "in" / name)
    command = [tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--if-exists", "skip"]
    assert upscale(*command) == 0
    (tmp_path / "out/b.png").unlink()
    assert upscale(*command) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1 written to ")
    assert contents(tmp_path / "out") == ["a.png", "b.png"]


def test_a_run_within_the_input_resumes(tmp_path, model, capsys):
    for name in ("a.png", "deep/b.jpg"):
        make_picture(tmp_path / name)
    command = [tmp_path, "-o", tmp_path, "--suffix", "_x2", "--if-exists", "skip", "--model", model]
    for summary in ("2 written", "0 written"):
        assert upscale(*command) == 0
        assert capsys.readouterr().out.startswith(summary)
        assert contents(tmp_path) == ["a.png", "a_x2.png", "deep/b.jpg", "deep/b_x2.jpg"]


@pytest.mark.parametrize(("one", "other"), [("A.png", "a.png"), ("\u00e9.png", "e\u0301.png")])
def test_names_that_some_file_systems_take_for_one(tmp_path, one, other):
    pictures = [make_picture(tmp_path / "in1" / one), make_picture(tmp_path / "in2" / other)]
    jobs, failed = plan(pictures, tmp_path / "out")
    assert jobs == []
    assert len(failed) == 2


def test_a_result_under_another_name_of_the_input_is_refused(tmp_path):
    picture = make_picture(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").hardlink_to(picture)
    assert "would overwrite the input" in plan([picture], tmp_path / "out")[1][0]


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path, monkeypatch):
    """The system's refusal is made up here, because tests may run as root, who may read all."""
    make_picture(tmp_path / "in/a.png")
    make_picture(tmp_path / "in/locked/b.png")
    scandir = os.scandir

    def refuse(place):
        if os.path.basename(place) == "locked":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    jobs, failed = plan([tmp_path / "in"], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["a.png"]
    assert failed == [f"{tmp_path / 'in/locked'}: this folder cannot be read: Permission denied"]


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path, model, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").symlink_to("nowhere")
    assert upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model) == 1
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "out/a.png").is_symlink()


def test_what_cannot_be_written_is_known_before_the_network_runs(tmp_path, model, monkeypatch, capsys):
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
    tmp_path, model, monkeypatch, capsys, error, message
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


def test_an_interrupted_run_tells_what_it_did(tmp_path, model, monkeypatch, capsys):
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


# The model.


def test_scale_of_the_model_is_used(tmp_path, weights):
    picture = make_picture(tmp_path / "a.png")
    assert upscale(picture, "-o", tmp_path / "b.png", "--model", weights[3]) == 0
    assert files.read(tmp_path / "b.png").pixels.shape == (36, 30, 3)


def test_scale_that_the_model_does_not_have(tmp_path, model):
    picture = make_picture(tmp_path / "a.png")
    with pytest.raises(CheckpointError, match="x2, not x3"):
        upscale(picture, "-o", tmp_path / "out", "--model", model, "--scale", 3)
    assert not (tmp_path / "out").exists()


def test_unknown_model_name(tmp_path):
    with pytest.raises(CheckpointError, match="no_such_model"):
        upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", "no_such_model")
    assert not (tmp_path / "out").exists()


def test_scale_that_nobody_has(tmp_path):
    with pytest.raises(CheckpointError, match="x7"):
        upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--scale", 7)


def test_weights_of_another_architecture(tmp_path, weights, busy):
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


def test_shipped_weights_are_the_default(tmp_path, weights, monkeypatch):
    shutil.copy(weights[2], tmp_path / "edsr_small_x2.safetensors")
    shutil.copy(weights[3], tmp_path / "edsr_small_x3.safetensors")
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    picture = make_picture(tmp_path / "a.png")
    for words, height in (([], 24), (["--scale", 3], 36), (["--model", "edsr_small_x3"], 36)):
        assert upscale(picture, "-o", tmp_path / "b.png", "--if-exists", "overwrite", *words) == 0
        assert files.read(tmp_path / "b.png").pixels.shape[0] == height


def test_unknown_device(tmp_path, model):
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
