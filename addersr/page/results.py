"""The files of a run: what the user downloads, and the two pictures that the slider lays on each other."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from addersr.errors import ImageError
from addersr.images import files
from addersr.images.files import Animation, Picture
from addersr.inference.enlarge import Content, resample
from addersr.inference.upscaler import fill_hidden

__all__ = ["Placed", "archive", "enlarge_bicubic", "place", "write"]

_LONGEST_STEM = 80  # characters, of up to 4 bytes: file systems end at 255 bytes, and gradio adds its own


@dataclass(frozen=True)
class Placed:
    """Where the files of one result are."""

    download: Path
    """The result itself, as `addersr upscale` would write it."""
    bicubic: Path
    """PNG, for the slider: bicubic interpolation of the same pixels (of the first frame)."""
    network: Path
    """PNG, of the same size."""


def place(
    name: str, content: Content, scale: int, size: tuple[int, int], folder: Path, taken: set[str]
) -> Placed:
    """Decide where a result goes: in the picture's own format, or PNG where that is none or cannot hold it.

    Args:
        name: of the picture.
        size: (height, width) of the result.
        taken: names of the run so far; the new one is added.

    Raises:
        ImageError: the result could not be written.
    """
    given = Path(name)
    suffix = given.suffix if given.suffix.lower() in files.EXTENSIONS else ".png"
    stem = f"{given.stem[:_LONGEST_STEM]}_x{scale}"
    count, unique = 1, stem
    while unique.casefold() in taken:
        count, unique = count + 1, f"{stem} ({count + 1})"
    taken.add(unique.casefold())
    download = folder / f"{unique}{suffix}"
    try:
        files.check_writable(download, content, size=size)
    except ImageError:
        download = download.with_suffix(".png")
        files.check_writable(download, content, size=size)
    shown = folder / "shown"
    shown.mkdir(exist_ok=True)
    index = len(taken)
    return Placed(download, shown / f"{index}-bicubic.png", shown / f"{index}-network.png")


def write(placed: Placed, content: Content, result: Content, check: Callable[[], None]) -> None:
    """Write the three files, the one to download last.

    Args:
        check: is called before each, and may raise.

    Raises:
        ImageError: they cannot be written.
    """
    # With the colour profile, so that the browser shows both as they are.
    still, enlarged = (files.stripped(_first(each)) for each in (content, result))
    bicubic = enlarge_bicubic(still, files.size(enlarged))
    for path, picture in ((placed.bicubic, bicubic), (placed.network, enlarged), (placed.download, result)):
        check()
        files.write(path, picture)


def _first(content: Content) -> Picture:
    return content.frames[0] if isinstance(content, Animation) else content


def enlarge_bicubic(picture: Picture, size: tuple[int, int]) -> Picture:
    """What the network is compared with: MATLAB's bicubic interpolation to (height, width), of the same pixels."""
    pixels = resample(fill_hidden(picture).pixels, size)
    alpha = None if picture.alpha is None else resample(picture.alpha, size)
    return replace(picture, pixels=pixels, alpha=alpha)


def archive(folder: Path, placed: Sequence[Placed]) -> Path:
    """Put the results into one file; they are compressed already."""
    path = folder / "upscaled.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for result in placed:
            file.write(result.download, result.download.name)
    return path
