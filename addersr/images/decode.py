"""From what Pillow opens to pictures: channels, depth, transparency, colour, and what the file says besides.

A picture is turned as EXIF says (in TIFF: its own tag, 274); where EXIF gives none of the eight orientations, as XMP
says. So do Pillow and the Metadata Working Group's guidelines (2010).
"""

from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from addersr.images.gif import check_end
from addersr.images.iptc import find_iptc
from addersr.images.metadata import (
    chosen_orientation,
    exif_resolution,
    raw_profile,
    turned_exif,
    upright_exif,
    upright_xmp,
)
from addersr.images.picture import RESOLUTIONS, Animation, NotReadError, Picture, Samples
from addersr.images.png16 import bit_depth, colour_chunks, read_png16
from addersr.images.profiles import profile_space, srgb_profile, through_profile
from addersr.images.tiff import Tiff, load_upright, read_16bit

__all__ = ["check_kind", "decode", "decode_animation", "decode_grey_alpha", "is_animation", "upright_size"]

_MODES = frozenset(["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK", "LAB"])
_MOST_FRAMES = 10_000
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_ROWS = 256  # taken at a time


class _Channels(NamedTuple):
    """Of a picture as it lies in its file."""

    pixels: Samples
    alpha: Samples | None
    grey: bool
    icc_profile: bytes | None = None
    """Of pixels that were converted, in place of the file's."""


@dataclass(frozen=True)
class _About:
    """What a file says about its picture."""

    orientation: int
    """Of the picture as it lies in the file, as EXIF's."""
    exif: bytes | None
    icc_profile: bytes | None
    xmp: bytes | None
    iptc: bytes | None
    resolution: tuple[float, float] | None
    """Of the upright picture."""
    colour: tuple[tuple[bytes, bytes], ...] = ()


