"""Picture files: read and written around the network.

Here the image contract is kept: files hold uint8 or uint16 RGB in (H, W, 3); inside is float32 RGB in (1, 3,
H, W), 0 to 1; nobody else converts. A file's orientation is applied when it is read; alpha, EXIF, colour
profile (ICC), XMP, 16-bit depth and "one grey channel" are carried along and written again, as far as the
format written has them (`write`). Not carried: resolution (DPI), PNG's text chunks and gAMA, IPTC, comments.
"""

import errno
import io
import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from addersr.atomic import replacing
from addersr.errors import ImageError
from addersr.images.metadata import fit_exif, fit_xmp, profile_space, upright_exif, upright_xmp
from addersr.images.png16 import bit_depth, read_png16, write_png16

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "Picture",
    "Samples",
    "check_writable",
    "from_tensor",
    "read",
    "to_tensor",
    "write",
]

Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""What files hold; 0 to 255 or 0 to 65535."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
_LONGEST_SIDE = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383, "BMP": 2**31 - 1}
_ROWS = 64  # computed at a time in floating point, which bounds the memory
_XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"  # iTXt: keyword, uncompressed, no language

EXTENSIONS = frozenset(_FORMATS)
"""The suffixes, in lower case, of the files that are read and written."""

MAX_PIXELS = 2 * 89_478_485
"""The largest picture that is read, in pixels: where Pillow, too, calls a file a decompression bomb."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright, with what its file said about it."""

    pixels: Samples
    """(H, W, 3) RGB, uint8 or uint16."""
    alpha: Samples | None = None
    """(H, W) of the same type, 0 transparent; None where the file has no transparency."""
    exif: bytes | None = None
    r"""EXIF as Pillow gives it (it begins with ``Exif\0\0``), without orientation and thumbnail."""
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    grey: bool = False
    """The file has one channel; the three of ``pixels`` are equal, and `write` stores one again."""


