"""The published bicubic rows of Set5, Set14, B100, Urban100 and Manga109, and what comes out here.

    python benchmarks/bicubic_rows.py --data SETS -o docs/bicubic.md

SETS is laid out as for `addersr bench`. A set that is not there, or of which only a part is there, such as
SETS/Urban100_part, is in the table without figures. What else is in SETS, such a part too, gets rows of its own in a
second table. Exits with 1 where a row that can be compared is farther off than 0.01 dB or 0.001.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from measure import output_file
from tqdm import tqdm

from addersr.atomic import replacing
from addersr.errors import AdderSRError
from addersr.evaluation.benchmark import BICUBIC, Model, Result, score_set
from addersr.evaluation.protocol import PROTOCOLS
from addersr.evaluation.sets import find_pictures

SCALES = (2, 3, 4)
PSNR_LIMIT, SSIM_LIMIT = 0.01, 0.001
OTHERS = "srcnn"
"""The protocol of sets that have no published row."""

HEAD = f"""# Bicubic, published and reproduced

Written by `python benchmarks/bicubic_rows.py --data SETS -o docs/bicubic.md`. PSNR in dB / SSIM of bicubic upscaling.
The published rows are those of VDSR (Kim et al., CVPR 2016), Manga109's that of RCAN (Zhang et al., ECCV 2018); most
papers since reprint them. "Measured" is under the one of the protocols of `addersr bench --protocol` that a row comes
from; the row is reproduced where that is at most {PSNR_LIMIT} dB and {SSIM_LIMIT} away.

`vdsr` is SRCNN's protocol with bicubic clipped to 16..235, as VDSR's code clips what goes into its network. Manga109's
row comes from pictures that were stored as 8-bit RGB, `ycbcr-uint8`.

"""

NOT_PUBLISHED = f"""
## Not the published sets

Sets at hand that have no published row: parts of a published set, or others. What is measured of them, under
`{OTHERS}`, is to be compared with results on the same pictures alone, not with a published row of a set of a like name.

| set | pictures | scale | protocol | measured |
|---|---|---|---|---|"""

PICTURES = """
## The pictures

SHA-256 of HR, cropped to a multiple of the scale, 8-bit RGB, one after another in the order of their names.

| set | scale | pictures | SHA-256 |
|---|---|---|---|"""


@dataclass(frozen=True)
class Row:
    """What is published of a set."""

    images: int
    protocol: str
    """The one it comes from."""
    scores: tuple[tuple[float, float], ...]
    """(PSNR, SSIM) at each of `SCALES`."""


PUBLISHED = {
    "Set5": Row(5, "vdsr", ((33.66, 0.9299), (30.39, 0.8682), (28.42, 0.8104))),
    "Set14": Row(14, "vdsr", ((30.24, 0.8688), (27.55, 0.7742), (26.00, 0.7027))),
    "B100": Row(100, "vdsr", ((29.56, 0.8431), (27.21, 0.7385), (25.96, 0.6675))),
    "Urban100": Row(100, "vdsr", ((26.88, 0.8403), (24.46, 0.7349), (23.14, 0.6577))),
    "Manga109": Row(109, "ycbcr-uint8", ((30.80, 0.9339), (26.95, 0.8556), (24.89, 0.7866))),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="SETS", help="as for addersr bench")
    parser.add_argument("-o", "--output", type=output_file, required=True, metavar="FILE", help="Markdown")
    args = parser.parse_args()
    try:
        text, missed = table(args.data)
    except AdderSRError as error:
        sys.exit(f"error: {error}")
    with replacing(args.output) as part:
        part.write_text(text, encoding="utf-8")
    print(text)
    return int(missed)


def table(root: Path) -> tuple[str, bool]:
    """The page, and whether a row is missed."""
    lines = [
        "| set | scale | protocol | published | measured | difference | |",
        "|---|---|---|---|---|---|---|",
    ]
    if not any(_folder(root, name) for name in PUBLISHED):
        raise AdderSRError(
            f"{root} has none of {', '.join(PUBLISHED)} in it; --data is the folder with the sets"
        )
    missed, compared = False, list[Result]()
    for name, row in tqdm(PUBLISHED.items(), "sets", leave=False, disable=None):
        folder = _folder(root, name)
        for scale, published in zip(SCALES, row.scores, strict=True):
            start = f"| {name} | x{scale} | `{row.protocol}` | {published[0]:.2f} / {published[1]:.4f} |"
            count = len(find_pictures(root, folder, scale)) if folder else 0
            if folder is None or count != row.images:
                lines.append(f"{start} | | {count} of {row.images} pictures at hand: not compared |")
                continue
            own = _measured(root, folder, scale, row.protocol)
            off = own.psnr - published[0], own.ssim - published[1]
            holds = abs(off[0]) <= PSNR_LIMIT and abs(off[1]) <= SSIM_LIMIT
            missed |= not holds
            verdict = "reproduced" if holds else "**missed**"
            difference = f"{off[0]:+.4f} / {off[1]:+.5f}"
            lines.append(f"{start} {own.psnr:.4f} / {own.ssim:.5f} | {difference} | {verdict} |")
            compared.append(own)
    folders = {path.parent.name for path in root.glob("*/HR")} - {own.set for own in compared}
    others = [
        _measured(root, name, scale, OTHERS)
        for name in tqdm(sorted(folders), "other sets", leave=False, disable=None)
        for scale in SCALES
    ]
    if others:
        lines.append(NOT_PUBLISHED)
    for own in others:
        score = f"{own.psnr:.4f} / {own.ssim:.5f}"
        lines.append(f"| {own.set} | {own.images} | x{own.scale} | `{OTHERS}` | {score} |")
    lines.append(PICTURES)
    for own in [*compared, *others]:
        lines.append(f"| {own.set} | x{own.scale} | {own.images} | {own.hr_sha256} |")
    return HEAD + "\n".join(lines) + "\n", missed


def _measured(root: Path, name: str, scale: int, protocol: str) -> Result:
    (own,) = score_set(
        [Model(BICUBIC, scale)], find_pictures(root, name, scale), PROTOCOLS[protocol], name=name
    )
    return own


def _folder(root: Path, name: str) -> str | None:
    """The set, or else a part of it."""
    found = [path.parent.name for path in [*root.glob(f"{name}/HR"), *sorted(root.glob(f"{name}_*/HR"))]]
    return found[0] if found else None


if __name__ == "__main__":
    sys.exit(main())
