"""What became of each picture: for people at the end, for programs in a file with one line each (JSON Lines)."""

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

from tqdm import tqdm

from addersr.errors import UsageError
from addersr.images.files import EXTENSIONS
from addersr.telling import tell

__all__ = ["LEFT", "Record", "ReportFile", "Tally", "of_process", "sizes"]

LEFT = "left out, taken for an earlier run's result"
"""What is told of an input that `plan` has left."""

_BEGINNING = b'{"input": '  # of each line, by the order of Record's fields


@dataclass
class Record:
    """What became of one picture."""

    input: str
    output: str | None
    """None where there is no place for a result."""
    status: Literal["written", "skipped", "failed"] = "failed"
    """Skipped: the result was there before."""
    input_size: tuple[int, int] | None = None
    """(width, height) in pixels, upright; None where it is not known."""
    output_size: tuple[int, int] | None = None
    frames: int = 1
    seconds: float = 0.0
    """In reading, computing and writing it, which other pictures' may overlap."""
    model: str | None = None
    precision: str | None = None
    energy_mj: float | None = None
    """Of the arithmetic, by estimate (`addersr.energy.estimate`), in millijoules."""
    twin_energy_mj: float | None = None
    """Of the convolutional twin's."""
    error: str | None = None
    """Why it failed, in one line, but for what a file's name brings; `printable` for a terminal."""


class ReportFile:
    """A file that grows by one line of JSON for each record.

    A line is written at once and reaches the system when its picture has its name, before the next one is written;
    so a run that is killed leaves whole lines only, and may leave one picture without. When the run goes on, that one
    is in the file as skipped. A line without its end, after which the disk was full, gets one before the next.

    Raises:
        UsageError: the file cannot be written, or is none of records.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix.lower() in EXTENSIONS:
            raise UsageError(f"--report {path}: has a picture's ending; name a report, such as done.jsonl")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            self._cut, is_ours = _inspected(self._file)
        except OSError as error:
            raise UsageError(f"--report {path}: cannot be written: {error.strerror}; name another") from error
        if not is_ours:
            os.close(self._file)
            raise UsageError(f"--report {path}: is there, and no report of addersr; name another")

    def append(self, record: Record) -> None:
        """Add a line.

        Raises:
            OSError: it cannot be written, such as to a full disk.
        """
        line = json.dumps(asdict(record)).encode() + b"\n"
        rest = b"\n" + line if self._cut else line
        while rest:
            written = os.write(self._file, rest)
            self._cut = not rest[:written].endswith(b"\n")
            rest = rest[written:]

    def __enter__(self) -> Self:
        """To close it behind."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        os.close(self._file)


def _inspected(file: int) -> tuple[bool, bool]:
    """Whether the last line has no end, and whether it is a report: the first line begins as one of its own, or is not
    there."""
    if not os.lseek(file, 0, os.SEEK_END):
        return False, True
    os.lseek(file, -1, os.SEEK_END)
    is_cut = os.read(file, 1) != b"\n"
    os.lseek(file, 0, os.SEEK_SET)
    beginning = os.read(file, len(_BEGINNING))
    return is_cut, _BEGINNING.startswith(beginning)


def of_process(path: Path, rank: int) -> Path:
    """The file of one of several processes: done.jsonl of process 1 is done.1.jsonl.

    One each, because a file system that several machines share need not keep the lines apart that they append.
    """
    return path.with_name(f"{path.stem}.{rank}{path.suffix}")


class Tally:
    """What became of the pictures so far; told of each if asked to."""

    def __init__(self, told: TextIO | None, *, verbose: bool) -> None:
        self.report: ReportFile | None = None
        self._errors: list[str] = []
        self._unreported = ""
        self._lines_missing = 0
        self._counts: Counter[str] = Counter()
        self._told = told
        self._verbose = verbose

    def add(self, record: Record) -> None:
        """Count, report and tell."""
        self._counts[record.status] += 1
        if record.error is not None:
            self._errors.append(record.error)
        if self.report is not None:
            try:
                self.report.append(record)
            except OSError as error:  # a full disk, of which the results' may be another
                self._unreported = f"--report {self.report.path}: cannot be written: {error.strerror}"
                self._lines_missing += 1
        if self._verbose:
            with tqdm.external_write_mode(file=self._told):  # above the bar
                tell(_line(record), self._told)

    def leave(self, picture: Path) -> None:
        """Count and tell of an input that was taken for a result; it is no line of the report."""
        self._counts["left"] += 1
        if self._verbose:
            tell(f"{picture}: {LEFT}", self._told)

    @property
    def errors(self) -> list[str]:
        """A line for each picture that failed, and one for the report if lines are missing in it."""
        if not self._lines_missing:
            return self._errors
        return [*self._errors, f"{self._unreported}; {self._lines_missing} of its lines are missing"]

    def summary(self, where: str) -> str:
        """One line."""
        parts = [f"{self._counts['written']} written to {where}"]
        if self._counts["skipped"]:
            parts.append(f"{self._counts['skipped']} were there already")
        if self._counts["left"]:
            hint = "" if self._verbose else " (--verbose names them)"
            parts.append(f"{self._counts['left']} {LEFT}{hint}")
        if self._counts["failed"]:
            parts.append(f"{self._counts['failed']} failed")
        return ", ".join(parts)


def _line(record: Record) -> str:
    if record.error is not None:
        return f"failed: {record.error}"
    text = f"{record.status}: {record.input} -> {record.output}"
    if record.input_size is not None and record.output_size is not None:
        text += f"  {sizes(record.input_size, record.output_size)}, {record.seconds:.2f} s"
    if record.energy_mj is not None and record.twin_energy_mj is not None:
        text += f", about {record.energy_mj:.3g} mJ (convolutional twin {record.twin_energy_mj:.3g} mJ)"
    return text


def sizes(source: tuple[int, int], target: tuple[int, int]) -> str:
    """As they are told; (width, height) each."""
    return "{}x{} -> {}x{}".format(*source, *target)
