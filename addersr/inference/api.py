"""`addersr.upscale`: pictures of Python programs, as they are, to pictures of the same kind."""

import os
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from addersr import checkpoint
from addersr.images.metadata import fit_exif
from addersr.images.picture import Picture, Samples
from addersr.images.profiles import srgb_profile, through_profile
from addersr.inference.enlarge import enlarge, resample
from addersr.inference.sizes import Wanted, default_model, passes
from addersr.inference.upscaler import Upscaler, fill_hidden

__all__ = ["upscale"]

_Array = TypeVar("_Array", bound=NDArray[Any])  # of the same type, as far as it is known

Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "int8"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_BEYOND = 0.5  # so far outside [0, 1] may resampling and filters have overshot

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as files of one channel are made


@overload
def upscale(
    image: Image.Image,
    scale: float = 2,
    model: str | os.PathLike[str] | None = None,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    tile: int | Literal["auto"] | None = "auto",
    self_ensemble: bool = False,
) -> Image.Image: ...
@overload
def upscale(
    image: _Array,
    scale: float = 2,
    model: str | os.PathLike[str] | None = None,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    tile: int | Literal["auto"] | None = "auto",
    self_ensemble: bool = False,
) -> _Array: ...
@overload
def upscale(
    image: Tensor,
    scale: float = 2,
    model: str | os.PathLike[str] | None = None,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    tile: int | Literal["auto"] | None = "auto",
    self_ensemble: bool = False,
) -> Tensor: ...
def upscale(
    image: Image.Image | NDArray[Any] | Tensor,
    scale: float = 2,
    model: str | os.PathLike[str] | None = None,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    tile: int | Literal["auto"] | None = "auto",
    self_ensemble: bool = False,
) -> Image.Image | NDArray[Any] | Tensor:
    """Enlarge a picture; the result is of the same kind.

    The network runs as often as the scale takes, and exact bicubic resampling brings its result to the size, sides
    rounded to whole pixels. Grey goes through the network as three equal channels. Transparency is enlarged by
    bicubic interpolation, and the colour under fully transparent pixels does not show at the edges. The network is
    loaded at the first call and kept for the next ones; several threads may call.

    Args:
        image: one of

            - a PIL picture. The mode is kept, but palettes become RGB or RGBA, bilevel pictures L, RGB and L with a
              transparent colour RGBA and LA, and 16 bits of any byte order I;16, which has no transparency. CMYK
              becomes sRGB, through its profile if it has one, as files do. Colour profile, EXIF (with its sizes
              corrected) and XMP are carried along in ``info``, as Pillow's own methods do it; its ``save`` writes what
              it is given of them, and unasked the profile alone, to PNG and TIFF. Nothing is turned upright: a picture
              that EXIF says to turn is to be turned before (`PIL.ImageOps.exif_transpose`), or saved with its EXIF.
            - a NumPy array (H, W) or (H, W, C), C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; uint8, uint16, or
              floating point in [0, 1]; in any order of bytes.
            - a torch tensor (C, H, W) or (N, C, H, W), C as above, float16, bfloat16, float32 or float64 in [0, 1],
              on any device.

            Arrays and tensors keep their type. Floating point is clipped to [0, 1] where it is up to 0.5 outside, as
            resampling overshoots, and so is the result; what is further outside is refused.
        scale: above 0.
        model: name of shipped weights or a .safetensors file; None: the shipped one that suits the scale.
        precision: "float32", "bfloat16" or "int8", as `addersr upscale` has it; "auto" is what the weights are in.
        device: "cpu", "cuda", "cuda:1"... or "auto".
        tile: side of a tile in pixels of the picture; None: always whole; "auto": as memory requires.
        self_ensemble: the mean over the eight turned and mirrored views, in eight times the time.

    Raises:
        TypeError: a picture of another kind, mode or type; a scale or tile that is no number.
        ValueError: a shape that is none of the above, no pixels, floating point that is far outside [0, 1], infinite
            or not a number, a scale that is not positive, a tile below 1, or another precision.
        AdderSRError: no such weights or device, or not enough memory.

    Example:
        >>> import addersr
        >>> from PIL import Image, ImageOps
        >>> photo = ImageOps.exif_transpose(Image.open("photo.jpg"))  # upright  # doctest: +SKIP
        >>> larger = addersr.upscale(photo, scale=2)  # doctest: +SKIP
        >>> larger.save("larger.jpg", exif=larger.getexif(), icc_profile=larger.info.get("icc_profile"))
        ... # doctest: +SKIP
    """
    _check_numbers(scale, tile)
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be above 0, got {scale}")
    name = default_model(scale) if model is None else os.fspath(model)
    changed = os.stat(name).st_mtime_ns if os.path.isfile(name) else 0
    upscaler = _upscaler(name, changed, precision, device, tile, self_ensemble)
    wanted = Wanted(factor=scale)
    if isinstance(image, Image.Image):
        return _upscale_pil(upscaler, image, wanted)
    if isinstance(image, np.ndarray):
        return _upscale_array(upscaler, image, wanted)
    if isinstance(image, Tensor):
        return _upscale_tensor(upscaler, image, wanted)
    raise TypeError(
        f"image must be a PIL picture, a NumPy array or a torch tensor, got {type(image).__name__}"
    )


