"""`addersr bench --compare`: crops of HR, bicubic and each model side by side, and where they are wrong."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from addersr.errors import AdderSRError, DataError
from addersr.evaluation.benchmark import Model, Result
from addersr.evaluation.figure import Panel, error_colours, error_strip, strip
from addersr.evaluation.metrics import psnr
from addersr.evaluation.protocol import Pair, Protocol
from addersr.evaluation.report import can_be_made
from addersr.evaluation.sets import PictureFiles, Sets, load_pair
from addersr.images import files
from addersr.images.color import rgb_to_y
from addersr.images.resize import imresize
from addersr.images.tiles import Box

CHOSEN = 3
"""Pictures of a set that are shown where none are named."""

_SIDES = (48, 96)  # least and greatest of a crop that is chosen here, HR pixels
_PARTS = 5  # and otherwise this part of the shorter side of the picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `addersr bench` that ask for pictures."""
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help="write SET_xN_PICTURE.png, crops of HR, bicubic and each model with their PSNR, and "
        "SET_xN_PICTURE_error.png, where Y is wrong",
    )
    parser.add_argument(
        "--compare-pictures",
        nargs="+",
        action="extend",
        metavar="NAME",
        help=f"which pictures --compare shows (default: of each set the {CHOSEN} where bicubic is worst)",
    )
    parser.add_argument(
        "--crop",
        type=_crop,
        metavar="X,Y,W,H",
        help="what --compare shows of them, in HR pixels (default: where the models differ most from bicubic)",
    )


def _crop(text: str) -> Box:
    numbers = text.split(",")
    if len(numbers) == 4 and all(number.isdecimal() for number in numbers):
        left, top, width, height = map(int, numbers)
        if width and height:
            return Box(top, top + height, left, left + width)
    raise argparse.ArgumentTypeError(f"must be X,Y,W,H in pixels, W and H from 1, got {text!r}")


