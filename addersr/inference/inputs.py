"""What the words of a command line stand for: pictures, found in files, folders, patterns and standard input."""

import glob
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from typing_extensions import override

from addersr.errors import UsageError
from addersr.images import files
from addersr.images.formats import HEAD, format_by_head
from addersr.inference.pipeline import waiting

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "STANDARD",
    "Found",
    "Identity",
    "Refusal",
    "find",
    "folded",
    "identity",
    "is_pattern",
    "is_pipe",
    "opened",
    "own_format",
    "standard_input",
]

STANDARD = Path("-")
"""Standard input, or output; a file of that name is ./-, which is made absolute."""

_SHELL_PIPE = re.compile("/dev/fd/([0-9]{1,9})")

Identity: TypeAlias = tuple[int, int] | str


@dataclass(frozen=True)
class Found:
    """A picture that is to be upscaled."""

    source: Path
    relative: Path
    """Its name; below a folder, or a pattern's fixed part, its place there."""
    named: bool
    """The user named this very file; otherwise it may turn out to be an earlier run's result."""


@dataclass(frozen=True)
class Refusal:
    """An input that cannot be done."""

    source: Path
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.source}: {self.reason}"


def find(inputs: Sequence[str | Path], out: Path, *, recursive: bool) -> tuple[list[Found], list[Refusal]]:
    """Find the pictures.

    A folder's are the files whose ending is a picture's; hidden ones, and those of ``out``, are left out. A pattern
    (``*``, ``?``, ``[...]``; ``**`` for folders of any depth, without links to folders) is one where no file has that
    very name, and gives the pictures among the files that it matches. A pipe is read where it is named, such as
    ``<(cat photo.jpg)``; it is no picture of a folder or a pattern, where nobody may ever write into it.

    Args:
        out: where the results go.
        recursive: look into folders within folders.

    Returns:
        The pictures, in the order of the inputs and sorted within each, and the inputs that give none.

    Raises:
        UsageError: standard input is named twice, or an input is the empty text.
    """
    if "" in inputs:
        raise UsageError("an input is empty; name a picture or a folder, the current one as .")
    found: list[Found] = []
    refused: list[Refusal] = []
    known = " ".join(sorted(files.EXTENSIONS))
    for given in inputs:
        path = Path(given)
        if path == STANDARD and str(given) != "-":
            path = path.absolute()
        if path == STANDARD:
            if any(other.source == STANDARD for other in found):
                raise UsageError("standard input, -, can be read once only; name it once")
            found.append(Found(STANDARD, Path("stdin"), True))
        elif os.path.isdir(path):
            unreadable: list[Refusal] = []
            pictures = sorted(_pictures_in(path, out, recursive, unreadable))
            found += [Found(picture, picture.relative_to(path), False) for picture in pictures]
            refused += unreadable
            if not pictures and not unreadable:
                deeper = "" if recursive else "; --recursive looks into folders within it"
                refused.append(Refusal(path, f"no pictures in this folder (looked for {known}){deeper}"))
        elif is_pattern(given):
            matching = _matches(str(given), out)
            found += matching
            if not matching:
                refused.append(Refusal(path, f"no picture matches this pattern (looked for {known})"))
        elif _kind(path) not in (None, stat.S_IFREG, stat.S_IFIFO):
            refused.append(Refusal(path, "a device or a socket, not a picture; name a file"))
        else:
            found.append(Found(path, Path(path.name), True))
    return found, refused


def is_pattern(given: str | Path) -> bool:
    """Whether an input is a pattern of names, not a name."""
    return glob.has_magic(str(given)) and not os.path.lexists(given)


def _matches(pattern: str, out: Path) -> list[Found]:
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root, results = Path(*parts[:fixed]), identity(out)
    below = (*parts[fixed:], "*") if parts[-1] == "**" else parts[fixed:]
    hidden = any(part.startswith(".") for part in below)
    found = []
    # Path's `**`, unlike glob's, does not follow links to folders, which may lead around for ever.
    for path in sorted(root.glob(str(Path(*below))), key=str):
        relative = path.relative_to(root)
        folders = list(relative.parents)[:-1]
        within = any(identity(root / folder) == results for folder in folders)
        shown = hidden or not any(folder.name.startswith(".") for folder in folders)
        if shown and not within and _is_picture(path.name) and path.is_file():
            found.append(Found(path, relative, False))
    return found


def _is_picture(name: str) -> bool:
    return name[0] != "." and Path(name).suffix.lower() in files.EXTENSIONS


