"""Callbacks that act: averaged weights, checkpoints, written predictions. Those that show are in `monitor`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import rank_zero_info
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    ModelCheckpoint,
    WeightAveraging,
)
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from typing_extensions import override

from addersr.data.module import same_pictures
from addersr.data.pairs import LowResolution, NamedPicture
from addersr.errors import AdderSRError, CheckpointError, ImageError
from addersr.images import files
from addersr.training.reading import read_checkpoint
from addersr.training.stopping import Trainer, between_steps, requeue_job, tell_that_it_stopped
from addersr.training.system import RECORD, SuperResolution


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights and of BatchNorm's statistics, from the first step on.

    Validation, ``best.ckpt`` and the ``state_dict`` of every checkpoint have the averaged weights. While
    there are few steps to average over, the decay is (1 + n) / (50 + n), so that the average is over the last 2 % of
    the n steps. Adder filters move far in a step: an average over more of their way is worse than its end.

    Args:
        decay: the average's decay a step, in [0, 1); 0 switches averaging off.

    Raises:
        AdderSRError: ``decay`` is outside of that.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise AdderSRError(f"--ema.decay must be at least 0 and below 1, got {decay}")
        super().__init__(use_buffers=True, multi_avg_fn=self._average)
        self.decay = decay
        self._step = 0
        self._current: list[Tensor] = []

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SuperResolution)
        pl_module.recipe["ema_decay"] = self.decay  # for the checkpoint's record

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._step = trainer.global_step
        super().on_train_batch_end(trainer, pl_module, *args)

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if (
            self._average_model is not None
        ):  # else nothing is trained, and the state_dict is the average already
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    # Lightning exchanges the two. Here the average is lent, for the current weights may be of a type (see `_average`)
    # in which the average does not come back as it was.

    @override
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._average_model is not None:
            self._current = [tensor.detach().clone() for tensor in _tensors(pl_module)]
            self._copy_average_to_current(pl_module)

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._average_model is not None:
            for tensor, current in zip(_tensors(pl_module), self._current, strict=True):
                tensor.data.copy_(current)
            self._current = []

    @torch.no_grad()
    def _average(self, averages: Sequence[Tensor], currents: Sequence[Tensor], _: Any) -> None:
        decay = min(self.decay, (1 + self._step) / (50 + self._step))
        if averages[0].is_floating_point():
            # The average is in float32 also where --trainer.precision has made the network another type.
            values = [current.to(averages[0].dtype) for current in currents]
            torch._foreach_lerp_(list(averages), values, 1 - decay)
        else:  # BatchNorm's count of batches
            torch._foreach_copy_(list(averages), list(currents))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(module.parameters(), module.buffers())


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, to resume from: every so many steps, before each validation, and when the process is told to stop.

    Args:
        every_n_train_steps: steps between two checkpoints.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        super().__init__(
            filename="last",
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Else a run resumed at a step that is due would be saved again, with gradients accumulated in part.
        self._last_global_step_saved = trainer.global_step

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        # In a validation and at the end of training, the averaged weights take the place of those to resume with.
        due = (batch_idx + 1) % (trainer.val_check_batch or math.inf) == 0 and between_steps(trainer)
        if due or trainer.global_step == trainer.max_steps:
            self._save(trainer)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        # The trainer raises it between two steps, where the state is whole, or in a validation, before which it was
        # saved and in which the averaged weights are in place. At any other exception the state may not be whole.
        if not isinstance(exception, SIGTERMException):
            return
        if trainer.training:
            self._save(trainer)
        if trainer.is_global_zero:
            tell_that_it_stopped(self._path if trainer.state.fn is TrainerFn.FITTING else None)
        assert isinstance(trainer, Trainer)
        if trainer.requeue and trainer.is_global_zero:
            requeue_job()

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step not in (0, self._last_global_step_saved):
            trainer.save_checkpoint(self._path, weights_only=False)
            self._last_global_step_saved = trainer.global_step

    @property
    def _path(self) -> Path:
        return Path(str(self.dirpath), "last.ckpt")


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``, the step with the highest validation PSNR; the last step is always one to choose from.

    Scores on other pictures do not compare: where a resumed run has others than its checkpoint to validate on, the
    best score begins anew. A ``best.ckpt`` of scores that the run does not know becomes ``best.1.ckpt`` (or the next
    number that is free) before another takes its place.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val/psnr", mode="max", enable_version_counter=False)

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not trainer.training:
            return
        assert isinstance(pl_module, SuperResolution)
        then, now = checkpoint[RECORD], pl_module.record()
        # repr, for Lightning takes 1 for one picture and 1.0 for all
        limits = {repr(record["recipe"].get("limit_val_batches", 1.0)) for record in (then, now)}
        if len(limits) == 2 or not same_pictures(then["data"], now["data"], "validation"):
            checkpoint["callbacks"].pop(self.state_key, None)
            rank_zero_info("Validating on other pictures than the checkpoint's: the best score begins anew")

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # it does in any case; told so, Lightning validates first

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        training = trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking
        if training and trainer.is_global_zero and not self.best_k_models:
            self._keep_earlier(trainer.global_step)
        super().on_validation_end(trainer, pl_module)

    def _keep_earlier(self, step: int) -> None:
        best = Path(str(self.dirpath), "best.ckpt")
        if not best.exists():
            return
        try:
            if read_checkpoint(best)["global_step"] == step:
                return  # of this validation, which is repeated
        except CheckpointError:
            pass  # damaged, or of another version: kept all the same
        numbered = (best.with_name(f"best.{number}.ckpt") for number in itertools.count(1))
        kept = next(path for path in numbered if not path.exists())
        best.rename(kept)
        rank_zero_info(f"{best} was chosen by other scores; it is kept as {kept.name}")


class PictureWriter(BasePredictionWriter):
    """Writes what ``predict`` makes as PNG files, FOLDER/NAME.png for the picture NAME of the folder FOLDER.

    Args:
        folder: where they go.

    Raises:
        ImageError: before any work, if the folder is a file, a result is there already or two would have one name.
    """

    def __init__(self, folder: str = "predictions") -> None:
        super().__init__(write_interval="batch")
        self.folder = Path(folder)

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ImageError(f"{self.folder} is a file; choose a folder with --writer.folder")
        loader = trainer.predict_dataloaders
        assert loader is not None and isinstance(loader.dataset, LowResolution)
        sources: dict[Path, Path] = {}
        for source in loader.dataset.sources:
            path = self._path(source.name)
            if path in sources:
                raise ImageError(
                    f"{sources[path]} and {source.hr} would both become {path}; rename one of them"
                )
            if path.exists():
                raise ImageError(f"{path} is there already; choose another folder with --writer.folder")
            sources[path] = source.hr

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    @override
    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: NamedPicture,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        path = self._path(batch.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = files.Picture(pixels=prediction, alpha=None, exif=None, icc_profile=None, xmp=None)
        files.write(path, picture)
