"""A run that is told to stop: by a person (Ctrl-C), by the system (SIGTERM), by SLURM; in one process or in many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from typing_extensions import override

from addersr.telling import tell


def between_steps(trainer: pl.Trainer) -> bool:
    """Whether the last batch completed an optimiser step.

    Where gradients are accumulated, a run can be resumed only from there: a checkpoint has no gradients, and the
    batches before the step have changed BatchNorm's statistics already.
    """
    return (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0


class _Signals(_SignalConnector):
    """Notes what the process was told, and does nothing else: a handler runs at any point of a step.

    Lightning's own broadcasts SIGTERM to the other processes from within the handler, where each of them may be in
    another collective operation; and at SLURM's signal it saves a checkpoint there, in the middle of a step.
    """

    requeue = False

    @override
    def _sigterm_notifier_fn(self, signum: int, _: FrameType | None) -> None:
        launcher = self.trainer.strategy.launcher
        if launcher is not None and not self.received_sigterm:
            launcher.kill(signum)  # to the processes that it started
        self.received_sigterm = True

    @override
    def _slurm_sigusr_handler_fn(self, signum: int, frame: FrameType | None) -> None:
        self.requeue = True
        self._sigterm_notifier_fn(signal.SIGTERM, frame)


class Trainer(pl.Trainer):
    """Lightning's trainer, which stops where a run can be resumed from, and all its processes at the same step.

    When told to stop, by SIGTERM or by the signal that SLURM sends before a job's time is over (SIGUSR1), it
    completes the optimiser step at hand. Lightning's own stops after any batch, also where the gradients of several
    are accumulated, and each process when the signal reaches it. SLURM's signal also puts the job back into the
    queue, once the run is saved.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signal_connector: _Signals = _Signals(self)
        self._agreed = (False, False)

    @property
    @override
    def received_sigterm(self) -> bool:
        told = self._agreed[0] if self.world_size > 1 else super().received_sigterm
        return told and between_steps(self)

    @property
    def requeue(self) -> bool:
        """Whether SLURM is to run this job again."""
        return self._agreed[1] if self.world_size > 1 else self._signal_connector.requeue

    def agree(self) -> None:
        """Several processes tell each other whether one was told to stop; all have to call it at the same point."""
        if self.world_size > 1:
            signals = self._signal_connector
            told = torch.tensor([signals.received_sigterm, signals.requeue], dtype=torch.int32)
            told = self.strategy.reduce(told.to(self.strategy.root_device), reduce_op="max")
            stop, requeue = told.tolist()
            self._agreed = bool(stop), bool(requeue)


class Stop(pl.Callback):
    """After each batch and each validation picture the processes agree whether to stop, and SLURM is told."""

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        assert isinstance(trainer, Trainer)
        trainer.agree()

    @override
    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        assert isinstance(trainer, Trainer)
        trainer.agree()


def tell_that_it_stopped(last: Path | None) -> None:
    """Says in one line what is left: of a training, its checkpoint ``last`` where it got as far as to have one."""
    if last is None:
        left = ""
    elif last.exists():
        left = "; the run is saved, resume it with --ckpt_path last"
    else:
        left = " before there was anything to save; the same command starts again"
    tell(f"addersr: stopped{left}", sys.stderr)


def requeue_job() -> None:
    """Puts the SLURM job of this process back into the queue: the same script runs again, later."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        reason = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        tell(f"addersr: SLURM did not take job {job} back into its queue: {reason}", sys.stderr)


def stop_after_this_step(*_: object) -> None:
    """The first Ctrl-C ends training as SIGTERM does, with a checkpoint; the second ends it at once.

    Before and after training, where nobody handles SIGTERM, the first ends the process at once too.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("\nstopping after this step; press Ctrl-C again to stop at once", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)
