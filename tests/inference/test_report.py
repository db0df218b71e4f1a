"""The file of records."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest
from command_line import contents, upscale

from addersr import checkpoint
from addersr.cli import main
from addersr.energy.estimate import estimate
from addersr.errors import UsageError
from addersr.inference.report import Record, ReportFile, Tally, of_process


def test_lines_are_appended(tmp_path):
    path = tmp_path / "report.jsonl"
    with ReportFile(path) as report:
        report.append(Record("a\udc80.png", "b.png", "written", (3, 2), (6, 4), seconds=0.5))
        report.append(Record("c.png", None, error="no such file"))
    with ReportFile(path) as report:
        report.append(Record("d.png", "e.png", "skipped"))
    first, second, third = map(json.loads, path.read_text("ascii").splitlines())
    assert (first["input"], first["input_size"], first["output_size"]) == ("a\udc80.png", [3, 2], [6, 4])
    assert (second["status"], second["error"], second["output"]) == ("failed", "no such file", None)
    assert third["status"] == "skipped"


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "report.jsonl"
    path.write_text('{"input": "a')
    with ReportFile(path) as report:
        report.append(Record("b.png", "c.png"))
    cut, whole = path.read_text().splitlines()
    assert cut == '{"input": "a' and json.loads(whole)["input"] == "b.png"


def test_a_line_is_there_before_the_file_is_closed(tmp_path):
    with ReportFile(tmp_path / "report.jsonl") as report:
        report.append(Record("a.png", "b.png"))
        assert (tmp_path / "report.jsonl").read_text().endswith("}\n")


@pytest.mark.parametrize("name", ["photo.jpg", "notes.txt"])
def test_other_files_are_not_appended_to(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\xff\xd8\xff what is no report")
    with pytest.raises(UsageError, match=r"picture's ending|no report of addersr"):
        ReportFile(path)
    assert path.read_bytes() == b"\xff\xd8\xff what is no report"


def test_short_writes_and_a_full_disk_leave_whole_lines_apart(tmp_path, monkeypatch):
    """The disk takes ten bytes at a time; it is full in the middle of b's line, and has room again for c's."""
    write, room = os.write, [10**6]

    def write_a_little(file, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, data[: min(10, room[0])])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write_a_little)
    path, tally = tmp_path / "report.jsonl", Tally(sys.stdout, verbose=False)
    with ReportFile(path) as tally.report:
        for name, free in [("a.png", 10**6), ("b.png", 25), ("c.png", 10**6)]:
            room[0] = free
            tally.add(Record(name, "out.png", "written"))
    first, cut, last = path.read_text().splitlines()
    assert (json.loads(first)["input"], len(cut), json.loads(last)["input"]) == ("a.png", 25, "c.png")
    assert tally.errors == [
        f"--report {path}: cannot be written: No space left on device; 1 of its lines are missing"
    ]
    assert tally.summary("out") == "3 written to out"


def test_each_process_has_its_own_file():
    assert of_process(Path("runs/done.jsonl"), 12) == Path("runs/done.12.jsonl")


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match=r"--report .*: cannot be written: Is a directory; name another"):
        ReportFile(tmp_path)


# Of a run.


def test_the_report_has_a_line_for_each_file_in_order(tmp_path, model, make_picture):
    for name in ("in/a.png", "in/c.png", "out/c.png", "empty/no.txt"):
        make_picture(tmp_path / name) if name.endswith("png") else (tmp_path / name).parent.mkdir()
    (tmp_path / "in/b.png").write_text("no picture")
    words = [tmp_path / "empty", tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--skip-existing"]
    assert upscale(*words, "--scale", "3", "--report", tmp_path / "report.jsonl") == 1
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [(line["input"].rsplit("/")[-1], line["status"]) for line in lines] == [
        ("empty", "failed"),
        ("a.png", "written"),
        ("b.png", "failed"),
        ("c.png", "skipped"),
    ]
    done = lines[1]
    assert (done["input_size"], done["output_size"], done["error"]) == ([10, 12], [30, 36], None)
    assert (done["model"], done["precision"], done["output"]) == (
        "tiny_x2",
        "float32",
        str(tmp_path / "out/a.png"),
    )
    network = checkpoint.load(model).model
    once, again = estimate(network, 12, 10), estimate(network, 24, 20)  # x3 is x2 twice, made smaller
    assert done["energy_mj"] == pytest.approx(once.mj + again.mj, rel=1e-3)
    assert done["twin_energy_mj"] == pytest.approx(once.twin_mj + again.twin_mj, rel=1e-3)
    assert done["seconds"] > 0
    assert "no.txt" not in lines[0]["error"] and "no pictures" in lines[0]["error"]
    assert "not a PNG" in lines[2]["error"]


def test_a_report_that_cannot_be_written_is_a_wrong_command_line(tmp_path, model, make_picture, capsys):
    words = ["upscale", make_picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model]
    assert main([*map(str, words), "--report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"addersr: error: --report {tmp_path}: cannot be written")
    assert contents(tmp_path) == ["a.png"]
