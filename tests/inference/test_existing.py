"""What stands already where results go."""

import os

import pytest
from command_line import contents, upscale

from addersr.images import files
from addersr.inference import command
from addersr.inference.upscaler import Upscaler


def test_where_all_is_done_nothing_needs_to_be_written(tmp_path, model, monkeypatch, make_picture):
    words = [
        make_picture(tmp_path / "a.png"),
        "-o",
        tmp_path / "out",
        "--model",
        model,
        "--skip-existing",
    ]
    assert upscale(*words) == 0
    monkeypatch.setattr(command, "check_output", lambda *_: pytest.fail("tried to write"))
    assert upscale(*words) == 0


def test_what_is_there_is_an_error_or_skipped_or_replaced(tmp_path, model, capsys, make_picture):
    picture = make_picture(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    old = tmp_path / "out/a.png"
    old.write_text("the old one")
    words = [picture, "-o", tmp_path / "out", "--model", model]
    assert upscale(*words) == 1
    assert "already exists; --overwrite replaces it" in capsys.readouterr().err
    assert upscale(*words, "--skip-existing") == 0
    assert "0 written" in capsys.readouterr().out
    assert old.read_text() == "the old one"
    assert upscale(*words, "--overwrite") == 0
    assert files.read(old).pixels.shape == (24, 20, 3)


def test_two_runs_resume(tmp_path, model, capsys, make_picture):
    for name in ("a.png", "b.png"):
        make_picture(tmp_path / "in" / name)
    words = [tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--skip-existing"]
    assert upscale(*words) == 0
    (tmp_path / "out/b.png").unlink()
    assert upscale(*words) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1 written to ")
    assert contents(tmp_path / "out") == ["a.png", "b.png"]


def test_a_run_within_the_input_resumes(tmp_path, model, capsys, make_picture):
    for name in ("a.png", "deep/b.jpg"):
        make_picture(tmp_path / name)
    words = [tmp_path, "-o", tmp_path, "--suffix", "_x2", "--skip-existing", "--model", model, "-r"]
    for summary in ("2 written", "0 written"):
        assert upscale(*words) == 0
        assert capsys.readouterr().out.startswith(summary)
        assert contents(tmp_path) == ["a.png", "a_x2.png", "deep/b.jpg", "deep/b_x2.jpg"]


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path, model, capsys, make_picture):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").symlink_to("nowhere")
    assert upscale(make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model) == 1
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "out/a.png").is_symlink()


def folder(path):
    path.mkdir()


NO_FILES = {
    "folder": (folder, "is a folder; move it away"),
    "link that leads nowhere": (lambda path: path.symlink_to("nowhere"), "leads to no file (No such file"),
    "link in a circle": (lambda path: path.symlink_to(path.name), "leads to no file (Too many levels"),
    "link to a folder": (lambda path: path.symlink_to("."), "is a folder; move it away"),
    "pipe": (os.mkfifo, "no file, but a pipe"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_no_result(tmp_path, model, capsys, make_picture, kind):
    make, reason = NO_FILES[kind]
    pictures = [make_picture(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    words = [*pictures, "-o", tmp_path / "out", "--model", model]
    (tmp_path / "out").mkdir()
    make(tmp_path / "out/a.png")
    before = (tmp_path / "out/a.png").lstat()
    for more in (["--dry-run"], ["--dry-run", "--skip-existing"], ["--skip-existing"]):
        assert upscale(*words, *more) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"addersr: error: {tmp_path / 'out/a.png'}: ") and reason in line
    assert (tmp_path / "out/a.png").lstat() == before
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png"]
    assert files.read(tmp_path / "out/b.png").pixels.shape == (24, 20, 3)
    assert not (tmp_path / "out/nowhere").exists()


@pytest.mark.parametrize("more", [[], ["--skip-existing"], ["--overwrite"]], ids=str)
def test_a_folder_is_never_replaced(tmp_path, model, capsys, make_picture, more):
    (tmp_path / "out/a.png").mkdir(parents=True)
    picture = make_picture(tmp_path / "a.png")
    for dry in (["--dry-run"], []):
        assert upscale(picture, "-o", tmp_path / "out", "--model", model, *more, *dry) == 1
        assert "is a folder; move it away" in capsys.readouterr().err
    assert (tmp_path / "out/a.png").is_dir() and contents(tmp_path / "out") == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path, model, make_picture, there):
    (tmp_path / "out").mkdir()
    elsewhere = tmp_path / "elsewhere.png"
    if there:
        elsewhere.write_text("someone's")
    (tmp_path / "out/a.png").symlink_to(elsewhere)
    words = [make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model]
    assert upscale(*words, "--skip-existing") == (0 if there else 1)
    assert (tmp_path / "out/a.png").is_symlink()
    assert upscale(*words, "--overwrite") == 0
    assert not (tmp_path / "out/a.png").is_symlink()
    assert elsewhere.exists() == there and (not there or elsewhere.read_text() == "someone's")


def test_what_comes_in_the_meantime_counts_too(tmp_path, model, capsys, make_picture, monkeypatch):
    """A link that leads nowhere comes while the picture is computed; the result does not go through it."""
    picture, real = make_picture(tmp_path / "a.png"), Upscaler.upscale_picture

    def link_and_upscale(self, *given):
        (tmp_path / "out/a.png").symlink_to(tmp_path / "elsewhere.png")
        return real(self, *given)

    monkeypatch.setattr(Upscaler, "upscale_picture", link_and_upscale)
    assert upscale(picture, "-o", tmp_path / "out", "--model", model, "--skip-existing") == 1
    assert "leads to no file" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere.png").exists()


def test_results_within_the_input_are_told_of_and_replaced_by_nothing(tmp_path, model, capsys, make_picture):
    for name in ("a.png", "b.png"):
        make_picture(tmp_path / name)
    result = make_picture(tmp_path / "a_x2.png")  # or an original
    before = result.read_bytes()
    words = [tmp_path, "-o", tmp_path, "--suffix", "_x2", "--model", model]
    told = "left out, taken for an earlier run's result"

    assert upscale(*words, "--overwrite", "--dry-run") == 1
    dry = capsys.readouterr()
    assert upscale(*words, "--overwrite") == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 2 and printed.err == dry.err
    assert result.read_bytes() == before and contents(tmp_path) == ["a.png", "a_x2.png", "b.png", "b_x2.png"]

    (tmp_path / "b_x2.png").unlink()
    assert upscale(*words, "--skip-existing", "--dry-run") == 0
    assert f"{result}  {told}\n" in capsys.readouterr().out
    assert upscale(*words, "--skip-existing") == 0
    assert f"1 were there already, 1 {told} (--verbose names them)\n" in capsys.readouterr().out
    assert upscale(*words, "--skip-existing", "--verbose") == 0
    assert f"{result}: {told}\n" in capsys.readouterr().out
    assert upscale(*words, "--skip-existing", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert result.read_bytes() == before


def test_a_shell_s_pattern_in_place_makes_nothing_twice(tmp_path, model, make_picture, capsys):
    make_picture(tmp_path / "a.jpg")
    for _ in range(3):
        words = [*sorted(tmp_path.glob("*.jpg")), "-o", tmp_path, "--suffix", "_x2", "--model", model]
        assert upscale(*words, "--skip-existing") == 0
        assert contents(tmp_path) == ["a.jpg", "a_x2.jpg"]
    assert "1 were there already, 1 left out" in capsys.readouterr().out
    assert upscale(*words) == 1
    printed = capsys.readouterr()
    assert "already exists; --skip-existing leaves it" in printed.err and "--overwrite" not in printed.err
