"""`addersr quantize`: a float32 model with its adder units in int8, or in fewer bits, calibrated on pictures.

Calibration only looks at the smallest and the largest input of each unit; nothing is trained.
"""

import argparse
import copy
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from tqdm import tqdm

from addersr import checkpoint
from addersr.errors import AdderSRError, CheckpointError, DataError
from addersr.images import files
from addersr.inference import options
from addersr.inference.plan import Job, check_output
from addersr.inference.upscaler import fill_hidden
from addersr.layers.quantized import QuantizedUnit
from addersr.models import EDSR
from addersr.models.quantized import adder_units, is_quantized, parameter_count
from addersr.progress import bar_columns
from addersr.telling import tell

__all__ = ["Range", "Span", "add_arguments", "grid_span", "input_ranges", "load_windows", "quantized", "run"]

Range: TypeAlias = tuple[float, float]
"""(smallest, largest)"""

Span: TypeAlias = Literal["narrow", "whole"]
"""What a unit's grid covers, see `grid_span`."""

WINDOW = 128
"""The longest side of what is taken of a calibration picture, about its centre."""

MOST_PICTURES = 100
"""How many are taken unless said otherwise; the extremes hardly change after the first tens."""

_LEAST_SPAN = 1e-3  # of a grid, relative to the larger of its ends in magnitude


def input_ranges(model: EDSR, pictures: Iterable[Tensor]) -> dict[str, Range]:
    """The range of the inputs of each adder unit over some pictures, by the unit's name.

    The zeros around a picture are inputs too, so each range has 0 in it.

    Args:
        model: in float32; it is put into eval mode.
        pictures: (N, 3, H, W) in [0, 1], any sizes.
    """
    units = adder_units(model.eval())
    ranges: dict[str, Range] = dict.fromkeys(units, (0.0, 0.0))

    def look(name: str, _unit: nn.Module, inputs: tuple[Tensor]) -> None:
        low, high = ranges[name]
        smallest, largest = inputs[0].aminmax()
        ranges[name] = min(low, smallest.item()), max(high, largest.item())

    hooks = [unit.register_forward_pre_hook(partial(look, name)) for name, unit in units.items()]
    try:
        with torch.inference_mode():
            for picture in pictures:
                model(picture.contiguous(memory_format=torch.channels_last))
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def grid_span(features: Range, filters: Range, span: Span = "narrow") -> Range:
    """What the grid of a unit covers.

    "narrow" is what features and filters have in common. Beyond either end of it then lie features alone or filters
    alone, and both are accounted for exactly (`QuantizedUnit`), so that an outlier among the ones does not widen the
    step for the others. Where they have nothing in common, it is the gap between them: all distances are linear there.
    "whole" is what both cover, where nothing lies beyond.
    """
    if span == "whole":
        low, high = min(features[0], filters[0]), max(features[1], filters[1])
    else:
        low, high = sorted((max(features[0], filters[0]), min(features[1], filters[1])))
    # All alike, or a gap of next to nothing: a grid of far finer steps than float32 resolves would be of no use.
    lacking = _LEAST_SPAN * max(abs(low), abs(high), _LEAST_SPAN) - (high - low)
    return (low - lacking / 2, high + lacking / 2) if lacking > 0 else (low, high)


def quantized(model: EDSR, ranges: dict[str, Range], bits: int = 8, span: Span = "narrow") -> EDSR:
    """A copy of a network whose adder units are quantised.

    Args:
        model: in float32, with adder units.
        ranges: from `input_ranges`.
        bits: 1 to 8.
        span: see `grid_span`.
    """
    result = copy.deepcopy(model).cpu().eval()
    for name, unit in adder_units(result).items():
        smallest, largest = unit.adder.weight.detach().aminmax()
        low, high = grid_span(ranges[name], (smallest.item(), largest.item()), span)
        result.set_submodule(name, QuantizedUnit.of(unit, low, high, bits))
    return result


