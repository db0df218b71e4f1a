"""`addersr upscale`: what its options mean for a run, and what is told about it."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from types import FrameType
from typing import Literal, NoReturn

from addersr import checkpoint
from addersr.errors import UsageError
from addersr.inference import options
from addersr.inference.arguments import add_arguments
from addersr.inference.bar import Bar
from addersr.inference.batch import upscale_files
from addersr.inference.dry_run import show
from addersr.inference.plan import check_output, plan
from addersr.inference.report import Record, ReportFile, Tally
from addersr.inference.settings import Settings
from addersr.inference.sizes import DEFAULT_SCALE, Wanted, default_model

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Do `addersr upscale`; 0 if all pictures were done or skipped, 1 if any failed.

    What was done and what failed is also told when the run is interrupted.

    Raises:
        UsageError: options that do not go together.
        AdderSRError: nothing can be done at all: the model, the device, or where the results should go.
        SystemExit: the process was told to end (SIGTERM).
    """
    if args.lossless and args.format == "jpeg":
        raise UsageError("--lossless: JPEG always loses; choose --format png, webp or tiff")
    to_standard = args.output == "-"
    if to_standard and sys.stdout.isatty() and not args.dry_run:
        raise UsageError("-o -: standard output is a terminal; lead it to a file or a program")
    format = None if args.format == "keep" else args.format
    loaded = None
    wanted = _wanted(args)
    if wanted is None and args.model is not None:
        loaded = checkpoint.load(args.model, precision=args.precision)
        wanted = Wanted(factor=loaded.model.scale)
    elif wanted is None:
        wanted = Wanted(factor=DEFAULT_SCALE)
    naming = {"name": args.name, "scale": wanted.factor, "format": format, "recursive": args.recursive}
    jobs, refused = plan(args.inputs, args.output, **naming)
    if_exists: Literal["error", "skip", "overwrite"] = "overwrite" if args.overwrite else "error"
    if args.skip_existing:
        if_exists = "skip"
    settings = Settings(
        wanted,
        if_exists=if_exists,
        format=format,
        quality=args.quality,
        lossless=args.lossless,
        strip=args.strip_metadata,
        max_pixels=args.max_pixels,
        energy=args.report is not None or args.verbose,
    )
    if loaded is None:
        name = args.model or default_model(wanted.factor)
        loaded = checkpoint.load(name, precision=args.precision)
    if args.dry_run:
        return show(jobs, refused, settings, loaded.model.scale)
    if not all(settings.if_exists == "skip" and os.path.lexists(job.target) for job in jobs):
        check_output(jobs, args.output)

    told = sys.stderr if to_standard else sys.stdout
    tally = Tally(told, verbose=args.verbose)
    with ExitStack() as stack:
        if args.report is not None:
            tally.report = stack.enter_context(ReportFile(args.report))
        upscaler = options.make_upscaler(args, loaded)
        stack.enter_context(_told_to_end())
        try:
            for refusal in refused:
                tally.add(Record(str(refusal.source), None, error=str(refusal)))
            with closing(Bar(jobs, wanted, shown=not args.quiet)) as bar:

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
                )
        finally:
            for line in tally.errors:
                print("addersr: error:", line, file=sys.stderr)
            if not args.quiet:
                where = "standard output" if to_standard else args.output
                print(tally.summary(f"{where} ({wanted}, {loaded.name})"), file=told)
    return 1 if tally.errors else 0


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
