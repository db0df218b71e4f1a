"""Whether a batch is done by several processes, and starting them where nobody has: `--devices`, `--num-nodes`.

What each of them then does is in `addersr.inference.distributed`.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from addersr.errors import AdderSRError, UsageError

__all__ = ["Processes", "launch", "processes"]


@dataclass(frozen=True)
class Processes:
    """How many do a batch."""

    devices: int
    """On each machine."""
    num_nodes: int
    """Machines."""
    launched: bool
    """By torchrun, SLURM or hand: this is one of them."""


def processes(
    devices: int | None, num_nodes: int | None, environment: Mapping[str, str] = os.environ
) -> Processes | None:
    """How many processes do the batch, from the options and from what a launcher has set.

    Where Lightning would find torchrun or SLURM, so does this; their numbers need not be given again.

    Returns:
        None: this one does it alone.

    Raises:
        UsageError: the options and the launcher do not agree, or it did not say what is needed.
    """
    found = None
    if "TORCHELASTIC_RUN_ID" in environment:
        by, local = "torchrun", int(environment["LOCAL_WORLD_SIZE"])
        found = local, int(environment["WORLD_SIZE"]) // local
    elif _of_slurm(environment):
        by = "srun"
        if "SLURM_NTASKS_PER_NODE" not in environment:
            raise UsageError("SLURM: give --ntasks-per-node, not --ntasks alone, to sbatch or srun")
        found = int(environment["SLURM_NTASKS_PER_NODE"]), int(environment["SLURM_NNODES"])
    if found is None:
        several = Processes(devices or 1, num_nodes or 1, "LOCAL_RANK" in environment)
    else:
        several = Processes(*found, True)
        given = (devices or several.devices, num_nodes or several.num_nodes)
        if given != found:
            raise UsageError(
                f"{by} has started {found[0]} processes on each of {found[1]} machines, but --devices and --num-nodes "
                f"say {given[0]} on {given[1]}; leave them out"
            )
    return None if several.devices * several.num_nodes == 1 else several


def _of_slurm(environment: Mapping[str, str]) -> bool:
    """Several tasks, in a job that is not an interactive shell."""
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return int(environment.get("SLURM_NTASKS", 1)) > 1 and not interactive


def launch(words: Sequence[str], several: Processes, device: str) -> int:
    """Run the command line in so many processes on this machine, and wait for all of them.

    Their variables are those that Lightning documents for processes that are started by hand. Unlike Lightning's
    and torch's launchers, this leaves the others alone when one dies.

    Args:
        words: behind the program's name.
        device: as for `--device`.

    Returns:
        The exit code: 0, 1 if pictures failed in any of them, 2 if the command line was wrong.

    Raises:
        UsageError: there are not so many devices, or the variables of several machines are missing.
        AdderSRError: a process died; the others went on.
    """
    _check(several, device)
    # Without what would make Lightning take them for tasks of SLURM: a job of one task may start several here.
    inherited = {name: value for name, value in os.environ.items() if name != "SLURM_NTASKS"}
    meeting = {"MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0"}
    if several.num_nodes == 1:
        meeting["MASTER_PORT"] = str(_free_port())
    command = [sys.executable, "-m", "addersr.cli", *words]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(several.devices):
            environment = meeting | inherited | {"LOCAL_RANK": str(rank)}
            # A group of its own, so that Ctrl-C comes once, from here.
            started.append(subprocess.Popen(command, env=environment, process_group=0))
        codes = [process.wait() for process in started]
    except BaseException:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait()
        raise
    lost = [f"{rank + 1} ({_fate(code)})" for rank, code in enumerate(codes) if code not in (0, 1, 2)]
    if lost:
        raise AdderSRError(
            f"of {several.devices} processes died: number {', '.join(lost)}; the same command with --skip-existing "
            "completes what they left"
        )
    return max(codes)


def _check(several: Processes, device: str) -> None:
    needed = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    missing = [name for name in needed if name not in os.environ]
    if several.num_nodes > 1 and missing:
        raise UsageError(
            f"--num-nodes {several.num_nodes}: start it by torchrun or srun, or set {', '.join(missing)} on each one"
        )
    wanted = several.devices
    if device != "cpu" and torch.cuda.is_available():
        there, what = torch.cuda.device_count(), "CUDA devices"
    else:
        there, what = os.cpu_count() or 1, "processors"
    if wanted > there:
        raise UsageError(f"--devices {wanted}: too many, the {what} here are {there}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _fate(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
