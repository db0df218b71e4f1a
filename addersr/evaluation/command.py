"""`addersr bench`: score models on benchmark sets, beside bicubic, and say by which protocol."""

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addersr.errors import AdderSRError, CheckpointError
from addersr.evaluation import compare, report
from addersr.evaluation.benchmark import BICUBIC, Model, score_set, upscale_by
from addersr.evaluation.protocol import DEFAULT, PROTOCOLS
from addersr.evaluation.sets import PictureFiles, find_pictures
from addersr.inference import options

if TYPE_CHECKING:
    from addersr.checkpoint import Loaded

SCALES = (2, 3, 4)
"""Those of the published tables; a name without a scale stands for its weights at these."""

Sets = dict[int, dict[str, list[PictureFiles]]]
"""Scale -> name of a set -> its pictures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `addersr bench`."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder with the sets: DIR/Set5/HR/* (default: the current one)",
    )
    parser.add_argument(
        "--set",
        dest="sets",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME|FOLDER",
        help="sets in DIR, such as Set5, whose LR pictures come from DIR/Set5/LR_bicubic/X2 if it is there; or "
        "folders of HR pictures",
    )
    parser.add_argument(
        "--scale",
        dest="scales",
        type=options.whole_number,
        nargs="+",
        action="extend",
        metavar="N",
        help="2, 3, 4, several (default: the models', or 2)",
    )
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        metavar="NAME|FILE",
        help=f"name of shipped weights, with its scale or without, a .safetensors file, or {BICUBIC}; may be repeated "
        "(default: as `addersr upscale`)",
    )
    parser.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        default=DEFAULT,
        help="what is compared and rounded: ycbcr-float as EDSR and BasicSR, ycbcr-uint8 and srcnn as the published "
        "bicubic rows, rgb (default: %(default)s)",
    )
    options.add_execution(parser)
    parser.add_argument("--per-picture", action="store_true", help="a line for each picture, too")
    for option in report.WRITERS:
        parser.add_argument(
            f"--{option}", type=Path, metavar="FILE", help="write protocol and scores to FILE"
        )
    compare.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write the files.

    When a set fails, or the run is interrupted, the sets before it are in the table and in the files.

    Raises:
        AdderSRError: data, pictures or weights are at fault, or a file cannot be written.
    """
    protocol = PROTOCOLS[args.protocol]
    found = report.Report(protocol, per_picture=args.per_picture)
    models = _load_models(args, found.notes)
    sets = {scale: {name: find_pictures(args.data, name, scale) for name in args.sets} for scale in models}
    comparison = compare.prepare(args, sets)
    outputs = {option: path for option in report.WRITERS if (path := getattr(args, option)) is not None}
    for option, path in outputs.items():
        report.check_writable(option, path)
    if len({path.absolute() for path in outputs.values()}) < len(outputs):
        raise AdderSRError("two of --markdown, --csv and --json name one file; give each its own")

    try:
        _score(found, models, sets, comparison)
    except BaseException as error:
        found.notes.append(f"not complete: {str(error) or 'interrupted'}")
        raise
    finally:
        if found.results:
            for option, path in outputs.items():
                report.write(path, report.WRITERS[option](found))
    return 0