def read(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a PNG, JPEG, WebP or BMP file, whatever its suffix says.

    Palettes and bilevel pictures become RGB and grey; CMYK is converted to sRGB, through its own profile if
    it has one. PNG keeps its 16 bits. Metadata that cannot be parsed is dropped.

    Raises:
        ImageError: no such file, not a picture, damaged or cut short, animated, or more than ``max_pixels``.
        MemoryError: the picture does not fit into memory.
    """
    path = Path(path)
    try:
        # Pillow's warnings are about odd metadata and about sizes that are checked below.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            with Image.open(file, formats=sorted(set(_FORMATS.values()))) as image:
                _check_readable(image, path, max_pixels)
                return _decode(image, file)
    except (ImageError, MemoryError):  # memory: the caller's matter, no fault of the file
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: too many pixels, at most {max_pixels:,} are read; crop it first") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{path}: not a PNG, JPEG, WebP or BMP picture; convert it to one of these"
        ) from None
    except Exception as error:  # a decoder that is fed a damaged file may raise anything
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
        raise ImageError(
            f"{path}: damaged or cut short ({_first_line(error)}); get a whole copy of it"
        ) from error


def _check_readable(image: Image.Image, path: Path, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{path}: {image.width} x {image.height} is too many pixels, at most {max_pixels:,} are read;"
            " crop it first"
        )
    # A multi-picture JPEG (MPO) also counts its previews as frames, but its first picture is the photograph.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in ("PNG", "WEBP"):
        raise ImageError(
            f"{path}: an animation of {frames} frames; only still pictures are upscaled, extract them"
        )


def _decode(image: Image.Image, file: BinaryIO) -> Picture:
    image.load()  # first, because PNG may put its metadata behind the picture
    orientation, exif = upright_exif(image)
    xmp = upright_xmp(image.info.get("xmp"))
    icc_profile = image.info.get("icc_profile") or None
    depth = bit_depth(file) if image.format == "PNG" else 8
    if depth == 16:
        pixels, alpha, grey = _decode_png16(image, file)
    else:
        if image.mode == "L" and "transparency" in image.info:
            # tRNS holds a sample as the file has it; Pillow stretches the samples of 2 and 4 bits, not this.
            most = 2**depth - 1
            image.info["transparency"] = (image.info["transparency"] & most) * (255 // most)
        if image.mode == "CMYK":
            image, icc_profile = _to_srgb(image, icc_profile), None
        pixels, alpha, grey = _decode_8bit(image)

    # A profile describes the channels it was made for; a grey file with an RGB profile is stored as RGB.
    space = profile_space(icc_profile)
    grey = grey and space != b"RGB "
    if space is not None and space != (b"GRAY" if grey else b"RGB "):
        icc_profile = None
    return Picture(
        pixels=_turn(pixels, orientation),
        alpha=None if alpha is None else _turn(alpha, orientation),
        exif=exif,
        icc_profile=icc_profile,
        xmp=xmp,
        grey=grey,
    )


def _decode_8bit(image: Image.Image) -> tuple[Samples, Samples | None, bool]:
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]), grey
    return np.array(image.convert("RGB")), None, grey


def _decode_png16(image: Image.Image, file: BinaryIO) -> tuple[Samples, Samples | None, bool]:
    samples = read_png16(file)
    grey = samples.shape[2] < 3
    colour, alpha = (samples[..., :1], samples[..., 1:]) if grey else (samples[..., :3], samples[..., 3:])
    key = image.info.get("transparency")  # tRNS: the one colour that is transparent
    if key is not None:
        alpha = np.where((colour == np.asarray(key)).all(axis=2, keepdims=True), 0, 65535).astype(np.uint16)
    pixels = np.repeat(colour, 3, axis=2) if grey else np.ascontiguousarray(colour)
    return pixels, np.ascontiguousarray(alpha[..., 0]) if alpha.shape[2] else None, grey


def _turn(array: Samples, orientation: int) -> Samples:
    """Apply EXIF orientation 1 to 8 to the first two axes."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return cast(Samples, np.ascontiguousarray(array))


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """sRGB through the picture's own profile; without a usable one, Pillow's plain conversion."""
    if icc_profile is not None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            return image.convert("RGB")
        if converted is not None:
            return converted
    return image.convert("RGB")


def check_writable(path: str | Path, picture: Picture, *, scale: int = 1) -> None:
    """Find out before a long computation whether its result could be written.

    Args:
        picture: what will be upscaled; its metadata are tried too.
        scale: how many times larger the result will be.

    Raises:
        ImageError: as `write`, as far as can be known: not a disk that fills up in the meantime.
    """
    path = Path(path)
    height, width = picture.pixels.shape[:2]
    _check_size(path, height * scale, width * scale)
    corner = replace(
        picture,
        pixels=picture.pixels[:1, :1],
        alpha=None if picture.alpha is None else picture.alpha[:1, :1],
    )
    with _told(path):
        _encode(io.BytesIO(), _format_of(path), corner, 95)
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            path.lstat()  # refuses a name that is too long
        except FileNotFoundError:
            pass
        with tempfile.NamedTemporaryFile(prefix=".addersr-", dir=path.parent):
            pass


def _check_size(path: Path, height: int, width: int) -> None:
    format = _format_of(path)
    limit = _LONGEST_SIDE[format]
    if max(height, width) > limit:
        raise ImageError(
            f"{path}: {width} x {height} is too large for {format}, which ends at {limit}; write PNG instead"
        )


def write(path: str | Path, picture: Picture, *, quality: int = 95) -> None:
    """Write a picture in the format that the suffix names; the file appears whole or not at all.

    PNG holds all that a `Picture` has. JPEG (4:4:4), WebP and BMP hold 8 bits a channel; JPEG and BMP have no
    transparency, so there the picture is laid on white; WebP has no grey, so grey is stored as RGB, through
    its profile if it has one. BMP carries none of EXIF, XMP and colour profile. EXIF and XMP get the
    picture's own size.

    Args:
        quality: of JPEG and WebP, 1 to 100; at 100 WebP is lossless.

    Raises:
        ImageError: a suffix that is not in EXTENSIONS, a picture or metadata too large for the format, or a
            place that cannot be written. Nothing is left behind, and a file that was there is untouched.
    """
    path = Path(path)
    height, width = picture.pixels.shape[:2]
    _check_size(path, height, width)
    with _told(path), replacing(path) as part, part.open("wb") as file:
        _encode(file, _format_of(path), picture, quality)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what can go wrong in writing ``path`` into ImageError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise ImageError(f"{path}: cannot be written: {reason}; choose another place") from error
    except ValueError as error:  # Pillow: EXIF or XMP longer than a JPEG segment
        raise ImageError(f"{path}: cannot be written: {_first_line(error)}; write PNG instead") from error


def _encode(file: BinaryIO, format: str, picture: Picture, quality: int) -> None:
    height, width = picture.pixels.shape[:2]
    exif = fit_exif(picture.exif, height, width)
    xmp = fit_xmp(picture.xmp, height, width)
    icc_profile = picture.icc_profile
    if format == "PNG" and picture.pixels.dtype == np.uint16:
        samples16 = cast(NDArray[np.uint16], _channels(picture))
        write_png16(file, samples16, _png_chunks(exif, icc_profile, xmp))
        return

    picture = _to_8bit(picture)
    if format in ("JPEG", "BMP"):
        picture = _on_white(picture)
    samples = _channels(picture)
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    if format == "WEBP" and picture.grey and icc_profile is not None:  # WebP has no grey, so no grey profile
        image, icc_profile = _to_srgb(image.convert("L"), icc_profile), None
        if picture.alpha is not None:
            image.putalpha(Image.fromarray(picture.alpha))

    carried: dict[str, Any] = {"icc_profile": icc_profile, "exif": exif or b"", "xmp": xmp or b""}
    if format == "PNG":
        info = PngImagePlugin.PngInfo()
        if xmp is not None:
            info.add(b"iTXt", _XMP_KEYWORD + xmp)
        image.save(file, format, pnginfo=info, icc_profile=icc_profile, exif=exif or b"")
    elif format == "JPEG":
        _save_whole(image, file, format, quality=quality, subsampling="4:4:4", **carried)
    elif format == "WEBP":
        image.save(file, format, quality=quality, lossless=quality == 100, exact=True, **carried)
    else:
        _save_whole(image, file, format)


def _save_whole(image: Image.Image, file: BinaryIO, format: str, **options: Any) -> None:
    """Encode into memory first: writing to a real file, Pillow's JPEG and BMP do not notice that the disk is full."""
    encoded = BytesIO()
    image.save(encoded, format, **options)
    file.write(encoded.getbuffer())


def _png_chunks(
    exif: bytes | None, icc_profile: bytes | None, xmp: bytes | None
) -> list[tuple[bytes, bytes]]:
    chunks = []
    if icc_profile is not None:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)))
    if exif is not None:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp is not None:
        chunks.append((b"iTXt", _XMP_KEYWORD + xmp))
    return chunks


