"""What the benchmarks share: fair times, peak memory, what the machine is, and the report.

Candidates of a comparison take turns, so that a change of the machine's speed meets all alike. Each turn is a block of
consecutive calls. Between blocks `settle` waits until the threads of the last candidate sleep: ONNX Runtime's and those
of OpenMP wait for more work in a busy loop, ONNX Runtime's for some 50 ms, and would take a core from whoever is next.
To forbid them to spin would slow ONNX Runtime's own calls and so flatter the others; this way each runtime works as it
ships, and as it does in a program that calls nothing else. For the same reason a block's first call, which wakes the
threads and fills the caches, is not timed.
"""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from addersr.atomic import replacing
from addersr.ops import cpu
from addersr.progress import bar_columns

Call = Callable[[], object]
TIMED_CALLS = 2  # of a block


class MissingError(Exception):
    """What a candidate needs is not here; the message is one line."""


def settle(longest: float = 1.0) -> None:
    """Wait until this process's threads have stopped spinning, `longest` seconds at most."""
    end = time.perf_counter() + longest
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.001:
            return


def block(call: Call) -> list[float]:
    """Seconds of consecutive calls after one that is not timed."""
    settle()
    call()
    times = []
    for _ in range(TIMED_CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def prepared(
    candidates: Mapping[str, Callable[..., Call]], *args: object
) -> dict[str, Callable[[], list[float]]]:
    """A `block` for each candidate that can run here; of the others it is printed why they cannot."""
    blocks: dict[str, Callable[[], list[float]]] = {}
    for name, prepare in candidates.items():
        try:
            blocks[name] = partial(block, prepare(*args))
        except MissingError as reason:
            print(f"left out: {name}: {reason}")
    return blocks


def medians(
    blocks: Mapping[str, Callable[[], Sequence[float]]], rounds: int, title: str, warm_up: int = 1
) -> dict[str, float]:
    """The median of each candidate's times over interleaved rounds, those of warming up left out."""
    times: dict[str, list[float]] = {name: [] for name in blocks}
    for round_ in tqdm(range(rounds + warm_up), desc=title, leave=False, disable=None, ncols=bar_columns()):
        for name, run in blocks.items():
            values = run()
            if round_ >= warm_up:
                times[name] += values
    return {name: statistics.median(values) for name, values in times.items()}


def peak_mib(prepare: Callable[..., Call], tiny: Sequence[object], full: Sequence[object]) -> float | None:
    """Peak memory of the first call of ``prepare(*full)`` above what was there before, in a fresh process; Linux only.

    ``prepare(*tiny)`` is called before, for what is loaded once.
    """
    if not sys.platform.startswith("linux"):
        return None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (prepare, tiny, full))


def _peak(prepare: Callable[..., Call], tiny: Sequence[object], full: Sequence[object]) -> float:
    prepare(*tiny)()
    call = prepare(*full)
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # what preparing has freed would be used again unseen
    Path("/proc/self/clear_refs").write_text("5")  # forgets the high-water mark, an inherited one too
    before = kib("VmRSS")
    call()
    return (kib("VmHWM") - before) / 1024


def kib(field: str) -> int:
    """A figure of this process's memory, by its name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def machine() -> dict[str, Any]:
    """The processor, what of it is used, and the versions of the runtimes; None for what is not there."""
    info = Path("/proc/cpuinfo").read_text() if sys.platform.startswith("linux") else ""
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "instruction_set": cpu.instruction_set(),
        "amx": _amx(" amx_tile" in info, os.environ.get("ONEDNN_MAX_CPU_ISA")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: _version(name) for name in ("torch", "onnxruntime", "openvino")},
    }


def _amx(present: bool, limit: str | None) -> str:
    """Who uses Intel's matrix unit, which has no use for an adder layer. ONNX Runtime cannot be told to leave it."""
    if not present:
        return "none"
    if limit is None:
        return "used by bfloat16 in torch and int8 in ONNX Runtime and OpenVINO"
    return f"present; ONEDNN_MAX_CPU_ISA={limit} limits torch and OpenVINO, not ONNX Runtime"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass
class Report:
    """The figures of a run, printed as they come."""

    machine: dict[str, Any] = field(default_factory=machine)
    results: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float | None] = field(default_factory=dict)

    def add(
        self, name: str, shape: Sequence[int], seconds: float, work: float | None, peak: float | None = None
    ) -> None:
        """One candidate: `work` counts its MACs or sums of absolute differences, `peak` is in MiB."""
        rate = None if work is None else work / seconds / 1e9
        self.results.append(
            {"name": name, "shape": list(shape), "ms": seconds * 1e3, "gops_per_s": rate, "peak_mib": peak}
        )
        speed = " " * 14 if rate is None else f"{rate:10.1f} G/s"
        memory = "" if peak is None else f"{peak:10.1f} MiB"
        print(f"{name:62} {'x'.join(map(str, shape)):14} {seconds * 1e3:9.3f} ms {speed}{memory}".rstrip())

    def finish(self, path: Path | None) -> None:
        """Print the ratios and, if there is a path, write all as JSON."""
        print()
        for name, ratio in self.ratios.items():
            print(f"{name:64} {'-' if ratio is None else f'{ratio:.3f}':>8}")
        if path is not None:
            content = {"machine": self.machine, "results": self.results, "ratios": self.ratios}
            with replacing(path) as part:
                part.write_text(json.dumps(content, indent=1) + "\n")


def compare(
    report: Report,
    title: str,
    candidates: Mapping[str, Callable[..., Call]],
    tiny: Sequence[object],
    full: Sequence[object],
    shape: Sequence[int],
    work: float,
    repeats: int,
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Seconds and peak MiB of the candidates that can run, by name, which also go into the report.

    Args:
        report: what it adds to.
        title: of the progress bars.
        candidates: name -> function that prepares a call.
        tiny: that function's arguments for what is loaded once.
        full: its arguments for what is measured.
        shape: of the input, as the report shall say it.
        work: operations of a call.
        repeats: rounds.
    """
    seconds = medians(prepared(candidates, *full), repeats, title)
    peaks = {
        name: peak_mib(candidates[name], tiny, full)
        for name in tqdm(seconds, desc=f"memory {title}", leave=False, disable=None, ncols=bar_columns())
    }
    for name, value in seconds.items():
        report.add(name, shape, value, work, peaks[name])
    return seconds, peaks


def speed_ratio(seconds: Mapping[str, float], name: str, others: Sequence[str]) -> float | None:
    """How many times as fast `name` is as the fastest of `others`; None where none of those was measured."""
    measured = [seconds[other] for other in others if other in seconds]
    return min(measured) / seconds[name] if measured else None


def parse_arguments(description: str, repeats: int) -> argparse.Namespace:
    """`json`, a path or None, and `repeats`, at least 1."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=output_file, help="write the figures here")
    parser.add_argument("--repeats", type=positive, default=repeats, help="rounds (default: %(default)s)")
    return parser.parse_args()


def need_kernels() -> None:
    """End the script where the compiled kernels, which it is about, are not there."""
    if reason := cpu.unavailable_reason():
        sys.exit(f"the native kernels cannot run: {reason}")


def need_matplotlib() -> None:
    """End the script where what draws its plot is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("error: the plot needs matplotlib: pip install '.[benchmarks]'")


def output_file(text: str) -> Path:
    """A file that can be written, for argparse's `type`: said at once, not after the minutes that the figures take."""
    path = Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text}: no folder to write to, or a folder itself")
    return path


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse's `type`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)
