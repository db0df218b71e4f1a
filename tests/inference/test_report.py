"""The file of records."""

import json
from pathlib import Path

import pytest

from addersr.errors import UsageError
from addersr.inference.report import Record, ReportFile, of_process


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


def test_each_process_has_its_own_file():
    assert of_process(Path("runs/done.jsonl"), 12) == Path("runs/done.12.jsonl")


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match=r"--report .*: cannot be written: Is a directory; name another"):
        ReportFile(tmp_path)