def _check_numbers(scale: object, tile: object) -> None:
    """Raises TypeError with the argument's name, for callers without a type checker."""
    if not isinstance(scale, Real):
        raise TypeError(f"scale must be a number, got {scale!r}")
    if not (tile is None or tile == "auto" or isinstance(tile, Integral)):
        raise TypeError(f"tile must be a whole number, None or 'auto', got {tile!r}")


@lru_cache(maxsize=4)
def _upscaler(
    name: str,
    changed: int,
    precision: Precision,
    device: str,
    tile: int | Literal["auto"] | None,
    self_ensemble: bool,
) -> Upscaler:
    """``changed`` tells the versions of a file apart."""
    loaded = checkpoint.load(name, precision=precision)
    return Upscaler(
        loaded.model,
        device=device,
        tile=tile,
        self_ensemble=self_ensemble,
        bfloat16=precision == "bfloat16",
    )


def _upscale_pil(upscaler: Upscaler, image: Image.Image, wanted: Wanted) -> Image.Image:
    mode, profile = image.mode, image.info.get("icc_profile")
    if mode == "CMYK":
        converted = through_profile(image, profile)
        profile = None if converted is None else srgb_profile()
        source, mode = image.convert("RGB") if converted is None else converted, "RGB"
    else:
        source = image
    if mode in ("1", "P", "PA", "L", "RGB"):
        grey, clear = mode in ("1", "L"), source.has_transparency_data
        mode = ("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")
    if mode in ("L", "LA", "RGB", "RGBA") or mode.startswith("I;16"):
        through = mode
    elif mode in ("La", "RGBa"):
        through = {"La": "LA", "RGBa": "RGBA"}[mode]
    elif mode in ("HSV", "RGBX", "YCbCr"):
        through = "RGB"
    else:
        raise TypeError(
            f"a PIL picture of mode {mode} has no fixed range; convert it to RGB, L or I;16 first"
        )
    if source.mode != through:
        source = source.convert(through)
    samples = np.asarray(source)
    if samples.dtype.kind == "u" and samples.dtype.itemsize == 2:  # in any order of bytes
        samples, mode = samples.astype(np.uint16), "I;16"
    result = Image.fromarray(_upscale_array(upscaler, samples, wanted))
    if result.mode != mode:
        result = result.convert(mode)
    for key, value in (("icc_profile", profile), ("xmp", image.info.get("xmp"))):
        if value is not None:
            result.info[key] = value
    if exif := fit_exif(image.info.get("exif"), result.height, result.width):
        result.info["exif"] = exif
    return result


