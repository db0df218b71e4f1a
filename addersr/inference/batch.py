"""Files and folders through a network: `addersr upscale`.

One bad file does not stop the rest: what failed is listed at the end and told by the exit code. Each picture
is read, upscaled and written before the next is read, so memory does not grow with the number of files.
"""

import argparse
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from tqdm import tqdm

from addersr import checkpoint
from addersr.errors import AdderSRError, ImageError
from addersr.images import files
from addersr.inference import options
from addersr.inference.upscaler import Upscaler

__all__ = ["Job", "Report", "add_arguments", "plan", "run", "upscale_files"]

DEFAULT_SCALE = 2

_Identity: TypeAlias = tuple[int, int] | str


@dataclass(frozen=True)
class Job:
    """One picture: where it is and where its result goes."""

    source: Path
    target: Path


@dataclass
class Report:
    """What became of the pictures of a run."""

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    """Results that were there before."""
    failed: list[str] = field(default_factory=list)
    """One line for each picture or folder that failed."""


def plan(
    inputs: Sequence[Path], out: Path, *, suffix: str = "", format: str | None = None, recursive: bool = True
) -> tuple[list[Job], list[str]]:
    """Decide where each result goes, before anything is read or written.

    A file goes to ``out``/name; a folder's pictures keep their places below it (``out``/relative path),
    hidden files left out, and so is what an earlier run with this suffix put there. One single file may also be
    given the result's own name: ``out`` with a picture's ending.

    Args:
        suffix: put between a name and its ending: "_x2" makes photo.jpg photo_x2.jpg.
        format: the ending of all results, "png"; None keeps each file's own (.png where it is no picture's).
        recursive: look into folders within folders.

    Returns:
        The jobs, and one line for each input that cannot be done: an empty folder, one that cannot be read,
        two inputs for one result (neither is done: which should win?), a result in the place of an input.
        Names that differ in upper and lower case or in Unicode's normal form alone count as one, because some
        file systems take them for one.

    Raises:
        ImageError: ``out`` cannot take the results.
    """
    if _names_one_picture(inputs, out):
        if suffix or format:
            raise ImageError(
                f"-o {out} names the result already; leave out --suffix and --format, or name a folder"
            )
        jobs = [Job(inputs[0], out)]
        failed: list[str] = []
    else:
        if os.path.exists(out) and not os.path.isdir(out):
            raise ImageError(f"-o {out} is a file; name a folder for the results")
        if out.suffix.lower() in files.EXTENSIONS and not os.path.isdir(out):
            raise ImageError(f"-o {out} names one picture, but the input may be several; name a folder")
        jobs, failed = _place(inputs, out, suffix, format, recursive)
    return _without_conflicts(jobs, failed)


def _names_one_picture(inputs: Sequence[Path], out: Path) -> bool:
    is_name = out.suffix.lower() in files.EXTENSIONS and not os.path.isdir(out)
    return is_name and len(inputs) == 1 and not os.path.isdir(inputs[0])


def _place(
    inputs: Sequence[Path], out: Path, suffix: str, format: str | None, recursive: bool
) -> tuple[list[Job], list[str]]:
    jobs: dict[tuple[_Identity, Path], Job] = {}  # so that a file that is named twice is done once
    named = set()
    failed: list[str] = []
    for given in inputs:
        is_folder = os.path.isdir(given)
        unreadable: list[str] = []
        found = sorted(_pictures_in(given, out, recursive, unreadable)) if is_folder else [given]
        failed += unreadable
        if not found and not unreadable:
            known = " ".join(sorted(files.EXTENSIONS))
            failed.append(f"{given}: no pictures in this folder (looked for {known})")
        for source in found:
            relative = source.relative_to(given) if is_folder else Path(source.name)
            ending = f".{format}" if format else source.suffix
            if ending.lower() not in files.EXTENSIONS:
                ending = ".png"
            target = out / relative.with_name(f"{source.stem}{suffix}{ending}")
            identity = _identity(source)
            jobs.setdefault((identity, target), Job(source, target))
            if not is_folder:
                named.add(identity)
    # With a suffix, results may lie beside their pictures, and the next run's search finds them there.
    results = {_identity(job.target) for job in jobs.values()} - named if suffix else set()
    return [job for (source, _), job in jobs.items() if source not in results], failed


def _pictures_in(folder: Path, out: Path, recursive: bool, unreadable: list[str]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        unreadable.append(f"{error.filename}: this folder cannot be read: {error.strerror}")

    results = _identity(out)
    for place, folders, names in os.walk(folder, onerror=note):
        here = Path(place)
        # Results of an earlier run that lie within the input are not its input.
        folders[:] = [n for n in folders if recursive and n[0] != "." and _identity(here / n) != results]
        yield from (here / n for n in names if n[0] != "." and Path(n).suffix.lower() in files.EXTENSIONS)


def _without_conflicts(jobs: list[Job], failed: list[str]) -> tuple[list[Job], list[str]]:
    sources = {_identity(job.source) for job in jobs}
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        by_target.setdefault(_folded(job.target), []).append(job)

    kept = []
    for claims in by_target.values():
        for job in claims:
            if _identity(job.target) in sources:
                failed.append(
                    f"{job.source}: its result would overwrite the input {job.target};"
                    " choose another -o, or --suffix _x2"
                )
            elif len(claims) > 1:
                others = ", ".join(str(other.source) for other in claims if other is not job)
                failed.append(
                    f"{job.source}: its result {job.target} would also be that of {others};"
                    " rename one, or choose another -o for it"
                )
            else:
                kept.append(job)
    return kept, failed


def _identity(path: Path) -> _Identity:
    """Equal for two names of one file or folder, and where there is none for two names of one place."""
    try:
        status = path.stat()
    except OSError:
        return _folded(path)
    return status.st_dev, status.st_ino


def _folded(path: Path) -> str:
    real = os.path.realpath(path)  # Path.resolve raises on a loop of links
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", real).casefold())


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
    for job in tqdm(jobs, unit="picture", disable=None):
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

    with tqdm(unit="tile", desc=job.source.name, leave=False, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        result = upscaler.upscale_picture(picture, progress)
    files.write(job.target, result, quality=quality)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `addersr upscale`."""
    endings = ", ".join(sorted(ending[1:] for ending in files.EXTENSIONS))
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help=f"a picture ({endings}) or a folder"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder for the results, made if it is not there; for one picture also a file name",
    )
    parser.add_argument(
        "--scale",
        type=options.whole_number,
        metavar="N",
        help="how many times larger (the model's; 2 if none is named)",
    )
    parser.add_argument("--model", metavar="NAME|FILE", help="name of shipped weights or a .safetensors file")
    parser.add_argument(
        "--tile",
        type=options.tile,
        default="auto",
        metavar="N|auto",
        help="side of a tile in input pixels (default: auto)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="cpu, cuda, cuda:N or auto (default: auto)"
    )
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
    name = args.model or checkpoint.default_name(args.scale or DEFAULT_SCALE)
    loaded = checkpoint.load(name, scale=args.scale)
    upscaler = Upscaler(loaded.model, device=args.device, tile=args.tile)
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
