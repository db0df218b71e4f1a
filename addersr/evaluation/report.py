"""What `addersr bench` found, as a table on the terminal, and as Markdown, CSV and JSON."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from addersr import __version__
from addersr.atomic import replacing
from addersr.errors import AdderSRError
from addersr.evaluation.benchmark import BICUBIC, PictureScore, Result
from addersr.evaluation.protocol import Protocol

TITLES = (
    "scale", "set", "model", "PSNR", "SSIM", "to bicubic", "seconds", "MP/s", "parameters", "precision"
)  # fmt: skip
_LEAST_WIDTHS = (5, 3, 7, 6, 6, 15, 8, 7, 10, 9)
_LEFT = (0, 1, 2, 9)
"""The columns of words, set to the left."""


@dataclass
class Report:
    """The results of a run, in the order in which they came."""

    protocol: Protocol
    per_picture: bool = False
    """Rows of single pictures, too."""
    timing: str = ""
    """What the seconds are of, and on what they were taken."""
    notes: list[str] = field(default_factory=list)
    """What was left out, a line each."""
    results: list[Result] = field(default_factory=list)


def cells(result: Result, picture: PictureScore | None = None) -> list[str]:
    """A line of the table, under `TITLES`: of a set, or of one of its pictures.

    Where bicubic or the model is equal to HR, as on a picture of one colour, their PSNR differs by no number of dB:
    that is a dash. Where both are, there is no difference to tell.
    """
    row = picture or result
    derived = _derived(row)
    bicubic = result.model == BICUBIC
    psnr_gain = f"{derived['psnr_gain']:+z.2f}" if math.isfinite(derived["psnr_gain"]) else "-"
    gain = f"{psnr_gain} / {derived['ssim_gain']:+z.4f}"
    return [
        f"x{result.scale}",
        f"{result.set}/{picture.name}" if picture else result.set,
        result.model,
        f"{row.psnr:.2f}",
        f"{row.ssim:.4f}",
        "" if bicubic or math.isnan(derived["psnr_gain"]) else gain,
        f"{row.seconds:.2f}",
        f"{derived['megapixels_per_second']:.2f}",
        "" if bicubic else f"{result.parameters:,}",
        (result.precision or "") + ", x8" * result.self_ensemble,
    ]


def terminal_line(row: Sequence[str], longest_set: int, longest_model: int) -> str:
    """A line of the table for a terminal, as wide as the longest names ask for."""
    least = list(_LEAST_WIDTHS)
    least[1], least[2] = max(least[1], longest_set), max(least[2], longest_model)
    padded = (
        cell.ljust(width) if column in _LEFT else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, least, strict=True))
    )
    return "  ".join(padded).rstrip()


def remarks(results: Iterable[Result]) -> list[str]:
    """A line for each model and set with pictures that are equal to HR, because of what it does to the mean."""
    return [
        f"{result.set} x{result.scale}, {result.model}: equal to HR, so PSNR is inf, and so is the set's mean: "
        + ", ".join(result.identical)
        for result in results
        if result.identical
    ]


def sources(results: Iterable[Result]) -> list[tuple[str, str]]:
    """(set and scale, which pictures were used) for each set and scale."""
    found = {}
    for result in results:
        lr = f"LR {result.lr}, SHA-256 {result.lr_sha256}" if result.lr_sha256 else "LR made, not quantised"
        found[f"{result.set} x{result.scale}"] = (
            f"{result.images} pictures; {lr}; HR SHA-256 {result.hr_sha256}"
        )
    return list(found.items())


def markdown(report: Report) -> str:
    """Tables of the scores and of the pictures used, remarks, and the protocol."""
    lines = [f"| {' | '.join(TITLES)} |"]
    lines.append(f"|{'|'.join('---' if n in _LEFT else '--:' for n in range(len(TITLES)))}|")
    for result in report.results:
        rows = [cells(result)] + [cells(result, picture) for picture in _shown(report, result)]
        lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
    lines += [""] + [f"- {_escaped(note)}" for note in [*remarks(report.results), *report.notes]]
    lines += [f"- {_escaped(what)}: {which}" for what, which in sources(report.results)]
    lines.append(f"- seconds: {report.timing}")
    lines += [f"- protocol, {key}: {text}" for key, text in report.protocol.describe().items()]
    return "\n".join(lines) + "\n"


def as_csv(report: Report) -> str:
    """A line a model and set, with an empty `picture`; if asked for, one a picture, too. PSNR may be `inf`."""
    columns = ["protocol", "model", "set", "scale", "picture", "psnr", "ssim", "bicubic_psnr", "bicubic_ssim"]
    columns += ["psnr_gain", "ssim_gain", "images", "seconds", "output_pixels", "megapixels_per_second"]
    columns += ["parameters", "precision", "self_ensemble", "lr", "hr_sha256", "lr_sha256"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for result in report.results:
        shared = asdict(result) | {"protocol": report.protocol.name}
        writer.writerow(shared | _derived(result))
        for picture in _shown(report, result):
            own = asdict(picture) | {"picture": picture.name, "images": 1}
            writer.writerow(shared | own | _derived(picture))
    return text.getvalue()


def as_json(report: Report) -> str:
    """`version`, `protocol`, `timing`, `notes`, `results`; JSON has no infinity: the PSNR of equal pictures is null."""
    results = []
    for result in report.results:
        pictures = [asdict(picture) | _derived(picture) for picture in _shown(report, result)]
        document = asdict(result) | _derived(result)
        document.pop("pictures")
        results.append(document | {"pictures": pictures} if report.per_picture else document)
    document = {
        "version": __version__,
        "protocol": report.protocol.describe(),
        "timing": report.timing,
        "notes": report.notes,
        "results": results,
    }
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


WRITERS: dict[str, Callable[[Report], str]] = {"markdown": markdown, "csv": as_csv, "json": as_json}
"""Option -> what it writes."""


def check_writable(option: str, path: Path) -> None:
    """Find out before the work whether its result can be kept.

    Raises:
        AdderSRError: it cannot.
    """
    if os.path.isdir(path) or not can_be_made(path.absolute().parent):
        raise AdderSRError(
            f"cannot write {path}: --{option} takes a file name in a folder that can be made and written"
        )


def can_be_made(folder: Path) -> bool:
    """Whether it, or else the nearest folder above it that is there, can be written to."""
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    return os.path.isdir(there) and os.access(there, os.W_OK)


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all, and the folders that it is in; an AdderSRError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            # Names of files may hold bytes that are no UTF-8, which Python gives as surrogates.
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise AdderSRError(f"cannot write {path}: {error.strerror}") from error


def _shown(report: Report, result: Result) -> list[PictureScore]:
    return result.pictures if report.per_picture else []


def _derived(row: Result | PictureScore) -> dict[str, float]:
    return {
        "psnr_gain": row.psnr - row.bicubic_psnr,
        "ssim_gain": row.ssim - row.bicubic_ssim,
        "megapixels_per_second": row.output_pixels / 1e6 / row.seconds if row.seconds else math.inf,
    }


def _escaped(text: str) -> str:
    return text.strip().replace("|", "\\|")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
