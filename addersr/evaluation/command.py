"""`addersr bench`: score models on benchmark sets, beside bicubic, and say by which protocol."""

import argparse
from pathlib import Path

import torch

from addersr.errors import AdderSRError
from addersr.evaluation import compare, report
from addersr.evaluation.benchmark import BICUBIC, Model, score_set
from addersr.evaluation.lineup import line_up
from addersr.evaluation.protocol import DEFAULT, PROTOCOLS
from addersr.evaluation.sets import Sets, find_sets, sizes
from addersr.inference import options


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
        help="2, 3, 4, several (default: the models', or 2); a model is left out at those that it does not have, which "
        "is said, and one that has none of them is an error",
    )
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        metavar="NAME|FILE",
        help=f"name of shipped weights, with its scale or without, a .safetensors file, or {BICUBIC}; may be repeated, "
        "with weights of different precisions, too (default: as `addersr upscale`)",
    )
    parser.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        default=DEFAULT,
        help="what is compared and rounded: ycbcr-float as EDSR and BasicSR; srcnn, vdsr and ycbcr-uint8 as the "
        "published bicubic rows; rgb (default: %(default)s)",
    )
    options.add_execution(parser, precisions=True)
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
    models = line_up(args, found.notes)
    devices = sorted({model.device for each in models.values() for model in each})
    found.timing = (
        "of the model alone, from the pixels of LR to those of its result, after a first run; on "
        f"{', '.join(devices)}, CPU threads: {torch.get_num_threads()}"
    )
    sets = find_sets(args.data, args.sets, models, found.notes)
    comparison = compare.prepare(args, sets, sizes(sets, protocol))
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
    print(f"seconds: {found.timing}")