def decode(image: Image.Image, file: BinaryIO, tiff: Tiff | None) -> Picture:
    """The still picture, or the first, of a file that Pillow has opened.

    Args:
        tiff: its directories, if it is a TIFF.

    Raises:
        NotReadError: samples of a kind that is not read.
        Exception: whatever Pillow raises for a damaged file.
    """
    check_kind(image, file, tiff)
    if tiff is not None:
        opened = cast(TiffImagePlugin.TiffImageFile, image)
        about = _about_tiff(tiff, opened.tag_v2.get(ExifTags.Base.Orientation))
        samples = read_16bit(file, tiff, opened, about.orientation)
        if samples is None:
            load_upright(opened, about.orientation)
        channels = _decode_8bit(image, about) if samples is None else _split(samples)
        return _assemble(channels, replace(about, orientation=1), "tiff")
    image.load()  # first, because PNG may put its metadata behind the picture
    if image.format == "GIF":
        check_end(file)
    about = _about(image, file)
    depth = bit_depth(file) if image.format == "PNG" else 8
    if depth == 16:
        return _assemble(_decode_png16(image, file), about, "png")
    if image.mode == "L" and "transparency" in image.info:
        # tRNS holds a sample as the file has it; Pillow stretches the samples of 2 and 4 bits, not this.
        most = 2**depth - 1
        image.info["transparency"] = (image.info["transparency"] & most) * (255 // most)
    return _assemble(_decode_8bit(image, about), about, _format(image))


def decode_grey_alpha(tiff: Tiff) -> Picture:
    """The picture of a TIFF for which `Tiff.is_grey_alpha_16bit` holds; Pillow does not open these."""
    about = _about_tiff(tiff, tiff.orientation)
    return _assemble(_split(tiff.read_grey_alpha()), about, "tiff")


def is_animation(image: Image.Image) -> bool:
    """Whether the file is one of several frames; a JPEG's previews and a TIFF's pages are none."""
    return image.format in ("GIF", "PNG", "WEBP") and bool(getattr(image, "is_animated", False))


def check_kind(image: Image.Image, file: BinaryIO, tiff: Tiff | None) -> None:
    """Refuse what is never read, as far as a file's beginning shows it, which Pillow has opened and not loaded.

    Raises:
        NotReadError: several pages, samples of a kind that is not read, or an animation of 16 bits a channel.
    """
    if tiff is not None:
        tiff.check_pages()
        tiff.check_planes()
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise NotReadError("samples of 32 bits, or with a sign; convert it to 8 or 16 bits without")
    if image.format == "PNG" and is_animation(image) and bit_depth(file) == 16:
        raise NotReadError(
            "an animation of 16 bits a channel, of which 8 would be lost; convert it to 8 bits"
        )


def decode_animation(image: Image.Image, file: BinaryIO, max_pixels: int) -> Animation:
    """All frames, composited.

    The picture that an APNG may have for programs without APNG, beside its frames, is none of them, and is left out.

    Raises:
        NotReadError: they have more than ``max_pixels`` pixels in all, or 16 bits a channel.
        Exception: whatever Pillow raises for a damaged file.
    """
    check_kind(image, file, None)
    plays = image.info.get("loop")
    if image.format == "GIF":  # it says how often the animation is repeated, and nothing if it is not
        plays = 1 if plays is None else plays and plays + 1
    size, most = image.size, min(max_pixels // (image.width * image.height), _MOST_FRAMES)
    too_many = f"an animation of more than {most} frames of {image.width} x {image.height}; cut it"
    if image.format != "GIF" and getattr(image, "n_frames", 1) > most:
        raise NotReadError(too_many)
    image.seek(1 if getattr(image, "default_image", False) else 0)  # a picture for programs that know no APNG
    frames, durations = list[_Channels](), list[float]()
    is_last = False
    while not is_last:  # a GIF does not say how many there are
        if len(frames) == most:
            raise NotReadError(too_many)
        image.load()
        if image.size != size:
            raise ValueError("its frames differ in size")
        frames.append(_decode_8bit(image, None))
        durations.append(float(image.info.get("duration", 0)))
        is_last = _is_last(image)
    if image.format == "GIF":
        check_end(file)
    about = _about(image, file)
    return Animation(
        tuple(_assemble(frame._replace(grey=False), about, _format(image)) for frame in frames),
        tuple(durations),
        plays or 0,
    )


def _is_last(image: Image.Image) -> bool:
    """Go to the next frame, if there is one."""
    if image.format != "GIF":
        if image.tell() + 1 == getattr(image, "n_frames", 1):
            return True
        image.seek(image.tell() + 1)
        return False
    try:
        image.seek(image.tell() + 1)
    except EOFError:
        return True
    return False


def _format(image: Image.Image) -> str:
    format = (image.format or "").lower()
    return "jpeg" if format == "mpo" else format


def upright_size(image: Image.Image, file: BinaryIO) -> tuple[int, int]:
    """Height and width of the upright picture, of a file that Pillow has opened and not loaded.

    Where PNG has EXIF behind the picture, it is not seen here.

    Raises:
        NotReadError: as `check_kind`.
        Exception: whatever a parser raises for a damaged file.
    """
    if 0 in image.size:
        raise ValueError("no pixels")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff = Tiff(file)
        check_kind(image, file, tiff)
        height, width = tiff.size  # Pillow's may be that of the upright picture
        orientation = chosen_orientation(image.tag_v2.get(ExifTags.Base.Orientation), tiff.xmp)
    else:
        check_kind(image, file, None)
        width, height = image.size
        orientation = chosen_orientation(_orientation_and_exif(image)[0], image.info.get("xmp"))
    return (width, height) if orientation in _SIDEWAYS else (height, width)


def _orientation_and_exif(image: Image.Image) -> tuple[int | None, bytes | None]:
    raw = image.info.get("exif")
    if raw is None and "Raw profile type exif" in image.info:  # of ImageMagick
        try:
            raw = raw_profile(image.info["Raw profile type exif"])
        except ValueError:
            raw = None
    return upright_exif(raw)


def _about(image: Image.Image, file: BinaryIO) -> _About:
    """Of a loaded file."""
    xmp = image.info.get("xmp")
    given, exif = _orientation_and_exif(image)
    orientation = chosen_orientation(given, xmp)
    if orientation in _SIDEWAYS:
        exif = turned_exif(exif)
    icc_profile = image.info.get("icc_profile") or None
    return _About(
        orientation,
        exif,
        icc_profile,
        upright_xmp(xmp),
        find_iptc(image),
        _upright(_own_resolution(image), orientation) or _upright(exif_resolution(exif)),
        colour_chunks(file) if image.format == "PNG" else (),
    )


def _own_resolution(image: Image.Image) -> tuple[float, float] | None:
    """What the format itself says; where a JPEG does not, Pillow makes 72 of some EXIF."""
    if _format(image) == "jpeg" and image.info.get("jfif_unit") not in (1, 2):
        return None
    return image.info.get("dpi")


def _upright(resolution: tuple[float, float] | None, orientation: int = 1) -> tuple[float, float] | None:
    """None for what no file means: BMP has zeros for none."""
    least, most = RESOLUTIONS
    if resolution is None or not all(least <= each <= most for each in resolution):
        return None
    across, down = resolution
    return (down, across) if orientation in _SIDEWAYS else (across, down)


def _about_tiff(tiff: Tiff, given: object) -> _About:
    """With the orientation ``given`` under TIFF's own tag."""
    orientation = chosen_orientation(given, tiff.xmp)
    exif = turned_exif(tiff.exif) if orientation in _SIDEWAYS else tiff.exif
    resolution = _upright(exif_resolution(exif))
    return _About(orientation, exif, tiff.icc_profile, upright_xmp(tiff.xmp), tiff.iptc, resolution)


def _decode_8bit(image: Image.Image, about: _About | None) -> _Channels:
    """Of a loaded picture."""
    icc_profile = None
    if image.mode == "CMYK":
        converted = through_profile(image, about.icc_profile if about else None)
        icc_profile = None if converted is None else srgb_profile()
        image = image.convert("RGB") if converted is None else converted
    elif image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = cast(Image.Image, ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
        icc_profile = srgb_profile()
    grey = image.mode in ("1", "L", "LA", "La")
    # A few rows at a time: Pillow holds the whole picture already, and would copy it twice.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty(pixels.shape[:2], np.uint8) if image.has_transparency_data else None
    for top in range(0, image.height, _ROWS):
        bottom = min(top + _ROWS, image.height)
        part = image.crop((0, top, image.width, bottom))
        samples = np.asarray(part.convert("RGB" if alpha is None else "RGBA"))
        pixels[top:bottom] = samples[..., :3]
        if alpha is not None:
            alpha[top:bottom] = samples[..., 3]
    return _Channels(pixels, alpha, grey, icc_profile)


def _decode_png16(image: Image.Image, file: BinaryIO) -> _Channels:
    samples = read_png16(file)
    key = image.info.get("transparency")  # tRNS: the one colour that is transparent
    if key is not None:
        alpha = np.where((samples == np.asarray(key)).all(axis=2, keepdims=True), 0, 65535)
        samples = np.concatenate([samples, alpha.astype(np.uint16)], axis=2)
    return _split(samples)


def _split(samples: NDArray[np.uint16]) -> _Channels:
    """(H, W, C), C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    grey = samples.shape[2] < 3
    colours = 1 if grey else 3
    pixels = np.repeat(samples[..., :1], 3, axis=2) if grey else np.ascontiguousarray(samples[..., :3])
    has_alpha = samples.shape[2] > colours
    return _Channels(pixels, np.ascontiguousarray(samples[..., colours]) if has_alpha else None, grey)


def _assemble(channels: _Channels, about: _About, format: str) -> Picture:
    icc_profile = channels.icc_profile or about.icc_profile
    # A profile describes the channels it was made for; a grey file with an RGB profile is stored as RGB.
    space = profile_space(icc_profile)
    grey = channels.grey and space != b"RGB "
    if space is not None and space != (b"GRAY" if grey else b"RGB "):
        icc_profile = None
    return Picture(
        pixels=_turn(channels.pixels, about.orientation),
        alpha=None if channels.alpha is None else _turn(channels.alpha, about.orientation),
        exif=about.exif,
        icc_profile=icc_profile,
        xmp=about.xmp,
        grey=grey,
        iptc=about.iptc,
        resolution=about.resolution,
        colour=about.colour,
        format=format,
    )


def _turn(array: Samples, orientation: int) -> Samples:
    """Apply EXIF orientation 1 to 8 to the first two axes."""
    if orientation in _SIDEWAYS:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return cast(Samples, np.ascontiguousarray(array))
