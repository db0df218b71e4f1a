"""The LightningDataModule: which folders to train on, validate, test and predict with."""

from __future__ import annotations

import hashlib
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import lightning.pytorch as pl
from torch.utils.data import DataLoader
from typing_extensions import override

from addersr.data.cache import Pair, Source, build
from addersr.data.pairs import (
    Batch,
    EvenSplit,
    LowResolution,
    NamedPair,
    NamedPicture,
    PatchStream,
    WholePictures,
    distinguish,
    find_pictures,
    hold_out,
)
from addersr.data.published import fetch_missing
from addersr.errors import DataError


class HasScale(Protocol):
    """What the pairs need to know of a network."""

    scale: int


class SuperResolutionData(pl.LightningDataModule):
    """HR pictures in folders; LR is made by MATLAB's bicubic, or read where it lies beside as DIV2K's does.

    The defaults are DIV2K in its published layout. Any other folders do: PNG, JPEG or WebP, several together.

    Args:
        train_dirs: folders of HR pictures to train on.
        val_dirs: folders of HR pictures for validation, by which the best checkpoint is chosen.
        test_dirs: folders of HR pictures for the ``test`` command; never used for choosing.
        predict_dirs: folders of LR pictures for the ``predict`` command.
        holdout: patterns on FOLDER/FILE, such as CID22/*0.webp; what matches is not trained but validated on.
        val_pictures: validate on the first so many pictures only; all where None.
        patch: side of an LR patch, in pixels.
        batch_size: patches a batch.
        num_workers: processes that make batches; as one takes a few milliseconds, 0 is enough on a CPU.
        seed: of the crops, flips and turns.
        cache_dir: where decoded pictures are cached.
        download: fetch DIV2K or Flickr2K where a folder in its layout is missing.
        scale: 2, 3 or 4; the trained network's where None.

    Raises:
        DataError: a number is out of its range.
    """

    def __init__(
        self,
        train_dirs: Sequence[str] = ("data/DIV2K/DIV2K_train_HR",),
        val_dirs: Sequence[str] = ("data/DIV2K/DIV2K_valid_HR",),
        test_dirs: Sequence[str] = (),
        predict_dirs: Sequence[str] = (),
        holdout: Sequence[str] = (),
        val_pictures: int | None = None,
        patch: int = 32,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str = "data/cache",
        download: bool = False,
        scale: int | None = None,
    ) -> None:
        super().__init__()
        at_least_one = {"patch": patch, "batch_size": batch_size, "val_pictures": val_pictures}
        for option, number in at_least_one.items():
            if number is not None and number < 1:
                raise DataError(f"--data.{option} must be at least 1, got {number}")
        for option, number in {"num_workers": num_workers, "seed": seed}.items():
            if number < 0:
                raise DataError(f"--data.{option} must be at least 0, got {number}")
        self.train_dirs, self.val_dirs = train_dirs, val_dirs
        self.test_dirs, self.predict_dirs = test_dirs, predict_dirs
        self.holdout, self.val_pictures = holdout, val_pictures
        self.patch, self.batch_size, self.num_workers, self.seed = patch, batch_size, num_workers, seed
        self.cache_dir = Path(cache_dir)
        self.download = download
        self._scale = scale
        self._training: list[Source] = []
        self._validation: list[Source] = []
        self._fingerprints: dict[str, str] = {}

    @property
    def scale(self) -> int:
        """Of the pairs: the network's where there is one, or the one given.

        Raises:
            DataError: the two differ.
        """
        if self.trainer is None:
            assert self._scale is not None, "without a trainer, the scale must be given"
            return self._scale
        network = int(cast(HasScale, self.trainer.lightning_module).scale)
        if self._scale not in (None, network):
            raise DataError(f"--data.scale {self._scale} is not the network's, {network}; leave it out")
        return network

    @override
    def prepare_data(self) -> None:
        """Fetches what is missing, if that was asked for, and fills the cache: once a machine."""
        function = self.trainer.state.fn if self.trainer else None
        stage = function.value if function else "fit"
        if self.download:
            fetch_missing(self._needed(stage), self.scale)
        self.setup(stage)
        if stage != "predict":
            wanted = self._sources("test_dirs") if stage == "test" else self._training + self._validation
            pairs = build(wanted, self.scale, self.cache_dir)
            if stage == "fit":
                self._stream(pairs[: len(self._training)])  # refuses a patch that no picture has

    def _needed(self, stage: str) -> list[str]:
        """The folders of HR pictures that a command looks into."""
        if stage == "test":
            return list(self.test_dirs)
        if stage == "predict":
            return []
        return [*(self.train_dirs if stage == "fit" or self.holdout else []), *self.val_dirs]

    @override
    def setup(self, stage: str) -> None:
        """Lists the pictures."""
        if stage in ("fit", "validate"):
            # The pictures held out of training are validated on, and so is all of val_dirs.
            found = self._sources("train_dirs") if stage == "fit" or self.holdout else []
            training, held = hold_out(found, self.holdout)
            self._training = training if stage == "fit" else []
            validation = held + (self._sources("val_dirs") if self.val_dirs else [])
            self._validation = distinguish(validation[: self.val_pictures])
            if not self._validation:
                raise DataError("there is nothing to validate on: give --data.val_dirs or --data.holdout")
            for name in {s.hr.resolve() for s in self._training} & {s.hr.resolve() for s in self._validation}:
                raise DataError(f"{name} is in both --data.train_dirs and --data.val_dirs")
            self._fingerprints = {
                "train": _fingerprint(self._training),
                "validation": _fingerprint(self._validation),
            }

    def _sources(self, option: str) -> list[Source]:
        folders = getattr(self, option)
        if not folders:
            raise DataError(f"no folder of pictures is given: --data.{option}")
        return find_pictures(folders, self.scale, f"--data.{option}")

    def describe(self) -> dict[str, Any]:
        """What a checkpoint records about its data."""
        return {
            "train": dict(Counter(source.folder for source in self._training)),
            "validation": [source.name for source in self._validation],
            "fingerprints": self._fingerprints,
            "holdout": list(self.holdout),
            "degradation": "bicubic (MATLAB imresize)",
            "patch": self.patch,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        trainer = self.trainer
        assert trainer is not None
        stream = self._stream(
            build(self._training, self.scale, self.cache_dir),
            start=trainer.global_step * trainer.accumulate_grad_batches,  # where a resumed run goes on
            rank=trainer.global_rank,
        )
        return DataLoader(
            stream,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_leave_interrupts_to_the_main_process,
        )

    def _stream(self, pairs: Sequence[Pair], *, start: int = 0, rank: int = 0) -> PatchStream:
        return PatchStream(pairs, self.patch, self.batch_size, seed=self.seed, start=start, rank=rank)

    @override
    def val_dataloader(self) -> DataLoader[NamedPair]:
        return self._whole(self._validation)

    @override
    def test_dataloader(self) -> DataLoader[NamedPair]:
        return self._whole(self._sources("test_dirs"))

    @override
    def predict_dataloader(self) -> DataLoader[NamedPicture]:
        # Not batch_size=None: then Lightning cannot tell a prediction writer which pictures they are.
        return DataLoader(LowResolution(self._sources("predict_dirs")), batch_size=1, collate_fn=_only)

    def _whole(self, sources: list[Source]) -> DataLoader[NamedPair]:
        pictures = WholePictures(build(sources, self.scale, self.cache_dir))
        trainer = self.trainer
        split = None
        if trainer is not None and trainer.world_size > 1:
            split = EvenSplit(pictures, trainer.world_size, trainer.global_rank)
        return DataLoader(pictures, batch_size=None, sampler=split)


def same_pictures(one: Mapping[str, Any], other: Mapping[str, Any], kind: str) -> bool:
    """Whether two data (`SuperResolutionData.describe`) have the same pictures, of "train" or "validation".

    Records of older versions have names and numbers alone, which then decide.
    """
    prints = {data["fingerprints"][kind] for data in (one, other) if "fingerprints" in data}
    return one.get(kind) == other.get(kind) and len(prints) < 2


def _fingerprint(sources: Sequence[Source]) -> str:
    """Of names and sizes in bytes, which stay when files are copied elsewhere, unlike paths and times."""
    parts = []
    for source in sources:
        files = [path for path in (source.hr, source.lr) if path is not None]
        parts.append([source.file, *(path.stat().st_size for path in files)])
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _only(items: list[NamedPicture]) -> NamedPicture:
    (item,) = items
    return item


def _leave_interrupts_to_the_main_process(_: int) -> None:
    # Ctrl-C reaches every process of the terminal, but the main one still wants to finish its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