def _upscale_array(upscaler: Upscaler, array: NDArray[Any], wanted: Wanted) -> NDArray[Any]:
    floating = np.issubdtype(array.dtype, np.floating)
    native = array.dtype.newbyteorder("=")  # which torch alone takes
    if not floating and native not in (np.uint8, np.uint16):
        raise TypeError(f"an array must be uint8, uint16 or floating point, got {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] > 4):
        raise ValueError(f"an array must be (H, W) or (H, W, 1 to 4) and not empty, got {array.shape}")
    channels = array if array.ndim == 3 else array[..., None]
    if floating:
        _check_range(channels.min(), channels.max())
        # Half precision has no resampling; what it lacks comes back at the end.
        writable = np.require(channels, np.float32, ["C", "W"])  # torch warns of an array that is not
        tensor = torch.from_numpy(writable).permute(2, 0, 1)[None]
        result = _enlarge_tensor(upscaler, tensor, wanted)[0].permute(1, 2, 0).numpy()
    else:
        result = _enlarge_samples(upscaler, channels.astype(native, copy=False), wanted)
    result = result if array.ndim == 3 else result[..., 0]
    return np.ascontiguousarray(result.astype(array.dtype, copy=False))


def _enlarge_samples(upscaler: Upscaler, channels: NDArray[Any], wanted: Wanted) -> NDArray[Any]:
    """(H, W, 1 to 4) integers, as the command does it."""
    height, width, count = channels.shape
    grey = count < 3
    colour = np.repeat(channels[..., :1], 3, axis=2) if grey else np.ascontiguousarray(channels[..., :3])
    alpha = np.ascontiguousarray(channels[..., -1]) if count in (2, 4) else None
    result = cast(Picture, enlarge(upscaler, Picture(colour, alpha), wanted.of(height, width)))
    pixels: NDArray[Any] = result.pixels
    if grey:
        pixels = (pixels @ np.array(_LUMA)).round().astype(channels.dtype)[..., None]
    if result.alpha is None:
        return pixels
    return np.concatenate([pixels, result.alpha[..., None]], axis=2)


def _upscale_tensor(upscaler: Upscaler, tensor: Tensor, wanted: Wanted) -> Tensor:
    if tensor.dtype not in _FLOATS:
        raise TypeError(
            "a tensor must be float16, bfloat16, float32 or float64 in [0, 1], "
            f"got {tensor.dtype}; {'convert it' if tensor.is_floating_point() else 'divide it by its maximum'}"
        )
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "a meta tensor" if tensor.is_meta else str(tensor.layout)
        raise TypeError(f"a tensor must be dense and have values, got {kind}; make it a plain tensor")
    if tensor.ndim not in (3, 4) or 0 in tensor.shape or tensor.shape[-3] > 4:
        raise ValueError(f"a tensor must be (1 to 4, H, W) or (N, 1 to 4, H, W), got {tuple(tensor.shape)}")
    _check_range(*(value.item() for value in tensor.detach().aminmax()))
    batch = tensor.detach() if tensor.ndim == 4 else tensor.detach()[None]
    result = _enlarge_tensor(upscaler, batch, wanted).to(tensor)
    return result if tensor.ndim == 4 else result[0]


def _check_range(least: float, most: float) -> None:
    """Raises ValueError for values that are not meant to be in [0, 1]; both are NaN if any value is."""
    if not (least >= -_BEYOND and most <= 1 + _BEYOND):
        raise ValueError(
            f"floating-point values must be in [0, 1], got {least:g} to {most:g}; divide them by their maximum, such "
            "as 255, or replace what is not finite"
        )


def _enlarge_tensor(upscaler: Upscaler, batch: Tensor, wanted: Wanted) -> Tensor:
    """(N, 1 to 4, H, W), clipped to [0, 1]; nothing is rounded to bits on the way."""
    batch = batch.clamp(0, 1)
    channels, height, width = batch.shape[1:]
    size = wanted.of(height, width)
    colour = batch[:, :1].expand(-1, 3, -1, -1) if channels < 3 else batch[:, :3]
    alpha = batch[:, -1:] if channels in (2, 4) else None
    if alpha is not None:
        colour = torch.stack([_visible(*pair) for pair in zip(colour, alpha, strict=True)])
    for _ in range(passes((height, width), size, upscaler.scale)):
        colour = upscaler.upscale_tensor(colour)
    colour = _resampled(colour, size)
    if channels < 3:
        colour = (colour * colour.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    return colour if alpha is None else torch.cat([colour, _resampled(alpha, size)], 1)


def _visible(colour: Tensor, alpha: Tensor) -> Tensor:
    """(3, H, W) without the colour of what is fully transparent, see `fill_hidden`."""
    pixels, opacity = (part.permute(1, 2, 0).float().cpu().numpy() for part in (colour, alpha))
    filled = fill_hidden(Picture(cast(Samples, pixels), cast(Samples, opacity[..., 0]))).pixels
    return torch.from_numpy(filled).permute(2, 0, 1).to(colour)


def _resampled(batch: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, H, W) to the size, clipped to [0, 1]."""
    if tuple(batch.shape[2:]) == size:
        return batch.clamp(0, 1)
    pictures = batch.permute(0, 2, 3, 1).float().cpu().numpy()
    resized = np.stack([resample(picture, size) for picture in pictures])
    return torch.from_numpy(resized.clip(0, 1)).permute(0, 3, 1, 2).to(batch)
