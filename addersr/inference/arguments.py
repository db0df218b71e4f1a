"""The options of `addersr upscale`."""

import argparse
from functools import partial
from pathlib import Path

from addersr.images import files
from addersr.inference import options
from addersr.inference.plan import PLAIN_NAME, check_name
from addersr.inference.settings import MAX_RESULT_PIXELS
from addersr.inference.sizes import DEFAULT_SCALE

__all__ = ["add_arguments"]

_FORMATS = ("png", "jpeg", "webp", "tiff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `addersr upscale`."""
    endings = ", ".join(sorted(ending[1:] for ending in files.EXTENSIONS))
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=f"a picture ({endings}), a folder, a quoted pattern such as 'photos/**/*.jpg', or - for standard input,"
        " which keeps its format if it is the only one",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="folder for the results, made if it is not there; for one picture also a file name"
        " (a folder with a dot in its name: OUT/), or - for standard output",
    )
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="look into folders within folders, but not through links to folders; OUT mirrors them",
    )
    _add_size(parser)
    parser.add_argument("--model", metavar="NAME|FILE", help="name of shipped weights or a .safetensors file")
    options.add_execution(parser)
    _add_processes(parser)
    _add_files(parser)
    parser.add_argument(
        "--max-pixels",
        type=options.whole_number,
        metavar="N",
        help="refuse a picture, or a result, of more pixels, those of all frames together"
        f" (default: {files.MAX_PIXELS:,} for a picture, which is never exceeded, {MAX_RESULT_PIXELS:,} for a result);"
        f" what the network makes on the way to a result may have {MAX_RESULT_PIXELS:,}, or N where that is more",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be made, and its size; make nothing"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.jsonl",
        help="append a line of JSON for each picture as it is done: sizes, seconds, energy, error; of several processes"
        " each has a file, FILE.0.jsonl, FILE.1.jsonl...",
    )
    telling = parser.add_mutually_exclusive_group()
    telling.add_argument("-q", "--quiet", action="store_true", help="tell errors only")
    telling.add_argument("-v", "--verbose", action="store_true", help="tell of each picture")


def _add_size(parser: argparse.ArgumentParser) -> None:
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--scale",
        type=options.factor,
        metavar="N",
        help="how many times larger, 2, 3, 4 or any number: the network as often as it takes, then bicubic"
        f" resampling to the size (default: the model's, {DEFAULT_SCALE} if none is named)",
    )
    sizes.add_argument(
        "--size",
        type=options.size,
        metavar="WIDTHxHEIGHT",
        help="of each result; one of another shape is stretched. The network runs until there are as many pixels",
    )
    sizes.add_argument(
        "--longest", type=options.whole_number, metavar="N", help="longer side of each result in pixels"
    )


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--devices",
        type=options.whole_number,
        metavar="N",
        help="share the pictures among N processes on each machine: one for each CUDA device, or on the CPU"
        " (default: 1, or as many as torchrun or SLURM have started)",
    )
    parser.add_argument(
        "--num-nodes",
        type=options.whole_number,
        metavar="N",
        help="and N machines, started by torchrun or srun (default: 1, or as many as these say)",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    naming = parser.add_mutually_exclusive_group()
    naming.add_argument(
        "--name",
        type=_name,
        default=PLAIN_NAME,
        metavar="PATTERN",
        help="of the results' names, such as '{stem}_x{scale}{suffix}' (default: the pictures' own)",
    )
    naming.add_argument(
        "--suffix",
        dest="name",
        type=_suffix,
        metavar="TEXT",
        help="put behind the names of the results: --suffix _x2",
    )
    parser.add_argument(
        "--format",
        choices=[*_FORMATS, "keep"],
        default="keep",
        help="of all results (default: keep each picture's own)",
    )
    parser.add_argument(
        "--quality",
        type=partial(options.whole_number, most=100),
        default=95,
        help="of JPEG and WebP, 1 to 100; WebP is lossless at 100 (default: 95)",
    )
    parser.add_argument("--lossless", action="store_true", help="lossless WebP, and no JPEG")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave results that are there: goes on with a stopped run",
    )
    existing.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results that are there (default: refuse to), but none that was found as a picture, too, such as"
        " one beside it",
    )
    parser.add_argument(
        "--strip-metadata",
        action="store_true",
        help="leave out EXIF, XMP, IPTC and resolution (kept otherwise)",
    )


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; got {text!r}") from None


def _suffix(text: str) -> str:
    """A pattern of names with this text in it."""
    return _name("{stem}" + text.replace("{", "{{").replace("}", "}}") + "{suffix}")
