"""The decoded cache: HR pictures and their bicubic LR as uint8 ``.npy`` files that are memory-mapped.

Decoding the pictures of a batch can take longer than a training step, so every picture is decoded once. An
entry is named by a digest of the picture's path, size and modification time, so a picture that changes gets a
new entry. Processes share a cache: one at a time fills it, the others wait and then make what is still missing;
and as entries are written under a temporary name and renamed, an entry that is there is whole. The folder can be
deleted whenever no run uses it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from addersr.atomic import PREFIX, replacing
from addersr.data.lock import locked
from addersr.errors import DataError
from addersr.images import files
from addersr.images.resize import imresize, modcrop
from addersr.progress import bar_columns

_VERSION = "1"
"""Part of every entry's digest: raise it when what is stored changes."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A picture to train on or to validate with."""

    name: str
    """``folder/stem``, for people."""
    hr: Path
    lr: Path | None = None
    """The published LR picture; where there is none, LR is made from HR by MATLAB's bicubic."""

    @property
    def file(self) -> str:
        """``folder/file`` of HR."""
        return f"{self.folder}/{self.hr.name}"

    @property
    def folder(self) -> str:
        """The name of the folder that HR was found in, be HR itself a link to elsewhere."""
        return self.hr.parent.resolve().name


@dataclass(frozen=True)
class Pair:
    """One HR/LR pair in the cache. HR is modcropped: exactly ``scale`` times LR."""

    name: str
    scale: int
    hr: Path
    lr: Path

    def shape(self) -> tuple[int, int]:
        """Height and width of LR, in pixels."""
        (height, width, _), _ = _header(self.lr)
        return height, width

    def load(self) -> tuple[Tensor, Tensor]:
        """(lr, hr), uint8 HWC RGB tensors on memory-mapped files: a pixel is read when it is used."""
        lr, hr = _open(self.lr), _open(self.hr)
        height, width = (side * self.scale for side in lr.shape[:2])
        return lr, hr[:height, :width]


def build(sources: Sequence[Source], scale: int, folder: Path, workers: int | None = None) -> list[Pair]:
    """Caches what is not cached yet, with a progress bar, and returns the pairs in the order of ``sources``.

    Args:
        sources: the pictures.
        scale: 2, 3 or 4; HR is cropped to a multiple of it (at the bottom and the right).
        folder: the cache; it is made if need be.
        workers: threads that decode and resize; the number of cores, at most 8, where None.

    Raises:
        DataError: the cache cannot be written, a picture has gone or is smaller than ``scale``, or a published
            LR picture does not fit its HR picture.
        ImageError: a picture cannot be read.
    """
    pairs = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            hr = folder / f"{_digest(source.hr)}.hr.npy"
            lr = folder / f"{_digest(source.hr, source.lr)}.x{scale}.npy"
            pairs.append(Pair(source.name, scale, hr, lr))
        if _missing(sources, pairs):
            with locked(folder / ".lock", f"filling {folder}") as alone:
                if alone:  # so what has a temporary name (`replacing`) was left by a process that was killed
                    for part in folder.glob(f"{PREFIX}*"):
                        part.unlink()
                todo = _missing(sources, pairs)  # again: another process may have made them meanwhile
                if todo:
                    _build_all(todo, workers or min(8, os.cpu_count() or 1))
    except OSError as error:
        raise DataError(
            f"decoded pictures cannot be cached: {error}; choose another folder with --data.cache_dir"
        ) from error
    return pairs


def _missing(sources: Sequence[Source], pairs: Sequence[Pair]) -> list[tuple[Source, Pair]]:
    return [
        (source, pair)
        for source, pair in zip(sources, pairs, strict=True)
        if not (_complete(pair.hr) and _complete(pair.lr))
    ]


def _build_all(todo: Sequence[tuple[Source, Pair]], workers: int) -> None:
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(
            total=len(todo),
            desc="decoding and shrinking pictures",
            unit="picture",
            disable=None,
            ncols=bar_columns(),
        ) as bar,
    ):
        jobs = [pool.submit(_build_one, source, pair) for source, pair in todo]
        try:
            for job in as_completed(jobs):
                job.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _build_one(source: Source, pair: Pair) -> None:
    hr = _decode(source.hr)
    if min(hr.shape[:2]) < pair.scale:
        raise DataError(
            f"{source.hr} is {hr.shape[1]}x{hr.shape[0]} pixels, too small for x{pair.scale}; take it out of "
            "its folder"
        )
    if source.lr is None:
        lr = np.asarray(imresize(modcrop(hr, pair.scale), 1 / pair.scale), dtype=np.uint8)
    else:
        lr = _decode(source.lr)
        expected = (hr.shape[0] // pair.scale, hr.shape[1] // pair.scale)
        if lr.shape[:2] != expected:
            raise DataError(
                f"{source.lr} is {lr.shape[1]}x{lr.shape[0]} pixels, but x{pair.scale} of {source.hr.name} "
                f"must be {expected[1]}x{expected[0]}; without the LR picture it is made"
            )
    if not _complete(pair.hr):  # it serves all scales
        _save(pair.hr, hr)
    _save(pair.lr, lr)


def _decode(path: Path) -> Pixels:
    pixels = files.read(path).pixels
    if pixels.dtype != np.uint8:
        pixels = files.from_tensor(files.to_tensor(pixels), np.uint8)
    return np.ascontiguousarray(pixels)


def _digest(*paths: Path | None) -> str:
    """Names what the given files hold now, without reading them."""
    parts = [_VERSION]
    for path in filter(None, paths):
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        parts += [str(path.resolve()), str(stat.st_size), str(stat.st_mtime_ns)]
    return hashlib.blake2b(os.fsencode("\0".join(parts)), digest_size=16).hexdigest()


def _save(path: Path, pixels: Pixels) -> None:
    with replacing(path) as part, part.open("wb") as stream:
        np.lib.format.write_array(stream, pixels, version=(1, 0), allow_pickle=False)


def _header(path: Path) -> tuple[tuple[int, ...], int]:
    """Shape of the array in a ``.npy`` file and where its first byte is.

    Raises:
        ValueError: it is not a whole uint8 HWC array.
    """
    with path.open("rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{path} is not of version 1.0")
        try:
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        except Exception as error:  # NumPy parses it as Python's literals, and lets through what that raises
            raise ValueError(f"{path} has a damaged header") from error
        offset = stream.tell()
        if fortran_order or dtype != np.uint8 or len(shape) != 3:
            raise ValueError(f"{path} holds {dtype} {shape}")
        if os.fstat(stream.fileno()).st_size != offset + prod(shape):
            raise ValueError(f"{path} is not complete")
    return shape, offset


def _complete(path: Path) -> bool:
    try:
        _header(path)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _open(path: Path) -> Tensor:
    # torch.from_file maps the file and closes it again. A numpy.memmap keeps its descriptor open, and two for
    # each of DIV2K's 800 pictures are more than the usual limit of 1024.
    shape, offset = _header(path)
    flat = torch.from_file(str(path), shared=False, size=offset + prod(shape), dtype=torch.uint8)
    return flat[offset:].view(shape)
