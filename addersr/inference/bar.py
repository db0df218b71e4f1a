"""The bar of a batch: files and megapixels of results, and when all will be done."""

import math
import sys
from collections.abc import Sequence
from threading import Lock
from typing import NoReturn

from tqdm import tqdm

from addersr.inference.plan import Job
from addersr.inference.report import Record
from addersr.inference.sizes import Wanted
from addersr.inference.survey import probe
from addersr.progress import bar_columns

__all__ = ["Bar"]

_SURVEYED = 2000  # files whose sizes are looked up; among more, these stand for the others
_COMPUTING = 0.95  # share of a picture's progress; the rest is when it has been written


class Bar:
    """Drawn on standard error while it is entered, if that is a terminal.

    It weighs a picture by the megapixels of its result, because that is what takes time, and counts one as done when
    it has been written. Methods may be called by several threads.

    Args:
        jobs: all of them, in the order in which they will be done.
        wanted: the size of their results.
        shown: False draws nothing.
        whose: stands before the numbers, where the jobs are not all of the run's.
    """

    def __init__(self, jobs: Sequence[Job], wanted: Wanted, *, shown: bool = True, whose: str = "") -> None:
        shown = shown and sys.stderr.isatty()
        self._weights = _weights(jobs, wanted) if shown else []
        self._count = len(jobs)
        self._whose = whose
        self._total = math.fsum(self._weights)
        self._computed = self._finished = 0  # pictures
        self._written = self._unwritten = 0.0  # megapixels
        self._lock = Lock()
        self._bar: tqdm[NoReturn] = tqdm(
            total=1,
            desc=self._description(),
            disable=not shown,
            ncols=bar_columns(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]",
            smoothing=0,
        )

    def _description(self) -> str:
        return f"{self._whose}{self._finished}/{self._count} files, {self._written:.1f}/{self._total:.1f} MP"

    def advance(self, share: float) -> None:
        """So much of the picture at hand has been computed."""
        if not self._bar.disable:
            with self._lock:
                self._draw(self._weights[self._computed] * share)

    def computed(self) -> None:
        """The picture at hand has been computed, or left."""
        if not self._bar.disable:
            with self._lock:
                self._unwritten += self._weights[self._computed]
                self._computed += 1
                self._draw(0.0)

    def finished(self, record: Record) -> None:
        """What became of the next picture; one that was left is no work, and goes from the total."""
        if not self._bar.disable:
            with self._lock:
                weight = self._weights[self._finished]
                self._finished += 1
                self._unwritten -= weight
                if record.status == "written":
                    self._written += weight
                else:
                    self._total = max(self._total - weight, 0.0)  # rounding must not show as -0.0
                self._draw(0.0)

    def _draw(self, current: float) -> None:
        bar = self._bar
        bar.total = max(self._total, 1e-6)
        # Not beyond the total, which rounding might do: tqdm would forget the total.
        bar.n = min(self._written + _COMPUTING * (self._unwritten + current), bar.total)
        if self._finished == self._count:
            bar.n = bar.total
        elapsed = bar.format_dict["elapsed"]
        bar.set_postfix_str(f"{bar.n / elapsed:.2f} MP/s" if elapsed > 0 else "", refresh=False)
        bar.set_description_str(self._description(), refresh=False)
        bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def _weights(jobs: Sequence[Job], wanted: Wanted) -> list[float]:
    """Megapixels of each result; where they cannot be told, the mean of the others."""
    stride = max(-(-len(jobs) // _SURVEYED), 1)
    known: dict[int, float] = {}
    for index in range(0, len(jobs), stride):
        if (size := probe(jobs[index].source)) is not None:
            height, width = wanted.of(size.height, size.width)
            known[index] = height * width * size.frames / 1e6
    mean = math.fsum(known.values()) / len(known) if known else 1.0
    return [known.get(index, mean) for index in range(len(jobs))]