def _pictures_in(folder: Path, out: Path, recursive: bool, unreadable: list[Refusal]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        unreadable.append(Refusal(Path(error.filename), f"this folder cannot be read: {error.strerror}"))

    results = identity(out)
    for place, folders, names in os.walk(folder, onerror=note):
        here = Path(place)
        # Results of an earlier run that lie within the input are not its input.
        folders[:] = [n for n in folders if recursive and n[0] != "." and identity(here / n) != results]
        # A link that leads nowhere is left in: that it cannot be read is told.
        yield from (here / n for n in names if _is_picture(n) and _kind(here / n) in (None, stat.S_IFREG))


def _kind(path: Path) -> int | None:
    """What is there, as `stat.S_IFMT` has it; None: nothing, or nothing that can be asked."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return None


def identity(path: Path) -> Identity:
    """Equal for two names of one file or folder, and where there is none for two names of one place."""
    try:
        status = path.stat()
    except OSError:
        return folded(path)
    return status.st_dev, status.st_ino


def folded(path: Path) -> str:
    """Equal for two names of one place, also where case or Unicode's normal form alone tell them apart."""
    real = os.path.realpath(path)  # Path.resolve raises on a loop of links
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", real).casefold())


class _Stream(FileIO):
    """A file that may be a pipe, of which the first bytes can be looked at before they are read.

    For what it reads, and for who opens a pipe to write into it, a thread is `waiting`.
    """

    def __init__(self, file: int | Path) -> None:
        with waiting():
            super().__init__(file, closefd=not isinstance(file, int))
        self._head = b""
        self._from_start = super().seekable() and self.tell() == 0

    @override
    def seekable(self) -> bool:
        """Whether it can be sought in as a file; one whose beginning another program has read is read like a pipe."""
        return self._from_start

    def head(self, length: int) -> bytes:
        """The first bytes, fewer where there are no more; a pipe is waited for."""
        head = self._head
        while len(head) < length and (block := self.read(length - len(head))):
            head += block
        if self.seekable():
            self.seek(0)
        else:
            self._head = head
        return head

    @override
    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        if not self._head:
            with waiting():
                return super().readinto(view)
        part, self._head = self._head[: len(view)], self._head[len(view) :]
        view[: len(part)] = part
        return len(part)


@cache
def standard_input() -> _Stream:
    """The one of this process, unbuffered; to be read through a `BufferedReader`.

    Not sys.stdin's buffer: an interpreter that ends while a thread waits for that, after Ctrl-C, breaks off.

    Raises:
        OSError: it is closed.
    """
    stream = _Stream(0)
    stream.name = "standard input"  # for messages
    return stream


@cache
def _shell_pipe(number: int) -> _Stream:
    return _Stream(number)


def _pipe(source: Path) -> _Stream | None:
    """A pipe, or None where it is none.

    That of a shell's ``<(cat photo.jpg)``, which no other program reads, is always the same stream: its beginning can
    be looked at before it is read.
    """
    if not is_pipe(source):
        return None
    number = _SHELL_PIPE.fullmatch(str(source))
    stream = _Stream(source) if number is None else _shell_pipe(int(number[1]))
    stream.name = str(source)
    return stream


def is_pipe(source: str | Path) -> bool:
    """Whether it is a pipe, which one process alone can read."""
    return _kind(Path(source)) == stat.S_IFIFO


@contextmanager
def opened(source: Path) -> Iterator[Path | BinaryIO]:
    """What `addersr.images.files.read_any` takes for a file: a pipe as a stream, for which a thread is `waiting`."""
    stream = _pipe(source)
    if stream is None:
        yield source
    else:
        with BufferedReader(stream) as buffered:
            yield buffered


def own_format(source: Path, *, wait: bool = True) -> str | None:
    """The format of a picture, as `addersr.images.files.format_of` tells it, also in standard input and a shell's pipe.

    These can be read still. Other pipes are not looked at, because what is read of them is gone from them.

    Args:
        wait: for a pipe's first bytes; False: a pipe is not looked at.
    """
    try:
        if source == STANDARD:
            stream = standard_input()
            looked_at = stream.seekable() or (wait and not stream.isatty())
            return format_by_head(stream.head(HEAD)) if looked_at else None
        if _SHELL_PIPE.fullmatch(str(source)) and (pipe := _pipe(source)):
            return format_by_head(pipe.head(HEAD)) if wait else None
    except OSError:  # which reading will tell
        return None
    return files.format_of(source)
