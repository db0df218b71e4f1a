"""`addersr bench`: score a model on benchmark sets, beside bicubic, and say by which protocol."""

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from addersr.atomic import replacing
from addersr.errors import AdderSRError
from addersr.evaluation.protocol import DEFAULT, PROTOCOLS, Protocol
from addersr.evaluation.sets import PictureFiles, find_pictures, load_pair
from addersr.inference import options
from addersr.progress import bar_columns

if TYPE_CHECKING:
    from addersr.inference.upscaler import Upscaler

Upscale = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""(H, W, 3) -> (sH, sW, 3), both uint8, or both float64 in 0..255 under a protocol that does not quantise."""

BICUBIC = "bicubic"
DEFAULT_SCALE = 2


@dataclass(frozen=True)
class Model:
    """What is scored."""

    name: str
    scale: int
    upscale: Upscale | None = None
    """None: bicubic."""
    parameters: int = 0
    precision: str | None = None
    """float32 or int8; None for bicubic."""


@dataclass(frozen=True)
class PictureScore:
    """The scores of one picture."""

    name: str
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float
    lr_sha256: str | None
    """Of the pixels of LR, 8-bit RGB, row by row; None where LR is not quantised."""


@dataclass(frozen=True)
class Result:
    """The scores of one model on one set: means over its pictures."""

    model: str
    set: str
    scale: int
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float
    images: int
    seconds: float
    """Wall-clock time inside the model, all pictures together, without reading and scoring them."""
    parameters: int
    precision: str | None
    """float32 or int8; None for bicubic."""
    lr: str
    """`files` or `made`."""
    lr_sha256: str | None
    """Of the pixels of all LR pictures, one after another in the order of their names."""
    pictures: list[PictureScore]


def score_set(model: Model, pictures: list[PictureFiles], protocol: Protocol, *, name: str) -> Result:
    """Score a model on a set, with a progress bar on a terminal.

    Args:
        model: its function and what the result says about it.
        pictures: from `find_pictures`, at the model's scale.
        protocol: one of `addersr.evaluation.protocol.PROTOCOLS`.
        name: the set's name in the result.

    Raises:
        ImageError, DataError: as `load_pair`.
    """
    scores = []
    seconds = 0.0
    digest = hashlib.sha256()
    bar = tqdm(pictures, desc=name, unit="picture", leave=False, disable=None, ncols=bar_columns())
    for picture in bar:
        pair = load_pair(picture, protocol, model.scale)
        started = time.perf_counter()
        bicubic_y = protocol.bicubic(pair)
        bicubic_seconds = time.perf_counter() - started
        bicubic = own = protocol.score_y(bicubic_y, pair)
        if model.upscale is None:
            seconds += bicubic_seconds
        else:
            started = time.perf_counter()
            result = model.upscale(pair.lr)
            seconds += time.perf_counter() - started
            own = protocol.score(result, pair)
        pixels = pair.lr.tobytes()
        digest.update(pixels)
        sha256 = hashlib.sha256(pixels).hexdigest() if protocol.quantised else None
        scores.append(PictureScore(picture.hr.name, own.psnr, own.ssim, bicubic.psnr, bicubic.ssim, sha256))
    return Result(
        model=model.name,
        set=name,
        scale=model.scale,
        psnr=float(np.mean([score.psnr for score in scores])),
        ssim=float(np.mean([score.ssim for score in scores])),
        bicubic_psnr=float(np.mean([score.bicubic_psnr for score in scores])),
        bicubic_ssim=float(np.mean([score.bicubic_ssim for score in scores])),
        images=len(scores),
        seconds=seconds,
        parameters=model.parameters,
        precision=model.precision,
        lr="files" if protocol.quantised and pictures[0].lr is not None else "made",
        lr_sha256=digest.hexdigest() if protocol.quantised else None,
        pictures=scores,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `addersr bench`."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder with the sets: DIR/Set5/HR/*"
    )
    parser.add_argument(
        "--set",
        dest="sets",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME",
        help="sets in DIR, such as Set5; LR pictures come from DIR/Set5/LR_bicubic/X2 if it is there",
    )
    parser.add_argument(
        "--scale", type=options.whole_number, metavar="N", help="2, 3, 4 (default: the model's, or 2)"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        help=f"name of shipped weights, a .safetensors file, or {BICUBIC} (default: as `addersr upscale`)",
    )
    parser.add_argument(
        "--protocol",
        choices=sorted(PROTOCOLS),
        default=DEFAULT,
        help="what is rounded: float-y as EDSR and BasicSR, uint8-y, srcnn as the published bicubic rows "
        "(default: %(default)s)",
    )
    options.add_execution(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the protocol and all scores to FILE")


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write the JSON file.

    When a set fails, or the run is interrupted, the sets before it are in the table and in the JSON file.

    Raises:
        AdderSRError: data, pictures or weights are at fault, or the JSON file cannot be written.
    """
    protocol = PROTOCOLS[args.protocol]
    model = _load_model(args)
    sets = {name: find_pictures(args.data, name, model.scale) for name in args.sets}
    if args.json is not None:
        _check_writable(args.json)

    print("protocol")
    for key, text in protocol.describe().items():
        print(f"  {key:<7}  {text}")
    print()
    widths = f"{{:<{max(5, len(model.name))}}}  {{:<{max(3, *map(len, sets))}}}"
    row = widths + "  {:<5}  {:<12}  {:<12}  {:>6}  {:>7}  {}"
    print(row.format("model", "set", "scale", "PSNR/SSIM", "bicubic", "images", "seconds", "LR pixels"))
    results = []
    try:
        for name, pictures in sets.items():
            result = score_set(model, pictures, protocol, name=name)
            results.append(result)
            own = f"{result.psnr:.2f}/{result.ssim:.4f}"
            bicubic = f"{result.bicubic_psnr:.2f}/{result.bicubic_ssim:.4f}"
            lr = result.lr if result.lr_sha256 is None else f"{result.lr}, SHA-256 {result.lr_sha256[:12]}"
            seconds = f"{result.seconds:.1f}"
            print(
                row.format(model.name, name, f"x{model.scale}", own, bicubic, result.images, seconds, lr),
                flush=True,
            )
    except MemoryError as error:
        raise AdderSRError(f"not enough memory for a picture of set {name}; leave the set out") from error
    finally:
        if args.json is not None and results:
            document = {"protocol": protocol.describe(), "results": [asdict(result) for result in results]}
            _write_json(args.json, document)
    return 0


