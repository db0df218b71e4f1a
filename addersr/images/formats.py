"""The formats of picture files: their names, suffixes and first bytes."""

from pathlib import Path

__all__ = ["EXTENSIONS", "FORMATS", "HEAD", "SUFFIXES", "TIFF_MAGIC", "format_by_head", "format_of"]

FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".gif": "gif",
    ".bmp": "bmp",
}
"""The format that each suffix, in lower case, names."""

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "gif": ".gif", "bmp": ".bmp"}
"""The suffix that is given to a file of each format."""

EXTENSIONS = frozenset(FORMATS)
"""The suffixes, in lower case, of the files that are read and written."""

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins: in either byte order, classic and BigTIFF."""

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"BM": "bmp",
    **dict.fromkeys(TIFF_MAGIC, "tiff"),
}

HEAD = 12
"""How many bytes at its beginning tell a file's format."""


def format_of(path: Path) -> str | None:
    """The format of a file by its first bytes, as a name in `FORMATS`.

    None for what begins like none of them, cannot be read, or is no regular file: a pipe is read once only.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return format_by_head(file.read(HEAD))
    except OSError:
        return None


def format_by_head(head: bytes) -> str | None:
    """The format of what begins with these bytes, as a name in `FORMATS`; None: none of them.

    Args:
        head: at least `HEAD` bytes, or all that there are.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((format for magic, format in _MAGIC.items() if head.startswith(magic)), None)
