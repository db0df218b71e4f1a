"""What a run would make, told beforehand: `addersr upscale --dry-run`."""

import sys

from addersr.errors import ImageError
from addersr.images import files
from addersr.inference.enlarge import check_pixels
from addersr.inference.existing import is_left
from addersr.inference.inputs import STANDARD
from addersr.inference.plan import Job, Plan
from addersr.inference.report import LEFT, sizes
from addersr.inference.settings import Settings
from addersr.inference.survey import Size, probe
from addersr.printable import printable
from addersr.telling import tell

__all__ = ["show"]


def show(plan: Plan, settings: Settings, scale: int) -> int:
    """Print each picture, its result and their sizes, and what is left out; then what would fail.

    That is known from the beginnings of the files: a damaged one is not found out. A pipe's is not looked at.

    Args:
        plan: of the inputs.
        scale: the network's.

    Returns:
        The exit code: 0, or 1 if anything would fail.
    """
    for picture in plan.left:
        print(printable(f"{picture}  {LEFT}"))
    errors = [str(refusal) for refusal in plan.refused]
    for job in plan.jobs:
        try:
            print(printable(_line(job, settings, scale)))
        except ImageError as error:
            errors.append(str(error))
    for line in errors:
        tell(f"addersr: error: {line}", sys.stderr)
    return 1 if errors else 0


def _line(job: Job, settings: Settings, scale: int) -> str:
    """Raises ImageError where it would fail."""
    text = f"{job.source} -> {job.target}"
    if is_left(job.source, job.target, settings.if_exists):
        return f"{text}  there already"
    if job.source == STANDARD or job.source.is_fifo():
        return text  # its size is not known before it is read
    most, most_of_result = settings.budget
    size = probe(job.source)
    if size is None:  # reading tells why, unless Pillow alone does not know the file
        content = files.read_any(job.source, max_pixels=most)
        count = len(content.frames) if isinstance(content, files.Animation) else 1
        size = Size(*files.size(content), count)
    source = (size.height, size.width)
    target = settings.wanted.of(*source)
    try:
        if size.height * size.width * size.frames > most:
            what = f"{size.width} x {size.height}" + (f" x {size.frames} frames" if size.frames > 1 else "")
            raise ImageError(f"{what} is too many pixels, at most {most:,} are read")
        check_pixels(source, target, size.frames, scale, most_of_result)
    except ImageError as error:
        raise ImageError(f"{job.source}: {error}") from None
    if job.target != STANDARD:
        format = files.chosen_format(job.target, None, settings.lossless)
        files.check_format(str(job.target), format, *target, animated=size.frames > 1)
    frames = f", {size.frames} frames" if size.frames > 1 else ""
    return f"{text}  {sizes(source[::-1], target[::-1])}{frames}"
