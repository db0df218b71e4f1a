"""Where the result of each picture goes: decided, and tried, before the work."""

import os
import string
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from addersr.errors import ImageError, UsageError
from addersr.images import files
from addersr.inference.existing import IfExists
from addersr.inference.inputs import (
    STANDARD,
    Found,
    Identity,
    Refusal,
    find,
    folded,
    identity,
    is_pattern,
    own_format,
)

__all__ = ["PLAIN_NAME", "Job", "Plan", "check_name", "check_output", "plan"]

PLAIN_NAME = "{stem}{suffix}"
"""The pattern of a result's name that is its picture's name."""


@dataclass(frozen=True)
class Job:
    """One picture: where it is and where its result goes; `STANDARD` is standard input and output."""

    source: Path
    target: Path


class Plan(NamedTuple):
    """What becomes of the inputs."""

    jobs: list[Job]
    refused: list[Refusal]
    """Those that cannot be done."""
    left: list[Path]
    """Those that were taken for results of an earlier run."""


def check_name(pattern: str) -> str:
    """A pattern of results' names: text with {stem}, {scale}, and {suffix} at its end, which brings its own dot.

    Raises:
        ValueError: it is none.
    """
    fields = [field for _, *field in string.Formatter().parse(pattern) if field[0] is not None]
    names = [name for name, *_ in fields]
    plain = all(rest == ["", None] for _, *rest in fields) and {"stem", "scale", "suffix"}.issuperset(names)
    if not plain or "stem" not in names or names.count("suffix") != 1 or not pattern.endswith("{suffix}"):
        raise ValueError(
            "must have {stem}, may have {scale}, and ends in {suffix}, the dot and the format's ending"
        )
    if "/" in pattern or os.sep in pattern:
        raise ValueError("must be the name of a file, without folders")
    return pattern


def plan(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    name: str = PLAIN_NAME,
    scale: float | None = None,
    format: str | None = None,
    recursive: bool = False,
    if_exists: IfExists = "error",
    wait: bool = True,
) -> Plan:
    """Decide where each result goes, before anything is read or written.

    A file goes to ``out``/name; the pictures of a folder, or of a pattern such as ``photos/**/*.jpg``, keep their
    places below it, or below its fixed part (``out``/relative path); hidden files are left out. One single file may
    also be given the result's own name: ``out`` with a picture's ending. What is a folder already, or is written
    with a slash behind it, is a folder whatever its ending. ``-`` is standard input, whose result is called stdin,
    or standard output, for one picture.

    Args:
        name: pattern of the results' names, see `check_name`: "{stem}_x{scale}{suffix}" makes photo.jpg photo_x2.jpg.
        scale: what {scale} stands for.
        format: of all results, by its name in `addersr.images.files.FORMATS`; None keeps each file's own, which its
            first bytes tell, whatever its ending says (PNG where neither is a picture's). Those of standard input
            or a shell's pipe are looked at where it is the only input: several may have to be read in turn.
        recursive: look into folders within folders.
        if_exists: what becomes of results that are there. A picture where the result of another one goes is an
            earlier run's result, or an original of that name: its pixels are not looked at. Where results are not
            replaced, it is taken for the former and left ("skip"; with a ``name`` of its own, such as photo_x2.jpg,
            also "error"), even if it was named, as a shell's pattern names all; else nothing may overwrite it.
        wait: for the first bytes of a pipe; False: its format counts as unknown.

    Returns:
        The jobs, what was left, and each input that cannot be done: an empty folder, one that cannot be read, two
        inputs for one result (neither is done: which should win?), a result in the place of an input. Names that
        differ in upper and lower case or in Unicode's normal form alone count as one, because some file systems take
        them for one.

    Raises:
        UsageError: ``out`` cannot take the results, or has an ending that is no picture's.
    """
    if out == "":
        raise UsageError("-o is empty; name a folder or a file, the current folder as .")
    if scale is None and "{scale}" in name:
        raise UsageError("--name has {scale}, but sizes are given by --size or --longest; leave it out")
    is_folder = str(out).endswith(("/", os.sep)) or os.path.isdir(out)
    to_standard, out = str(out) == "-", Path(out)
    ending = "" if is_folder else out.suffix.lower()
    is_single = len(inputs) == 1 and not os.path.isdir(inputs[0]) and not is_pattern(inputs[0])
    if is_single and ending and ending not in files.EXTENSIONS:
        known = ", ".join(sorted(files.EXTENSIONS))
        raise UsageError(
            f"-o {out}: no picture format is named {ending!r}; use one of {known}, or {out}/ for a folder"
        )
    is_named = is_single and bool(ending)
    if (is_named or to_standard) and name != PLAIN_NAME:
        raise UsageError(
            f"-o {out} names the result already; leave out --name and --suffix, or name a folder"
        )
    if is_named and format:
        raise UsageError(f"-o {out} names the format already; leave out --format, or name a folder")
    if not is_named and not to_standard:
        if os.path.exists(out) and not os.path.isdir(out):
            raise UsageError(f"-o {out} is a file; name a folder for the results")
        if ending in files.EXTENSIONS:
            raise UsageError(f"-o {out} names one picture, but the input may be several; name a folder")

    found, refused = find(inputs, out, recursive=recursive)
    if to_standard and len(found) > 1:
        raise UsageError(f"-o - takes one picture, and the input is {len(found)}; name a folder")
    doubtful, leaves = set[Identity](), False
    if is_named or to_standard:
        jobs = [Job(picture.source, STANDARD if to_standard else out) for picture in found]
    else:
        leaves = if_exists == "skip" or (if_exists == "error" and name != PLAIN_NAME)
        jobs, results = _place(found, out, name, scale, format, wait=wait and len(found) == 1)
        named = set() if leaves else {identity(picture.source) for picture in found if picture.named}
        doubtful = results - named
    left = list[Path]()
    if leaves:
        left = [job.source for job in jobs if identity(job.source) in doubtful]
        jobs = [job for job in jobs if identity(job.source) not in doubtful]
    kept, conflicts = _without_conflicts(jobs, doubtful)
    return Plan(kept, refused + conflicts, left)


