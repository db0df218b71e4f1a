"""The ablation's table and plot, of the scores and curves that ablation.py gathers.

    python benchmarks/ablation_report.py docs/ablation.json

prints the table, and draws the plot anew beside the file, as ablation.png; nothing is trained. The file has, for each
row, what it is, its number of parameters and its options, and for each seed PSNR (dB) and SSIM on each set and PSNR on
the pictures held out by steps.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import measure

from addersr.atomic import replacing

MARKERS = "os^vD<>PXd"

Row = dict[str, Any]
"""`what`, `parameters`, `options` and `seeds`: a list of `seed`, `sets` and `curve`."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="ablation.json")
    path = parser.parse_args().file
    measure.need_matplotlib()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        print(table(rows), end="")
        draw(rows, path.with_suffix(".png"))
    except OSError as error:
        sys.exit(f"error: {error}")
    except (AttributeError, KeyError, TypeError, ValueError):
        sys.exit(f"error: {path} is not what ablation.py writes as ablation.json")


def write(folder: Path, document: dict[str, Any]) -> None:
    """ablation.json, ablation.md and ablation.png."""
    write_json(folder / "ablation.json", document)
    with replacing(folder / "ablation.md") as part:
        part.write_text(table(document["rows"]), encoding="utf-8")
    draw(document["rows"], folder / "ablation.png")


def write_json(path: Path, document: object) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def of_seed(result: dict[str, Any]) -> dict[str, Any]:
    """What the report keeps of a training's result: digits beyond those that any figure is given to are left out."""
    sets = {
        name: {"psnr": round(each["psnr"], 5), "ssim": round(each["ssim"], 6)}
        for name, each in result["sets"].items()
    }
    return {
        "seed": result["seed"],
        "sets": sets,
        "curve": {str(step): round(y, 4) for step, y in result["curve"]},
    }


def table(rows: dict[str, Row]) -> str:
    """Markdown: a line for each row, PSNR and SSIM as mean and, of several seeds, standard deviation."""
    sets = list(
        dict.fromkeys(key for row in rows.values() for result in row["seeds"] for key in result["sets"])
    )
    lines = [f"| | parameters | seeds | {' | '.join(sets)} |", f"|---|---|---|{'---|' * len(sets)}"]
    for row in rows.values():
        cells = []
        for key in sets:
            scored = [result["sets"][key] for result in row["seeds"] if key in result["sets"]]
            psnr, ssim = ([each[what] for each in scored] for what in ("psnr", "ssim"))
            cells.append(f"{spread(psnr, 2)} / {spread(ssim, 4).replace('0.', '.')}" if scored else "")
        size = f"{row['parameters'] / 1e6:.3f} M"
        lines.append(f"| {row['what']} | {size} | {len(row['seeds'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def draw(rows: dict[str, Row], path: Path) -> None:
    """Two plots as a PNG file: the whole way that the rows take, and where each seed ends.

    Left, PSNR over steps: each row's mean over the seeds, in a band from the worst to the best. Rows end too close
    together for one scale to show both, so the last points stand on the right again, enlarged, seed by seed; its
    labels are the legend of both.
    """
    from matplotlib.figure import Figure  # not at the top: `measure.need_matplotlib` tells of it

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    way, end = figure.subplots(1, 2, width_ratios=(1.2, 1))
    for place, row in enumerate(rows.values()):
        marker = MARKERS[place % len(MARKERS)]
        curves = [{int(step): y for step, y in result["curve"].items()} for result in row["seeds"]]
        steps = sorted(set.intersection(*(set(each) for each in curves)))
        if not steps:
            continue
        values = [[each[step] for each in curves] for step in steps]
        (line,) = way.plot(steps, [statistics.mean(each) for each in values], marker=marker, markersize=5)
        low, high = ([choose(each) for each in values] for choose in (min, max))
        colour = line.get_color()
        way.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
        end.plot(values[-1], [place] * len(curves), marker, color=colour, alpha=0.6, markersize=7)
        end.plot(statistics.mean(values[-1]), place, "|", color=colour, markersize=22, markeredgewidth=2)
    way.set(
        xlabel="steps", ylabel="PSNR on Y of the pictures held out, dB", title="mean, worst and best seed"
    )
    end.set(xlabel="the same after the last step, dB", title="each seed, and their mean")
    end.set_yticks(range(len(rows)), [row["what"] for row in rows.values()])
    end.invert_yaxis()
    end.yaxis.tick_right()
    end.locator_params(axis="x", nbins=5)  # more would run into each other where they need three decimals
    for axes in (way, end):
        axes.grid(alpha=0.3)
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")


if __name__ == "__main__":
    main()
