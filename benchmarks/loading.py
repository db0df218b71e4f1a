"""What loading costs beside a training step: real batches against one batch used again and again, medians.

    python benchmarks/loading.py [--config FILE] [--preset NAME] [--data PICTURES ...] [--cache-dir DIR] [--json FILE]

Network, patch, batch size and number of workers are the recipe's (configs/edsr_adder_small_x2.yaml unless said
otherwise). A step is forward, L1 loss, backward and Adam; a run's own does more (schedule, averaged weights, logs), so
that loading is a smaller part of it. Both kinds of step take turns. Where workers load ahead, a turn begins with as
many untimed steps as there can be batches ahead. The pictures are the repository's samples unless said otherwise; they
are decoded into a temporary cache, which is timed too, unless one is given. It is read from memory then: what this does
not show is a cache larger than the memory on a slow disk.

Run nothing else beside it. glibc's allocator is told to keep large blocks, as in training.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import measure
import torch
import yaml
from torch.nn.functional import l1_loss
from torch.utils.data import DataLoader

from addersr.data.cache import Pair, build
from addersr.data.module import SuperResolutionData
from addersr.data.pairs import Batch, PatchStream, find_pictures
from addersr.errors import AdderSRError
from addersr.inference.options import whole_number
from addersr.models import EDSR, presets
from addersr.training.command import keep_memory

ROOT = Path(__file__).parents[1]
TIMED_STEPS = 3  # of a turn


def training_step(model: EDSR) -> Callable[[Batch], None]:
    """step(batch) trains the network on it."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        l1_loss(model(batch.lr), batch.hr).backward()
        optimizer.step()

    return step


def turn(call: Callable[[], object], untimed: int) -> list[float]:
    """Seconds of consecutive calls after some that are not timed."""
    measure.settle()
    for _ in range(untimed):
        call()
    times = []
    for _ in range(TIMED_STEPS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def compare(
    model: EDSR, batches: Iterator[Batch], ahead: int, repeats: int
) -> tuple[dict[str, float], torch.Size]:
    """Median seconds of a batch, of a step on one and the same, and of both together; the shape of LR.

    Args:
        model: the network.
        batches: endless.
        ahead: how many of them may be ready before they are asked for.
        repeats: rounds.
    """
    step, fixed = training_step(model), next(batches)
    calls: dict[str, Callable[[], object]] = {
        "batch": lambda: next(batches),
        "step, one batch reused": lambda: step(fixed),
        "step, real loading": lambda: step(next(batches)),
    }
    turns = {name: partial(turn, call, 1 + ahead) for name, call in calls.items()}
    return measure.medians(turns, repeats, "loading"), fixed.lr.shape


def ratios(seconds: dict[str, float]) -> dict[str, float | None]:
    """Of times."""
    reused = seconds["step, one batch reused"]
    return {
        "loading_vs_reused": seconds["step, real loading"] / reused,
        "batch_vs_step": seconds["batch"] / reused,
    }


def fill(data: SuperResolutionData, folder: Path, report: measure.Report) -> list[Pair]:
    """The pairs; where the cache is a new one, filling it is reported."""
    sources = find_pictures(data.train_dirs, data.scale, "--data")
    is_new = not folder.is_dir() or not any(folder.iterdir())
    start = time.perf_counter()
    pairs = build(sources, data.scale, folder)
    if is_new:
        each = (time.perf_counter() - start) / len(pairs)
        report.add("filling the cache, once, a picture", (len(pairs),), each, None)
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, default=ROOT / "configs" / "edsr_adder_small_x2.yaml", metavar="FILE"
    )
    parser.add_argument("--preset", help="another network than the recipe's")
    parser.add_argument("--data", nargs="+", default=[str(ROOT / "data" / "samples")], metavar="PICTURES")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="(default: a temporary one)")
    parser.add_argument("--json", type=measure.output_file, metavar="FILE", help="write the figures here")
    parser.add_argument("--repeats", type=whole_number, default=5, help="rounds (default: %(default)s)")
    try:
        run(parser.parse_args())
    except (AdderSRError, OSError) as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    """Print the figures and write the file that was asked for.

    Raises:
        AdderSRError: the network or the pictures cannot be used.
        OSError: the recipe cannot be read.
    """
    recipe = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    network, chosen = recipe.get("model", {}), recipe.get("data", {})
    preset = args.preset or network.get("preset")
    if preset is None:
        raise AdderSRError(f"{args.config} names no network; give --preset")
    model = presets.build(preset, **network.get("overrides") or {}).to(memory_format=torch.channels_last)
    taken = {key: chosen[key] for key in ("patch", "batch_size", "num_workers") if key in chosen}
    data = SuperResolutionData(args.data, scale=model.scale, **taken)
    keep_memory()
    report = measure.Report()
    with tempfile.TemporaryDirectory() as temporary:
        pairs = fill(data, args.cache_dir or Path(temporary), report)
        stream = PatchStream(pairs, data.patch, data.batch_size)
        loader = DataLoader(stream, batch_size=None, num_workers=data.num_workers)
        ahead = (loader.prefetch_factor or 0) * data.num_workers
        seconds, shape = compare(model, iter(loader), ahead, args.repeats)
    for name, value in seconds.items():
        report.add(f"{preset}: {name}", shape, value, None)
    report.ratios |= ratios(seconds)
    report.finish(args.json)


if __name__ == "__main__":
    main()
