"""Picture files and streams: read and written around the network, with nothing lost on the way.

A file's orientation is applied when it is read; alpha, EXIF, colour profile (ICC), XMP, IPTC, resolution, PNG's chunks
about colours, 16-bit depth, "one grey channel" and the frames of an animation are carried along and written again, as
far as the format written has them (`addersr.images.encode`). Not carried: PNG's text chunks, comments, Photoshop's
other resources, what a JPEG's XMP has in further segments ("extended XMP"), pixels that are not square without a
resolution, the layers and smaller versions of a TIFF, an APNG's picture for programs without APNG.
"""

import errno
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from addersr.atomic import replacing
from addersr.errors import ImageError
from addersr.images.decode import decode as _decode
from addersr.images.decode import decode_animation, decode_grey_alpha, is_animation
from addersr.images.encode import ANIMATED, sample_bytes
from addersr.images.encode import encode as _encode
from addersr.images.formats import EXTENSIONS, FORMATS, SUFFIXES, TIFF_MAGIC, format_of
from addersr.images.jpeg import check_directories
from addersr.images.picture import (
    Animation,
    NotReadError,
    Picture,
    Samples,
    from_tensor,
    size,
    stripped,
    to_tensor,
)
from addersr.images.tiff import LARGEST, Tiff
from addersr.unwarned import unwarned

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Animation",
    "Picture",
    "Samples",
    "check_format",
    "check_writable",
    "chosen_format",
    "format_of",
    "from_tensor",
    "read",
    "read_any",
    "size",
    "stripped",
    "to_tensor",
    "write",
]

MAX_PIXELS = 2 * 89_478_485
"""The largest picture that is read, in pixels: where Pillow, too, calls a file a decompression bomb."""

_LONGEST_SIDE = {
    "png": 2**31 - 1,
    "jpeg": 65500,
    "webp": 16383,
    "tiff": 2**32 - 1,
    "gif": 65535,
    "bmp": 2**31 - 1,
}
_BYTES_A_PIXEL = 8  # of RGBA in 16 bits; what a stream may hold beside metadata
_METADATA = 2**26


def read(source: str | Path | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a still picture; as `read_any`, which also reads animations.

    Raises:
        ImageError: as `read_any`, and for an animation.
        MemoryError: the picture does not fit into memory.
    """
    picture = _read(source, max_pixels, with_frames=False)
    assert isinstance(picture, Picture)
    return picture


def read_any(source: str | Path | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Picture | Animation:
    """Read a PNG, JPEG, WebP, TIFF, GIF or BMP, whatever its suffix says.

    Palettes and bilevel pictures become RGB and grey. CMYK and Lab become 8-bit sRGB: through the file's own profile
    if it has one (then the result has a profile of sRGB), else by Pillow's plain formula. PNG and TIFF keep their 16
    bits. Metadata that cannot be parsed are dropped.

    Args:
        source: a file, or a stream from its beginning, which need not be seekable. Errors name it by its ``name``.
        max_pixels: of the picture, or of all frames of an animation; more than `MAX_PIXELS` counts as that.

    Raises:
        ImageError: no such file, not a picture, damaged or cut short, too large, several pages, or samples of a kind
            that is not read (32 bits, floating point, 16-bit planes).
        MemoryError: the picture does not fit into memory.
    """
    return _read(source, max_pixels, with_frames=True)


def _read(source: str | Path | BinaryIO, max_pixels: int, with_frames: bool) -> Picture | Animation:
    name = _name(source)
    max_pixels = min(max_pixels, MAX_PIXELS)
    # Pillow's warnings are about odd metadata and about sizes that are checked below.
    with _explained(name, max_pixels), unwarned(), _opened(source, max_pixels) as file:
        tiff = Tiff(file) if _begins_with(file, *TIFF_MAGIC) else None
        if tiff is not None:
            _check_pixels(name, *tiff.size, max_pixels)
            tiff.check_pages()
            if tiff.is_grey_alpha_16bit:
                return decode_grey_alpha(tiff)
        elif _begins_with(file, b"\xff\xd8"):
            check_directories(file)
            file.seek(0)
        with Image.open(file, formats=sorted(_LONGEST_SIDE)) as image:
            _check_pixels(name, image.height, image.width, max_pixels)
            if not is_animation(image):
                return _decode(image, file, tiff)
            if not with_frames:
                raise ImageError(
                    f"{name}: an animation, where a still picture is needed; extract a frame of it"
                )
            return decode_animation(image, file, max_pixels)


def _name(source: str | Path | BinaryIO) -> str:
    return str(source if isinstance(source, str | Path) else getattr(source, "name", "picture"))


@contextmanager
def _opened(source: str | Path | BinaryIO, max_pixels: int) -> Iterator[BinaryIO]:
    """A seekable file of the source's bytes."""
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file, _opened(file, max_pixels) as opened:
            yield opened
    elif source.seekable():
        yield source
    else:
        most = _BYTES_A_PIXEL * max_pixels + _METADATA
        data = source.read(most + 1)
        if len(data) > most:
            raise ImageError(f"{_name(source)}: more bytes than a picture of {max_pixels:,} pixels has")
        yield BytesIO(data)


def _begins_with(file: BinaryIO, *magics: bytes) -> bool:
    file.seek(0)
    head = file.read(max(map(len, magics)))
    file.seek(0)
    return head.startswith(magics)


def _check_pixels(name: str, height: int, width: int, max_pixels: int) -> None:
    if not (width and height):
        raise ImageError(f"{name}: damaged ({width} x {height} pixels); get a whole copy of it")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} is too many pixels, at most {max_pixels:,} are read; crop it first"
        )


