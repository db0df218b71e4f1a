"""What loading costs beside a training step: real batches against one batch used again and again, medians.

    python benchmarks/loading.py [--config FILE] [--preset NAME] [--data PICTURES ...] [--cache-dir DIR] [--json FILE]

A run of Lightning's Trainer on the CPU by the recipe (configs/edsr_adder_small_x2.yaml unless said otherwise): its
network, loss, optimiser with rates and schedule, clipping, averaged weights, the check that gradients are finite,
patch, batch size and workers. What a run of `addersr fit` does beside steps is left out: logs, checkpoints, validation.
A step is all from the end of one to the end of the next. Blocks of steps on real batches and on one and the same take
turns in the one run; where workers load ahead, a block begins with as many untimed steps as there can be batches ahead.
The pictures are the repository's samples unless said otherwise; they are decoded into a temporary cache, which is timed
too, unless one is given. It is read from memory then: what this does not show is a cache larger than the memory on a
slow disk.

Run nothing else beside it. glibc's allocator is told to keep large blocks, as in training.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import measure
import yaml
from torch.utils.data import DataLoader
from typing_extensions import override

from addersr.data.cache import Pair, build
from addersr.data.module import SuperResolutionData
from addersr.data.pairs import Batch, PatchStream, find_pictures
from addersr.errors import AdderSRError
from addersr.inference.options import whole_number
from addersr.training.callbacks import MovingAverage
from addersr.training.command import keep_memory
from addersr.training.finite import Finite
from addersr.training.system import SuperResolution

ROOT = Path(__file__).parents[1]
TIMED_STEPS = 3  # of a block
REUSED, REAL = "step, one batch reused", "step, real loading"


class Turns:
    """Batches for a run: a block of real ones, a block of the very first, and so on without end.

    Args:
        batches: endless.
        length: of a block.
    """

    def __init__(self, batches: Iterator[Batch], length: int) -> None:
        self._batches, self._length = batches, length

    def __iter__(self) -> Iterator[Batch]:
        fixed = next(self._batches)
        while True:
            for _ in range(self._length):
                yield next(self._batches)
            for _ in range(self._length):
                yield fixed


class Stopwatch(pl.Callback):
    """When each step ended, in seconds."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    @override
    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without what it tells of the machine, and its warning about a call of its own."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            yield
    finally:
        logger.setLevel(level)


def compare(
    recipe: Mapping[str, Any], system: SuperResolution, batches: Iterator[Batch], ahead: int, repeats: int
) -> dict[str, float]:
    """Median seconds of a step by what its batches are, after a block of each that is not counted.

    Args:
        recipe: as in configs/.
        system: what it trains.
        batches: endless.
        ahead: how many of them may be ready before they are asked for.
        repeats: blocks of each kind that are counted.
    """
    # Lightning asks for a batch one step before it is used: so a block's last step has a batch of the next block to
    # wait for, and one more than `ahead` may be ready when it begins.
    length = 1 + ahead + TIMED_STEPS + 1
    watch, chosen = Stopwatch(), recipe.get("trainer", {})
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=chosen.get("max_steps", 100_000),
            max_epochs=1,
            limit_train_batches=2 * length * (repeats + 1),
            limit_val_batches=0,
            gradient_clip_val=chosen.get("gradient_clip_val"),
            callbacks=[MovingAverage(**recipe.get("ema", {})), Finite(), watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(system, train_dataloaders=Turns(batches, length), val_dataloaders=[])
    seconds = [after - before for before, after in zip(watch.ends, watch.ends[1:], strict=False)]
    times: dict[str, list[float]] = {REUSED: [], REAL: []}
    for number in range(2, 2 * (repeats + 1)):
        # seconds[i] is of step i + 1
        block = seconds[number * length - 1 : (number + 1) * length - 1]
        times[REUSED if number % 2 else REAL] += block[-1 - TIMED_STEPS : -1]
    return {name: statistics.median(each) for name, each in times.items()}


def turn(call: partial[Batch], untimed: int) -> list[float]:
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


def ratios(seconds: Mapping[str, float]) -> dict[str, float | None]:
    """Of times."""
    return {
        "loading_vs_reused": seconds[REAL] / seconds[REUSED],
        "batch_vs_step": seconds["batch"] / seconds[REUSED],
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
    if args.preset is not None:
        recipe["model"] = recipe.get("model", {}) | {"preset": args.preset}
    chosen = recipe.get("data", {})
    system = SuperResolution(**recipe.get("model", {}))
    taken = {key: chosen[key] for key in ("patch", "batch_size", "num_workers") if key in chosen}
    data = SuperResolutionData(args.data, scale=system.scale, **taken)
    keep_memory()
    report = measure.Report()
    with tempfile.TemporaryDirectory() as temporary:
        pairs = fill(data, args.cache_dir or Path(temporary), report)
        stream = PatchStream(pairs, data.patch, data.batch_size)
        loader = DataLoader(stream, batch_size=None, num_workers=data.num_workers)
        ahead = (loader.prefetch_factor or 0) * data.num_workers
        batches = iter(loader)
        alone = partial(turn, partial(next, batches), 1 + ahead)
        seconds = measure.medians({"batch": alone}, args.repeats, "loading")
        seconds |= compare(recipe, system, batches, ahead, args.repeats)
    shape = (data.batch_size, 3, data.patch, data.patch)
    for name, value in seconds.items():
        report.add(f"{system.preset}: {name}", shape, value, None)
    report.ratios |= ratios(seconds)
    report.finish(args.json)


if __name__ == "__main__":
    main()
