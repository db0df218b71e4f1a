"""A picture to any size: the network as often as it takes, then exact resampling."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from addersr.errors import ImageError
from addersr.images import files
from addersr.images.files import Animation, Picture
from addersr.images.resize import imresize
from addersr.inference.settings import MAX_RESULT_PIXELS
from addersr.inference.sizes import passes
from addersr.inference.upscaler import Upscaler, fill_hidden

__all__ = ["Content", "Done", "check_pixels", "enlarge", "resample"]

Content: TypeAlias = Picture | Animation

Done: TypeAlias = Callable[[float], None]
"""Called with the share of the work that is done, up to 1."""

_STRIP = 2**22  # values computed at a time in float64


def enlarge(upscaler: Upscaler, content: Content, size: tuple[int, int], done: Done | None = None) -> Content:
    """Bring a picture to ``size``, (height, width); what its file said about it is carried along.

    The network runs until the picture has as many pixels as that (`passes`), each time on the 8 or 16 bits of the
    last result; `addersr.images.resize.imresize` brings it to the size, which makes it smaller, or stretches it to
    another shape. A picture that has as many to begin with is resampled only, or left as it is.

    Raises:
        AdderSRError: as `Upscaler`.
    """
    count = passes(files.size(content), size, upscaler.scale)
    work = [upscaler.scale ** (2 * i) for i in range(count)]  # a pass takes as long as its picture is large
    for index in range(count):

        def progress(tiles: int, total: int, index: int = index) -> None:
            if done is not None:
                done((sum(work[:index]) + work[index] * tiles / total) / sum(work))

        content = upscaler.upscale_picture(content, progress)
    if files.size(content) == size:
        return content
    resized = partial(_resized, size=size, is_own=count > 0)
    return content.map(resized) if isinstance(content, Animation) else resized(content)


def check_pixels(size: tuple[int, int], target: tuple[int, int], frames: int, scale: int, most: int) -> None:
    """Whether a result, and what comes between, is within a budget of pixels.

    Args:
        size, target: (height, width) of the picture and of its result.
        frames: how many there are of it.
        scale: the network's.
        most: the budget of the result. What the network makes on the way to it has fewer than ``scale**2`` times as
            many pixels (`passes`); it may have `MAX_RESULT_PIXELS`, or the budget where that is larger.

    Raises:
        ImageError: it is not.
    """
    pixels = target[0] * target[1] * frames
    what = f"a result of {target[1]} x {target[0]}" + (f" x {frames} frames" if frames > 1 else "")
    grown = scale ** passes(size, target, scale)
    if pixels > most:
        raise ImageError(f"{what} is too many pixels, the budget is {most:,}; see --max-pixels")
    on_the_way = max(most, MAX_RESULT_PIXELS)
    if grown > 1 and size[0] * size[1] * frames * grown**2 > on_the_way:
        raise ImageError(
            f"{what} would take {size[1] * grown} x {size[0] * grown} pixels on the way, at most "
            f"{on_the_way:,} are made; choose x{grown // scale}, or see --max-pixels"
        )


def _resized(picture: Picture, size: tuple[int, int], is_own: bool) -> Picture:
    """To ``size``; a picture of our own, which a pass has made, is used up."""
    if not is_own:  # else the colour of what is invisible would bleed into the edges; a pass has seen to that
        picture = fill_hidden(picture)
    alpha = None if picture.alpha is None else resample(picture.alpha, size, in_place=is_own)
    return replace(picture, pixels=resample(picture.pixels, size, in_place=is_own), alpha=alpha)


def resample(samples: NDArray[Any], size: tuple[int, int], *, in_place: bool = False) -> NDArray[Any]:
    """`imresize` to (height, width), equal to it and in little memory beside the result.

    Each of its two passes is done in strips along the axis that it leaves as it is.

    Args:
        samples: (H, W) or (H, W, C), as `imresize` has them.
        size: of the result.
        in_place: the samples may be overwritten, which takes no memory where an axis becomes shorter.
    """
    lengths = samples.shape[:2]
    rows_first = size[0] / lengths[0] <= size[1] / lengths[1]
    for axis in (0, 1) if rows_first else (1, 0):
        samples = _along(samples, axis, size[axis], in_place)
    return np.ascontiguousarray(samples)


def _along(samples: NDArray[Any], axis: int, target: int, in_place: bool) -> NDArray[Any]:
    shape = list(samples.shape)
    shape[axis] = target
    integer = np.issubdtype(samples.dtype, np.integer)
    if in_place and integer and samples.flags.writeable and target <= samples.shape[axis]:
        # A strip has been read when its place is written to.
        result: NDArray[Any] = samples[:target] if axis == 0 else samples[:, :target]
    else:
        result = np.empty(shape, samples.dtype if integer else np.float64)
    across = samples.shape[1 - axis]
    step = max(_STRIP * across // max(samples.size, result.size), 1)
    for first in range(0, across, step):
        lines = slice(first, first + step)
        strip = (slice(None), lines) if axis == 0 else (lines, slice(None))
        part = result[strip]
        part[...] = imresize(samples[strip], output_shape=(part.shape[0], part.shape[1]))
    return result