@dataclass(frozen=True)
class Comparison:
    """What is to be shown, and where it goes."""

    folder: Path
    names: list[str] | None = None
    """With or without suffix; None: chosen by bicubic's PSNR."""
    crop: Box | None = None
    """Inside all pictures that may be shown; None: found for each one."""

    def write(
        self, models: Sequence[Model], pictures: Sequence[PictureFiles], protocol: Protocol, bicubic: Result
    ) -> None:
        """Write the two files of each picture of a set that is to be shown.

        Args:
            models: what `score_set` was given, bicubic first; each runs once more on these pictures.
            pictures: the set's.
            protocol: that of the scores.
            bicubic: what bicubic scored on the set.

        Raises:
            ImageError, AdderSRError: as `load_pair`; a file cannot be written.
        """
        for picture in self._chosen(pictures, bicubic):
            self._write(models, picture, protocol, bicubic)

    def _chosen(self, pictures: Sequence[PictureFiles], bicubic: Result) -> list[PictureFiles]:
        if self.names is not None:
            return [picture for picture in pictures if _is_named(picture, self.names)]
        scores = {score.name: score.psnr for score in bicubic.pictures}
        return sorted(pictures, key=lambda picture: scores[picture.hr.name])[:CHOSEN]

    def _write(
        self, models: Sequence[Model], picture: PictureFiles, protocol: Protocol, result: Result
    ) -> None:
        pair = load_pair(picture, protocol, result.scale)
        shown = [_Shown(model, pair, protocol) for model in models]
        crop = self.crop or find_crop(_disagreement(shown), result.scale)
        whole = (picture.hr.stem, f"{_set_name(result.set)} x{result.scale}, {protocol.name}")
        hr = Panel(pair.hr[crop.slices], "HR", "PSNR in dB: crop / picture")
        panels = [each.panel(crop) for each in shown]
        stem = f"{_set_name(result.set)}_x{result.scale}_{_file_stem(picture.hr, result)}"
        self._save(stem, strip(pair.hr, crop, whole, [hr, *panels]))
        hr = Panel(pair.hr[crop.slices], "HR", f"{whole[0]}, {whole[1]}")
        self._save(f"{stem}_error", error_strip(hr, [each.error_panel(crop) for each in shown], crop))

    def _save(self, stem: str, pixels: npt.NDArray[np.uint8]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AdderSRError(f"cannot write {self.folder}: {error.strerror}") from error
        files.write(self.folder / f"{stem}.png", files.Picture(pixels))


def prepare(args: argparse.Namespace, sets: Sets, sizes: Mapping[Path, tuple[int, int]]) -> Comparison | None:
    """What the options ask for; None where it is nothing.

    Args:
        args: with the options of `add_arguments`.
        sets: to find the named pictures in.
        sizes: (height, width) of each of their files of HR.

    Raises:
        AdderSRError: the folder cannot be written, or options do not go together.
        DataError: a picture is named that no set has, or the crop is not inside one that may be shown.
    """
    if args.compare is None:
        if args.compare_pictures or args.crop:
            raise AdderSRError("--compare-pictures and --crop say what --compare DIR shows; give it, too")
        return None
    if not can_be_made(args.compare):
        raise AdderSRError(
            f"cannot write {args.compare}: --compare takes a folder that can be made and written"
        )
    pictures = [picture for each in sets.values() for found in each.values() for picture in found]
    for name in args.compare_pictures or []:
        if not any(_is_named(picture, [name]) for picture in pictures):
            raise DataError(f"--compare-pictures: no set has a picture {name}; they have {_some(pictures)}")
    if args.crop is not None:
        _check_crop(args.crop, args.compare_pictures, sets, sizes)
    names = [_set_name(name) for name in next(iter(sets.values()))]
    if len(set(names)) < len(names):
        raise DataError(
            "--compare: two sets have one name, and their pictures would be written over each other"
        )
    return Comparison(args.compare, args.compare_pictures, args.crop)


def _check_crop(
    crop: Box, names: Sequence[str] | None, sets: Sets, sizes: Mapping[Path, tuple[int, int]]
) -> None:
    for scale, each in sets.items():
        for picture in chain.from_iterable(each.values()):
            height, width = (side - side % scale for side in sizes[picture.hr])
            if (names is None or _is_named(picture, names)) and (crop.bottom > height or crop.right > width):
                choose = "; say by --compare-pictures which ones to show" if names is None else ""
                raise DataError(
                    f"--crop {crop.left},{crop.top},{crop.width},{crop.height} is not inside {picture.hr}, "
                    f"{width}x{height} pixels at x{scale}{choose}"
                )


def find_crop(disagreement: npt.NDArray[np.float64], border: int) -> Box:
    """The square with the greatest sum, between a `border` of pixels that are not scored.

    Args:
        disagreement: (H, W), at least 0.
        border: pixels at each side, fewer than half of the shorter side.

    Returns:
        A fifth of the shorter side wide and high, but at least 48 and at most 96 pixels, as far as they are there.
    """
    inner = disagreement[border : disagreement.shape[0] - border, border : disagreement.shape[1] - border]
    least, most = _SIDES
    side = min(max(least, min(most, min(disagreement.shape) // _PARTS)), *inner.shape)
    sums = np.pad(inner, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = (int(place) + border for place in np.unravel_index(windows.argmax(), windows.shape))
    return Box(top, top + side, left, left + side)


class _Shown:
    """What a model made of a picture, as it is looked at and as it is compared."""

    def __init__(self, model: Model, pair: Pair, protocol: Protocol) -> None:
        self.name = model.name
        if model.upscale is None:
            result, values = imresize(pair.lr, pair.scale), protocol.bicubic(pair)
        else:
            result = model.upscale(pair.lr)
            values = protocol.compared(result, pair.grey)
        self.pixels = np.clip(np.rint(result), 0, 255).astype(np.uint8)
        self.values, self.reference = values, protocol.compared(pair.hr, pair.grey)
        self.psnr = protocol.score_compared(values, pair).psnr
        self.error = np.abs(_y(values) - _y(self.reference))

    def panel(self, crop: Box) -> Panel:
        own = psnr(self.values[crop.slices], self.reference[crop.slices])
        return Panel(self.pixels[crop.slices], self.name, f"{own:.2f} / {self.psnr:.2f}")

    def error_panel(self, crop: Box) -> Panel:
        error = self.error[crop.slices]
        return Panel(error_colours(error), self.name, f"mean error of Y {error.mean():.2f}")


def _disagreement(shown: Sequence[_Shown]) -> npt.NDArray[np.float64]:
    """Where the models differ from bicubic, (H, W); without models where bicubic is wrong."""
    bicubic, *others = shown
    if not others:
        return bicubic.error
    differences = [np.abs(_y(each.values) - _y(bicubic.values)) for each in others]
    mean: npt.NDArray[np.float64] = np.mean(differences, axis=0)
    return mean


def _y(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return rgb_to_y(values) if values.ndim == 3 else values


def _set_name(name: str) -> str:
    return Path(name).resolve().name


def _is_named(picture: PictureFiles, names: Sequence[str]) -> bool:
    return picture.hr.name in names or picture.hr.stem in names


def _file_stem(hr: Path, result: Result) -> str:
    """The picture's name without its suffix, or with it where another one differs in that alone."""
    stems = [Path(score.name).stem for score in result.pictures]
    return hr.stem if stems.count(hr.stem) == 1 else hr.name


def _some(pictures: Sequence[PictureFiles]) -> str:
    names = list(dict.fromkeys(picture.hr.stem for picture in pictures))
    return ", ".join(names[:20]) + ", ..." * (len(names) > 20)
