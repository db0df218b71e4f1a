"""``addersr export``: from a training checkpoint to the safetensors file that ``addersr upscale`` takes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.models import EDSR
from addersr.training.command import read_checkpoint
from addersr.training.system import RECORD


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``addersr export``."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="a checkpoint of addersr fit")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors")
    parser.add_argument(
        "--card",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field to add to the card, such as licence='CC BY-SA 4.0' (VALUE may be JSON; again for more)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the file and says what is in it; returns the exit code."""
    content = read_checkpoint(args.checkpoint)
    model, card = convert(content)
    checkpoint.save(args.output, model, card | _fields(args.card))
    kind = "averaged weights" if card["averaged"] else "weights"
    print(f"{args.output}: {card['preset']}, {kind} of step {card['steps']}")
    return 0


def convert(content: dict[str, Any]) -> tuple[EDSR, dict[str, Any]]:
    """The network and the card of a training checkpoint.

    The averaged weights are taken where there are any: ``MovingAverage`` makes them the ``state_dict``.

    Raises:
        CheckpointError: it is not a checkpoint of ``addersr fit``.
    """
    if RECORD not in content:
        raise CheckpointError(
            "this checkpoint was not written by addersr fit: it does not say what network it is of"
        )
    record = dict(content[RECORD])
    prefix = "model."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    try:
        model = EDSR(**record.pop("config"))
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"this checkpoint is of a network that this version does not know: {reason}"
        ) from error
    # Checkpoints of before the decay was recorded are taken to be averaged.
    decay = record.get("recipe", {}).get("ema_decay")
    return model, record | {"averaged": "averaging_state" in content and decay != 0}


def _fields(items: Sequence[str]) -> dict[str, Any]:
    fields = {}
    for item in items:
        name, separator, text = item.partition("=")
        if not separator:
            raise CheckpointError(f"--card takes NAME=VALUE, got {item!r}")
        try:
            fields[name] = json.loads(text)
        except json.JSONDecodeError:
            fields[name] = text
    return fields
