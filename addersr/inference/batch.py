"""Files and folders through a network: `addersr upscale`.

One bad file does not stop the rest: what failed is listed at the end and told by the exit code. Each picture
is read, upscaled and written before the next is read, so memory does not grow with the number of files.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

from tqdm import tqdm

from addersr import checkpoint
from addersr.errors import AdderSRError, ImageError
from addersr.images import files
from addersr.inference import options
from addersr.inference.plan import Job, check_output, plan
from addersr.inference.upscaler import Upscaler
from addersr.progress import bar_columns

__all__ = ["Report", "add_arguments", "run", "upscale_files"]

DEFAULT_SCALE = 2


@dataclass
class Report:
    """What became of the pictures of a run."""

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    """Results that were there before."""
    failed: list[str] = field(default_factory=list)
    """One line for each picture or folder that failed."""


def upscale_files(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    report: Report,
    *,
    if_exists: Literal["error", "skip", "overwrite"] = "error",
    quality: int = 95,
    strip: bool = False,
) -> None:
    """Do the jobs one after the other, with a progress bar over pictures and one over the tiles of each.

    Args:
        report: grows with each picture, so that it is true even when the run is interrupted.
        if_exists: what to do about a result that is already there: "error" counts it as failed and leaves it,
            "skip" leaves it (which resumes a run that was stopped), "overwrite" replaces it.
        quality: of JPEG and WebP, see `addersr.images.files.write`.
        strip: leave out EXIF and XMP; the colour profile is always kept, the colours depend on it.
    """
    # Drawn at each picture: after a quick one, a long one may keep the next from being shown for minutes.
    bar = tqdm(jobs, unit="picture", disable=None, ncols=bar_columns(), mininterval=0, miniters=1)
    for job in bar:
        if os.path.lexists(job.target) and if_exists == "skip":
            report.skipped.append(job.target)
            continue
        try:
            if os.path.lexists(job.target) and if_exists == "error":
                raise ImageError(
                    f"{job.target}: already exists; use --if-exists overwrite to replace it, or skip"
                )
            _upscale_file(upscaler, job, quality, strip)
            report.written.append(job.target)
        except ImageError as error:
            report.failed.append(str(error))
        except AdderSRError as error:
            report.failed.append(f"{job.source}: {error}")
        except OSError as error:
            report.failed.append(f"{job.source}: {error.strerror or error}")
        except MemoryError:
            report.failed.append(
                f"{job.source}: not enough memory for a result x{upscaler.scale} as large; crop it"
            )
        except RuntimeError as error:  # torch's, from the device or a kernel
            reason = (str(error) or type(error).__name__).splitlines()[0]
            report.failed.append(f"{job.source}: {reason}; try --device cpu")


def _upscale_file(upscaler: Upscaler, job: Job, quality: int, strip: bool) -> None:
    picture = files.read(job.source)
    if strip:
        picture = replace(picture, exif=None, xmp=None)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f"{job.target.parent}: cannot be made: {error.strerror}; choose another -o"
        ) from error
    # Before the long part: what would fail after it.
    files.check_writable(job.target, picture, scale=upscaler.scale)

    with closing(_TileBar(job.source.name)) as bar:
        result = upscaler.upscale_picture(picture, bar.update)
    files.write(job.target, result, quality=quality)


class _TileBar:
    """A bar over the tiles of one picture, drawn if it has several."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: tqdm[NoReturn] | None = None

    def update(self, done: int, total: int) -> None:  # an `addersr.inference.upscaler.Progress`
        if self._bar is not None:
            self._bar.total = total  # it grows when memory runs out and the tiles become smaller
            self._bar.n = done
            self._bar.refresh()
        elif total > 1:
            self._bar = tqdm(
                initial=done,
                total=total,
                unit="tile",
                desc=self._name,
                leave=False,
                disable=None,
                ncols=bar_columns(),
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `addersr upscale`."""
    endings = ", ".join(sorted(ending[1:] for ending in files.EXTENSIONS))
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help=f"a picture ({endings}) or a folder"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="folder for the results, made if it is not there; for one picture also a file name"
        " (a folder with a dot in its name: OUT/)",
    )
    parser.add_argument(
        "--scale",
        type=options.whole_number,
        metavar="N",
        help="how many times larger (the model's; 2 if none is named)",
    )
    parser.add_argument("--model", metavar="NAME|FILE", help="name of shipped weights or a .safetensors file")
    options.add_execution(parser)
    parser.add_argument(
        "--suffix", type=_suffix, default="", help="put behind the names of the results: --suffix _x2"
    )
    parser.add_argument(
        "--format",
        choices=sorted(ending[1:] for ending in files.EXTENSIONS),
        help="write all results in this format (default: each picture's own)",
    )
    parser.add_argument(
        "--quality",
        type=partial(options.whole_number, most=100),
        default=95,
        help="of JPEG and WebP, 1 to 100; WebP is lossless at 100 (default: 95)",
    )
    parser.add_argument(
        "--if-exists",
        choices=["error", "skip", "overwrite"],
        default="error",
        help="a result that is already there: count it as failed, leave it, or replace it (default: error)",
    )
    parser.add_argument("--strip", action="store_true", help="leave out EXIF and XMP (kept otherwise)")
    parser.add_argument("--no-recursive", action="store_true", help="do not look into folders within folders")


def _suffix(text: str) -> str:
    if "/" in text or os.sep in text:
        raise argparse.ArgumentTypeError(f"must be part of a file name, got {text!r}")
    return text


def run(args: argparse.Namespace) -> int:
    """Do `addersr upscale`; 0 if all pictures were done or skipped, 1 if any failed.

    What was done and what failed is also told when the run is interrupted.

    Raises:
        AdderSRError: nothing can be done at all: the model, the device, or where the results should go.
    """
    suffix, format = args.suffix, args.format
    jobs, failed = plan(
        args.inputs, args.output, suffix=suffix, format=format, recursive=not args.no_recursive
    )
    if not all(args.if_exists == "skip" and os.path.lexists(job.target) for job in jobs):
        check_output(jobs, args.output)
    name = args.model or checkpoint.default_name(args.scale or DEFAULT_SCALE)
    loaded = checkpoint.load(name, scale=args.scale, precision=args.precision)
    upscaler = options.make_upscaler(args, loaded)
    report = Report(failed=failed)
    try:
        upscale_files(
            upscaler, jobs, report, if_exists=args.if_exists, quality=args.quality, strip=args.strip
        )
    finally:
        for line in report.failed:
            print("addersr: error:", " ".join(line.split()), file=sys.stderr)
        counts = [f"{len(report.written)} written to {args.output} (x{upscaler.scale}, {loaded.name})"]
        if report.skipped:
            counts.append(f"{len(report.skipped)} were there already")
        if report.failed:
            counts.append(f"{len(report.failed)} failed")
        print(", ".join(counts))
    return 1 if report.failed else 0
