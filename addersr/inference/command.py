"""`addersr upscale`: what its options mean for a run, and what is told about it."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from addersr import checkpoint
from addersr.errors import UsageError
from addersr.inference import options
from addersr.inference.arguments import add_arguments
from addersr.inference.bar import Bar
from addersr.inference.batch import upscale_files
from addersr.inference.dry_run import show
from addersr.inference.existing import IfExists
from addersr.inference.inputs import Refusal, is_pipe
from addersr.inference.launch import follow_launcher, launch, processes
from addersr.inference.pipeline import overlapped
from addersr.inference.plan import Job, Plan, check_output, plan
from addersr.inference.report import Record, ReportFile, Tally, of_process
from addersr.inference.settings import Settings
from addersr.inference.sizes import DEFAULT_SCALE, Wanted, default_model
from addersr.telling import tell

if TYPE_CHECKING:
    from addersr.inference.distributed import Group

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Do `addersr upscale`; 0 if all pictures were done or skipped, 1 if any failed.

    What was done and what failed is also told when the run is interrupted. Of several processes each tells of its own
    share, and gives the exit code that belongs to it.

    Raises:
        UsageError: options that do not go together.
        AdderSRError: nothing can be done at all: the model, the device, or where the results should go.
        SystemExit: the process was told to end (SIGTERM), or another one that shares the work cannot begin.
    """
    if args.lossless and args.format == "jpeg":
        raise UsageError("--lossless: JPEG always loses; choose --format png, webp or tiff")
    _check_standard_output(args)
    several = processes(args.devices, args.num_nodes)
    if several is None or (args.dry_run and not several.launched):
        return _upscale(args, None)
    _check_shareable(args)
    if not several.launched:
        with _told_to_end():
            return launch(args.words, several, args.device)
    begun = follow_launcher()
    from addersr.inference.distributed import Group  # Lightning, which takes seconds to import

    group = Group(several, begun)
    args.device = group.device(args.device)
    code = _upscale(args, group)
    group.end()
    return code


def _check_standard_output(args: argparse.Namespace) -> None:
    if args.output != "-" or args.dry_run:
        return
    stream = cast("TextIO | None", sys.stdout)  # None: the program was started with it closed
    if stream is None or stream.isatty():
        problem = "closed" if stream is None else "a terminal"
        raise UsageError(f"-o -: standard output is {problem}; lead it to a file or a program")


def _check_shareable(args: argparse.Namespace) -> None:
    if args.dry_run:
        raise UsageError("--dry-run needs one process; leave torchrun or srun out")
    if "-" in (args.output, *args.inputs):
        raise UsageError(
            "standard input and output, -, are for one process; name files, or leave --devices out"
        )
    for given in args.inputs:
        if is_pipe(given):
            raise UsageError(f"{given}: a pipe is for one process; name a file, or leave --devices out")
    if args.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {args.device}: several processes take auto, cpu or cuda")


def _upscale(args: argparse.Namespace, group: "Group | None") -> int:
    """In this process: all of it, or its share."""
    told = sys.stderr if args.output == "-" else sys.stdout
    tally = Tally(told, verbose=args.verbose)
    plans = group is None or group.rank == 0
    whose = "" if group is None else f"process {group.rank + 1} of {group.count}: "
    jobs: list[Job] = []
    refused: list[Refusal] = []
    left: list[Path] = []
    with ExitStack() as stack:
        with nullcontext() if group is None else group.agreeing():
            format = None if args.format == "keep" else args.format
            wanted, loaded = _wanted(args), None
            if wanted is None and args.model is not None:
                loaded = checkpoint.load(args.model, precision=args.precision)
                wanted = Wanted(factor=loaded.model.scale)
            elif wanted is None:
                wanted = Wanted(factor=DEFAULT_SCALE)
            settings = _settings(args, wanted, format)
            if plans:
                naming = {
                    "name": args.name, "scale": wanted.factor, "format": format, "recursive": args.recursive,
                    "if_exists": settings.if_exists, "wait": not args.dry_run,
                }  # fmt: skip
                jobs, refused, left = plan(args.inputs, args.output, **naming)
            if loaded is None:
                name = args.model or default_model(wanted.factor)
                loaded = checkpoint.load(name, precision=args.precision)
            if args.dry_run:
                return show(Plan(jobs, refused, left), settings, loaded.model.scale)
            if not all(settings.if_exists == "skip" and os.path.lexists(job.target) for job in jobs):
                check_output(jobs, args.output)
            if args.report is not None:
                report = args.report if group is None else of_process(args.report, group.rank)
                tally.report = stack.enter_context(ReportFile(report))
            upscaler = options.make_upscaler(args, loaded)
        if group is not None:
            jobs = group.share(jobs)
        stack.enter_context(_told_to_end())
        try:
            for picture in left:
                tally.leave(picture)
            for refusal in refused:
                tally.add(Record(str(refusal.source), None, error=str(refusal)))
            with closing(Bar(jobs, wanted, shown=plans and not args.quiet, whose=whose)) as bar:

                def finished(record: Record) -> None:
                    tally.add(record)
                    bar.finished(record)

                upscale_files(
                    upscaler,
                    loaded.name,
                    jobs,
                    settings,
                    finished,
                    advance=bar.advance,
                    computed=bar.computed,
                    through=overlapped if group is None else group.overlapped,
                )
        finally:
            for line in tally.errors:
                tell(f"addersr: error: {line}", sys.stderr)
            if not args.quiet:
                where = "standard output" if args.output == "-" else args.output
                tell(whose + tally.summary(f"{where} ({wanted}, {loaded.name})"), told)
    return 1 if tally.errors else 0


def _settings(args: argparse.Namespace, wanted: Wanted, format: str | None) -> Settings:
    if_exists: IfExists = "overwrite" if args.overwrite else "error"
    if args.skip_existing:
        if_exists = "skip"
    return Settings(
        wanted,
        if_exists=if_exists,
        format=format,
        quality=args.quality,
        lossless=args.lossless,
        strip=args.strip_metadata,
        max_pixels=args.max_pixels,
        energy=args.report is not None or args.verbose,
    )


def _wanted(args: argparse.Namespace) -> Wanted | None:
    if args.size is not None:
        return Wanted(size=args.size[::-1])
    if args.longest is not None:
        return Wanted(longest=args.longest)
    return None if args.scale is None else Wanted(factor=args.scale)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, so that nothing half-written is left, with the usual exit code."""

    def end(signum: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signum)

    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
