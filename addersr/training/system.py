"""The LightningModule: network, loss, scores on whole pictures, optimiser; what a checkpoint records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import l1_loss
from typing_extensions import override

from addersr.data.module import SuperResolutionData
from addersr.data.pairs import Batch, NamedPair, NamedPicture
from addersr.errors import AdderSRError, CheckpointError, DataError
from addersr.evaluation.metrics import SSIM_WINDOW, shave
from addersr.evaluation.torch_metrics import psnr, ssim
from addersr.images.color import rgb_to_y
from addersr.images.files import from_tensor
from addersr.models import presets
from addersr.training.distillation import Teacher
from addersr.training.initial import initialise
from addersr.training.optimizer import AdderAdam, AdderSGD, adder_filters, parameter_groups, warmup_cosine

RECORD = "addersr"
"""Where a checkpoint keeps what is needed to build the network again and to say how it was trained."""


Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Metric = Callable[[Tensor, Tensor], Tensor]


class SuperResolution(pl.LightningModule):
    """Trains a network by L1 loss on patches and scores it on whole pictures.

    Scores are PSNR (and in tests SSIM) on BT.601 Y of the result rounded to 8 bits, ``scale`` pixels shaved
    from every side: the field's protocol.

    Args:
        preset: the network's name, ``edsr_{tiny,small,baseline,large}_x{2,3,4}`` or ``vdsr_x{2,3,4}``.
        overrides: arguments of the network that differ from the preset's, such as ``{"channels": 48}``.
        init_from: a safetensors file or the name of shipped weights to start from (fine-tuning). Weights of
            another scale do too: the upsampler and the last layer then start anew. To go on with an interrupted
            run, use --ckpt_path instead; where that is given, the file is not read and may be gone.
        optimizer: adam, or sgd, whose momentum is the first of ``betas``; AdderNet's own recipe is sgd with
            learning_rate 0.1, adder_rate 1 and adaptive_eta 0.2.
        learning_rate: the optimiser's, at its highest.
        betas: Adam's.
        warmup_steps: steps over which the rate rises linearly, from 1 / (warmup_steps + 1) of the highest; then
            it falls in a half cosine until max_steps.
        final_rate: the rate at the last step, as a fraction of the highest.
        adder_rate: factor on the learning rate of the adder filters.
        adaptive_eta: AdderNet's adaptive local rate for the adder filters in place of Adam's or of SGD's plain
            gradient, with this eta (0.2 in the paper's code); off where None. ``adder_rate`` multiplies it too:
            the root mean square of a filter's first step is learning_rate * adder_rate * eta.
        filter_std: standard deviation that the adder filters start with; AdderNet's is 1. Not where they start from
            given weights.
        teacher: a safetensors file or the name of shipped weights, of the same scale: a network whose results the
            trained one is drawn to, such as its convolutional twin. It is read where training begins.
        distillation: weight in the loss of the mean absolute difference from the teacher's results, beside that
            from HR, which has weight 1; at least 0. Without a teacher it means nothing.
        compile: compile the network for training (torch.compile); worth it for long runs.

    Raises:
        AdderSRError: a number is out of its range, or ``overrides`` do not fit the preset.
        CheckpointError: there is no such preset.
    """

    def __init__(
        self,
        preset: str = "edsr_small_x2",
        overrides: dict[str, Any] | None = None,
        init_from: str | None = None,
        optimizer: Literal["adam", "sgd"] = "adam",
        learning_rate: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        warmup_steps: int = 200,
        final_rate: float = 0.0,
        adder_rate: float = 160.0,
        adaptive_eta: float | None = None,
        filter_std: float = 1.0,
        teacher: str | None = None,
        distillation: float = 1.0,
        compile: bool = False,
    ) -> None:
        # Not through save_hyperparameters: in a checkpoint, Lightning's own record would silently beat the
        # configuration and the command line.
        super().__init__()
        above_0 = {"learning_rate": learning_rate, "adder_rate": adder_rate, "filter_std": filter_std}
        if adaptive_eta is not None:
            above_0["adaptive_eta"] = adaptive_eta
        for option, number in above_0.items():
            if not number > 0:
                raise AdderSRError(f"--model.{option} must be above 0, got {number}")
        at_least_0 = {"distillation": distillation, "warmup_steps": warmup_steps, "final_rate": final_rate}
        for option, number in at_least_0.items():
            if not number >= 0:
                raise AdderSRError(f"--model.{option} must be at least 0, got {number}")
        if not all(0 <= beta < 1 for beta in betas):
            raise AdderSRError(f"--model.betas must be at least 0 and below 1, got {list(betas)}")
        self.recipe: dict[str, Any] = {
            "loss": "L1",
            "optimizer": {"adam": "Adam", "sgd": "SGD"}[optimizer]
            + ("" if adaptive_eta is None else ", adaptive local rate for adder filters"),
            "learning_rate": learning_rate,
            "betas": list(betas),
            "warmup_steps": warmup_steps,
            "final_rate": final_rate,
            "adder_rate": adder_rate,
            "adaptive_eta": adaptive_eta,
            "filter_std": filter_std,
            "teacher": teacher,
            "distillation": None if teacher is None else distillation,
            "init_from": init_from,
            "compile": compile,
        }
        self.preset = preset
        self.optimizer, self.learning_rate, self.betas = optimizer, learning_rate, betas
        self.warmup_steps, self.final_rate = warmup_steps, final_rate
        self.adder_rate, self.adaptive_eta = adder_rate, adaptive_eta
        try:
            with torch.device("meta"):  # no memory, no random numbers
                known = presets.build(preset).config
            for name in overrides or {}:
                if name not in known:
                    raise AdderSRError(
                        f"--model.overrides.{name}: {preset} has no such option, it has {', '.join(sorted(known))}"
                    )
            self.model = presets.build(preset, **(overrides or {})).to(memory_format=torch.channels_last)
        except CheckpointError as error:
            raise CheckpointError(f"--model.preset: {error}") from error
        except (TypeError, ValueError) as error:
            raise AdderSRError(f"--model.overrides do not fit {preset}: {error}") from error
        with torch.no_grad():
            for filters in adder_filters(self.model):
                filters.mul_(filter_std)
        if compile:
            self.model.compile()  # in place: the names in the state_dict stay as they are
        self._init_from, self._teacher = init_from, teacher
        self.teacher: Teacher | None = None
        self.distillation = distillation

    @property
    def scale(self) -> int:
        """The network's: 2, 3 or 4."""
        return int(self.model.scale)

    def read_weights(self, *, training: bool, resumed: bool = False) -> None:
        """Reads the files that the network starts from and learns from, once, where they are needed.

        Args:
            training: read ``teacher``, which has no part in scores.
            resumed: a checkpoint brings the weights, so that ``init_from`` is not read, now or later.

        Raises:
            CheckpointError: a file cannot be read, or is another network's.
        """
        if self._init_from is not None and not resumed:
            initialise(self.model, self._init_from)
        self._init_from = None
        if self._teacher is not None and training:
            self.teacher = Teacher(self._teacher, self.scale)
            self._teacher = None

    @override
    def setup(self, stage: str) -> None:
        # For a trainer without the command line, which does it before the data are prepared.
        self.read_weights(training=stage == "fit")

    # Training

    @override
    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.to(self.device)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        sr = self.model(batch.lr)
        loss = l1_loss(sr, batch.hr)
        if self.teacher is not None:
            distance = self.teacher.distance(batch.lr, sr)
            self.log("train/distance_from_teacher", distance)
            loss = loss + self.distillation * distance
        self.log("train/loss", loss, prog_bar=True)
        return loss

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = self.trainer.max_steps
        if steps <= 0:
            raise AdderSRError("the schedule of the learning rate needs its length: give --trainer.max_steps")
        groups = parameter_groups(self.model, self.learning_rate, self.adder_rate, self.adaptive_eta)
        optimizer: AdderAdam | AdderSGD
        if self.optimizer == "sgd":
            optimizer = AdderSGD(groups, lr=self.learning_rate, momentum=self.betas[0])
        else:
            optimizer = AdderAdam(groups, lr=self.learning_rate, betas=self.betas)
        schedule = warmup_cosine(optimizer, self.warmup_steps, steps, self.final_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Scoring

    @override
    def validation_step(self, batch: NamedPair, batch_idx: int) -> dict[str, Pixels]:
        sr = self.predict_step(batch, batch_idx)
        self._check_size(batch, 1)
        self.log_mean("val/psnr", self.score(psnr, sr, batch), batch)
        return {"sr": sr}

    @override
    def test_step(self, batch: NamedPair, batch_idx: int) -> None:
        sr = self.predict_step(batch, batch_idx)
        self._check_size(batch, SSIM_WINDOW)
        for name, metric in {"test/psnr": psnr, "test/ssim": ssim}.items():
            self.log_mean(name, self.score(metric, sr, batch), batch)

    @override
    def predict_step(self, batch: NamedPair | NamedPicture, batch_idx: int) -> Pixels:
        """The LR picture of ``batch`` enlarged: (H, W, 3) uint8 RGB."""
        # forward, not __call__: a compiled network would be compiled again for every size of picture
        sr = self.model.forward(batch.lr.contiguous(memory_format=torch.channels_last))
        return from_tensor(sr, np.uint8).astype(np.uint8, copy=False)

    def score(self, metric: Metric, picture: Pixels, batch: NamedPair) -> Tensor:
        """By the protocol: on Y, without ``scale`` pixels at every border; computed on the network's device.

        Args:
            metric: `psnr` or `ssim`.
            picture: (H, W, 3) uint8 RGB, as large as HR.
            batch: with HR.

        Returns:
            A float64 scalar.
        """
        device = "cpu" if self.device.type == "mps" else self.device  # MPS has no float64
        pair = (picture, from_tensor(batch.hr, np.uint8))
        return metric(*(torch.from_numpy(shave(rgb_to_y(pixels), self.scale)).to(device) for pixels in pair))

    def log_mean(self, name: str, value: Tensor, batch: NamedPair) -> None:
        """Logs a score, at the end of a validation as the mean over all pictures: the same for any number of processes.

        A picture with which a process fills up its share (`EvenSplit`) has no weight.
        """
        # Lightning reduces the weights, whole numbers, to their mean over the processes, rounded down. So a picture
        # weighs as much as there are processes.
        weight = self.trainer.world_size * batch.counts
        value = value if batch.counts else torch.zeros_like(value)  # inf times 0 is none
        self.log(name, value, prog_bar=True, on_epoch=True, batch_size=weight, sync_dist=True)

    def _check_size(self, batch: NamedPair, smallest: int) -> None:
        """Without the border, no side may be below ``smallest``."""
        height, width = (side - 2 * self.scale for side in batch.hr.shape[-2:])
        if min(height, width) < smallest:
            raise DataError(
                f"{batch.name} is too small to be scored: {width}x{height} pixels without the border, at least "
                f"{smallest}x{smallest} are needed"
            )

    # Checkpoints

    def record(self) -> dict[str, Any]:
        """What a checkpoint says of its run: the network, the recipe, the data, the steps. Numbers, texts and lists."""
        trainer, data = self.trainer, getattr(self.trainer, "datamodule", None)
        algorithm = trainer.gradient_clip_algorithm
        settings = {
            "gradient_clip_val": trainer.gradient_clip_val,
            "gradient_clip_algorithm": algorithm and algorithm.value,
            "precision": trainer.precision,
            "processes": trainer.world_size,
            "device": trainer.strategy.root_device.type,
            "val_check_interval": trainer.val_check_interval,
            "limit_val_batches": trainer.limit_val_batches,
        }
        return {
            "preset": self.preset,
            "architecture": type(self.model).__name__,
            "config": dict(self.model.config),
            "steps": trainer.global_step,
            "max_steps": trainer.max_steps,
            "recipe": self.recipe | settings,
            "data": data.describe() if isinstance(data, SuperResolutionData) else {},
        }

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[RECORD] = self.record()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        record = checkpoint.get(RECORD, {})
        if "config" not in record:
            raise CheckpointError("--ckpt_path takes a checkpoint of addersr fit; weights: --model.init_from")
        own, architecture = self.model.config, record.get("architecture", "EDSR")
        try:
            config = presets.complete(architecture, record["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"--ckpt_path is of a network that this version does not know: {error}"
            ) from error
        if differ := sorted(key for key in own.keys() | config.keys() if config.get(key) != own.get(key)):
            raise CheckpointError(
                f"--ckpt_path is of another network than --model.preset {self.preset}: {', '.join(differ)} "
                "differ; resume with the config.yaml in the run's own folder"
            )