@contextmanager
def _explained(name: str, max_pixels: int) -> Iterator[None]:
    """Turn what can go wrong in reading ``name`` into ImageError."""
    try:
        yield
    except (ImageError, MemoryError):  # memory: the caller's matter, no fault of the file
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: too many pixels, at most {max_pixels:,} are read; crop it first") from None
    except NotReadError as error:
        raise ImageError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name}: not a PNG, JPEG, WebP, TIFF, GIF or BMP picture that can be read; convert it to one"
        ) from None
    except Exception as error:  # a decoder that is fed a damaged file may raise anything
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{name}: cannot be read: {error.strerror}") from error
        raise ImageError(
            f"{name}: damaged or cut short ({_first_line(error)}); get a whole copy of it"
        ) from error


def check_writable(
    target: str | Path | BinaryIO,
    picture: Picture | Animation,
    *,
    scale: int = 1,
    size: tuple[int, int] | None = None,
    format: str | None = None,
    lossless: bool = False,
) -> None:
    """Find out before a long computation whether its result could be written.

    Args:
        target: a file, or a stream, of which only the format is checked.
        picture: what will be upscaled; its metadata are tried too.
        scale: how many times larger the result will be.
        size: height and width of the result, in place of ``scale``.
        format, lossless: as for `write`.

    Raises:
        ImageError: as `write`, as far as can be known: not a disk that fills up in the meantime.
        ValueError: as `write`.
    """
    name, format = _name(target), chosen_format(target, format, lossless)
    first = picture.frames[0] if isinstance(picture, Animation) else picture
    height, width = size or (length * scale for length in first.pixels.shape[:2])
    _check_content(name, format, picture, height, width)
    corner = replace(
        first,
        pixels=first.pixels[:1, :1],
        alpha=None if first.alpha is None else first.alpha[:1, :1],
    )
    with _told(name):
        _encode(BytesIO(), format, corner, 95, lossless)
        if not isinstance(target, str | Path):
            return
        path = Path(target)
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            path.lstat()  # refuses a name that is too long
        except FileNotFoundError:
            pass
        # Of no name, so that a process that is killed leaves none.
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def check_format(name: str, format: str, height: int, width: int, *, animated: bool) -> None:
    """Find out, of sizes alone, whether a format holds a result.

    Args:
        name: of the result, for the error.
        format: as for `write`.
        height, width: of the result.
        animated: it has several frames.

    Raises:
        ImageError: it does not.
    """
    limit = _LONGEST_SIDE[format]
    if max(height, width) > limit:
        raise ImageError(
            f"{name}: {width} x {height} is too large for {format.upper()}, which ends at {limit}; write PNG instead"
        )
    if animated and format not in ANIMATED:
        raise ImageError(f"{name}: {format.upper()} holds no animation; write PNG, WebP or GIF instead")


