"""The bar: true at every moment, drawn on terminals only."""

import contextlib
import io
import re

import pytest

from addersr.inference.bar import Bar
from addersr.inference.plan import Job
from addersr.inference.report import Record
from addersr.inference.sizes import Wanted


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def jobs(tmp_path, make_picture):
    """Results of 1, 3 and 1 megapixels at x100, and one whose size cannot be told."""
    shapes = {"a.png": (10, 10), "b.png": (10, 30), "c.jpg": (5, 20)}
    jobs = [Job(make_picture(tmp_path / name, shape), tmp_path / "out") for name, shape in shapes.items()]
    return [*jobs, Job(tmp_path / "missing.png", tmp_path / "out")]


def last(terminal):
    return re.split(r"[\r\n]+", terminal.getvalue().strip("\r\n"))[-1]


def test_what_it_shows(jobs):
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), contextlib.closing(Bar(jobs, Wanted(factor=100))) as bar:
        assert last(terminal).startswith("0/4 files, 0.0/6.7 MP   0%|")  # the missing one counts as the mean
        bar.advance(0.5)
        assert re.search(r"^0/4 files, 0\.0/6\.7 MP   7%\|.*MP/s\]", last(terminal))
        bar.computed()
        assert "14%" in last(terminal)
        bar.finished(Record("a", "a", "written"))
        assert last(terminal).startswith("1/4 files, 1.0/6.7 MP  15%|")
        bar.computed()
        bar.computed()
        bar.computed()
        bar.finished(Record("b", "b", "written"))
        bar.finished(Record("c", "c", "skipped"))
        bar.finished(Record("missing", "d"))
        assert re.search(r"^4/4 files, 4\.0/4\.0 MP 100%\|.*<00:00", last(terminal))


def test_it_is_never_full_before_all_is_written(jobs):
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), contextlib.closing(Bar(jobs[:1], Wanted(factor=100))) as bar:
        bar.advance(1.0)
        bar.computed()
        assert "100%" not in terminal.getvalue()
        bar.finished(Record("a", "a", "written"))
        assert "100%" in last(terminal)


def test_a_share_is_called_one(jobs):
    terminal = Terminal()
    with (
        contextlib.redirect_stderr(terminal),
        contextlib.closing(Bar(jobs, Wanted(factor=100), whose="1 of 2: ")),
    ):
        assert last(terminal).startswith("1 of 2: 0/4 files, ")


def test_all_may_be_there_already(jobs):
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), contextlib.closing(Bar(jobs, Wanted(longest=9))) as bar:
        for _ in jobs:
            bar.computed()
            bar.finished(Record("a", "a", "skipped"))
        assert last(terminal).startswith("4/4 files, 0.0/0.0 MP 100%|")


@pytest.mark.parametrize(("stream", "shown"), [(io.StringIO, True), (Terminal, False)])
def test_where_nothing_is_to_be_seen_no_file_is_looked_at(jobs, monkeypatch, stream, shown):
    monkeypatch.setattr("addersr.inference.bar.probe", pytest.fail)
    output = stream()
    with (
        contextlib.redirect_stderr(output),
        contextlib.closing(Bar(jobs, Wanted(factor=2), shown=shown)) as bar,
    ):
        bar.advance(0.5)
        bar.computed()
        bar.finished(Record("a", "a", "written"))
    assert output.getvalue() == ""


def test_among_many_a_part_stands_for_all(jobs, monkeypatch):
    monkeypatch.setattr("addersr.inference.bar._SURVEYED", 2)
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), contextlib.closing(Bar(jobs, Wanted(factor=100))):
        assert "/4.0 MP" in last(terminal)  # 1 and 1 of four
