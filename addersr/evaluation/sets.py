"""The sets to score on: which pictures they have, and each of them read as a protocol wants it.

A benchmark set is a folder `DIR/Set5/HR` of pictures; its LR pictures may lie in `DIR/Set5/LR_bicubic/X2/*x2.*`, and
are made from HR by MATLAB's bicubic where that folder is absent. Any folder of pictures is a set of HR pictures, too.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from addersr.errors import DataError
from addersr.evaluation.protocol import Pair, Protocol, check_hr, check_lr
from addersr.images import files
from addersr.images.png16 import bit_depth
from addersr.inference.survey import probe


@dataclass(frozen=True)
class PictureFiles:
    """Where one picture of a set lies; `lr` is None where LR is to be made."""

    hr: Path
    lr: Path | None


Sets: TypeAlias = dict[int, dict[str, list[PictureFiles]]]
"""Scale -> name of a set -> its pictures."""


def find_sets(root: Path, names: Sequence[str], scales: Iterable[int], notes: list[str]) -> Sets:
    """The sets of a run, each once.

    Args:
        root, names, scales: as `find_pictures` takes them.
        notes: gets a line for each name that stands for the pictures of another one.

    Raises:
        DataError: as `find_pictures`.
    """
    sets: Sets = {scale: {} for scale in scales}
    first: dict[tuple[tuple[str, str], ...], str] = {}
    for name in names:
        found = {scale: find_pictures(root, name, scale) for scale in sets}
        files = tuple(
            (os.path.realpath(picture.hr), os.path.realpath(picture.lr or ""))
            for pictures in found.values()
            for picture in pictures
        )
        if files in first:
            notes.append(f"set {name}: the same pictures as set {first[files]}, scored once")
            continue
        first[files] = name
        for scale, pictures in found.items():
            sets[scale][name] = pictures
    return sets


def find_pictures(root: Path, name: str, scale: int) -> list[PictureFiles]:
    """The pictures of a set in the order of their names.

    Args:
        root: the folder that has the benchmark sets in it.
        name: a set in `root`, or any folder: one with HR in it is a benchmark set, another one is of HR pictures.
        scale: whose LR pictures are taken, where there are any.

    Raises:
        DataError: the folder or the set is not there, is empty, lacks some of its LR pictures, or cannot be
            read.
    """
    try:
        return _find_pictures(root, name, scale)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise DataError(
            f"set {name} in {root} cannot be read: {error.strerror}; see --data and --set"
        ) from error


def _find_pictures(root: Path, name: str, scale: int) -> list[PictureFiles]:
    places = (root / name, Path(name))
    folder = next((place for place in places if (place / "HR").is_dir()), None)
    hr_folder = folder / "HR" if folder else next((place for place in places if place.is_dir()), None)
    if hr_folder is None:
        if not root.is_dir():
            raise DataError(f"no such folder: {root}; --data is the folder that has the sets in it")
        known = sorted(path.parent.name for path in root.glob("*/HR") if path.is_dir())
        there = f"it has {', '.join(known)}" if known else "it has none"
        raise DataError(
            f"no set {name} in {root} (a folder {name}/HR with pictures in it), nor a folder {name}; {there}"
        )
    pictures = _pictures(hr_folder)
    if not pictures:
        raise DataError(f"no pictures in {hr_folder}; readable are {', '.join(sorted(files.EXTENSIONS))}")
    if folder is None or not (lr_folder := folder / "LR_bicubic" / f"X{scale}").is_dir():
        return [PictureFiles(path, None) for path in pictures]
    return [PictureFiles(path, _find_lr(path, lr_folder, scale)) for path in pictures]


def load_pair(picture: PictureFiles, protocol: Protocol, scale: int) -> Pair:
    """Read one picture as `protocol` wants it.

    Raises:
        ImageError: a file cannot be read.
        DataError: it is not of 8 bits, too small, or LR does not fit HR.
    """
    hr, grey = _read(picture.hr)
    lr = None if picture.lr is None or not protocol.quantised else _read(picture.lr)[0]
    _check_sizes(picture, scale, hr.shape[:2], None if lr is None else lr.shape[:2])
    return protocol.pair(hr, scale, grey=grey, lr=lr)


def sizes(sets: Sets, protocol: Protocol) -> dict[Path, tuple[int, int]]:
    """The sizes of all pictures of a run, told by the beginnings of their files, before hours of work.

    What cannot be scored is refused here; only a file that is damaged farther in is found when its turn comes.

    Args:
        sets: all pictures.
        protocol: that of the run; where it makes LR, the sets' own are not looked at.

    Returns:
        File of HR -> (height, width).

    Raises:
        ImageError, DataError: as `load_pair`.
    """
    found: dict[Path, tuple[int, int]] = {}
    for scale, each in sets.items():
        for picture in chain.from_iterable(each.values()):
            if picture.hr not in found:
                found[picture.hr] = _size(picture.hr)
            lr = None if picture.lr is None or not protocol.quantised else _size(picture.lr)
            _check_sizes(picture, scale, found[picture.hr], lr)
    return found


def _check_sizes(picture: PictureFiles, scale: int, hr: tuple[int, ...], lr: tuple[int, ...] | None) -> None:
    path = picture.hr
    try:
        check_hr(hr, scale)
        if lr is not None and picture.lr is not None:
            path = picture.lr
            check_lr(lr, hr, scale)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _size(path: Path) -> tuple[int, int]:
    seen = probe(path)
    if seen is None or seen.frames > 1 or not _is_surely_8_bit(path):
        height, width, _ = _read(path)[0].shape  # says what is wrong, if anything is
        return height, width
    return seen.height, seen.width


def _is_surely_8_bit(path: Path) -> bool:
    """Of a file that could be opened as a picture; a TIFF may have many kinds of samples, and pages."""
    with path.open("rb") as file:
        magic = file.read(4)
        return not magic.startswith((b"II", b"MM")) and (magic != b"\x89PNG" or bit_depth(file) <= 8)


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder; hidden files are left out, such as those that other systems leave behind."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in files.EXTENSIONS)
    return sorted(path for path in found if not path.name.startswith("."))


def _find_lr(hr: Path, folder: Path, scale: int) -> Path:
    name = f"{hr.stem}x{scale}"
    found = [path for path in _pictures(folder) if path.stem == name]
    if len(found) != 1:
        raise DataError(
            f"{folder} must have one picture {name}.* for {hr.name}, it has {len(found)}; "
            "mend it, or remove the folder to have LR made from HR"
        )
    return found[0]


def _read(path: Path) -> tuple[npt.NDArray[np.uint8], bool]:
    """The pixels, and whether the file has one channel. Transparency is ignored, as by MATLAB's imread."""
    picture = files.read(path)
    if picture.pixels.dtype != np.uint8:
        raise DataError(f"{path}: 16 bits a channel, and the protocols compare 8-bit pictures; convert it")
    return picture.pixels.astype(np.uint8, copy=False), picture.grey
