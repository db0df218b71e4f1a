"""Speed of one adder layer beside a convolution of the same shape: ratios within one run, medians.

    python benchmarks/ops.py [--json FILE] [--repeats 15]

SAD/s counts one sum-of-absolute-differences term where a convolution has one MAC. Rounds of all candidates are
interleaved, so that a change of the machine's speed meets all alike. The official formulation (AdderNet's adder.py:
unfold, broadcast, absolute value, sum) is timed on a part of the picture and both are measured on that part. Memory is
the peak growth of the process above the inputs, each measured in a fresh process.

Run nothing else beside it. glibc's allocator is told to keep large blocks, or page faults would dominate.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from addersr.ops import adder2d, cpu

Call = Callable[[], object]
SHAPES = [(1, 64, 180, 320), (16, 64, 48, 48), (1, 32, 180, 320), (16, 32, 48, 48)]
OFFICIAL_SHAPE = (1, 64, 60, 80)


def official(x: Tensor, weight: Tensor) -> Tensor:
    """The official formulation: a (filters, C * K * K, pixels) temporary. (N, C, H, W) -> (N, O, H, W), padding 1."""
    n, _, h, w = x.shape
    columns = F.unfold(x, 3, padding=1).permute(1, 2, 0).reshape(weight[0].numel(), -1)
    y = -(weight.reshape(weight.shape[0], -1, 1) - columns[None]).abs().sum(1)
    return y.view(weight.shape[0], h, w, n).permute(3, 0, 1, 2)


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random input and filters, channels last."""
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(shape[1], shape[1], 3, 3).contiguous(memory_format=torch.channels_last)
    return x, weight


def step(layer: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Call:
    """Forward and backward of one layer, to input and filters."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    grad = torch.randn_like(x)

    def run() -> None:
        x.grad = weight.grad = None
        layer(x, weight).backward(grad)

    return run


def adder(x: Tensor, weight: Tensor) -> Tensor:
    return adder2d(x, weight, 1, 1, backend="native")


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


FORWARD = {"adder float32": adder, "conv float32": convolution}


def median_seconds(calls: dict[str, Call], repeats: int, title: str) -> dict[str, float]:
    """Median over interleaved rounds, after two rounds of warming up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in tqdm(range(repeats + 2), desc=title, leave=False):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_ >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_mib(name: str, shape: tuple[int, ...]) -> float | None:
    """Peak memory of one forward above what the process had with its inputs, in a fresh process; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, shape))


def _peak(name: str, shape: tuple[int, ...]) -> float:
    x, weight = inputs(shape)
    layer = {**FORWARD, "official adder float32": official}[name]
    tiny = inputs((1, shape[1], 4, 4))
    with torch.inference_mode():
        layer(*tiny)  # loads what is loaded once
        Path("/proc/self/clear_refs").write_text("5")  # forgets the high-water mark, an inherited one too
        before = _kib("VmRSS")
        layer(x, weight)
        return (_kib("VmHWM") - before) / 1024


def _kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of one adder layer beside a convolution.")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    from addersr.training.command import (
        keep_memory,
    )  # here, for the processes that measure memory need no lightning

    keep_memory()
    results, ratios = [], {}

    def record(
        name: str, shape: tuple[int, ...], seconds: float, work: float, peak: float | None = None
    ) -> None:
        results.append({"name": name, "shape": list(shape), "ms": seconds * 1e3, "gops_per_s": work / seconds / 1e9,
                        "peak_mib": peak})  # fmt: skip
        memory = "" if peak is None else f"{peak:10.1f} MiB"
        print(
            f"{name:32} {'x'.join(map(str, shape)):14} {seconds * 1e3:9.2f} ms {work / seconds / 1e9:8.1f} G/s{memory}"
        )

    for shape in SHAPES:
        x, weight = inputs(shape)
        work = x.numel() * weight[0].numel()
        with torch.inference_mode():
            calls: dict[str, Call] = {name: partial(f, x, weight) for name, f in FORWARD.items()}
            forward = median_seconds(calls, args.repeats, f"forward {shape}")
        steps = {name: step(f, x, weight) for name, f in FORWARD.items()}
        both = median_seconds(steps, args.repeats, f"step {shape}")
        for name in FORWARD:
            record(f"{name} forward", shape, forward[name], work, peak_mib(name, shape))
        for name in FORWARD:
            record(f"{name} step", shape, both[name], 3 * work)
        label = "x".join(map(str, shape))
        ratios[f"float32_vs_conv {label}"] = forward["conv float32"] / forward["adder float32"]
        ratios[f"step_vs_conv {label}"] = both["adder float32"] / both["conv float32"]

    x, weight = inputs(OFFICIAL_SHAPE)
    weight = weight.contiguous()
    work = x.numel() * weight[0].numel()
    with torch.inference_mode():
        calls = {
            "adder float32": lambda: adder(x, weight),
            "official adder float32": lambda: official(x, weight),
        }
        part = median_seconds(calls, args.repeats, f"official {OFFICIAL_SHAPE}")
    peaks = {name: peak_mib(name, OFFICIAL_SHAPE) for name in part}
    for name, seconds in part.items():
        record(f"{name} forward", OFFICIAL_SHAPE, seconds, work, peaks[name])
    ratios["speedup_vs_official"] = part["official adder float32"] / part["adder float32"]
    if peaks["adder float32"] and peaks["official adder float32"]:
        ratios["memory_vs_official"] = peaks["adder float32"] / peaks["official adder float32"]

    print()
    for name, ratio in ratios.items():
        print(f"{name:40} {ratio:8.3f}")
    if args.json:
        machine = {
            "processor": platform.processor() or platform.machine(), "instruction_set": cpu.instruction_set(),
            "threads": torch.get_num_threads(), "torch": torch.__version__,
        }  # fmt: skip
        args.json.write_text(
            json.dumps({"machine": machine, "results": results, "ratios": ratios}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