def _check_content(name: str, format: str, picture: Picture | Animation, height: int, width: int) -> None:
    check_format(name, format, height, width, animated=isinstance(picture, Animation))
    if isinstance(picture, Animation):
        return
    if format == "tiff" and height * width * sample_bytes(picture) > LARGEST:
        raise ImageError(
            f"{name}: {width} x {height} is too large for TIFF, which ends at 4 GiB; write PNG instead"
        )


def write(
    target: str | Path | BinaryIO,
    picture: Picture | Animation,
    *,
    format: str | None = None,
    quality: int = 95,
    lossless: bool = False,
    overwrite: bool = True,
) -> None:
    """Write a picture or an animation; a file appears whole or not at all.

    What each format holds: `addersr.images.encode`. PNG and TIFF hold all that a `Picture` has. EXIF and XMP get the
    picture's own size.

    Args:
        target: a file, or a stream, which gets the whole at once.
        format: "png", "jpeg", "webp", "tiff", "gif" or "bmp"; None: the one that the suffix names.
        quality: of JPEG (4:4:4) and WebP, 1 to 100; at 100 WebP is lossless.
        lossless: keep every pixel. WebP then does (of an animation, not what is fully transparent); PNG, TIFF and BMP
            always do.
        overwrite: False: a file that is there fails, see `addersr.atomic.replacing`.

    Raises:
        ImageError: a suffix that is not in EXTENSIONS, a picture or metadata too large for the format, an animation
            for a format without, ``lossless`` for one that is not, or a place that cannot be written. Nothing is left
            behind, and a file that was there is untouched.
        ValueError: a stream without a format, or a format that does not exist.
    """
    name, format = _name(target), chosen_format(target, format, lossless)
    _check_content(name, format, picture, *size(picture))
    with _told(name):
        if isinstance(target, str | Path):
            with replacing(Path(target), overwrite=overwrite) as part, part.open("wb") as file:
                _encode(file, format, picture, quality, lossless)
        else:
            encoded = BytesIO()
            _encode(encoded, format, picture, quality, lossless)
            target.write(encoded.getbuffer())
            target.flush()


def chosen_format(target: str | Path | BinaryIO, format: str | None, lossless: bool) -> str:
    """The format that `write` takes for these arguments.

    Raises:
        ImageError, ValueError: as `write`.
    """
    if format is None:
        if not isinstance(target, str | Path):
            raise ValueError("a stream needs a format")
        format = _format_of(Path(target))
    if format not in SUFFIXES:
        raise ValueError(f"format must be one of {', '.join(SUFFIXES)}, got {format!r}")
    if lossless and format in ("jpeg", "gif"):
        raise ImageError(f"{_name(target)}: {format.upper()} is never lossless; write PNG or WebP instead")
    return format


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what can go wrong in writing ``name`` into ImageError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise ImageError(f"{name}: cannot be written: {reason}; choose another place") from error
    # Pillow: EXIF or XMP longer than a JPEG segment; what WebP's library refuses; numbers that a field cannot hold.
    except (ValueError, RuntimeError, struct.error) as error:
        raise ImageError(f"{name}: cannot be written: {_first_line(error)}; write PNG instead") from error


def _format_of(path: Path) -> str:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(sorted(FORMATS))
        raise ImageError(f"{path}: no picture format is named {path.suffix!r}; use one of {known}") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
