"""Drawing for `addersr.evaluation.compare`: a strip of captioned panels beside a picture with a frame in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from addersr.images.tiles import Box

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3), RGB."""

ERROR_TOP = 40
"""Levels of Y, of 255, that the last colour of an error map stands for, and all beyond."""

_PANEL = 256  # the longer side of a panel that is enlarged, at most
_TEXT, _LEAST_TEXT = 15, 10
_LINE = 20
_GAP = 10
_GROUND, _INK, _FAINT, _FRAME = (255, 255, 255), (20, 20, 20), (105, 105, 105), (230, 30, 30)
_BAR = 16
_COLOURS = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ]
)  # dark to light, in steps that look equal (after matplotlib's `inferno`)


@dataclass(frozen=True)
class Panel:
    """A picture and the two lines below it."""

    pixels: Pixels
    name: str
    detail: str


def strip(whole: Pixels, crop: Box, title: tuple[str, str], panels: Sequence[Panel]) -> Pixels:
    """The whole picture with the crop's frame, and beside it the panels, enlarged by repeated pixels if small.

    Args:
        whole: (H, W, 3); it is scaled to the height of the panels.
        crop: what the panels show of it.
        title: the two lines below it.
        panels: of the crop's size.

    Returns:
        (H', W', 3).
    """
    framed = _framed(whole, crop, crop.height * _factor(crop))
    shown = [Panel(framed, *title)] + [_enlarged(panel, crop) for panel in panels]
    return _row(shown)


def error_strip(reference: Panel, errors: Sequence[Panel], crop: Box) -> Pixels:
    """The crop as it should be, the error maps of all candidates, and the bar that explains their colours."""
    shown = [_enlarged(panel, crop) for panel in (reference, *errors)]
    canvas = _row(shown)
    height = shown[0].pixels.shape[0]
    bar = error_colours(np.linspace(ERROR_TOP, 0, height)[:, None].repeat(_BAR, axis=1))
    image = Image.new("RGB", (canvas.shape[1] + _BAR + 2 * _LINE, canvas.shape[0]), _GROUND)
    image.paste(Image.fromarray(canvas), (0, 0))
    left = canvas.shape[1]
    image.paste(Image.fromarray(bar), (left, _GAP))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(_TEXT)
    for level in range(0, ERROR_TOP + 1, 10):
        y = _GAP + round((height - 1) * (1 - level / ERROR_TOP))
        pen.line((left + _BAR, y, left + _BAR + 3, y), _INK)
        anchor = "lt" if level == ERROR_TOP else "ls" if level == 0 else "lm"
        text = f"{level}+" if level == ERROR_TOP else f"{level}"
        pen.text((left + _BAR + 6, y), text, _INK, font, anchor=anchor)
    return np.array(image)


def error_colours(error: npt.NDArray[np.float64]) -> Pixels:
    """(H, W) levels of Y -> (H, W, 3): black for 0, pale yellow from `ERROR_TOP` on."""
    places = np.linspace(0, ERROR_TOP, len(_COLOURS))
    channels = [np.interp(np.abs(error), places, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _factor(crop: Box) -> int:
    return max(1, _PANEL // max(crop.height, crop.width))


def _enlarged(panel: Panel, crop: Box) -> Panel:
    factor = _factor(crop)
    pixels = panel.pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return Panel(pixels, panel.name, panel.detail)


def _framed(whole: Pixels, crop: Box, height: int) -> Pixels:
    scale = height / whole.shape[0]
    image = Image.fromarray(whole).resize(
        (max(1, round(whole.shape[1] * scale)), height), Image.Resampling.LANCZOS
    )
    edges = (crop.left * scale, crop.top * scale, crop.right * scale, crop.bottom * scale)
    left, top, right, bottom = (round(edge) for edge in edges)
    # Outside the crop, as far as there is room, in a light line too, to be seen on any picture.
    ImageDraw.Draw(image).rectangle((left - 3, top - 3, right + 2, bottom + 2), outline=_GROUND, width=1)
    ImageDraw.Draw(image).rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=_FRAME, width=2)
    return np.array(image)


def _row(panels: Sequence[Panel]) -> Pixels:
    """Panels of one height side by side, each above its two lines."""
    height = panels[0].pixels.shape[0]
    widths = [panel.pixels.shape[1] for panel in panels]
    size = (sum(widths) + _GAP * (len(panels) + 1), height + 3 * _GAP + 2 * _LINE)
    image = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(image)
    left = _GAP
    for panel, width in zip(panels, widths, strict=True):
        image.paste(Image.fromarray(panel.pixels), (left, _GAP))
        for line, (text, ink) in enumerate(((panel.name, _INK), (panel.detail, _FAINT))):
            fitted, font = _fit(pen, text, width)
            place = (left + width / 2, height + 2 * _GAP + (line + 0.5) * _LINE)
            pen.text(place, fitted, ink, font, anchor="mm")
        left += width + _GAP
    return np.array(image)


def _fit(
    pen: ImageDraw.ImageDraw, text: str, width: int
) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """The text in the largest font in which it is no wider, shortened where even the smallest is too large."""
    for size in range(_TEXT, _LEAST_TEXT - 1, -1):
        font = ImageFont.load_default(size)
        if pen.textlength(text, font) <= width:
            return text, font
    while len(text) > 1 and pen.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…", font
