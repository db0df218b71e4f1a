"""A batch that several processes share, each on a device of its own, through Lightning's `Trainer.predict`.

At the beginning the first process plans and gives each its share of the pictures; from then on they know nothing of
each other, so that one that dies takes none with it. (Lightning's sampler would have each of them plan, and may find
other files in each.)
"""

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from typing_extensions import override

from addersr.errors import AdderSRError, UsageError
from addersr.inference.batch import Stage, Work
from addersr.inference.launch import Processes
from addersr.inference.pipeline import read_ahead, writing_behind
from addersr.inference.plan import Job

__all__ = ["Group"]

_LONGEST_WAIT = timedelta(days=30)  # for the slowest at the end


class Group:
    """The processes of a batch, of which this is one; made when all are there.

    Args:
        several: how many.
        begun: set when all are about to begin their work.

    Raises:
        AdderSRError: they did not find each other.

    Attributes:
        rank: the number of this one, from 0.
        count: how many there are.
    """

    def __init__(self, several: Processes, begun: threading.Event) -> None:
        self._begun = begun
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)  # not what it finds, and starts, on each machine
        # Lightning 2.6 asks for a class in the way that torch has replaced since.
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="GPU available but not used")
            # On the CPU, GPU or not: what goes between processes is plain objects, at the beginning. The network
            # is the upscaler's, on the device that `device` says.
            self._trainer = pl.Trainer(
                accelerator="cpu",
                devices=several.devices,
                num_nodes=several.num_nodes,
                strategy=DDPStrategy(process_group_backend="gloo"),
                plugins=[_cluster()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        with _together():
            self._trainer.strategy.setup_environment()
        self.rank, self.count = self._trainer.global_rank, self._trainer.world_size

    def device(self, name: str) -> str:
        """The device of this process where the user says ``name``: the CUDA devices in turn."""
        if name == "cpu" or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        # Modulo, because SLURM may show each task the device that is its own alone.
        return f"cuda:{self._trainer.local_rank % torch.cuda.device_count()}"

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """What is raised in the block in one process ends all of them, and is told once.

        Raises:
            AdderSRError, OSError: raised in the block here, and by no process before this one.
            SystemExit: raised in another, which tells.
        """
        problem: Exception | None = None
        try:
            yield
        except (AdderSRError, OSError) as error:
            problem = error
        problems: list[Exception | None] = [None] * self.count
        with _together():
            dist.all_gather_object(problems, problem)
        before = [str(other) for other in problems[: self.rank] if other is not None]
        if problem is not None and str(problem) not in before:
            raise problem
        first = next((other for other in problems if other is not None), None)
        if first is not None:
            raise SystemExit(2 if isinstance(first, UsageError) else 1)

    def share(self, jobs: list[Job]) -> list[Job]:
        """The jobs of this process: every `count`-th of those that the first one has.

        What is there already comes last, so that all have as much to do when a run that was stopped goes on.

        Args:
            jobs: all of them, in the first process; not looked at in the others.
        """
        shares = None
        if self.rank == 0:
            ordered = sorted(jobs, key=lambda job: os.path.lexists(job.target))
            shares = [ordered[rank :: self.count] for rank in range(self.count)]
        share: list[list[Job]] = [[]]
        with _together():
            dist.scatter_object_list(share, shares, src=0)
        return share[0]

    def overlapped(self, works: Iterable[Work], read: Stage, compute: Stage, write: Stage) -> None:
        """As `addersr.inference.pipeline.overlapped`, each work a batch of `Trainer.predict`.

        Lightning fetches one ahead, so that four are in memory at once.
        """
        with closing(read_ahead(works, read)) as ready, writing_behind(write) as write_behind:
            shell = _Shell(compute, write_behind, self._begun)
            try:
                self._trainer.predict(shell, ready, return_predictions=False)
            except SystemExit as stop:
                if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns it into exit code 1
                    raise KeyboardInterrupt from None
                raise
            except RuntimeError as error:
                if self._begun.is_set():
                    raise
                raise AdderSRError(_LEFT) from error

    def end(self) -> None:
        """Wait for the others if this is torchrun's process.

        Because it ends all at the first exit code that is not 0, which one that has failed pictures has. Where one
        has died, there is nothing to wait for.
        """
        if TorchElasticEnvironment.detect():
            with suppress(RuntimeError):
                dist.monitored_barrier(timeout=_LONGEST_WAIT)


class _Shell(pl.LightningModule):
    """Has no weights: so Lightning has nothing to move and to compare between processes."""

    def __init__(self, compute: Stage, write_behind: Stage, begun: threading.Event) -> None:
        super().__init__()
        self._begun = begun
        self._compute = compute
        self._write_behind = write_behind
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    @override
    def on_predict_start(self) -> None:
        # Lightning's handler waits for all processes, one of which may be dead. Ours is there before it.
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._begun.set()
        with _together():  # so that none begins, fails and ends before all have said that they have begun
            dist.barrier()

    @override
    def predict_step(self, work: Work) -> Work:
        self._compute(work)
        return work

    @override
    def on_predict_batch_end(
        self, outputs: Work | None, batch: Work, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._write_behind(batch)


def _cluster() -> ClusterEnvironment:
    """What Lightning would choose among those that `processes` knows; a job of SLURM is not queued again by it."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect():
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


_LEFT = "another process ended before the work began, or did not come; start all of them again"

_TELLING = 2  # seconds in which `launch` ends this one, and tells what happened once for all


@contextmanager
def _together() -> Iterator[None]:
    """What all processes do at once, which fails where one is not there."""
    try:
        yield
    except RuntimeError as error:
        time.sleep(_TELLING)
        raise AdderSRError(_LEFT) from error
