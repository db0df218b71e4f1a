"""The results page: our models beside published ones, and PSNR against CPU time and against energy, all at x2.

    python benchmarks/results.py --data SETS --model edsr_small_x2 --model edsr_small_x2_int8 --model TWIN -o docs

SETS is laid out as for `addersr bench`; TWIN is a weights file of a convolutional twin (`addersr export`).
Writes results.md, results.json and results.png into the folder of -o. Scores are those of `addersr bench` under its
default protocol, published ones are in published.csv with their sources. Energy is that of `addersr energy` for an
output of 1280x720, of the layers alone, as papers count it, or follows from published multiply-accumulates. Time is of
the network on this machine's CPU for the same output: medians of interleaved rounds, as `measure.py` says. Published
networks of convolutions are timed where this package or light.py has them, with random weights, for no network's time
depends on them; but for EDSR, which takes minutes.

Run nothing else beside it. glibc's allocator is told to keep large blocks, or page faults would dominate.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import light
import measure
import numpy as np
import numpy.typing as npt
import torch
from measure import Call

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
from addersr.models.quantized import is_quantized

SCALE, OUTPUT = 2, (720, 1280)
LR = (OUTPUT[0] // SCALE, OUTPUT[1] // SCALE)
SETS = ("Set5", "Set14", "B100", "Urban100")
MARKERS = {"convolutions": "s", "adder": "o", "adder, int8": "D"}
TWIN: dict[str, dict[str, Any]] = {
    "edsr": {"unit": "conv", "residual_scaling": 1.0, "box_cox": False},
    "vdsr": {"unit": "conv", "box_cox": False},
}
"""How the published network of an architecture differs from the preset."""

UNTIMED = "edsr_large_x2"


Enlarge = Callable[[npt.NDArray[np.uint8]], object]
"""(H, W, 3) to a picture twice as large."""


@dataclass
class Entry:
    """A line of the table and a point of the plots."""

    name: str
    kind: str
    """One of `MARKERS`."""
    scores: dict[str, tuple[float, float]]
    """Set -> PSNR in dB and SSIM."""
    mj: float
    """Energy of the layers for one output, in millijoules."""
    source: str | None = None
    """Of a published network."""
    ms: float | None = None
    """Time for one output on this CPU."""
    upscaler: Callable[[], Enlarge] | None = field(default=None, repr=False)
    """Makes what is timed."""


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
    entry = Entry(line["name"], line["kind"], scores, 0.0, line["source"])
    if not (preset := line["preset"]):
        operations = round(float(line["gmac"]) * 1e9)
        entry.mj = energy.FLOAT32.millijoules(Operations(operations, operations))
        if entry.name in light.networks():
            entry.upscaler = partial(_light, entry.name)
        return entry
    adder = entry.kind == "adder"
    # The paper's EDSR in adders has an upsampler of convolutions.
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


def ours(name: str, data: Path, sets: list[str]) -> Entry:
    """A network of this package with its weights, scored.

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
    adder, int8 = loaded.model.config["unit"] == "adder", is_quantized(loaded.model)
    mj = energy.measure(loaded.model, *LR)[0].layers_mj("int8" if int8 else "float32")
    kind = "adder, int8" if int8 else "adder" if adder else "convolutions"
    return Entry(loaded.name, kind, scores, mj, upscaler=lambda: upscaler)


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


