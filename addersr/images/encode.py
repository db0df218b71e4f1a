"""From pictures to the bytes of each format, with as much of what they carry as the format holds.

| | depth | transparency | grey | ICC | EXIF, XMP | IPTC | resolution | frames |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| PNG | 8, 16 | yes | yes | yes | yes | as ImageMagick and ExifTool | yes | 8 bits |
| TIFF | 8, 16 | yes | yes | yes | yes | yes | yes | no |
| JPEG | 8 | laid on white | yes | yes | yes | yes | whole numbers | no |
| WebP | 8 | yes | as RGB | yes | yes | no | that of EXIF | yes |
| GIF | 256 colours | on or off | as RGB | as sRGB | no | no | no | yes |
| BMP | 8 | laid on white | yes | as sRGB | no | no | yes | no |

What a PNG says of its colours beside ICC (gAMA, cHRM, sRGB, cICP) is written to PNG, as it is; no other format has it.
The resolution is the number that the file gave, which other programs, too, keep where they make a picture larger; so it
is printed larger.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image, PngImagePlugin

from addersr.images import iptc as iptc_box
from addersr.images.metadata import fit_exif, fit_xmp
from addersr.images.picture import Animation, Picture, Samples, size
from addersr.images.png16 import COLOUR, write_png16
from addersr.images.profiles import to_srgb
from addersr.images.tiff import write_tiff

__all__ = ["ANIMATED", "encode", "sample_bytes"]

ANIMATED = ("png", "webp", "gif")
"""The formats that hold frames."""

_ROWS = 64  # computed at a time, which bounds the memory
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's own conversion to "L"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"  # iTXt: keyword, uncompressed, no language
_METRES = 0.0254  # an inch
_GIF_LONGEST = 655_350  # ms a frame is shown
_MOST_PLAYS = 65535  # that GIF and WebP can count; more is for ever


def encode(file: BinaryIO, format: str, shown: Picture | Animation, quality: int, lossless: bool) -> None:
    """Write a picture or an animation; EXIF and XMP get its size.

    Args:
        file: empty, and seekable.
        format: "png", "jpeg", "webp", "tiff", "gif" or "bmp"; one of `ANIMATED` for an animation.
        quality: 1 to 100, of JPEG and WebP.
        lossless: of WebP.

    Raises:
        ValueError: metadata longer than the format can hold.
        OSError: the file cannot be written.
    """
    height, width = size(shown)

    def fitted(picture: Picture) -> Picture:
        exif, xmp = fit_exif(picture.exif, height, width), fit_xmp(picture.xmp, height, width)
        return replace(picture, exif=exif, xmp=xmp)

    if isinstance(shown, Animation):
        _encode_animation(file, format, shown.map(fitted), quality, lossless)
        return
    picture = fitted(shown)
    if format == "tiff":
        write_tiff(
            file, _Channels(picture), exif=picture.exif, icc_profile=picture.icc_profile, xmp=picture.xmp,
            iptc=picture.iptc, resolution=picture.resolution,
        )  # fmt: skip
    elif format == "png" and picture.pixels.dtype == np.uint16:
        write_png16(file, _Channels(picture), _png_chunks(picture))
    else:
        _ENCODERS[format](file, _to_8bit(picture), quality, lossless)


def _encode_png(file: BinaryIO, picture: Picture, _quality: int, _lossless: bool) -> None:
    _image(picture).save(file, "PNG", **_png_options(picture))


def _encode_jpeg(file: BinaryIO, picture: Picture, quality: int, _lossless: bool) -> None:
    carried: dict[str, Any] = {
        "icc_profile": picture.icc_profile,
        "exif": picture.exif or b"",
        "xmp": picture.xmp or b"",
    }
    if picture.resolution is not None and min(picture.resolution) > 0.5:  # else it would be rounded to none
        carried["dpi"] = picture.resolution
    encoded = _saved(_image(_on_white(picture)), "JPEG", quality=quality, subsampling="4:4:4", **carried)
    if picture.iptc is not None:
        encoded = iptc_box.with_segment(encoded, iptc_box.jpeg_segment(picture.iptc))
    file.write(encoded)


def _encode_webp(file: BinaryIO, picture: Picture, quality: int, lossless: bool) -> None:
    if picture.grey and picture.icc_profile is not None:  # WebP has no grey, so no grey profile
        picture = _in_srgb(picture)
    options = _webp_options(picture, quality, lossless)
    _image(picture).save(file, "WEBP", exact=True, **options)


def _encode_bmp(file: BinaryIO, picture: Picture, _quality: int, _lossless: bool) -> None:
    resolution = picture.resolution or (0, 0)  # which is none; left out, Pillow would write 96
    file.write(_saved(_image(_on_white(_in_srgb(picture))), "BMP", dpi=resolution))


def _encode_gif(file: BinaryIO, picture: Picture, _quality: int, _lossless: bool) -> None:
    image, options = _paletted(_in_srgb(picture), picture.alpha is not None)
    file.write(_saved(image, "GIF", optimize=False, **options))


_ENCODERS: dict[str, Callable[[BinaryIO, Picture, int, bool], None]] = {
    "png": _encode_png,
    "jpeg": _encode_jpeg,
    "webp": _encode_webp,
    "bmp": _encode_bmp,
    "gif": _encode_gif,
}


def _encode_animation(
    file: BinaryIO, format: str, animation: Animation, quality: int, lossless: bool
) -> None:
    first = animation.frames[0]
    has_alpha = any(frame.alpha is not None for frame in animation.frames)
    timing: dict[str, Any] = {"duration": list(animation.durations), "loop": animation.plays}
    if format == "gif":
        pairs = [_paletted(_in_srgb(frame), has_alpha) for frame in animation.frames]
        images, options = [image for image, _ in pairs], pairs[0][1]
        timing["duration"] = [min(max(round(d / 10), d > 0) * 10, _GIF_LONGEST) for d in animation.durations]
        timing["loop"] = max(animation.plays - 1, 0)  # it counts repetitions
        if animation.plays == 1:
            del timing["loop"]
        options |= {"optimize": False, "disposal": 2 if has_alpha else 0}
    else:
        images = [_image(frame).convert("RGBA" if has_alpha else "RGB") for frame in animation.frames]
        options = _png_options(first) if format == "png" else _webp_options(first, quality, lossless)
    if format != "png" and timing.get("loop", 0) > _MOST_PLAYS:
        timing["loop"] = 0
    file.write(_saved(images[0], format, save_all=True, append_images=images[1:], **timing, **options))


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """Encoded in memory: writing to a real file, Pillow's JPEG, GIF and BMP do not notice that the disk is full."""
    encoded = BytesIO()
    image.save(encoded, format, **options)
    return encoded.getvalue()


