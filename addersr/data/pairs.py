"""Datasets of LR/HR pairs: endless batches of aligned random patches, and whole pictures for validation.

A training batch is a pure function of (seed, rank, number of the batch). So the data does not depend on the
number of worker processes, and a run that is resumed goes on with the batch that an uninterrupted one would
have seen.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, IterableDataset, get_worker_info
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from typing_extensions import override

from addersr.data.cache import Pair, Source
from addersr.data.published import archives_of, published_lr
from addersr.errors import DataError
from addersr.images.files import EXTENSIONS, read, to_tensor


class Batch(NamedTuple):
    """Aligned patches."""

    lr: Tensor
    """(N, 3, h, w), float32 RGB in [0, 1], channels last in memory."""
    hr: Tensor
    """(N, 3, s h, s w), the same."""


class NamedPair(NamedTuple):
    """One whole picture of a validation or test set."""

    lr: Tensor
    """(1, 3, h, w), float32 RGB in [0, 1]."""
    hr: Tensor
    """(1, 3, s h, s w), the same."""
    name: str
    counts: bool = True
    """False where it fills up the share of one of several processes, and another has it (`EvenSplit`)."""


class NamedPicture(NamedTuple):
    """One LR picture without an HR picture to compare with."""

    lr: Tensor
    """(1, 3, h, w), float32 RGB in [0, 1]."""
    name: str


def find_pictures(folders: Sequence[str | Path], scale: int, option: str) -> list[Source]:
    """The pictures of some folders (not of their subfolders, no hidden ones), each folder sorted by name.

    Raises:
        DataError: a folder is missing or holds no picture; the message names the command-line ``option``.
    """
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            hint = ", or fetch it with --data.download true" if archives_of(folder) else ""
            raise DataError(f"there is no folder {folder}; give folders of pictures with {option}{hint}")
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
        )
        if not paths:
            raise DataError(f"{folder} holds no pictures ({', '.join(sorted(EXTENSIONS))}); see {option}")
        name = folder.resolve().name  # as Source.folder
        found += [Source(f"{name}/{path.stem}", path, published_lr(path, scale)) for path in paths]
    return found


def distinguish(sources: Sequence[Source]) -> list[Source]:
    """Gives pictures of one name longer ones, with the file's suffix and as many of its folders as tell them apart.

    ``DIV2K/HR/0001.png`` beside ``Other/HR/0001.png``, where both were called ``HR/0001``. The names do not depend on
    the order.
    """
    alike: defaultdict[str, list[Path]] = defaultdict(list)
    paths = [source.hr.parent.resolve() / source.hr.name for source in sources]
    for source, path in zip(sources, paths, strict=True):
        alike[source.name].append(path)

    def distinguished(source: Source, path: Path) -> Source:
        others = alike[source.name]
        if len(others) > 1:
            for depth in range(2, len(path.parts)):
                if len({other.parts[-depth:] for other in others}) == len(others):
                    return replace(source, name="/".join(path.parts[-depth:]))
        return source  # also where a picture is given twice

    return [distinguished(source, path) for source, path in zip(sources, paths, strict=True)]


def hold_out(sources: Sequence[Source], patterns: Sequence[str]) -> tuple[list[Source], list[Source]]:
    """Splits into (training, held out); held out is what matches a pattern on ``folder/file``.

    Raises:
        DataError: a pattern matches nothing, or nothing is left to train on.
    """
    held: set[Source] = set()
    for pattern in patterns:
        matches = {source for source in sources if fnmatch.fnmatchcase(source.file, pattern)}
        if not matches:
            raise DataError(
                f"--data.holdout {pattern} matches no training picture; it is held against FOLDER/FILE"
            )
        held |= matches
    if held and held == set(sources):  # one may be given twice
        raise DataError("--data.holdout leaves no picture to train on")
    return [s for s in sources if s not in held], [s for s in sources if s in held]


class RandomSymmetry(v2.Transform):  # type: ignore[misc]  # torchvision has no type information
    """One of the square's eight symmetries (flips and quarter turns), the same for all pictures given.

    One transform in place of a chain of v2's random flips: each of those costs as much as the patch itself.
    """

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"symmetry": int(torch.randint(8, ()))}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        symmetry = params["symmetry"]
        if symmetry & 1:
            inpt = F.horizontal_flip(inpt)
        if symmetry & 2:
            inpt = F.vertical_flip(inpt)
        return tv_tensors.wrap(inpt.mT, like=inpt) if symmetry & 4 else inpt


class PatchStream(IterableDataset[Batch]):
    """Endless batches of aligned random crops, flipped and turned; every possible crop is equally likely.

    Args:
        pairs: the cached pictures; those smaller than a patch are left out.
        patch: side of an LR patch, in pixels; the HR patch is ``scale`` times as large.
        batch_size: patches a batch.
        seed: with ``rank`` and the number of the batch it decides everything that is random.
        start: number of the first batch.
        rank: of this process, among those that train together.

    Raises:
        DataError: no picture is as large as a patch.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        patch: int,
        batch_size: int,
        *,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
    ) -> None:
        shapes = [pair.shape() for pair in pairs]
        crops = [max(0, h - patch + 1) * max(0, w - patch + 1) for h, w in shapes]
        self.pairs = [pair for pair, count in zip(pairs, crops, strict=True) if count]
        if not self.pairs:
            raise DataError(f"no training picture has {patch}x{patch} LR pixels; take a smaller --data.patch")
        self._scale = self.pairs[0].scale
        self._columns = [w - patch + 1 for (_, w), count in zip(shapes, crops, strict=True) if count]
        self._ends = np.cumsum([count for count in crops if count])
        self.patch, self.batch_size, self.seed, self.start, self.rank = patch, batch_size, seed, start, rank
        self.augment = RandomSymmetry()
        self._opened: list[tuple[Tensor, Tensor]] | None = None

    @override
    def __getstate__(self) -> dict[str, Any]:
        # Mapped files are opened again in a worker process: sent there, they would be copied.
        return {**self.__dict__, "_opened": None}

    @override
    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, step = (self.start, 1) if worker is None else (self.start + worker.id, worker.num_workers)
        while True:
            yield self.batch(number)
            number += step

    def batch(self, number: int) -> Batch:
        """The batch of that number, which may be any."""
        random = np.random.default_rng((self.seed, self.rank, number))
        with torch.random.fork_rng(devices=[]):  # the transforms draw from torch's global generator
            torch.default_generator.manual_seed(int(random.integers(2**63)))
            patches = [
                self._patch(int(crop)) for crop in random.integers(self._ends[-1], size=self.batch_size)
            ]
        lr, hr = (_to_float(torch.stack(side)) for side in zip(*patches, strict=True))
        return Batch(lr, hr)

    def _patch(self, crop: int) -> tuple[Tensor, Tensor]:
        """An augmented patch, uint8 CHW. ``crop`` counts the possible crops of all pictures."""
        if self._opened is None:
            self._opened = [pair.load() for pair in self.pairs]
        index = int(np.searchsorted(self._ends, crop, side="right"))
        top, left = divmod(crop - (int(self._ends[index - 1]) if index else 0), self._columns[index])
        lr, hr = self._opened[index]
        lr, hr = self.augment(
            _crop(lr, top, left, self.patch, 1), _crop(hr, top, left, self.patch, self._scale)
        )
        return lr.as_subclass(Tensor), hr.as_subclass(Tensor)


