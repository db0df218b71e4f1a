"""Callbacks: averaged weights, checkpoints, what TensorBoard shows, the progress bar, written predictions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    ModelCheckpoint,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torchvision.utils import make_grid
from typing_extensions import override

from addersr.data.pairs import LowResolution, NamedPair, NamedPicture
from addersr.errors import AdderSRError, ImageError
from addersr.images import files
from addersr.images.resize import imresize
from addersr.training.system import SuperResolution


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights and of BatchNorm's statistics, from the first step on.

    Validation, ``best.ckpt`` and the ``state_dict`` of every checkpoint have the averaged weights. While
    there are few steps to average over, the decay is (1 + n) / (10 + n), so that the start is soon
    forgotten.

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

    @torch.no_grad()
    def _average(self, averages: Sequence[Tensor], currents: Sequence[Tensor], _: Any) -> None:
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(currents), 1 - decay)
        else:  # BatchNorm's count of batches
            torch._foreach_copy_(list(averages), list(currents))


def between_steps(trainer: pl.Trainer) -> bool:
    """Whether the last batch completed an optimiser step.

    Where gradients are accumulated, a run can be resumed only from there: a checkpoint has no gradients, and the
    batches before the step have changed BatchNorm's statistics already.
    """
    return (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0


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
        # The trainer raises it between two steps, where the state is whole, or in a validation, before which it
        # was saved. At any other exception the state may not be whole.
        if isinstance(exception, SIGTERMException) and not trainer.validating:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step not in (0, self._last_global_step_saved):
            trainer.save_checkpoint(Path(str(self.dirpath), "last.ckpt"), weights_only=False)
            self._last_global_step_saved = trainer.global_step


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``, the step with the highest validation PSNR."""

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val/psnr", mode="max", enable_version_counter=False)


class ValidationPictures(pl.Callback):
    """Shows LR (enlarged by bicubic), SR and HR side by side in TensorBoard after each validation.

    Args:
        count: pictures shown, from the first; 0 switches it off.
        side: the middle of each picture is shown, at most so many HR pixels wide and high.
    """

    def __init__(self, count: int = 4, side: int = 256) -> None:
        self.count, self.side = count, side

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: NamedPair,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if (
            batch_idx >= self.count
            or trainer.sanity_checking
            or not isinstance(trainer.logger, TensorBoardLogger)
        ):
            return
        assert isinstance(pl_module, SuperResolution)
        lr, hr = (files.from_tensor(picture, np.uint8) for picture in (batch.lr, batch.hr))
        bicubic = imresize(lr, pl_module.scale)
        row = [files.to_tensor(self._middle(picture))[0] for picture in (bicubic, outputs["sr"], hr)]
        trainer.logger.experiment.add_image(
            f"bicubic, SR, HR/{batch.name}", make_grid(row, nrow=3), trainer.global_step
        )

    def _middle(self, picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        top, left = (max(0, (length - self.side) // 2) for length in picture.shape[:2])
        return picture[top : top + self.side, left : left + self.side]


class LearnedScalars(pl.Callback):
    """Histograms in TensorBoard of what the network learns beside its filters: exponents, gains, lambdas."""

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not isinstance(trainer.logger, TensorBoardLogger):
            return
        scalars: dict[str, list[Tensor]] = defaultdict(list)
        for name, parameter in pl_module.named_parameters():
            if parameter.numel() == 1:
                scalars[".".join(name.split(".")[-2:])].append(parameter.detach().reshape(()))
        for name, values in scalars.items():
            trainer.logger.experiment.add_histogram(
                f"learned/{name}", torch.stack(values), trainer.global_step
            )


class Progress(TQDMProgressBar):
    """One bar over all steps of the run, which goes on where a resumed run was left."""

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)

    @override
    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        self._lay_out(trainer)  # a run that is resumed does not start an epoch

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._lay_out(trainer)

    def _lay_out(self, trainer: pl.Trainer) -> None:
        bar = self.train_progress_bar
        bar.total = trainer.max_steps * trainer.accumulate_grad_batches
        bar.n = bar.initial = trainer.global_step * trainer.accumulate_grad_batches
        bar.set_description("Training")

    @override
    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        shown = {name: value for name, value in metrics.items() if name != "v_num"}
        return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in shown.items()}


class PictureWriter(BasePredictionWriter):
    """Writes what ``predict`` makes as PNG files, FOLDER/NAME.png for the picture NAME of the folder FOLDER.

    Args:
        folder: where they go.

    Raises:
        ImageError: before any work, if a file is there already or two would have one name.
    """

    def __init__(self, folder: str = "predictions") -> None:
        super().__init__(write_interval="batch")
        self.folder = Path(folder)

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
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
