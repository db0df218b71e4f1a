"""Pictures through a network, one after the other, while the next is read and the last is written.

One bad file does not stop the rest: what failed is in its record. How many pictures are in memory does not grow with
their number (`addersr.inference.pipeline`).
"""

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias, cast

from addersr.atomic import remove_abandoned
from addersr.energy.estimate import Estimate, estimate
from addersr.errors import AdderSRError, ImageError
from addersr.images import files
from addersr.images.files import Animation
from addersr.inference.enlarge import Content, Done, check_pixels, enlarge
from addersr.inference.ensemble import VIEWS
from addersr.inference.existing import is_left
from addersr.inference.inputs import STANDARD, opened, standard_input
from addersr.inference.pipeline import overlapped
from addersr.inference.plan import Job
from addersr.inference.report import Record
from addersr.inference.settings import Settings
from addersr.inference.sizes import Wanted, passes
from addersr.inference.upscaler import Upscaler
from addersr.models.presets import Network

__all__ = ["Overlapped", "Stage", "Work", "upscale_files"]

_ESTIMATED = 1000  # side of the picture whose energy is counted, which takes no memory


class Work:
    """One picture on its way."""

    def __init__(self, job: Job, record: Record) -> None:
        self.job = job
        self.record = record
        self.content: Content | None = None
        self.ended = False
        """Nothing more is to be done with it: it failed, was skipped or is written."""


Stage: TypeAlias = Callable[[Work], None]

Overlapped: TypeAlias = Callable[[Iterable[Work], Stage, Stage, Stage], None]
"""What takes works through reading, computing and writing: `addersr.inference.pipeline.overlapped`, or the like."""


def upscale_files(
    upscaler: Upscaler,
    model: str,
    jobs: Iterable[Job],
    settings: Settings,
    finished: Callable[[Record], None],
    *,
    advance: Done | None = None,
    computed: Callable[[], None] | None = None,
    through: Overlapped = overlapped,
) -> None:
    """Do the jobs in order, with reading, computing and writing overlapped.

    Args:
        model: the name of the network, for the records.
        finished: called with the record of each job, in their order, as soon as its result has its name; in
            another thread.
        advance: called in this thread with the share of the picture at hand that is computed.
        computed: called in this thread when no more is to be computed of a picture.
        through: takes them through reading, computing (in this thread) and writing.

    Raises:
        KeyboardInterrupt: and whatever else interrupts this thread. The picture that is being written then is
            completed, and its record given; the others are not begun.
    """
    run = _Run(upscaler, settings, finished, advance, computed)
    through((run.begin(job, model) for job in jobs), run.read, run.compute, run.write)


