"""Command-line options that several commands share, and the kinds of their values."""

import argparse
import math
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from addersr.checkpoint import Loaded
    from addersr.inference.upscaler import Upscaler

__all__ = ["add_execution", "factor", "make_upscaler", "size", "tile", "whole_number"]

_MOST_SIDE = 100_000


def whole_number(text: str, least: int = 1, most: int | None = None) -> int:
    """A number from ``least`` to ``most``, for argparse's ``type``."""
    if text.isdecimal() and least <= (value := int(text)) and (most is None or value <= most):
        return value
    upto = "" if most is None else f" to {most}"
    raise argparse.ArgumentTypeError(f"must be a whole number from {least}{upto}, got {text!r}")


def tile(text: str) -> int | Literal["auto"]:
    """The side of a tile, for argparse's ``type``."""
    if text == "auto":
        return "auto"
    try:
        return whole_number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be auto or a whole number from 1, got {text!r}") from None


def factor(text: str) -> float:
    """A number above 0 and at most 100, for argparse's ``type``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 < value <= 100:
        return value
    raise argparse.ArgumentTypeError(f"must be a number above 0, at most 100, got {text!r}")


def size(text: str) -> tuple[int, int]:
    """(width, height) from WIDTHxHEIGHT, with x, X or the sign of multiplication, for argparse's ``type``."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})[xX\u00d7]([1-9][0-9]{0,5})", text)
    if match is None or max(map(int, match.groups())) > _MOST_SIDE:
        raise argparse.ArgumentTypeError(
            f"must be WIDTHxHEIGHT, such as 1280x720, each at most {_MOST_SIDE}, got {text!r}"
        )
    return int(match[1]), int(match[2])


def add_execution(parser: argparse.ArgumentParser, *, precisions: bool = False) -> None:
    """Add the options that say how a network is run, which `make_upscaler` takes.

    ``--precision``, ``--self-ensemble``, ``--tile``, ``--device``.

    Args:
        parser: gets them.
        precisions: ``--precision`` takes several, and is a list, or None where it is not given.
    """
    several = ". Several: each model in each of them that it has" if precisions else ""
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16", "int8"],
        nargs="+" if precisions else None,
        action="extend" if precisions else "store",
        default=None if precisions else "auto",
        help="float32; bfloat16 for convolutions, adder units stay in float32; or int8 for quantised weights: of a "
        f"shipped NAME those of NAME_int8{several} (default: auto, what the weights are in)",
    )
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="the mean over the eight turned and mirrored views of each picture: somewhat better, 8 times as long",
    )
    parser.add_argument(
        "--tile",
        type=tile,
        default="auto",
        metavar="N|auto",
        help="side of a tile in input pixels (default: auto)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="cpu, cuda, cuda:N or auto (default: auto)"
    )


def make_upscaler(args: argparse.Namespace, loaded: "Loaded") -> "Upscaler":
    """Loaded weights made ready to run as the options of `add_execution` say.

    Raises:
        AdderSRError: the device is not there, or the weights cannot be run so.
    """
    from addersr.inference.upscaler import (
        Upscaler,
    )  # not at the top: commands that run no network have options too

    return Upscaler(
        loaded.model,
        device=args.device,
        tile=args.tile,
        self_ensemble=args.self_ensemble,
        bfloat16=args.precision == "bfloat16",
    )
