"""What a resumed run takes from its checkpoint, and what from the command line."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.utilities import rank_zero_info
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from addersr.data.module import same_pictures
from addersr.errors import CheckpointError
from addersr.training.system import RECORD, SuperResolution


class Resume(pl.Callback):
    """Makes a resumed run go on as if it had not been interrupted, by the hyper-parameters of the command line.

    Lightning restores the weights, their average, the optimiser's and the schedule's state, and its own counters. To
    these come:

    - The hyper-parameters. Lightning takes those of the checkpoint, silently. Here the command line (or the
      configuration) has its way: the rates, betas and all else of the optimiser's groups are as given now, with the
      moments of the checkpoint; the learning rate is that of the schedule as given now, at the step reached. What
      differs of all that a checkpoint records of its run is said in one line, pictures, precision and the number of
      processes among it. What would make nonsense of the restored state is refused. What only acts on fresh weights
      is said to be without effect, and stays in the record as it was.
    - The random state of torch, NumPy and Python. It is left as ``--seed_everything`` sets it if that is another
      than the checkpoint's.
    - The validation before which the checkpoint was written, also that of a run's end where ``max_steps`` is now
      higher. Lightning takes it as done. (At its end nothing is left to do; ``addersr validate`` scores a run.)

    Which data come next is a function of the step, see `PatchStream`.

    Raises:
        CheckpointError: what a run records is not there; another kind of optimiser, another
            ``accumulate_grad_batches``, or weights to start from beside those of the checkpoint.
    """

    def __init__(self) -> None:
        self._given: list[dict[str, Any]] = []
        self._random: dict[str, Any] | None = None
        self._resumed = self._unvalidated = self._ended = False

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The optimiser has been made, and what is in the checkpoint comes after this.
        (optimizer,) = trainer.optimizers
        self._given = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, SuperResolution)
        record = checkpoint[RECORD]
        if lacking := {"recipe", "data", "max_steps"} - record.keys() | {"loops"} - checkpoint.keys():
            raise CheckpointError(
                f"--ckpt_path lacks {', '.join(sorted(lacking))}: it is damaged, or was not written by addersr fit"
            )
        now, then = pl_module.recipe, record["recipe"]
        start = {key: then[key] for key in ("filter_std",) if key in then}
        origin = then.get("init_from", then.get("init_weights"))  # its name in older versions
        if now["init_from"] not in (None, origin):
            raise CheckpointError(
                f"--model.init_from {now['init_from']} and --ckpt_path both bring weights; leave one of them out"
            )
        if not trainer.training:
            return
        self._resumed = True
        if now["optimizer"] != then["optimizer"]:
            raise CheckpointError(
                f"--ckpt_path has the state of {then['optimizer']}, which {now['optimizer']} cannot go on with: resume "
                "with the run's own --model.optimizer and --model.adaptive_eta, or start a run with --model.init_from"
            )
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
        steps = checkpoint["global_step"]
        if batches["ready"] != steps * trainer.accumulate_grad_batches:
            raise CheckpointError(
                f"--ckpt_path has taken {steps} steps in {batches['ready']} batches, which does not go with "
                f"--trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: resume a last.ckpt, with the "
                "number of its own run"
            )
        # It is written within on_train_batch_end, after which comes the validation, and `completed` is counted.
        self._unvalidated = batches["completed"] < batches["processed"]
        self._ended = steps == record["max_steps"]
        if useless := _changes(start, {key: now[key] for key in start}):
            rank_zero_info(f"Without effect where the weights are a checkpoint's: {useless}")
        pl_module.recipe |= start | {"init_from": origin}
        if changes := _differences(record, pl_module.record()):
            rank_zero_info(f"Going on with other values than the checkpoint's: {changes}")

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._resumed:
            return
        self._hyperparameters(trainer)
        loop = trainer.fit_loop.epoch_loop
        due = loop.batch_progress.total.ready % (trainer.val_check_batch or torch.inf) == 0
        if self._unvalidated and (due or self._ended):
            loop.val_loop.restarting = False  # as in an uninterrupted run, not from where the last one ended
            trainer.validating = True
            loop.val_loop.run()
            trainer.training = True
        if self._random is not None:  # checkpoints of older versions have none
            _set_random_state(self._random)

    def _hyperparameters(self, trainer: pl.Trainer) -> None:
        (optimizer,) = trainer.optimizers
        for group, given in zip(optimizer.param_groups, self._given, strict=True):
            group.update(given)
        for config in trainer.lr_scheduler_configs:
            schedule = config.scheduler
            assert isinstance(schedule, LambdaLR)
            schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
            factors = [function(schedule.last_epoch) for function in schedule.lr_lambdas]
            rates = [rate * factor for rate, factor in zip(schedule.base_lrs, factors, strict=True)]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            schedule._last_lr = rates

    @override
    def state_dict(self) -> dict[str, Any]:
        return _random_state()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._random = state_dict


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two records (`SuperResolution.record`), for a person."""

    def values(record: Mapping[str, Any]) -> dict[str, Any]:
        keys = ("holdout", "degradation", "patch", "batch_size", "seed")
        data = {f"data.{key}": record["data"][key] for key in keys if key in record["data"]}
        return {**record["recipe"], "max_steps": record["max_steps"], **data}

    differences = [_changes(values(then), values(now))]
    for kind in ("train", "validation"):
        if not same_pictures(then["data"], now["data"], kind):
            before, after = (_pictures(record["data"].get(kind, ())) for record in (then, now))
            differences.append(f"data.{kind} {before} -> {'other pictures' if after == before else after}")
    return ", ".join(filter(None, differences))


def _pictures(found: Mapping[str, int] | Sequence[str]) -> str:
    """Their numbers by folder; ``found`` has these, or the pictures' names."""
    counts = found if isinstance(found, Mapping) else Counter(name.rpartition("/")[0] for name in found)
    return " and ".join(f"{number} of {folder}" for folder, number in counts.items()) or "none"


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs of what both have."""
    return ", ".join(f"{key} {then[key]} -> {now[key]}" for key in now if then.get(key, now[key]) != now[key])


def _random_state() -> dict[str, Any]:
    """In types that a checkpoint may hold without being unpickled."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "seed": os.environ.get("PL_GLOBAL_SEED"),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    if state["seed"] != os.environ.get("PL_GLOBAL_SEED"):
        rank_zero_info("--seed_everything is not the checkpoint's: the random state starts anew")
        return
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])
