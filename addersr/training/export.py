"""``addersr export``: a model as the safetensors file that ``addersr upscale`` takes, or as an ONNX model."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.inference.onnx import export_onnx
from addersr.models import ARCHITECTURES
from addersr.models.presets import Network
from addersr.telling import tell
from addersr.training.reading import read_checkpoint
from addersr.training.system import RECORD


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``addersr export``."""
    parser.add_argument(
        "model", metavar="MODEL",
        help="a checkpoint of addersr fit (.ckpt), a weights file (.safetensors) or the name of shipped weights",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE",
        help="FILE.safetensors for weights, FILE.onnx for an ONNX model",
    )  # fmt: skip
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="write an ONNX model, which FILE.onnx alone asks for, too: 'input' (N, 3, H, W) float32 RGB in [0, 1] "
        "-> 'output', of any size; from float32 weights, not quantised ones. "
        "It is for runtimes where this package is not: ONNX has no adder operator, so in "
        "ONNX Runtime an adder network takes about 20 * C * s * s * H * W bytes for C channels and scale s (measured: "
        "119 MiB for edsr_small_x2 on 320x180 pixels) and about 7 times as long as "
        "with this package's unfused float32 kernels",
    )
    parser.add_argument(
        "--card",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field to add to the card, such as licence='CC BY-SA 4.0' (VALUE may be JSON; again for more)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the file and says what is in it; returns the exit code."""
    suffixes = (".onnx",) if args.onnx else (".safetensors", ".onnx")
    if args.output.suffix not in suffixes:
        wanted = "--onnx writes" if args.onnx else "export writes"
        raise CheckpointError(f"{wanted} {' or '.join(suffixes)}, got -o {args.output}")
    model, card, what = _read(args.model)
    card |= _fields(args.card)
    if args.output.suffix == ".onnx":
        export_onnx(model, args.output, card)
    else:
        checkpoint.save(args.output, model, card)
    tell(f"{args.output}: {what}", sys.stdout)
    return 0


def _read(name: str) -> tuple[Network, dict[str, Any], str]:
    """The network, its card, and what they are in a few words."""
    path = Path(name)
    if path.suffix != ".ckpt" and not zipfile.is_zipfile(path):  # torch saves zip archives, under any name
        loaded = checkpoint.load(name)
        return loaded.model, loaded.metadata, loaded.name
    model, card = convert(read_checkpoint(path))
    kind = "averaged weights" if card["averaged"] else "weights"
    return model, card, f"{card['preset']}, {kind} of step {card['steps']}"


def convert(content: dict[str, Any]) -> tuple[Network, dict[str, Any]]:
    """The network and the card of a training checkpoint.

    The averaged weights are taken where there are any: ``MovingAverage`` makes them the ``state_dict``.

    Raises:
        CheckpointError: it is not a checkpoint of ``addersr fit``.
    """
    if RECORD not in content:
        raise CheckpointError(
            "this checkpoint was not written by addersr fit: it does not say what network it is of"
        )
    prefix = "model."
    try:
        record = dict(content[RECORD])
        weights = {
            k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)
        }
        # Checkpoints of before there was another architecture do not name it.
        model = ARCHITECTURES[record.pop("architecture", "EDSR")](**record.pop("config"))
        model.load_state_dict(weights)
        # Checkpoints of before the decay was recorded are taken to be averaged.
        decay = record.get("recipe", {}).get("ema_decay")
        record |= {"averaged": "averaging_state" in content and decay != 0}
        if missing := {"preset", "steps"} - record.keys():
            raise KeyError(*missing)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"this checkpoint is of a network that this version does not know: {reason}"
        ) from error
    return model, record


def _fields(items: Sequence[str]) -> dict[str, Any]:
    fields = {}
    for item in items:
        name, separator, text = item.partition("=")
        if not separator:
            raise CheckpointError(f"--card takes NAME=VALUE, got {item!r}")
        try:
            fields[name] = json.loads(text)
        except (ValueError, RecursionError):
            fields[name] = text
    return fields