def page(own: list[Entry], others: list[Entry], low: Mapping[str, tuple[float, float]], command: str) -> str:
    """Markdown, in the form of AdderSR's table."""
    sets = list(low)
    machine = measure.machine()
    lines = [
        "# Results at x2",
        "",
        f"Written by `{command}`, which tells in its first lines what is measured and how. PSNR in dB / SSIM on Y, "
        f"protocol `{DEFAULT}`; energy in mJ of the layers and time in ms on {machine['threads']} threads of "
        f"{machine['processor']}, both for an output of {OUTPUT[1]}x{OUTPUT[0]}. Published rows are as printed, under "
        "their authors' protocols, trained on other data and for longer; they are no measurement of ours but in their "
        "times and energies.",
        "",
        f"| | layers | {' | '.join(sets)} | energy | time |",
        f"|---|---|{'---|' * len(sets)}--:|--:|",
        f"| bicubic | | {' | '.join(_score(low[each]) for each in sets)} | | |",
    ]
    for entry in [*own, *others]:
        cells = [_score(entry.scores[each]) if each in entry.scores else "" for each in sets]
        name = f"**{entry.name}**" if entry.source is None else entry.name
        time = "" if entry.ms is None else f"{entry.ms:.0f}"
        lines.append(f"| {name} | {entry.kind} | {' | '.join(cells)} | {entry.mj:.1f} | {time} |")
    lines += ["", "![PSNR against time and energy](results.png)", "", "Sources of the published rows:", ""]
    for source in dict.fromkeys(entry.source for entry in others):
        lines.append(f"- {', '.join(entry.name for entry in others if entry.source == source)}: {source}")
    return "\n".join(lines) + "\n"


def _score(score: tuple[float, float]) -> str:
    return f"{score[0]:.2f} / {f'{score[1]:.4f}'.removeprefix('0')}"


def plot(own: list[Entry], others: list[Entry], name: str, path: Path) -> None:
    """PSNR on one set over time, and over energy; ours are filled."""
    from matplotlib.figure import Figure  # not at the top: `measure.need_matplotlib` tells of it

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    units = {"ms": "CPU time for 1280x720, ms", "mj": "energy of the layers for 1280x720, mJ"}
    for axes, (value, label) in zip(figure.subplots(1, 2, sharey=True), units.items(), strict=True):
        for entry in [*own, *others]:
            x = getattr(entry, value)
            if x is None or name not in entry.scores:
                continue
            colour = "tab:orange" if entry.kind == "convolutions" else "tab:blue"
            face = colour if entry.source is None else "none"
            y = entry.scores[name][0]
            axes.plot(x, y, MARKERS[entry.kind], color=colour, markerfacecolor=face, markersize=8)
            above = entry.kind == "convolutions"  # twins are near each other
            left = above and entry.source is None
            beside = (-6 if left else 6, 4 if above else -12)
            side = "right" if left else "left"
            axes.annotate(entry.name, (x, y), beside, textcoords="offset points", fontsize="small", ha=side)
        axes.set(xscale="log", xlabel=label)
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"PSNR on {name} x{SCALE}, dB")
    handles = [
        figure.axes[0].plot([], [], shape, color="tab:orange" if kind == "convolutions" else "tab:blue", label=kind)[0]
        for kind, shape in MARKERS.items()
    ]  # fmt: skip
    figure.axes[0].legend(handles=handles, title="filled: measured here", loc="lower right")
    figure.savefig(path, dpi=110, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="SETS", help="as for addersr bench")
    parser.add_argument("--set", dest="sets", nargs="+", default=["Set5", "Set14", "B100"], metavar="NAME")
    parser.add_argument("--model", dest="models", action="append", required=True, metavar="NAME|FILE")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of timing (default: %(default)s)")
    args = parser.parse_args()
    measure.need_matplotlib()
    measure.need_kernels()
    if not args.output.is_dir():
        sys.exit(f"error: no folder {args.output}; make it, or choose another -o")
    try:
        own, low = [ours(name, args.data, args.sets) for name in args.models], bicubic(args.data, args.sets)
    except AdderSRError as error:
        sys.exit(f"error: {error}")
    others = published()
    take_times([*own, *others], args.repeats)
    models = " ".join(f"--model {entry.name}" for entry in own)
    command = f"python benchmarks/results.py --data SETS --set {' '.join(args.sets)} {models} -o docs"
    text = page(own, others, low, command)
    entries = [
        {key: value for key, value in vars(entry).items() if key != "upscaler"} for entry in [*own, *others]
    ]
    document = {"machine": measure.machine(), "protocol": PROTOCOLS[DEFAULT].describe(), "entries": entries}
    with replacing(args.output / "results.json") as part:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with replacing(args.output / "results.png") as part:
        plot(own, others, args.sets[0], part)
    with replacing(args.output / "results.md") as part:
        part.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
