"""The results page and its plots, of the figures that results.py measures."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from addersr.evaluation.protocol import DEFAULT

SCALE, OUTPUT = 2, (720, 1280)
MARKERS = {"convolutions": "s", "adder": "o", "adder, int8": "D", "convolutions, int8": "d"}

TWIN_OF = "twin of "
"""How the name of a twin in int8 begins, which comes after its network."""

Document = dict[str, Any]
"""results.json: `command`, `machine`, `protocol`, `bicubic` (set -> PSNR and SSIM) and `entries`."""

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
    total_mj: float | None = None
    """Of all arithmetic; None of a published network."""
    source: str | None = None
    """Of a published network."""
    ms: float | None = None
    """Time for one output on this CPU."""
    upscaler: Callable[[], Enlarge] | None = field(default=None, repr=False)
    """Makes what is timed."""


def page(document: Document, entries: list[Entry]) -> str:
    """Markdown, in the form of AdderSR's table."""
    low, machine = document["bicubic"], document["machine"]
    lines = [
        "# Results at x2",
        "",
        f"Measured by `{document['command']}`, which tells in its first lines what is measured and how. "
        "`python benchmarks/results.py --from docs/results.json -o docs` makes this page and the plot anew of "
        "[the figures](results.json), and measures nothing. PSNR in dB / SSIM on Y, "
        f"protocol `{DEFAULT}`; energy in mJ, of the layers and of all arithmetic, and time in ms on "
        f"{machine['threads']} threads of {machine['processor']}, for an output of {OUTPUT[1]}x{OUTPUT[0]}. "
        "Published rows are as printed, under their authors' protocols, in float32, trained on other data and for "
        "longer; they are no measurement of ours but in their times and energies, which are of the layers alone, as "
        "papers count them.",
        "",
        f"| | layers | {' | '.join(low)} | energy, layers | energy, all | time |",
        f"|---|---|{'---|' * len(low)}--:|--:|--:|",
        f"| bicubic | | {' | '.join(_score(each) for each in low.values())} | | | |",
    ]
    for entry in entries:
        cells = [_score(entry.scores[each]) if each in entry.scores else "" for each in low]
        name = f"**{entry.name}**" if entry.source is None and entry.scores else entry.name
        time = "" if entry.ms is None else f"{entry.ms:.0f}"
        total = "" if entry.total_mj is None else f"{entry.total_mj:.1f}"
        lines.append(f"| {name} | {entry.kind} | {' | '.join(cells)} | {entry.mj:.1f} | {total} | {time} |")
    lines += ["", *_int8(entries), "![PSNR against time and energy](results.png)", ""]
    lines += ["Sources of the published rows:", ""]
    sources = dict.fromkeys(entry.source for entry in entries if entry.source is not None)
    for source in sources:
        lines.append(f"- {', '.join(entry.name for entry in entries if entry.source == source)}: {source}")
    return "\n".join(lines) + "\n"


def _int8(entries: list[Entry]) -> list[str]:
    """Paragraphs that say what a network in int8 saves against its twin in int8, and what it does not."""
    lines = []
    for own, twin in itertools.pairwise(entries):
        if twin.name != f"{TWIN_OF}{own.name}" or own.total_mj is None or twin.total_mj is None:
            continue
        compared = "more" if own.total_mj > twin.total_mj else "less"
        lines += [
            f"In int8 the layers of {own.name} take {own.mj:.1f} mJ and those of its convolutional twin "
            f"{twin.mj:.1f}, but all arithmetic takes {own.total_mj:.1f} and {twin.total_mj:.1f}: the adder network "
            f"takes {compared} than the twin. What is beside its layers is in float32 and counts for "
            f"{own.total_mj - own.mj:.1f} mJ, most of it the power activation (`addersr energy --model {own.name}`). "
            "The twin in int8 is counted only: its scores and its time were not measured.",
            "",
        ]
    return lines


def _score(score: tuple[float, float]) -> str:
    return f"{score[0]:.2f} / {f'{score[1]:.4f}'.removeprefix('0')}"


def plot(entries: list[Entry], name: str, path: Path) -> None:
    """PSNR on one set over time, and over energy; ours are filled.

    Energy is of the layers; where it is known, a bar goes on to that of all arithmetic. What has no scores is at the
    bottom.
    """
    from matplotlib.figure import Figure  # not at the top: `measure.need_matplotlib` tells of it

    figure = Figure(figsize=(13, 6), layout="constrained")
    units = {
        "ms": "CPU time for 1280x720, ms",
        "mj": "energy for 1280x720, mJ: of the layers, and to the end of the bar of all arithmetic",
    }
    for axes, (value, label) in zip(figure.subplots(1, 2, sharey=True), units.items(), strict=True):
        for entry in entries:
            x = getattr(entry, value)
            if x is None or (entry.scores and name not in entry.scores):
                continue
            face = _colour(entry.kind) if entry.source is None and entry.scores else "none"
            y = entry.scores[name][0] if entry.scores else 0.05
            where = axes.transData if entry.scores else axes.get_xaxis_transform()
            look = {"color": _colour(entry.kind), "transform": where}
            if value == "mj" and entry.total_mj is not None:
                axes.plot(
                    [x, entry.total_mj], [y, y], "-|", markevery=[1], markersize=12, markeredgewidth=2, **look
                )
            axes.plot(x, y, MARKERS[entry.kind], markerfacecolor=face, markersize=8, **look)
            above = entry.kind.startswith("convolutions")  # twins are near each other
            left = above and entry.source is None and bool(entry.scores)
            beside = (-6 if left else 6, 6 if above else -14)
            side = "right" if left else "left"
            text = entry.name if entry.scores else f"{entry.name} (PSNR not measured)"
            axes.annotate(
                text, (x, y), beside, xycoords=where, textcoords="offset points", fontsize="small", ha=side
            )
        axes.set(xscale="log", xlabel=label)
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    time, _ = figure.axes
    time.set_ylabel(f"PSNR on {name} x{SCALE}, dB")
    handles = [
        time.plot([], [], shape, color=_colour(kind), label=kind)[0] for kind, shape in MARKERS.items()
    ]
    time.legend(handles=handles, title="filled: measured here", loc="lower right")
    figure.savefig(path, dpi=110, format="png")


def _colour(kind: str) -> str:
    return "tab:orange" if kind.startswith("convolutions") else "tab:blue"
