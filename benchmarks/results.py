"""The results page: our models beside published ones, and PSNR against CPU time and against energy, all at x2.

    python benchmarks/results.py --data SETS --model edsr_small_x2 --model edsr_small_x2_int8 --model TWIN -o docs
    python benchmarks/results.py --from docs/results.json -o docs

SETS is laid out as for `addersr bench`; TWIN is a weights file of a convolutional twin (`addersr export`).
Writes results.json, and of it results.md and results.png, into the folder of -o. Scores are those of `addersr bench`
under its default protocol, published ones are in published.csv with their sources. Energy is that of `addersr energy`
for an output of 1280x720: of the layers, as papers count it, or as it follows from published multiply-accumulates; for
our networks also of all arithmetic. Of a network in int8 the convolutional twin is counted in int8, too. Time is of
the network on this machine's CPU for the same output: medians of interleaved rounds, as `measure.py` says. Published
networks of convolutions are timed where this package or light.py has them, with random weights, for no network's time
depends on them; but for EDSR, which takes minutes.

--from makes all three anew of an earlier results.json and published.csv, and measures nothing.

Run nothing else beside it. glibc's allocator is told to keep large blocks, or page faults would dominate.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import light
import measure
import numpy as np
import numpy.typing as npt
import torch
from measure import Call
from results_page import OUTPUT, SCALE, TWIN_OF, Document, Enlarge, Entry, page, plot

from addersr import checkpoint
from addersr.atomic import replacing
from addersr.energy import estimate as energy
from addersr.energy.operations import Operations
from addersr.errors import AdderSRError
from addersr.evaluation.benchmark import BICUBIC, Model, score_set, upscale_by
from addersr.evaluation.protocol import DEFAULT, PROTOCOLS
from addersr.evaluation.sets import find_pictures
from addersr.images.files import from_tensor, to_tensor
from addersr.inference.upscaler import Upscaler
from addersr.models import build

LR = (OUTPUT[0] // SCALE, OUTPUT[1] // SCALE)
SETS = ("Set5", "Set14", "B100", "Urban100")
TWIN: dict[str, dict[str, Any]] = {
    "edsr": {"unit": "conv", "residual_scaling": 1.0, "box_cox": False},
    "vdsr": {"unit": "conv", "box_cox": False},
}
"""How the published network of an architecture differs from the preset."""

UNTIMED = "edsr_large_x2"


def published() -> list[Entry]:
    """The networks of published.csv."""
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as lines:
        return [_published(line) for line in csv.DictReader(lines)]


def _published(line: Mapping[str, str]) -> Entry:
    scores = {}
    for name in SETS:
        if line[name]:
            psnr, ssim = map(float, line[name].split("/"))
            scores[name] = psnr, ssim
    entry = Entry(line["name"], line["kind"], scores, 0.0, source=line["source"])
    if not (preset := line["preset"]):
        operations = round(float(line["gmac"]) * 1e9)
        entry.mj = energy.FLOAT32.millijoules(Operations(operations, operations))
        if entry.name in light.networks():
            entry.upscaler = partial(_light, entry.name)
        return entry
    adder = entry.kind == "adder"
    # The paper's EDSR in adders has an upsampler of convolutions.
    with torch.device("meta"):  # counted, not run
        model = build(preset, **({"upsampler": "conv"} if preset.startswith("edsr") else {}))
    entry.mj = energy.measure(model, *LR)[0 if adder else 1].layers_mj("float32")
    if not adder and preset != UNTIMED:
        shape = TWIN[preset.partition("_")[0]]
        entry.upscaler = lambda: Upscaler(build(preset, **shape), tile=None)
    return entry


def _light(name: str) -> Enlarge:
    network = light.networks()[name]

    @torch.inference_mode()
    def enlarge(picture: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        return from_tensor(network(to_tensor(picture)), np.uint8)

    return enlarge


def ours(name: str, data: Path, sets: list[str]) -> list[Entry]:
    """A network of this package with its weights, scored; and, if it is in int8, its convolutional twin in int8.

    There is no such twin to run: it is the same network with convolutions of bytes where the adder layers are, and its
    operations are counted only.

    Raises:
        AdderSRError: there are none, they are not for x2, or a set cannot be read.
    """
    loaded = checkpoint.load(name, scale=SCALE)
    upscaler = Upscaler(loaded.model, tile=None)
    model = Model(loaded.name, SCALE, upscale_by(upscaler))
    scores = {}
    for each in sets:
        (result,) = score_set([model], find_pictures(data, each, SCALE), PROTOCOLS[DEFAULT], name=each)
        scores[each] = result.psnr, result.ssim
    own, twin = counted(loaded)
    own.scores, own.upscaler = scores, lambda: upscaler
    return [own] if twin is None else [own, twin]


def counted(loaded: checkpoint.Loaded) -> tuple[Entry, Entry | None]:
    """A network with its energy alone, and, if it is in int8, its twin."""
    precision = loaded.precision
    kind = "adder" if loaded.model.config["unit"] == "adder" else "convolutions"
    suffix = "" if precision == "float32" else f", {precision}"
    own, twin = (
        Entry(name, each + suffix, {}, count.layers_mj(precision), count.total_mj(precision))
        for name, each, count in zip(
            (loaded.name, f"{TWIN_OF}{loaded.name}"),
            (kind, "convolutions"),
            energy.measure(loaded.model, *LR),
            strict=True,
        )
    )
    return own, twin if suffix else None


def bicubic(data: Path, sets: list[str]) -> dict[str, tuple[float, float]]:
    """Set -> PSNR and SSIM."""
    results = (
        score_set([Model(BICUBIC, SCALE)], find_pictures(data, each, SCALE), PROTOCOLS[DEFAULT], name=each)
        for each in sets
    )
    return {result.set: (result.psnr, result.ssim) for (result,) in results}


def take_times(entries: list[Entry], repeats: int) -> None:
    """Fill in `ms` where there is something to time."""
    picture = np.random.default_rng(0).integers(0, 256, (*LR, 3), np.uint8)

    def prepare(entry: Entry) -> Call:
        assert entry.upscaler is not None
        return partial(entry.upscaler(), picture)

    timed = {entry.name: partial(prepare, entry) for entry in entries if entry.upscaler}
    seconds = measure.medians(measure.prepared(timed), repeats, "time")
    for entry in entries:
        entry.ms = seconds[entry.name] * 1e3 if entry.name in seconds else None


def measured(args: argparse.Namespace) -> Document:
    """What --data, --set and --model ask for, scored and timed.

    Raises:
        AdderSRError: a network or a set cannot be used.
    """
    own = [entry for name in args.models for entry in ours(name, args.data, args.sets)]
    low = bicubic(args.data, args.sets)
    take_times(entries := [*own, *published()], args.repeats)
    models = " ".join(f"--model {entry.name}" for entry in own if entry.scores)
    return {
        "command": f"python benchmarks/results.py --data SETS --set {' '.join(args.sets)} {models} -o docs",
        "machine": measure.machine(),
        "protocol": PROTOCOLS[DEFAULT].describe(),
        "bicubic": low,
        "entries": told(entries),
    }


def told(entries: list[Entry]) -> list[dict[str, Any]]:
    return [{key: value for key, value in vars(entry).items() if key != "upscaler"} for entry in entries]


def recalled(document: Document) -> list[Entry]:
    """The entries of results.json; published ones as published.csv has them now, with the times taken before."""
    before = {entry["name"]: Entry(**entry) for entry in document["entries"]}
    entries = [entry for entry in before.values() if entry.source is None] + published()
    for entry in entries:
        entry.ms = before[entry.name].ms if entry.name in before else None
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="SETS", help="as for addersr bench")
    parser.add_argument("--set", dest="sets", nargs="+", default=["Set5", "Set14", "B100"], metavar="NAME")
    parser.add_argument("--model", dest="models", action="append", metavar="NAME|FILE")
    parser.add_argument(
        "--from", dest="before", type=Path, metavar="FILE", help="results.json; measures nothing"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--repeats", type=measure.positive, default=5, help="rounds of timing (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.before is None and (args.data is None or args.models is None):
        parser.error("give --data and --model, or --from")
    measure.need_matplotlib()
    if args.before is None:
        measure.need_kernels()
    if not args.output.is_dir():
        sys.exit(f"error: no folder {args.output}; make it, or choose another -o")
    try:
        document = (
            measured(args) if args.before is None else json.loads(args.before.read_text(encoding="utf-8"))
        )
        entries = recalled(document)
        document["entries"] = told(entries)
        text = page(document, entries)
    except (AdderSRError, OSError) as error:
        sys.exit(f"error: {error}")
    except (AttributeError, KeyError, TypeError, ValueError):
        if args.before is None:
            raise
        sys.exit(f"error: {args.before} is not what this script writes as results.json")
    with replacing(args.output / "results.json") as part:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with replacing(args.output / "results.png") as part:
        plot(entries, next(iter(document["bicubic"])), part)
    with replacing(args.output / "results.md") as part:
        part.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
