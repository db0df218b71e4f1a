"""Command-line options that several commands share, and the kinds of their values."""

import argparse
from typing import Literal

__all__ = ["add_execution", "tile", "whole_number"]


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


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a network is run: ``--precision``, ``--tile``, ``--device``."""
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "int8"],
        default="auto",
        help="float32, or int8 for quantised weights: of a shipped NAME those of NAME_int8 (default: what the "
        "weights are in)",
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
