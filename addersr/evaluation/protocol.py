"""The scoring protocols: everything between two pictures and a number in a table.

All of them crop HR to a multiple of the scale, leave out `scale` pixels at each side, and take the mean of PSNR
and SSIM over the pictures. Those that compare Y differ in what is rounded to 8 bits, which is worth 0.03 dB; `rgb`
compares the three channels, which is worth more than 1 dB.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from addersr.evaluation.metrics import SSIM_WINDOW, psnr, shave, ssim
from addersr.images.color import rgb_to_y
from addersr.images.resize import imresize, modcrop


@dataclass(frozen=True)
class Score:
    """PSNR in dB (inf for equal pictures) and SSIM of one picture."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Pair:
    """One picture of a set, ready to be scored at one scale s."""

    hr: npt.NDArray[np.uint8]
    """(sH, sW, 3), cropped."""
    lr: npt.NDArray[Any]
    """(H, W, 3): uint8, or float64 clipped to 0..255 where the protocol does not quantise it."""
    grey: bool
    """HR has one channel, given here as three equal ones: its grey is its Y (see `Protocol.y`)."""
    scale: int


@dataclass(frozen=True)
class Protocol:
    """How LR is made, how a result is rounded, and what is compared."""

    name: str
    quantised: bool
    """LR and the result are 8-bit RGB pictures. Otherwise neither is rounded, LR is always made from HR, and
    bicubic works on the 8-bit Y of HR alone, as in SRCNN's code. (That code knows networks for Y only; for
    one that takes RGB, LR is made of RGB, and Y is taken of the result.)"""
    rounded_y: bool
    """Y is rounded to 8 bits before it is compared."""
    studio: bool = False
    """Bicubic is clipped to 16..235, as VDSR's code clips what it hands to its network (of one channel, too)."""
    rgb: bool = False
    """R, G and B are compared instead of Y; it goes with `quantised` alone."""

    def pair(
        self,
        hr: npt.NDArray[np.uint8],
        scale: int,
        *,
        grey: bool = False,
        lr: npt.NDArray[np.uint8] | None = None,
    ) -> Pair:
        """Crop HR to a multiple of `scale`, and make LR by MATLAB's bicubic unless the set brings it.

        Args:
            hr: (H, W, 3) uint8, as the file has it.
            scale: s.
            grey: the file has one channel, given as three equal ones.
            lr: (H // s, W // s, 3), the set's own LR picture; not used by a protocol that does not quantise.

        Raises:
            ValueError: as `check_hr` and `check_lr`.
        """
        check_hr(hr.shape[:2], scale)
        if self.quantised and lr is not None:
            check_lr(lr.shape[:2], hr.shape[:2], scale)
        hr = modcrop(hr, scale)
        height, width = hr.shape[0] // scale, hr.shape[1] // scale
        if not self.quantised:
            made = np.clip(imresize(hr.astype(np.float64), output_shape=(height, width)), 0.0, 255.0)
            return Pair(hr, made, grey, scale)
        if lr is None:
            return Pair(hr, imresize(hr, output_shape=(height, width)), grey, scale)
        return Pair(hr, lr, grey, scale)

    def compared(self, rgb: npt.NDArray[Any], grey: bool = False) -> npt.NDArray[np.float64]:
        """What is compared, in float64: Y of BT.601, (H, W, 3) 0..255 -> (H, W), or R, G and B as they are.

        A picture of one channel (Set14's `bridge`) is compared as it is, in 0..255: its grey is its Y. BasicSR
        and EDSR take Y in the studio range of the RGB copy instead, which shrinks the squared error by
        (219/255)^2: they score `bridge` 1.3 dB higher, and so the mean of Set14 by about 0.09 dB. A network
        sees three equal channels and may answer with three that are not, so its result is taken back to grey
        with the weights of Y brought to the full range, (65.481 R + 128.553 G + 24.966 B) / 219, which leaves
        equal channels as they are. Under `rgb` such a picture is one of three equal channels.
        """
        if self.rgb:
            return rgb.astype(np.float64)
        y = rgb_to_y(rgb)
        if grey:
            y = (y - 16.0) * (255.0 / 219.0)
        return _round(y) if self.rounded_y else y

    def bicubic(self, pair: Pair) -> npt.NDArray[np.float64]:
        """What is compared for bicubic upscaling, (sH, sW) or (sH, sW, 3) float64."""
        return self.compared_bicubic(imresize(self.bicubic_lr(pair), pair.scale), pair)

    def bicubic_lr(self, pair: Pair) -> npt.NDArray[Any]:
        """What bicubic upscaling starts from, (H, W, 3) uint8, or (H, W) float64 of Y if not quantised."""
        if self.quantised:
            return pair.lr
        return imresize(self.compared(pair.hr, pair.grey), output_shape=pair.lr.shape[:2])

    def compared_bicubic(self, enlarged: npt.NDArray[Any], pair: Pair) -> npt.NDArray[np.float64]:
        """What is compared of `bicubic_lr`, enlarged."""
        if self.quantised:
            return self.compared(enlarged, pair.grey)
        return _round(np.clip(enlarged, 16.0, 235.0) if self.studio else enlarged)

    def score(self, result: npt.NDArray[Any], pair: Pair) -> Score:
        """Score a network's result, (sH, sW, 3): uint8, or 0..255 in floating point if not quantised."""
        return self.score_compared(self.compared(result, pair.grey), pair)

    def score_compared(self, result: npt.NDArray[np.float64], pair: Pair) -> Score:
        """Score what `compared` or `bicubic` gave against HR; a ValueError where its size differs.

        Of three channels the squared error is pooled and SSIM is the mean, as in BasicSR.
        """
        ours = shave(result, pair.scale)
        reference = shave(self.compared(pair.hr, pair.grey), pair.scale)
        channels = zip(*(np.moveaxis(np.atleast_3d(each), -1, 0) for each in (ours, reference)), strict=True)
        return Score(psnr(ours, reference), float(np.mean([ssim(a, b) for a, b in channels])))

    def describe(self) -> dict[str, str]:
        """The protocol in words, to be printed with every number."""
        rounded = "rounded to 8 bits"
        y = "Y of BT.601, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, "
        y += (rounded if self.rounded_y else "not rounded") + "; the grey of a picture of one channel"
        return {
            "name": self.name,
            "hr": "cropped to a multiple of the scale",
            "lr": f"the set's 8-bit files, or MATLAB bicubic of HR, {rounded}"
            if self.quantised
            else "MATLAB bicubic of HR, not quantised (of RGB for a network, of 8-bit Y for bicubic)",
            "result": (f"RGB, clipped, {rounded}" if self.quantised else "clipped, RGB not rounded")
            + "; bicubic clipped to 16..235" * self.studio,
            "channel": "R, G and B; of one channel three equal ones" if self.rgb else y,
            "shave": "scale pixels at each side",
            "psnr": "10 log10(255^2 / MSE)" + ", MSE over the three channels" * self.rgb,
            "ssim": "Wang 2004: 11x11 Gaussian, sigma 1.5, K1 0.01, K2 0.03, range 255, whole windows only"
            + "; mean of the channels" * self.rgb,
            "mean": "over the pictures of a set; inf where one is equal to HR",
        }


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("ycbcr-float", quantised=True, rounded_y=False),
        Protocol("ycbcr-uint8", quantised=True, rounded_y=True),
        Protocol("srcnn", quantised=False, rounded_y=True),
        Protocol("vdsr", quantised=False, rounded_y=True, studio=True),
        Protocol("rgb", quantised=True, rounded_y=False, rgb=True),
    )
}
"""`ycbcr-float` is how EDSR, BasicSR and KAIR score, but for pictures of one channel (`Protocol.compared`). The
published bicubic rows come from `srcnn`, `vdsr` and `ycbcr-uint8` (docs/bicubic.md)."""

DEFAULT = "ycbcr-float"


def check_hr(hr: tuple[int, ...], scale: int) -> None:
    """Whether HR of a size, (height, width) as its file has it, can be scored.

    Raises:
        ValueError: less than SSIM's window is left after the border is shaved.
    """
    least = -(-SSIM_WINDOW // scale) * scale + 2 * scale
    if min(hr) < least:
        raise ValueError(f"HR must be at least {least}x{least} pixels at x{scale}, got {hr[1]}x{hr[0]}")


def check_lr(lr: tuple[int, ...], hr: tuple[int, ...], scale: int) -> None:
    """Whether a set's own LR picture is of the size that belongs to HR; both (height, width) as their files have it.

    Raises:
        ValueError: it is not.
    """
    height, width = hr[0] // scale, hr[1] // scale
    if lr != (height, width):
        raise ValueError(
            f"LR must be {width}x{height} pixels for HR of {width * scale}x{height * scale} at x{scale}, "
            f"got {lr[1]}x{lr[0]}"
        )


def _round(y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """To 8 bits, half away from zero and saturated, as MATLAB's `uint8`; the dtype stays float64."""
    return np.clip(np.floor(y.astype(np.float64) + 0.5), 0.0, 255.0)
