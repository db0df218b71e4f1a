"""What a person watches beside the pictures: scalars in TensorBoard, where a step's time goes, the progress bar."""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import fmean
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn.utils import get_total_norm
from typing_extensions import override

from addersr.layers import AdderUnit, BoxCoxHighPass
from addersr.layers.power import PowerActivation
from addersr.models.edsr import ConvUnit
from addersr.training.stopping import between_steps
from addersr.training.system import SuperResolution

_CHARTS = {
    "validation": {"PSNR": "val/psnr"},
    "learned": {
        "exponents": "learned/alpha/",
        "shortcut gains": "learned/gain/",
        "Box-Cox lambda": "learned/lambda/",
    },
    "training": {
        "gradient norms": "train/grad_norm/",
        "learning rates": "train/learning_rate/",
        "seconds a step": "time/",
    },
}
"""Page -> chart -> beginning of the names of the scalars drawn in it."""


def layers(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of each layer, by its name in the network; every parameter is in one.

    A unit is one layer, with its filters, BatchNorm, gain and exponent, so that the layers of an adder network and of
    its convolutional twin have the same names. Beside units, a layer is what owns parameters.
    """
    found: defaultdict[str, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        owner = name.rpartition(".")[0]
        parent = owner.rpartition(".")[0]
        in_unit = isinstance(network.get_submodule(parent), AdderUnit | ConvUnit)
        found[parent if in_unit else owner].append(parameter)
    return dict(found)


def learned(network: nn.Module) -> dict[str, nn.Parameter]:
    """What is learned beside filters: ``alpha/LAYER`` (exponents), ``gain/LAYER`` (shortcuts), ``lambda/LAYER``.

    Each is a single number; a gain that is fixed is left out.
    """
    found: dict[str, nn.Parameter] = {}
    for name, module in network.named_modules():
        if isinstance(module, AdderUnit):
            if isinstance(module.power, PowerActivation):
                found[f"alpha/{name}"] = module.power.alpha
            if isinstance(module.gain, nn.Parameter):
                found[f"gain/{name}"] = module.gain
        elif isinstance(module, BoxCoxHighPass):
            found[f"lambda/{name}"] = module.lam
    return found


class Scalars(pl.Callback):
    """Logs, every ``log_every_n_steps`` steps, what the network has learned beside filters and how it is moved.

    ``learned/{alpha,gain,lambda}/LAYER``: see `learned`. ``train/grad_norm/LAYER`` (see `layers`) and
    ``train/grad_norm/total``: the Euclidean norm of the gradient, before it is clipped and before AdderNet's adaptive
    rate. ``train/learning_rate/GROUP`` for the optimiser's groups. All are those with which the step was made whose
    ``train/loss`` has the same number. TensorBoard's page "Custom scalars" draws all layers in one chart.
    """

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            layout = {
                page: {chart: ["Multiline", [start]] for chart, start in charts.items()}
                for page, charts in _CHARTS.items()
            }
            trainer.logger.experiment.add_custom_scalars(layout)

    @override
    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not trainer.loggers or not _logs(trainer, trainer.global_step + 1):
            return
        assert isinstance(pl_module, SuperResolution)
        network = pl_module.model
        values = {f"learned/{name}": value.detach() for name, value in learned(network).items()}
        norms = {
            layer: get_total_norm(gradients)
            for layer, group in layers(network).items()
            if (gradients := [p.grad for p in group if p.grad is not None])
        }
        norms["total"] = get_total_norm(list(norms.values()))
        values |= {f"train/grad_norm/{layer}": norm for layer, norm in norms.items()}
        # stacked: one transfer from a GPU
        numbers = torch.stack([value.float() for value in values.values()]).tolist()
        rates = {f"train/learning_rate/{group['name']}": group["lr"] for group in optimizer.param_groups}
        for logger in trainer.loggers:
            logger.log_metrics(dict(zip(values, numbers, strict=True)) | rates, trainer.global_step)


def _logs(trainer: pl.Trainer, steps: int) -> bool:
    """Whether the trainer logs after so many steps."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it undeclared
    return every > 0 and steps % every == 0


_Mark = float | torch.cuda.Event


def _mark(device: torch.device) -> _Mark:
    if device.type != "cuda":
        return perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has none
    event.record()
    return event


def _seconds(start: _Mark, end: _Mark) -> float:
    if isinstance(start, torch.cuda.Event):
        assert isinstance(end, torch.cuda.Event)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000
    assert isinstance(end, float)
    return end - start


class Clock(pl.Callback):
    """Logs where the time of a step goes, in seconds a step, averaged between two logs (the last 1000 batches at most).

    ``time/compute`` is from where the batch is on the device to the end of the step. ``time/load`` is what passes
    between: the batch is read (or waited for) and brought to the device, and Lightning's own loop. Validations and the
    writing of checkpoints are in neither. On a GPU it is the time of the device, by events in its queue, which
    are waited for only where they are logged; so loading that the device does not wait for costs nothing here either.

    It has to be the last callback but those that write checkpoints, as Lightning has them; else what others do at
    the end of a step counts as loading.
    """

    def __init__(self) -> None:
        self._loads: deque[tuple[_Mark, _Mark]] = deque(maxlen=1000)
        self._computes: deque[tuple[_Mark, _Mark]] = deque(maxlen=1000)
        self._begun: _Mark | None = None
        self._ended: _Mark | None = None  # also where what follows is not the next batch's loading alone

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._loads.clear()
        self._computes.clear()
        self._ended = None

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._begun = _mark(pl_module.device)
        if self._ended is not None:
            self._loads.append((self._ended, self._begun))

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._begun is not None
        self._ended = _mark(pl_module.device)
        self._computes.append((self._begun, self._ended))
        if between_steps(trainer) and _logs(trainer, trainer.global_step):
            for name, spans in {"time/load": self._loads, "time/compute": self._computes}.items():
                if spans:
                    seconds = fmean(_seconds(*span) for span in spans) * trainer.accumulate_grad_batches
                    pl_module.log(name, seconds, prog_bar=True)
                spans.clear()
            self._ended = _mark(pl_module.device)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended = None

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._ended = None


_SHOWN = {
    "train/loss": ("loss", ".4f"),
    "val/psnr": ("PSNR", ".2f"),
    "s/step": ("s/step", ".3g"),
    "loading": ("loading", ""),
    "val/psnr_bicubic": ("bicubic", ".2f"),
}
"""Metric -> its label in the bar and the format of its value."""


class Progress(TQDMProgressBar):
    """One bar over all steps of the run, which goes on where a resumed run was left.

    It shows the loss, the newest validation PSNR and bicubic's of the same pictures, the seconds a step took lately,
    and which part of them went to loading where that is above 5 %.
    """

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

    @override
    def on_exception(self, trainer: pl.Trainer, *args: Any) -> None:
        # Lightning leaves the cursor in the bar's line, where the error would be written on.
        bars = (
            self._val_progress_bar,
            self._train_progress_bar,
            self._test_progress_bar,
            self._predict_progress_bar,
        )
        for bar in bars:
            if bar is not None:
                bar.close()

    def _lay_out(self, trainer: pl.Trainer) -> None:
        bar = self.train_progress_bar
        bar.total = trainer.max_steps * trainer.accumulate_grad_batches
        bar.n = bar.initial = trainer.global_step * trainer.accumulate_grad_batches
        bar.bar_format = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

    @override
    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        load, compute = metrics.pop("time/load", 0.0), metrics.pop("time/compute", 0.0)
        if step := load + compute:
            metrics["s/step"] = step
            if load > 0.05 * step:
                metrics["loading"] = f"{load / step:.0%}"
        # the most important first: a narrow terminal cuts the rest
        shown = {
            label: format(metrics.pop(name), form)
            for name, (label, form) in _SHOWN.items()
            if name in metrics
        }
        return shown | {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in metrics.items()}