def _image(picture: Picture) -> Image.Image:
    samples = _Channels(picture).whole()
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _in_srgb(picture: Picture) -> Picture:
    """For a format without profiles, or without grey ones."""
    if picture.icc_profile is None:
        return picture
    image = to_srgb(_image(replace(picture, alpha=None)), picture.icc_profile)
    return replace(picture, pixels=np.asarray(image), icc_profile=None, grey=False)


def _paletted(picture: Picture, has_alpha: bool) -> tuple[Image.Image, dict[str, Any]]:
    """At most 256 colours, one of which is transparent if ``has_alpha``; and Pillow's options that say so."""
    image = _image(replace(picture, alpha=None)).convert("RGB").quantize(255 if has_alpha else 256)
    if not has_alpha:
        return image, {}
    indices = np.array(image)
    if picture.alpha is not None:
        indices[picture.alpha < 128] = 255
    palette = image.getpalette() or []
    image = Image.fromarray(indices)
    image.putpalette(palette + [0] * (768 - len(palette)))
    return image, {"transparency": 255}


def _webp_options(picture: Picture, quality: int, lossless: bool) -> dict[str, Any]:
    return {
        "quality": quality,
        "lossless": lossless or quality == 100,
        "icc_profile": picture.icc_profile,
        "exif": (picture.exif or b"").removeprefix(b"Exif\0\0"),
        "xmp": picture.xmp or b"",
    }


