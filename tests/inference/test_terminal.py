"""What a terminal shows of a run."""

import contextlib
import fcntl
import json
import os
import re
import struct
import termios

import pytest
from command_line import upscale

from addersr.cli import main


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
    assert "0/1 files, 0.0/0.0 MP   0%|" in shown
    assert re.search(r"1/1 files, 0\.0/0\.0 MP 100%\|.*\[\d\d:\d\d<00:00, .* MP/s\]", shown)


def test_the_bar_moves_with_the_tiles_of_a_picture(tmp_path, model, make_picture):
    make_picture(tmp_path / "in/b.png", (8, 64))
    words = [tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--tile", 16]
    shown = upscale_on_terminal(80, *words)
    assert [share in shown for share in (" 24%|", " 48%|", " 71%|", " 95%|", "100%|")] == [True] * 5


def test_quiet_and_verbose(tmp_path, model, make_picture, capsys):
    picture = make_picture(tmp_path / "a.png")
    words = [picture, tmp_path / "missing.png", "-o", tmp_path / "out", "--model", model, "--overwrite"]
    assert upscale(*words, "--quiet") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert upscale(*words, "--verbose") == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert re.match(
        rf"written: {picture} -> .*out/a\.png  10x12 -> 20x24, \d+\.\d\d s, about .* mJ \(convolutional twin",
        first,
    )
    assert second.startswith("failed: ") and last.startswith("1 written to ")


def test_names_are_told_in_one_line_that_steers_no_terminal(tmp_path, model, make_picture, capsys):
    evil = "a\n\x1b[31m \u202e  b"
    folder = tmp_path / f"out{evil}"
    good, bad = make_picture(tmp_path / f"{evil}.png"), tmp_path / f"bad{evil}.png"
    bad.write_text("no picture")
    taken = make_picture(tmp_path / f"taken{evil}.png")
    make_picture(folder / taken.name)
    words = [good, bad, taken, tmp_path / f"none{evil}", "-o", folder, "--model", model]
    report = tmp_path / "report.jsonl"
    for more in (["--dry-run"], ["--verbose", "--report", report]):
        assert upscale(*words, *more) == 1
        told = "".join(capsys.readouterr())
        assert not set("\x1b\u202e") & set(told)
        assert all(
            line.startswith((str(tmp_path), "addersr: ", "written: ", "failed: ", "1 w"))
            for line in told.splitlines()
        )
        assert told.count(r"a\n\x1b[31m \u202e  b.png -> ") == 1
    assert len(told.splitlines()) == 4 + 3 + 1
    records = {record["input"]: record for record in map(json.loads, report.read_text().splitlines())}
    assert set(records) == set(map(str, words[:4]))
    assert records[str(good)]["output"] == str(folder / good.name)
    assert records[str(bad)]["error"].startswith(f"{bad}: not a PNG")


def test_a_wrong_command_line_is_told_in_one_line(tmp_path, capsys):
    assert main(["upscale", str(tmp_path / "a.png"), "-o", f"{tmp_path}/b\n\x1b[2J.psd"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert r"/b\n\x1b[2J.psd: no picture format" in line
