"""`addersr energy`: a network's operations and what they take in energy, beside its convolutional twin's."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from addersr import checkpoint
from addersr.energy.estimate import FLOAT32, INT8, Energy, Precision, measure
from addersr.energy.operations import EXPONENTIAL, LOGARITHM, Operations
from addersr.errors import CheckpointError
from addersr.evaluation import weights
from addersr.inference import options
from addersr.models import PRESETS, build
from addersr.models.presets import Network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `addersr energy`."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME|FILE",
        help="shipped weights or a .safetensors file, as for `addersr bench`; or a network by the name of its shape "
        "(edsr_baseline_x2, vdsr_x2), which needs no weights",
    )
    parser.add_argument(
        "--output-size",
        type=options.size,
        default=(1280, 720),
        metavar="WIDTHxHEIGHT",
        help="of the result, in pixels; rounded up to a multiple of the scale (default: 1280x720)",
    )
    parser.add_argument(
        "--upsampler",
        choices=["adder", "conv"],
        help="layers of the upsampler of an EDSR that is named by its shape (default: adder)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")


def run(args: argparse.Namespace) -> int:
    """Count and print; 0.

    Raises:
        CheckpointError: there is no such network, or it has no upsampler to choose.
    """
    name, model = _find(args.model, args.upsampler)
    scale = model.scale
    width, height = (-(-side // scale) for side in args.output_size)
    document = _document(*measure(model, height, width)) | {
        "model": name,
        "scale": scale,
        "input_size": f"{width}x{height}",
        "output_size": f"{width * scale}x{height * scale}",
        "pj": {"float32": vars(FLOAT32), "int8": vars(INT8)},
    }
    print(json.dumps(document, indent=2) if args.json else _text(document, args.output_size))
    return 0


def _find(name: str, upsampler: str | None) -> tuple[str, Network]:
    found = weights.named(name)
    if found or Path(name).suffix == ".safetensors":  # of one that is not there, `load` says so
        if len(found) > 1:
            raise CheckpointError(f"{name} stands for {', '.join(found)}; name one of them")
        if upsampler is not None:
            raise CheckpointError(f"{name} are weights, whose upsampler is as it is; leave out --upsampler")
        loaded = checkpoint.load(*found or [name])
        return loaded.name, loaded.model
    if name not in PRESETS:
        names = dict.fromkeys([*PRESETS, *checkpoint.shipped()])  # weights have the name of their shape
        raise CheckpointError(
            f"no network is called {name!r}; there are {', '.join(names)}, or name a .safetensors file"
        )
    overrides = {} if upsampler is None else {"upsampler": upsampler}
    try:
        with torch.device("meta"):
            return name, build(name, **overrides)
    except TypeError:
        raise CheckpointError(f"{name} has no upsampler; leave out --upsampler") from None


_COLUMNS: dict[str, tuple[str, Precision]] = {
    "float32": ("adder", "float32"),
    "int8": ("adder", "int8"),
    "twin": ("twin", "float32"),
    "twin_int8": ("twin", "int8"),
}
"""Key of the document -> network and precision."""


def _document(own: Energy, twin: Energy) -> dict[str, Any]:
    energies = {"adder": own, "twin": twin}
    layers, beside, total = {}, {}, {}
    for key, (network, precision) in _COLUMNS.items():
        energy = energies[network]
        layers[key] = _figures(energy.layers, energy.layers_mj(precision))
        beside[key] = {
            part: _figures(operations, FLOAT32.millijoules(operations))
            for part, operations in energy.beside(precision).items()
        }
        total[key] = energy.total_mj(precision)
    macs = own.layers.mul
    return {
        **layers,
        "gmac": macs / 1e9,
        "gsad": (own.layers.add - macs) / 2e9,
        "twin_gmac": twin.layers.mul / 1e9,
        "beside": beside,
        "total_mj": total,
    }


def _figures(operations: Operations, mj: float) -> dict[str, float]:
    return {"gmul": operations.mul / 1e9, "gadd": operations.add / 1e9, "mj": mj}


def _text(document: dict[str, Any], asked: tuple[int, int]) -> str:
    size = document["output_size"]
    rounded = "" if size == "{}x{}".format(*asked) else ", the next multiple of the scale"
    titles = {
        "float32": "adder float32",
        "int8": "adder int8",
        "twin": "twin float32",
        "twin_int8": "twin int8",
    }
    if not document["gsad"]:  # a convolutional network is its own twin
        titles = {"twin": "float32", "twin_int8": "int8"}
    head = "{:<14}" + "{:>12}" * 3
    lines = [
        f"{document['model']}: {document['input_size']} to {size}{rounded}",
        f"layers: {document['gmac']:.1f} GMAC, {document['gsad']:.1f} GSAD; convolutional twin: "
        f"{document['twin_gmac']:.1f} GMAC",
        "",
        head.format("layers", "GMul", "GAdd", "mJ") + "   twin's mJ over it",
    ]
    for key, title in titles.items():
        own, twin = document[key], document["twin_int8" if "int8" in key else "twin"]
        cells = (f"{own[unit]:.1f}" for unit in ("gmul", "gadd", "mj"))
        lines.append(head.format(title, *cells) + f"{twin['mj'] / own['mj']:>20.2f}")

    row = "{:<38}" + "{:>15}" * len(titles)
    beside = {key: document["beside"][key] for key in titles}
    parts = list(dict.fromkeys(part for column in beside.values() for part in column))
    lines += ["", row.format("beside the layers, in mJ", *titles.values())]
    for part in parts:
        cells = (f"{column[part]['mj']:.1f}" if part in column else "" for column in beside.values())
        lines.append(row.format(part, *cells))
    lines.append(row.format("with the layers", *(f"{document['total_mj'][key]:.1f}" for key in titles)))
    return "\n".join([*lines, "", *_NOTES])


_NOTES = (
    f"An addition takes {FLOAT32.add} pJ in float32 and {INT8.add} in int8, a multiplication {FLOAT32.mul} and "
    f"{INT8.mul} (Horowitz, ISSCC 2014).",
    "A MAC is a multiplication and an addition, a SAD two additions, a comparison an addition.",
    f"A logarithm counts as {LOGARITHM.mul} multiplications and {LOGARITHM.add} additions, an exponential as "
    f"{EXPONENTIAL.mul} and {EXPONENTIAL.add}, a power as both and 1.",
    "int8: layers within units in bytes; the other convolutions and all that is beside the layers in float32.",
    "Arithmetic alone, for the whole picture at once; moving data takes energy, too.",
)
