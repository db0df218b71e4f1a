"""Pictures from standard input and to standard output."""

import io
import os
import subprocess
import sys
import threading
import time
from io import BufferedReader
from pathlib import Path

import numpy as np
import pytest
from command_line import contents, upscale
from PIL import Image

from addersr.errors import UsageError
from addersr.images import files
from addersr.inference import inputs
from addersr.inference.inputs import STANDARD
from addersr.inference.plan import plan


def test_standard_input_and_output(tmp_path, make_picture):
    picture = make_picture(tmp_path / "a.jpg")
    assert plan(["-"], tmp_path / "out")[0][0].target == tmp_path / "out/stdin.png"
    assert plan(["-"], tmp_path / "out", format="webp")[0][0].target == tmp_path / "out/stdin.webp"
    assert plan(["-"], tmp_path / "b.jpg")[0][0].target == tmp_path / "b.jpg"
    (job,), *_ = plan([picture], "-")
    assert (job.source, job.target) == (picture, STANDARD)
    (job,), *_ = plan(["-"], "-")
    assert (job.source, job.target) == (STANDARD, STANDARD)


def test_a_file_that_is_called_like_standard_input(tmp_path, make_picture, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_picture(tmp_path / "a.png").rename("-")
    (job,), *_ = plan(["./-"], "out")
    assert job.source == tmp_path / "-"


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        (["-", "-"], "out", "can be read once only"),
        (["a.png", "b.png"], "-", "takes one picture, and the input is 2"),
    ],
)
def test_standard_streams_hold_one_picture(inputs, out, message):
    with pytest.raises(UsageError, match=message):
        plan(inputs, out)


def test_a_picture_through_standard_input_and_output(tmp_path, model, make_picture):
    picture = make_picture(tmp_path / "a.png")
    words = [sys.executable, "-m", "addersr.cli", "upscale", "-", "-o", "-", "--model", str(model)]
    result = subprocess.run(words, input=picture.read_bytes(), capture_output=True, check=True)
    assert upscale(picture, "-o", tmp_path / "b.png", "--model", model) == 0
    with Image.open(io.BytesIO(result.stdout)) as made:
        assert made.format == "PNG"
        assert np.array_equal(np.asarray(made), files.read(tmp_path / "b.png").pixels)
    assert result.stderr == b"1 written to standard output (x2, tiny_x2)\n"


@pytest.fixture
def standard_input():
    """standard_input(*blocks) puts a pipe there that gives these, one after the other; a path or a name, that file."""
    before, writers = os.dup(0), []

    def put(*blocks):
        inputs.standard_input.cache_clear()
        if isinstance(blocks[0], Path | str):
            reader = os.open(blocks[0], os.O_RDONLY | os.O_NOCTTY)
        else:
            reader, writer = os.pipe()

            def give():
                for block in blocks:
                    time.sleep(0.02)
                    os.write(writer, block)
                os.close(writer)

            writers.append(threading.Thread(target=give))
            writers[-1].start()
        os.dup2(reader, 0)
        os.close(reader)

    yield put
    os.dup2(before, 0)
    os.close(before)
    inputs.standard_input.cache_clear()
    for thread in writers:
        thread.join()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp"])
def test_its_own_format_is_told_by_its_beginning_and_nothing_is_lost(
    tmp_path, make_picture, standard_input, suffix
):
    picture = make_picture(tmp_path / f"a{suffix}")
    data = picture.read_bytes()
    for given in ([picture], [data], [data[:1], data[1:5], data[5:]]):
        standard_input(*given)
        (job,), *_ = plan(["-"], tmp_path / "out")
        assert job.target == tmp_path / f"out/stdin{suffix}"
        read = files.read(BufferedReader(inputs.standard_input()))
        assert np.array_equal(read.pixels, files.read(picture).pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_pipe_of_the_shell_keeps_its_format_and_is_read_whole(tmp_path, model, make_picture, suffix):
    picture = make_picture(tmp_path / f"a{suffix}")
    words = [f"<(cat {picture})", "-o", "out", "--model", str(model)]
    command = f"exec {sys.executable} -m addersr.cli upscale {' '.join(words)}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    (made,) = (tmp_path / "out").iterdir()
    assert made.suffix == suffix
    assert upscale(picture, "-o", tmp_path / "expected", "--model", model) == 0
    assert made.read_bytes() == (tmp_path / "expected" / picture.name).read_bytes()


def test_what_is_no_picture_is_told_when_it_is_read(tmp_path, model, standard_input, capsys):
    for given in (b"", b"\xff", b"neither this nor that"):
        standard_input(given)
        assert upscale("-", "-o", tmp_path / "out", "--model", model) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("addersr: error: standard input: not a PNG, JPEG")


def test_a_jpeg_stays_one_in_a_folder(tmp_path, model, make_picture, standard_input):
    picture = make_picture(tmp_path / "a.jpg")
    standard_input(picture.read_bytes())
    assert upscale("-", "-o", tmp_path / "out", "--model", model, "--name", "{stem}_x{scale}{suffix}") == 0
    assert contents(tmp_path / "out") == ["stdin_x2.jpg"]
    assert upscale(picture, "-o", tmp_path / "out", "--model", model) == 0
    assert (tmp_path / "out/stdin_x2.jpg").read_bytes() == (tmp_path / "out/a.jpg").read_bytes()


def test_two_results_of_one_name_are_refused_whatever_standard_input_holds(
    tmp_path, make_picture, standard_input
):
    picture = make_picture(tmp_path / "stdin.jpg")
    standard_input(picture)
    jobs, refused, _ = plan(["-", picture], tmp_path / "out")
    assert jobs == [] and len(refused) == 2


def test_a_terminal_is_not_waited_for(tmp_path, standard_input):
    """Though this one would have something to say."""
    keyboard, terminal = os.openpty()
    os.write(keyboard, b"GIF89a and so on\n")
    standard_input(os.ttyname(terminal))
    assert plan(["-"], tmp_path / "out")[0][0].target == tmp_path / "out/stdin.png"
    os.close(keyboard)
    os.close(terminal)


def test_a_pipe_is_waited_for_only_where_it_is_the_only_input(tmp_path, make_picture, standard_input):
    """Else what fills several in turn, and this program, would wait for each other."""
    reader, writer = os.pipe()  # into which nobody writes yet
    os.dup2(reader, 0)
    inputs.standard_input.cache_clear()
    pipe, picture = Path(f"/dev/fd/{reader}"), make_picture(tmp_path / "a.jpg")
    for given in ("-", pipe):
        jobs, *_ = plan([given, picture], tmp_path / "out")
        assert [job.target.suffix for job in jobs] == [".png", ".jpg"]
        (job,), *_ = plan([given], tmp_path / "out", wait=False)
        assert job.target.suffix == ".png"
    os.close(reader)
    os.close(writer)


def test_standard_input_of_which_a_part_was_read_begins_there(tmp_path, make_picture, standard_input):
    first, second = make_picture(tmp_path / "a.png"), make_picture(tmp_path / "b.jpg")
    both = tmp_path / "both"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    standard_input(both)
    os.lseek(0, first.stat().st_size, os.SEEK_SET)
    (job,), *_ = plan(["-"], tmp_path / "out")
    assert job.target.suffix == ".jpg"
    read = files.read(BufferedReader(inputs.standard_input()))
    assert np.array_equal(read.pixels, files.read(second).pixels)
