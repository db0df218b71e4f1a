"""Bits against PSNR: a model quantised ever more coarsely, with and without what the narrow range saves.

    python benchmarks/bits.py --model edsr_small_x2 --calibrate PICTURES --data SETS --set Set5 Set14 [--json FILE]

Calibrates once, then quantises, scores and forgets each variant. `narrow` and `whole` are those of `addersr quantize
--range`; scores are by `addersr bench`'s functions and default protocol. Prints a Markdown table.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import output_file
from tqdm import tqdm

from addersr import checkpoint
from addersr.atomic import replacing
from addersr.errors import AdderSRError
from addersr.evaluation.benchmark import Model, Result, score_set, upscale_by
from addersr.evaluation.protocol import DEFAULT, PROTOCOLS
from addersr.evaluation.sets import PictureFiles, find_pictures
from addersr.inference import options, quantize
from addersr.inference.upscaler import Upscaler
from addersr.models import EDSR
from addersr.models.quantized import parameter_count

BITS = (8, 7, 6, 5, 4)
SPANS: tuple[quantize.Span, ...] = ("narrow", "whole")


def score(name: str, model: EDSR, sets: dict[str, list[PictureFiles]]) -> list[Result]:
    candidate = Model(name, model.scale, upscale_by(Upscaler(model)), parameter_count(model))
    return [
        score_set([candidate], pictures, PROTOCOLS[DEFAULT], name=key)[0] for key, pictures in sets.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="float32 weights: a shipped name or a file")
    parser.add_argument(
        "--calibrate", type=Path, required=True, metavar="DIR", help="pictures to calibrate on"
    )
    parser.add_argument(
        "--limit", type=options.whole_number, default=quantize.MOST_PICTURES, help="at most so many of them"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="SETS", help="as for addersr bench")
    parser.add_argument("--set", dest="sets", nargs="+", action="extend", required=True, metavar="NAME")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the figures here")
    try:
        run(parser.parse_args())
    except AdderSRError as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    """Print the table and write the file that was asked for.

    Raises:
        AdderSRError: the weights, the sets or the pictures to calibrate on cannot be used.
    """
    loaded = checkpoint.load(args.model, precision="float32")
    sets = {name: find_pictures(args.data, name, loaded.model.scale) for name in args.sets}
    paths = quantize.find_pictures(args.calibrate, args.limit)
    windows = tqdm(quantize.load_windows(paths), "calibrating", len(paths), leave=False, disable=None)
    ranges = quantize.input_ranges(loaded.model, windows)

    rows: list[dict[str, Any]] = []
    print(f"| {loaded.name}: bits | range | {' | '.join(sets)} |\n|---|---|{'---|' * len(sets)}")

    def add(bits: str, span: str, model: EDSR) -> None:
        results = score(loaded.name, model, sets)
        rows.append({"bits": bits, "range": span, "results": [asdict(result) for result in results]})
        print(f"| {bits} | {span} | {' | '.join(f'{result.psnr:.3f}' for result in results)} |", flush=True)

    add("float32", "", loaded.model)
    for span in SPANS:
        for bits in BITS:
            add(str(bits), span, quantize.quantized(loaded.model, ranges, bits, span))
    if args.json is not None:
        document = {
            "model": loaded.name,
            "calibrated_on": len(paths),
            "protocol": PROTOCOLS[DEFAULT].describe(),
        }
        with replacing(args.json) as part:
            part.write_text(json.dumps(document | {"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