class _Run:
    """The stages of `upscale_files`."""

    def __init__(
        self,
        upscaler: Upscaler,
        settings: Settings,
        finished: Callable[[Record], None],
        advance: Done | None,
        computed: Callable[[], None] | None,
    ) -> None:
        self._upscaler = upscaler
        self._settings = settings
        self._finished = finished
        self._advance = advance
        self._computed = computed
        self._swept: set[Path] = set()
        self._estimate: Estimate | None = None

    def begin(self, job: Job, model: str) -> Work:
        precision = self._upscaler.precision
        return Work(job, Record(str(job.source), str(job.target), model=model, precision=precision))

    def read(self, work: Work) -> None:
        self._stage(work, self._read)

    def compute(self, work: Work) -> None:
        self._stage(work, self._compute)
        if self._computed is not None:
            self._computed()

    def write(self, work: Work) -> None:
        self._stage(work, self._write)
        work.content = None
        record = work.record
        if self._settings.energy and record.status == "written":
            assert record.input_size is not None and record.output_size is not None
            # Here, beside the next picture's computing, and no part of this one's seconds.
            self._add_energy(record, record.input_size[::-1], record.output_size[::-1])
        self._finished(record)

    def _stage(self, work: Work, stage: Stage) -> None:
        """Do a stage; what fails is written down, and the stages after it are left out."""
        if work.ended:
            return
        started = time.perf_counter()
        try:
            stage(work)
        except (AdderSRError, OSError, MemoryError, RuntimeError) as error:
            work.record.error = _reason(error, work.job.source, self._settings.wanted)
            work.ended = True
        if work.ended:
            work.content = None
        work.record.seconds += time.perf_counter() - started

    def _read(self, work: Work) -> None:
        source, target = work.job.source, work.job.target
        if self._is_there(work):
            return
        settings = self._settings
        most, most_of_result = settings.budget
        with opened(source) if source != STANDARD else nullcontext(_standard_input()) as file:
            content = files.read_any(file, max_pixels=most)
        if settings.strip:
            content = files.stripped(content)
        size = files.size(content)
        result = settings.wanted.of(*size)
        frames = len(content.frames) if isinstance(content, Animation) else 1
        record = work.record
        record.input_size, record.output_size, record.frames = size[::-1], result[::-1], frames
        try:
            check_pixels(size, result, frames, self._upscaler.scale, most_of_result)
        except ImageError as error:
            raise ImageError(f"{source}: {error}") from None
        # Before the long part: what would fail after it.
        check = partial(files.check_writable, size=result, lossless=settings.lossless)
        if target == STANDARD:
            check(sys.stdout.buffer, content, format=self._format(content))
        else:
            self._prepare(target.parent)
            check(target, content)
        work.content = content

    def _is_there(self, work: Work) -> bool:
        """Whether the result is there and to be left; then the work has ended."""
        if not is_left(work.job.source, work.job.target, self._settings.if_exists):
            return False
        work.record.status, work.ended = "skipped", True
        return True

    def _format(self, content: Content) -> str:
        """Of a result that goes to standard output."""
        first = content.frames[0] if isinstance(content, Animation) else content
        return self._settings.format or first.format or "png"

    def _prepare(self, folder: Path) -> None:
        if folder in self._swept:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(folder)
        except OSError as error:
            raise ImageError(
                f"{folder}: cannot be made or used: {error.strerror}; choose another -o"
            ) from error
        self._swept.add(folder)

    def _compute(self, work: Work) -> None:
        content, record = work.content, work.record
        assert content is not None and record.output_size is not None
        work.content = None  # so that it goes when its successor is there
        work.content = enlarge(self._upscaler, content, record.output_size[::-1], self._advance)

    def _add_energy(self, record: Record, size: tuple[int, int], result: tuple[int, int]) -> None:
        """Of all frames, passes and views."""
        if self._estimate is None:  # once: it is proportional to the pixels, to 1 in 1000
            self._estimate = estimate(cast(Network, self._upscaler.model), _ESTIMATED, _ESTIMATED)
        scale = self._upscaler.scale
        pixels = sum(size[0] * size[1] * scale ** (2 * index) for index in range(passes(size, result, scale)))
        views = len(VIEWS) if self._upscaler.self_ensemble else 1
        times = pixels * record.frames * views / _ESTIMATED**2
        record.energy_mj, record.twin_energy_mj = self._estimate.mj * times, self._estimate.twin_mj * times

    def _write(self, work: Work) -> None:
        target, content, settings = work.job.target, work.content, self._settings
        assert content is not None
        save = partial(files.write, quality=settings.quality, lossless=settings.lossless)
        if target == STANDARD:
            save(sys.stdout.buffer, content, format=self._format(content))
            sys.stdout.buffer.flush()
        elif self._is_there(work):  # another process has made it in the meantime
            return
        else:
            try:
                save(target, content, overwrite=settings.if_exists == "overwrite")
            except ImageError:
                if self._is_there(work):  # since it was looked for
                    return
                raise
        work.record.status, work.ended = "written", True


def _standard_input() -> BufferedReader:
    return BufferedReader(standard_input())


def _reason(error: Exception, source: Path, wanted: Wanted) -> str:
    """For the user: one line, but for what a file's name brings."""
    if isinstance(error, ImageError):  # which name their files
        return str(error)
    if isinstance(error, AdderSRError):
        return f"{source}: {error}"
    if isinstance(error, OSError):
        return f"{source}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return f"{source}: not enough memory for a result of {wanted}; crop it"
    # torch's, from the device or a kernel
    first = (str(error) or type(error).__name__).splitlines()[0]
    return f"{source}: {first}; try --device cpu"