class WholePictures(Dataset[NamedPair]):
    """Whole pictures, one an item, for validation and tests; those counted from the end, -1 the last, do not count."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)

    def __len__(self) -> int:
        """Pictures."""
        return len(self.pairs)

    @override
    def __getitem__(self, index: int) -> NamedPair:
        pair = self.pairs[index]
        lr, hr = (_to_float(picture.permute(2, 0, 1)[None]) for picture in pair.load())
        return NamedPair(lr, hr, pair.name, counts=index >= 0)


class EvenSplit(DistributedSampler[NamedPair]):
    """The share of one of several processes in whole pictures: as many for each, because they wait for each other.

    torch's own repeats pictures where their number does not divide, as Lightning's would, and a mean is then of those
    repeated, too. Here what fills up has negative numbers, from which `WholePictures` makes pictures that do not count.
    """

    def __init__(self, pictures: WholePictures, processes: int, rank: int) -> None:
        super().__init__(pictures, processes, rank, shuffle=False)

    @override
    def __iter__(self) -> Iterator[int]:  # type: ignore[override]  # torch calls its indices items
        whole = len(self.dataset)  # type: ignore[arg-type]  # torch's Dataset need not have a length
        share = range(self.rank, self.total_size, self.num_replicas)
        return (index if index < whole else -1 - index % whole for index in share)


class LowResolution(Dataset[NamedPicture]):
    """LR pictures as they are in their files, one an item, for ``predict``."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)

    def __len__(self) -> int:
        """Pictures."""
        return len(self.sources)

    @override
    def __getitem__(self, index: int) -> NamedPicture:
        source = self.sources[index]
        return NamedPicture(to_tensor(read(source.hr).pixels), source.name)


def _crop(picture: Tensor, top: int, left: int, side: int, scale: int) -> tv_tensors.Image:
    rows, columns = (slice(scale * start, scale * (start + side)) for start in (top, left))
    return tv_tensors.Image(picture[rows, columns].permute(2, 0, 1))


def _to_float(pictures: Tensor) -> Tensor:
    pixels: Tensor = F.to_dtype(pictures, torch.float32, scale=True)
    return pixels.contiguous(memory_format=torch.channels_last)
