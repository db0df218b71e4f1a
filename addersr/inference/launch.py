"""Whether a batch is done by several processes, and starting them where nobody has: `--devices`, `--num-nodes`.

What each of them then does is in `addersr.inference.distributed`.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import torch

from addersr.errors import AdderSRError, UsageError

__all__ = ["Processes", "follow_launcher", "launch", "processes"]

_FOLLOWS = "ADDERSR_FOLLOWS"  # in the environment of a process whose standard input is its launcher's pipe

_NOT_BEGUN = 3  # exit code of a process that was ended because another one was missing

_POLL = 0.1  # seconds

_GRACE = 0.5  # seconds to end by itself, and tell why


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
        # Not in the batch script itself, which has the variables of the whole job.
        if "SLURM_STEP_ID" not in environment:
            raise UsageError(
                "SLURM: this job has several tasks, but srun has not started this one; write srun before the command, "
                "or unset SLURM_NTASKS to do all in one process"
            )
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

    Their variables are those that Lightning documents for processes that are started by hand. When one dies before
    all have begun, the others end; when one dies later, they go on, unlike with Lightning's and torch's launchers.
    When this process dies they end, too, as by SIGTERM: see `follow_launcher`.

    Args:
        words: behind the program's name.
        device: as for `--device`.

    Returns:
        The exit code: 0, 1 if pictures failed in any of them, 2 if the command line was wrong.

    Raises:
        UsageError: there are not so many devices, or the variables of several machines are missing.
        AdderSRError: a process died.
    """
    _check(several, device)
    # Without what would make Lightning take them for tasks of SLURM: a job of one task may start several here.
    common = {name: value for name, value in os.environ.items() if name != "SLURM_NTASKS"} | {_FOLLOWS: "1"}
    if several.num_nodes == 1:  # whatever an outer launcher has left there
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
    # -P: what lies in the folder that the user happens to be in is not imported.
    command = [sys.executable, "-P", "-m", "addersr.cli", *words]
    started: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        try:
            for rank in range(several.devices):
                # A group of its own, so that Ctrl-C comes once, from here.
                process = subprocess.Popen(
                    command,
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    env=common | {"LOCAL_RANK": str(rank)},
                    process_group=0,
                )
                started.append(stack.enter_context(process))
            codes = _codes(started)
        except BaseException:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait()
            raise
    lost = [
        f"{rank + 1} ({_fate(code)})" for rank, code in enumerate(codes) if code not in (0, 1, 2, _NOT_BEGUN)
    ]
    if lost and _NOT_BEGUN in codes:
        raise AdderSRError(
            f"of {several.devices} processes died before the work began: number {', '.join(lost)}; run it again"
        )
    if lost:
        raise AdderSRError(
            f"of {several.devices} processes died: number {', '.join(lost)}; the same command with --skip-existing "
            "completes what they left"
        )
    return max(code for code in codes if code != _NOT_BEGUN)


def _codes(started: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait for all; each that fails is made known to the others, for those that are still waiting for it."""
    running = list(started)
    while running:
        ended = [process for process in running if process.poll() is not None]
        running = [process for process in running if process not in ended]
        if any(process.returncode for process in ended):
            for process in running:
                assert process.stdin is not None
                with suppress(BrokenPipeError):  # it has ended, too
                    process.stdin.write(b"!")
        if running and not ended:
            time.sleep(_POLL)
    return [process.returncode for process in started]


def follow_launcher() -> threading.Event:
    """In one of the processes of `launch`: end when it dies, and when another one fails before the work begins.

    Standard input is a pipe that the launcher writes a byte to for each that failed, and that ends with the launcher,
    whatever ends it. In a process that was started otherwise nothing is done.

    Returns:
        To be set when the work begins.
    """
    begun = threading.Event()

    def following() -> None:
        while os.read(0, 1):
            if not begun.wait(_GRACE):
                os._exit(_NOT_BEGUN)  # the main thread may be waiting in torch, which no exception reaches
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.pop(_FOLLOWS, None) is not None:
        threading.Thread(target=following, name="addersr-follower", daemon=True).start()
    return begun


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