def find_pictures(folder: Path, most: int) -> list[Path]:
    """At most `most` pictures of a folder and those within it, evenly spread over the sorted names; no hidden ones.

    Raises:
        DataError: the folder is not there, cannot be read, or has none.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; --data takes a folder of pictures")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in files.EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not found:
        raise DataError(f"no pictures in {folder}; readable are {', '.join(sorted(files.EXTENSIONS))}")
    count = min(most, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def load_windows(paths: Iterable[Path]) -> Iterable[Tensor]:
    """Each picture as the network is given it, its centre where it is larger than `WINDOW`.

    (1, 3, H, W) float32 in [0, 1]; the colour under full transparency is that of `fill_hidden`, as in `Upscaler`.

    Raises:
        ImageError: one cannot be read.
    """
    for path in paths:
        pixels = fill_hidden(files.read(path)).pixels
        top, left = (max(side - WINDOW, 0) // 2 for side in pixels.shape[:2])
        yield files.to_tensor(pixels[top : top + WINDOW, left : left + WINDOW])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `addersr quantize`."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME|FILE",
        help="float32 weights: a shipped name or a .safetensors file",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with pictures such as the model will be given; they are taken as they are, as its input, "
        f"{WINDOW} x {WINDOW} pixels from the centre of larger ones",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="FILE.safetensors to write; an existing one is replaced",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=[8, 7, 6, 5, 4],
        default=8,
        help="of features and filters; fewer are no faster here, and are for those who build hardware (default: 8)",
    )
    parser.add_argument(
        "--range",
        dest="span",
        choices=["narrow", "whole"],
        default="narrow",
        help="what a unit's steps cover: what its features and filters have in common, which loses nothing "
        "beyond it, or both whole, which is coarser and for comparison (default: narrow)",
    )
    parser.add_argument(
        "--limit",
        type=options.whole_number,
        default=MOST_PICTURES,
        metavar="N",
        help="take at most N pictures, evenly spread over the folder (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Calibrate, quantise, write the file and say what was done; 0.

    Raises:
        AdderSRError: the weights are not a float32 adder network's, there are no pictures or one cannot be read, or
            the file cannot be written.
    """
    loaded = checkpoint.load(args.model)
    if is_quantized(loaded.model):
        raise CheckpointError(f"{args.model} is quantised already; name its float32 weights")
    if not isinstance(loaded.model, EDSR):
        raise CheckpointError(f"{args.model} is of {type(loaded.model).__name__}; only EDSR can be quantised")
    if not adder_units(loaded.model):
        raise CheckpointError(f"{args.model} is a convolutional network: it has no adder units to quantise")
    _check_output(args.output, loaded.path)
    paths = find_pictures(args.data, args.limit)

    bar = tqdm(
        load_windows(paths), "calibrating", len(paths), unit="picture", disable=None, leave=False,
        ncols=bar_columns(),
    )  # fmt: skip
    model = quantized(loaded.model, input_ranges(loaded.model, bar), args.bits, args.span)

    card = dict(loaded.metadata)
    about = {
        "bits": args.bits,
        "range": args.span,
        "pictures": len(paths),
        "data": args.data.resolve().name,
        "float_model": loaded.name,
    }
    if "scores" in card:  # the float32 model's, which this one's need not be
        about["float_scores"] = card.pop("scores")
    checkpoint.save(args.output, model, card | {"quantization": about})

    kib = args.output.stat().st_size / 1024
    tell(
        f"{args.output}: {loaded.name} in {args.bits} bits ({args.span} ranges), calibrated on {len(paths)} "
        f"pictures of {about['data']}; {parameter_count(model) / 1e6:.2f} M parameters, {kib:.0f} KiB",
        sys.stdout,
    )
    return 0


def _check_output(path: Path, source: Path) -> None:
    """Find out before the work whether its result can be kept."""
    if path.suffix != ".safetensors":
        raise CheckpointError(f"weights are written as .safetensors, got -o {path}")
    if path.is_dir():
        raise CheckpointError(f"-o {path} is a folder; name a file")
    if path.exists() and path.samefile(source):
        raise AdderSRError(f"-o {path} would overwrite the float32 weights; choose another file")
    check_output([Job(source, path)], path)