def _png_options(picture: Picture) -> dict[str, Any]:
    info = PngImagePlugin.PngInfo()
    for kind, data in _png_chunks(picture):
        if kind in (b"iTXt", b"zTXt", *COLOUR):
            info.add(kind, data)
    return {
        "pnginfo": info,
        "icc_profile": picture.icc_profile,
        "exif": picture.exif or b"",
        "dpi": picture.resolution,
    }


def _png_chunks(picture: Picture) -> list[tuple[bytes, bytes]]:
    # Of a profile and sRGB, a file has one (11.3.2.5).
    chunks = [chunk for chunk in picture.colour if chunk[0] != b"sRGB" or picture.icc_profile is None]
    if picture.icc_profile is not None:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc_profile)))
    if picture.resolution is not None:
        across, down = (round(each / _METRES) for each in picture.resolution)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if picture.exif is not None:
        chunks.append((b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    if picture.xmp is not None:
        chunks.append((b"iTXt", _XMP_KEYWORD + picture.xmp))
    if picture.iptc is not None:
        chunks.append(iptc_box.png_chunk(picture.iptc))
    return chunks


class _Channels:
    """(H, W, C) as files hold it: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; made a few rows at a time."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        count = (1 if picture.grey else 3) + (picture.alpha is not None)
        height, width = size(picture)
        self.shape, self.dtype = (height, width, count), picture.pixels.dtype

    def __getitem__(self, rows: slice) -> Samples:
        picture = self._picture
        colour: NDArray[Any] = picture.pixels[rows]
        if picture.grey:
            colour = (colour @ _LUMA).round().astype(self.dtype)[..., None]
        if picture.alpha is not None:
            colour = np.concatenate([colour, picture.alpha[rows, :, None]], axis=2)
        return cast(Samples, colour)

    def whole(self) -> Samples:
        if not self._picture.grey and self._picture.alpha is None:
            return cast(Samples, np.ascontiguousarray(self._picture.pixels))
        return _by_rows(self.shape, self.dtype, self.__getitem__)


def _by_rows(
    shape: tuple[int, ...], dtype: DTypeLike, compute: Callable[[slice], NDArray[Any]]
) -> NDArray[Any]:
    """An array of which ``compute(rows)`` gives a few rows, in little memory beside it."""
    result: NDArray[Any] = np.empty(shape, dtype)
    for top in range(0, shape[0], _ROWS):
        rows = slice(top, top + _ROWS)
        result[rows] = compute(rows)
    return result


def sample_bytes(picture: Picture) -> int:
    """Of a pixel in a file that holds the picture as it is."""
    channels = _Channels(picture)
    return channels.shape[2] * channels.dtype.itemsize


def _to_8bit(picture: Picture) -> Picture:
    if picture.pixels.dtype == np.uint8:
        return picture
    alpha = None if picture.alpha is None else _round_to_8bit(picture.alpha)
    return replace(picture, pixels=_round_to_8bit(picture.pixels), alpha=alpha)


def _round_to_8bit(samples: Samples) -> NDArray[np.uint8]:
    # 65535 = 257 * 255
    return _by_rows(samples.shape, np.uint8, lambda rows: (samples[rows].astype(np.uint32) + 128) // 257)


def _on_white(picture: Picture) -> Picture:
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None:
        return picture

    def laid(rows: slice) -> NDArray[Any]:
        share = alpha[rows, :, None].astype(np.float32) / 255
        return (255 + (pixels[rows].astype(np.float32) - 255) * share).round()

    return replace(picture, pixels=_by_rows(pixels.shape, np.uint8, laid), alpha=None)