def _place(
    found: list[Found], out: Path, name: str, scale: float | None, format: str | None, *, wait: bool
) -> tuple[list[Job], set[Identity]]:
    """The jobs, and those of their pictures that were found where the result of another one goes.

    Under other names, results may lie beside their pictures, and the next run's search finds them there.
    """
    jobs: dict[tuple[Identity, Path], Job] = {}  # so that a file that is named twice is done once
    for picture in found:
        relative, ending = picture.relative, picture.relative.suffix
        kept = format or own_format(picture.source, wait=wait)
        if kept is not None and files.FORMATS.get(ending.lower()) != kept:
            ending = files.SUFFIXES[kept]
        if ending.lower() not in files.EXTENSIONS:
            ending = ".png"
        target = out / relative.with_name(
            name.format(stem=relative.stem, scale=f"{scale or 1:g}", suffix=ending)
        )
        source = identity(picture.source)
        jobs.setdefault((source, target), Job(picture.source, target))
    results = {place for (source, _), job in jobs.items() if (place := identity(job.target)) != source}
    return list(jobs.values()), results & {source for source, _ in jobs}


def _without_conflicts(jobs: list[Job], doubtful: set[Identity]) -> tuple[list[Job], list[Refusal]]:
    """Without those whose result would replace an input, or another result, and without ``doubtful`` inputs."""
    sources = {identity(job.source) for job in jobs if job.source != STANDARD}
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        by_target.setdefault(folded(job.target), []).append(job)

    kept, refused = [], []
    for claims in by_target.values():
        for job in claims:
            if job.target != STANDARD and identity(job.target) in sources:
                reason = f"its result would overwrite the input {job.target}; choose another -o or --suffix"
                refused.append(Refusal(job.source, reason))
            elif identity(job.source) in doubtful:
                reason = "may be an original, or an earlier run's result; choose another -o, or name single pictures"
                refused.append(Refusal(job.source, reason))
            elif len(claims) > 1:
                others = ", ".join(str(other.source) for other in claims if other is not job)
                reason = f"its result {job.target} would also be that of {others}; rename one, or choose another -o"
                refused.append(Refusal(job.source, f"{reason} for it"))
            else:
                kept.append(job)
    return kept, refused


def check_output(jobs: Sequence[Job], out: str | Path) -> None:
    """Find out once, before the work, whether results can be put into ``out``, without making it.

    Args:
        jobs: from `plan` with the same ``out``.

    Raises:
        ImageError: they cannot.
    """
    if str(out) == "-":
        return
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
