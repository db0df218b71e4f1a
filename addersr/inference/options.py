"""Kinds of command-line options that several commands share."""

import argparse
from typing import Literal

__all__ = ["tile", "whole_number"]


def whole_number(text: str, least: int = 1, most: int | None = None) -> int:
    """A number from ``least`` to ``most``, for argparse's ``type``."""
    if text.isdecimal() and least <= (value := int(text)) and (most is None or value <= most):
        return value
    upto = "" if most is None else f" to {most}"
    raise argparse.ArgumentTypeError(f"must be a whole number from {least}{upto}, got {text!r}")


def tile(text: str) -> int | Literal["auto"]:
    """The side of a tile, for argparse's ``type``."""
    return "auto" if text == "auto" else whole_number(text)