def _score(
    found: report.Report, models: dict[int, list[Model]], sets: Sets, comparison: compare.Comparison | None
) -> None:
    """Print the table line by line, and gather the results."""
    print("protocol")
    for key, text in found.protocol.describe().items():
        print(f"  {key:<7}  {text}")
    print()
    for note in found.notes:
        print(note)

    all_sets = [(scale, name, pictures) for scale, each in sets.items() for name, pictures in each.items()]
    longest_model = max(len(model.name) for each in models.values() for model in each)
    names = [name for _, name, _ in all_sets]
    if found.per_picture:
        names += [f"{name}/{picture.hr.name}" for _, name, pictures in all_sets for picture in pictures]
    longest_set = max(map(len, names))

    print(report.terminal_line(report.TITLES, longest_set, longest_model), flush=True)
    for scale, name, pictures in all_sets:
        try:
            results = score_set(models[scale], pictures, found.protocol, name=name)
            found.results += results
            for result in results:
                shown = [None, *(result.pictures if found.per_picture else [])]
                for picture in shown:
                    row = report.cells(result, picture)
                    print(report.terminal_line(row, longest_set, longest_model), flush=True)
            if comparison is not None:
                comparison.write(models[scale], pictures, found.protocol, results[0])
        except MemoryError as error:
            raise AdderSRError(f"not enough memory for a picture of set {name}; leave the set out") from error
    for line in ["", *report.remarks(found.results)]:
        print(line)
    for what, which in report.sources(found.results):
        print(f"{what}: {which}")


def _load_models(args: argparse.Namespace, notes: list[str]) -> dict[int, list[Model]]:
    """Scale -> what is scored there, bicubic first; says in `notes` what was left out.

    Raises:
        CheckpointError, BackendError: as `checkpoint.load` and `options.make_upscaler`; also weights that fit none
            of the scales asked for.
    """
    names = list(dict.fromkeys(args.models or [None]))
    asked = sorted(set(args.scales or []))
    loaded: list[Loaded] = []
    for name in names:
        if name == BICUBIC:
            continue
        fitting = _load(name, asked, args.precision)
        if left_out := set(asked) - {each.model.scale for each in fitting}:
            label = name or "the default model"
            notes.append(
                f"{label}: only {_listed(each.model.scale for each in fitting)}, left out at {_listed(left_out)}"
            )
        loaded += [each for each in fitting if each.path not in {other.path for other in loaded}]
    models = {
        scale: [Model(BICUBIC, scale)]
        for scale in asked or sorted({each.model.scale for each in loaded}) or SCALES[:1]
    }
    stems = Counter(each.name for each in loaded)
    for each in loaded:
        name = each.name if stems[each.name] == 1 else str(each.path)
        models[each.model.scale].append(_model(name, each, args))
    return models


def _load(name: str | None, asked: Sequence[int], precision: Any) -> "list[Loaded]":
    """The weights that a name stands for, one a scale; all that are asked for and there."""
    from addersr import checkpoint  # not at the top: bicubic needs neither networks nor their kernels

    known = checkpoint.shipped()
    found: dict[int, str] = {}
    if name is None:
        for scale in asked or SCALES[:1]:
            with suppress(CheckpointError):
                found[scale] = checkpoint.default_name(scale)
        if not found:
            checkpoint.default_name((asked or SCALES)[0])  # says that there is none
    elif name not in known and not os.path.isfile(name):
        found = {scale: full for scale in SCALES if (full := f"{name}_x{scale}") in known}
    if not found:
        loaded = checkpoint.load(str(name), precision=precision)
        if asked and loaded.model.scale not in asked:
            raise CheckpointError(
                f"{name} enlarges x{loaded.model.scale}, and --scale asks for {_listed(asked)}"
            )
        return [loaded]
    chosen = [full for scale, full in found.items() if not asked or scale in asked]
    if not chosen:
        raise CheckpointError(
            f"{name} is shipped for {_listed(found)}, and --scale asks for {_listed(asked)}"
        )
    return [checkpoint.load(full, precision=precision) for full in chosen]


def _model(name: str, loaded: "Loaded", args: argparse.Namespace) -> Model:
    from addersr.models.quantized import parameter_count

    upscaler = options.make_upscaler(args, loaded)
    return Model(
        name,
        upscaler.scale,
        upscale_by(upscaler),
        parameter_count(loaded.model),
        upscaler.precision,
        upscaler.self_ensemble,
    )


def _listed(scales: Iterable[int]) -> str:
    return ", ".join(f"x{scale}" for scale in sorted(scales))
