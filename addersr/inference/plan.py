"""Where the result of each picture goes: decided, and tried, before the work."""

import os
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from addersr.errors import ImageError
from addersr.images import files

__all__ = ["Job", "check_output", "plan"]

_Identity: TypeAlias = tuple[int, int] | str


@dataclass(frozen=True)
class Job:
    """One picture: where it is and where its result goes."""

    source: Path
    target: Path


def plan(
    inputs: Sequence[Path],
    out: str | Path,
    *,
    suffix: str = "",
    format: str | None = None,
    recursive: bool = True,
) -> tuple[list[Job], list[str]]:
    """Decide where each result goes, before anything is read or written.

    A file goes to ``out``/name; a folder's pictures keep their places below it (``out``/relative path),
    hidden files left out, and so is what an earlier run with this suffix put there. One single file may also be
    given the result's own name: ``out`` with a picture's ending. What is a folder already, or is written with
    a slash behind it, is a folder whatever its ending.

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
        ImageError: ``out`` cannot take the results, or has an ending that is no picture's.
    """
    is_folder = str(out).endswith(("/", os.sep)) or os.path.isdir(out)
    out = Path(out)
    ending = "" if is_folder else out.suffix.lower()
    is_single = len(inputs) == 1 and not os.path.isdir(inputs[0])
    if is_single and ending and ending not in files.EXTENSIONS:
        known = ", ".join(sorted(files.EXTENSIONS))
        raise ImageError(
            f"-o {out}: no picture format is named {ending!r}; use one of {known}, or {out}/ for a folder"
        )
    if is_single and ending:
        if suffix or format:
            raise ImageError(
                f"-o {out} names the result already; leave out --suffix and --format, or name a folder"
            )
        jobs = [Job(inputs[0], out)]
        failed: list[str] = []
    else:
        if os.path.exists(out) and not os.path.isdir(out):
            raise ImageError(f"-o {out} is a file; name a folder for the results")
        if ending in files.EXTENSIONS:
            raise ImageError(f"-o {out} names one picture, but the input may be several; name a folder")
        jobs, failed = _place(inputs, out, suffix, format, recursive)
    return _without_conflicts(jobs, failed)


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


def check_output(jobs: Sequence[Job], out: str | Path) -> None:
    """Find out once, before the work, whether results can be put into ``out``, without making it.

    Args:
        jobs: from `plan` with the same ``out``.

    Raises:
        ImageError: they cannot.
    """
    place = Path(out).absolute()
    if any(job.target == Path(out) for job in jobs):
        place = place.parent
    try:
        while not _is_there(place):
            place = place.parent
        # Asks the system, which knows of read-only disks too.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ImageError(f"-o {out}: cannot be written: {error.strerror}; choose another place") from error


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True
