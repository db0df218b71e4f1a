"""Validation pictures: LR, bicubic, SR and HR side by side, labelled; and bicubic's score as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from typing_extensions import override

from addersr.data.pairs import NamedPair
from addersr.evaluation.torch_metrics import psnr
from addersr.images import files
from addersr.images.resize import imresize
from addersr.training.system import Pixels, SuperResolution

_GROUND, _INK = (32, 32, 32), (240, 240, 240)
_MARGIN = 8
_TEXT = 16


@dataclass(frozen=True)
class _Reference:
    """What does not change from one validation to the next."""

    bicubic: Tensor
    """PSNR of the bicubically enlarged picture."""
    panels: dict[str, Pixels]
    """Label -> the middle of LR, bicubic and HR; none for a picture that is not shown."""


class ValidationPictures(pl.Callback):
    """Shows LR (nearest neighbour), bicubic, SR and HR of each validation picture as a grid, with their PSNR.

    In training the grids are in TensorBoard (``pictures/NAME``) and in RUN_DIR/pictures/NAME.png, which the next
    validation replaces. ``val/psnr_bicubic`` is what ``val/psnr`` has to beat: over all pictures, computed once.

    Args:
        count: pictures shown, from the first; 0 shows none.
        side: the middle of each picture is shown, at most so many HR pixels wide and high. PSNR is of the whole.
    """

    def __init__(self, count: int = 4, side: int = 256) -> None:
        self.count, self.side = count, side
        self._references: dict[int, _Reference] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._references = {}

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: NamedPair,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, SuperResolution)
        if batch_idx not in self._references:
            self._references[batch_idx] = self._reference(batch, pl_module, batch_idx < self.count)
        reference = self._references[batch_idx]
        pl_module.log_mean("val/psnr_bicubic", reference.bicubic, batch)
        training = trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking
        if reference.panels and training and trainer.is_global_zero:
            self._show(trainer, pl_module, batch, outputs["sr"], reference.panels)

    def _reference(self, batch: NamedPair, network: SuperResolution, shown: bool) -> _Reference:
        lr, hr = (_pixels(picture) for picture in (batch.lr, batch.hr))
        scale = network.scale
        bicubic = imresize(lr, scale)
        score = network.score(psnr, bicubic, batch)
        if not shown:
            return _Reference(score, {})
        nearest = lr.repeat(scale, axis=0).repeat(scale, axis=1)
        panels = {
            f"LR, nearest\n{network.score(psnr, nearest, batch):.2f} dB": nearest,
            f"bicubic\n{score:.2f} dB": bicubic,
            "HR": hr,
        }
        return _Reference(score, {label: self._middle(picture) for label, picture in panels.items()})

    def _show(
        self,
        trainer: pl.Trainer,
        network: SuperResolution,
        batch: NamedPair,
        sr: Pixels,
        panels: dict[str, Pixels],
    ) -> None:
        *low, high = panels.items()
        score = network.score(psnr, sr, batch)
        shown = [*low, (f"SR\n{score:.2f} dB", self._middle(sr)), high]
        grid = labelled_grid(f"{batch.name}   x{network.scale}   step {trainer.global_step}", shown)
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_image(
                f"pictures/{batch.name}", grid, trainer.global_step, dataformats="HWC"
            )
        path = Path(f"{trainer.default_root_dir}/pictures/{batch.name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, files.Picture(grid))

    def _middle(self, picture: Pixels) -> Pixels:
        top, left = (max(0, (length - self.side) // 2) for length in picture.shape[:2])
        return picture[top : top + self.side, left : left + self.side].copy()


def labelled_grid(title: str, panels: Sequence[tuple[str, Pixels]]) -> Pixels:
    """Pictures in a row, each under its label, and a title above; nothing is enlarged or cut.

    Args:
        title: one line.
        panels: labels, of one or more lines, and pictures, (H, W, 3) uint8, which may differ in size.

    Returns:
        (H, W, 3) uint8: as high as text and the highest picture need; a column is as wide as its label or picture.
    """
    font = ImageFont.load_default(_TEXT)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def size(text: str) -> tuple[int, int]:
        _, _, right, bottom = ruler.multiline_textbbox((0, 0), text, font=font)
        return int(np.ceil(right)), int(np.ceil(bottom))

    columns = [max(picture.shape[1], size(label)[0]) for label, picture in panels]
    labels_top = _MARGIN + size(title)[1] + _MARGIN
    top = labels_top + max(size(label)[1] for label, _ in panels) + _MARGIN
    width = _MARGIN + max(size(title)[0] + _MARGIN, sum(column + _MARGIN for column in columns))
    height = top + max(picture.shape[0] for _, picture in panels) + _MARGIN

    canvas = Image.new("RGB", (width, height), _GROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, _MARGIN), title, _INK, font)
    left = _MARGIN
    for (label, picture), column in zip(panels, columns, strict=True):
        pen.multiline_text((left, labels_top), label, _INK, font)
        canvas.paste(Image.fromarray(picture), (left, top))
        left += column + _MARGIN
    return np.array(canvas)


def _pixels(picture: Any) -> Pixels:
    return files.from_tensor(picture, np.uint8).astype(np.uint8, copy=False)
