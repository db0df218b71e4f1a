"""Scoring models on a set of pictures, beside bicubic; `addersr.evaluation.command` is `addersr bench`."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from addersr.evaluation.protocol import Pair, Protocol
from addersr.evaluation.sets import PictureFiles, load_pair
from addersr.images.resize import imresize
from addersr.progress import bar_columns

if TYPE_CHECKING:
    from addersr.inference.upscaler import Upscaler

Upscale = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""(H, W, 3) -> (sH, sW, 3), both uint8, or both float64 in 0..255 under a protocol that does not quantise. It is run
on a corner of a picture, too, before it is timed."""

BICUBIC = "bicubic"

_WARM_UP = 16
"""Side of the corner that a model runs on before it is timed, LR pixels."""


@dataclass(frozen=True)
class Model:
    """What is scored."""

    name: str
    scale: int
    upscale: Upscale | None = None
    """None: bicubic."""
    parameters: int = 0
    precision: str | None = None
    """float32, bfloat16 or int8; None for bicubic."""
    self_ensemble: bool = False
    """The result is the mean over the eight flips and turns of the picture."""
    device: str = "cpu"
    """Where it runs, as torch names it."""


@dataclass(frozen=True)
class PictureScore:
    """The scores of one picture."""

    name: str
    psnr: float
    """In dB; inf where the result is equal to HR."""
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float
    seconds: float
    """Wall-clock time of the model alone, from the pixels of LR to those of its result."""
    output_pixels: int
    hr_sha256: str
    """Of the pixels of HR as it is compared, cropped: 8-bit RGB, row by row."""
    lr_sha256: str | None
    """Of the pixels of LR, 8-bit RGB, row by row; None where LR is not quantised."""


@dataclass(frozen=True)
class Result:
    """The scores of one model on one set: means and sums over its pictures."""

    model: str
    set: str
    scale: int
    psnr: float
    """inf where a picture's is."""
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float
    images: int
    seconds: float
    """Wall-clock time of the model alone, all pictures together: from the pixels of LR to those of its result. What a
    first call takes for itself is not in it: each model runs on a corner of the first picture before."""
    output_pixels: int
    parameters: int
    precision: str | None
    """float32, bfloat16 or int8; None for bicubic."""
    self_ensemble: bool
    lr: str
    """`files` or `made`."""
    hr_sha256: str
    """Of the pixels of all HR pictures as they are compared, one after another in the order of their names."""
    lr_sha256: str | None
    """The same of LR; None where LR is not quantised."""
    identical: list[str]
    """The pictures whose result is equal to HR."""
    pictures: list[PictureScore]


def score_set(
    models: Sequence[Model], pictures: Sequence[PictureFiles], protocol: Protocol, *, name: str
) -> list[Result]:
    """Score models on a set, with a progress bar on a terminal.

    Args:
        models: their functions and what the results say about them; of one scale.
        pictures: from `find_pictures`, at that scale.
        protocol: one of `addersr.evaluation.protocol.PROTOCOLS`.
        name: the set's name in the results.

    Returns:
        A result a model, in their order.

    Raises:
        ImageError, DataError: as `load_pair`.
    """
    scale = models[0].scale
    scores: list[list[PictureScore]] = [[] for _ in models]
    hr_digest, lr_digest = hashlib.sha256(), hashlib.sha256()
    bar = tqdm(pictures, f"{name} x{scale}", unit="picture", leave=False, disable=None, ncols=bar_columns())
    for picture in bar:
        pair = load_pair(picture, protocol, scale)
        hr, lr = pair.hr.tobytes(), pair.lr.tobytes()
        hr_digest.update(hr)
        lr_digest.update(lr)
        small = protocol.bicubic_lr(pair)
        if picture is pictures[0]:
            _warm_up(models, pair, small)
        enlarged, bicubic_seconds = _timed(partial(imresize, scale=scale), small)
        bicubic = protocol.score_compared(protocol.compared_bicubic(enlarged, pair), pair)
        for model, row in zip(models, scores, strict=True):
            own, seconds = bicubic, bicubic_seconds
            if model.upscale is not None:
                result, seconds = _timed(model.upscale, pair.lr)
                own = protocol.score(result, pair)
            row.append(
                PictureScore(
                    name=picture.hr.name,
                    psnr=own.psnr,
                    ssim=own.ssim,
                    bicubic_psnr=bicubic.psnr,
                    bicubic_ssim=bicubic.ssim,
                    seconds=seconds,
                    output_pixels=pair.hr.shape[0] * pair.hr.shape[1],
                    hr_sha256=hashlib.sha256(hr).hexdigest(),
                    lr_sha256=hashlib.sha256(lr).hexdigest() if protocol.quantised else None,
                )
            )
    from_files = protocol.quantised and pictures[0].lr is not None
    return [
        Result(
            model=model.name,
            set=name,
            scale=scale,
            psnr=float(np.mean([score.psnr for score in row])),
            ssim=float(np.mean([score.ssim for score in row])),
            bicubic_psnr=float(np.mean([score.bicubic_psnr for score in row])),
            bicubic_ssim=float(np.mean([score.bicubic_ssim for score in row])),
            images=len(row),
            seconds=sum(score.seconds for score in row),
            output_pixels=sum(score.output_pixels for score in row),
            parameters=model.parameters,
            precision=model.precision,
            self_ensemble=model.self_ensemble,
            lr="files" if from_files else "made",
            hr_sha256=hr_digest.hexdigest(),
            lr_sha256=lr_digest.hexdigest() if protocol.quantised else None,
            identical=[score.name for score in row if score.psnr == math.inf],
            pictures=row,
        )
        for model, row in zip(models, scores, strict=True)
    ]


def _timed(upscale: Upscale, lr: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
    """What comes out, and the seconds it took."""
    started = time.perf_counter()
    result = upscale(lr)
    return result, time.perf_counter() - started


def _warm_up(models: Sequence[Model], pair: Pair, small: npt.NDArray[Any]) -> None:
    """Run everything once, on little: the first call starts threads and chooses kernels."""
    imresize(small[:_WARM_UP, :_WARM_UP], pair.scale)
    for model in models:
        if model.upscale is not None:
            model.upscale(pair.lr[:_WARM_UP, :_WARM_UP])


def upscale_by(upscaler: "Upscaler") -> Upscale:
    """An upscaler as `Model` wants it: 8 bits to 8 bits, and float64 with no rounding on the way."""
    import torch  # not at the top: bicubic needs neither the network nor its kernels

    def upscale(lr: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if lr.dtype == np.uint8:
            return upscaler(lr)
        # No 8-bit picture on the way, so this does not go through `images.files`.
        x = torch.from_numpy(lr / 255.0).permute(2, 0, 1)[None].float()
        result: npt.NDArray[Any] = upscaler.upscale_tensor(x)[0].permute(1, 2, 0).double().numpy()
        return result * 255.0

    return upscale