def _channels(picture: Picture) -> Samples:
    """(H, W, C) as files hold it: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    colour = picture.pixels
    if picture.grey:
        weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's own conversion to "L"
        luma = np.empty((*colour.shape[:2], 1), colour.dtype)
        for top in range(0, len(colour), _ROWS):
            rows = slice(top, top + _ROWS)
            luma[rows, :, 0] = (colour[rows] @ weights).round()
        colour = luma
    if picture.alpha is not None:
        colour = np.concatenate([colour, picture.alpha[..., None]], axis=2)
    return cast(Samples, np.ascontiguousarray(colour))


def _to_8bit(picture: Picture) -> Picture:
    if picture.pixels.dtype == np.uint8:
        return picture
    alpha = None if picture.alpha is None else _round_to_8bit(picture.alpha)
    return replace(picture, pixels=_round_to_8bit(picture.pixels), alpha=alpha)


def _round_to_8bit(samples: Samples) -> NDArray[np.uint8]:
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 257 * 255


def _on_white(picture: Picture) -> Picture:
    if picture.alpha is None:
        return picture
    laid = np.empty_like(picture.pixels)
    for top in range(0, len(laid), _ROWS):
        rows = slice(top, top + _ROWS)
        share = picture.alpha[rows, :, None].astype(np.float32) / 255
        laid[rows] = (255 + (picture.pixels[rows].astype(np.float32) - 255) * share).round()
    return replace(picture, pixels=laid, alpha=None)


def _format_of(path: Path) -> str:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(sorted(_FORMATS))
        raise ImageError(f"{path}: no picture format is named {path.suffix!r}; use one of {known}") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def to_tensor(pixels: Samples) -> Tensor:
    """(H, W, 3) uint8 or uint16 to (1, 3, H, W) float32 in [0, 1], in channels-last memory."""
    scaled = np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)
    return torch.from_numpy(scaled).permute(2, 0, 1)[None]


def from_tensor(tensor: Tensor, dtype: DTypeLike = np.uint8) -> Samples:
    """(1, 3, H, W) float to (H, W, 3) of ``dtype`` (uint8 or uint16), clipped to [0, 1] and rounded."""
    scaled = tensor.detach()[0].clamp(0, 1).mul(np.iinfo(dtype).max).round()
    return np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy().astype(dtype))