def _load_model(args: argparse.Namespace) -> Model:
    scale = args.scale or DEFAULT_SCALE
    if args.model == BICUBIC:
        return Model(BICUBIC, scale)
    # Bicubic needs neither the network nor its kernels.
    from addersr import checkpoint
    from addersr.inference.upscaler import Upscaler
    from addersr.models.quantized import parameter_count

    name = args.model or checkpoint.default_name(scale)
    loaded = checkpoint.load(name, scale=args.scale, precision=args.precision)
    upscaler = Upscaler(loaded.model, device=args.device, tile=args.tile)
    parameters = parameter_count(loaded.model)
    return Model(loaded.name, loaded.model.scale, upscale_by(upscaler), parameters, loaded.precision)


def upscale_by(upscaler: "Upscaler") -> Upscale:
    """An upscaler as `Model` wants it: 8 bits to 8 bits, and float64 with no rounding on the way."""
    import torch  # not at the top, as above

    def upscale(lr: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if lr.dtype == np.uint8:
            return upscaler(lr)
        # No 8-bit picture on the way, so this does not go through `images.files`.
        x = torch.from_numpy(lr / 255.0).permute(2, 0, 1)[None].float()
        result: npt.NDArray[Any] = upscaler.upscale_tensor(x)[0].permute(1, 2, 0).double().numpy()
        return result * 255.0

    return upscale


def _check_writable(path: Path) -> None:
    """Find out before the work whether its result can be kept."""
    folder = path.absolute().parent
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise AdderSRError(f"cannot write {path}: --json takes a file name in a folder that can be written")


def _write_json(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"
    try:
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AdderSRError(f"cannot write {path}: {error.strerror}") from error


def _finite(value: Any) -> Any:
    """JSON has no infinity: the PSNR of equal pictures becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
