"""Fetching one published archive: resumed, checked, unpacked, and put into its place in one step.

An archive is fetched into ``NAME.part`` (a broken download goes on where it stopped), checked by its published
checksum, unpacked in ``.unpacking-NAME`` beside its place and renamed into it, so that a folder that is there is
whole. A process that is killed leaves these two behind, until the next one has gone on with them and removes them.
"""

from __future__ import annotations

import hashlib
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from addersr import __version__
from addersr.data.lock import locked
from addersr.data.unpack import unpack
from addersr.errors import DataError
from addersr.progress import bar_columns

_TIMEOUT = 60
_BLOCK = 1 << 20
_AGENT = {"User-Agent": f"addersr/{__version__}"}  # some servers refuse urllib's own
_TRY_AGAIN = (408, 429)
"""HTTP's "request timeout" and "too many requests": like a server's own errors (5xx), they pass."""


@dataclass(frozen=True)
class Archive:
    """One published zip or tar file."""

    url: str
    checksum: str
    """``sha256:...`` or ``md5:...``, in hexadecimal digits."""
    folders: Mapping[str, str]
    """Folder in the data set -> folder in the archive that becomes it."""
    size: int | None = None
    """Bytes; None where no one has published it, and what the server says is taken."""

    @property
    def name(self) -> str:
        """The file's."""
        return self.url.rpartition("/")[2]


def fetch(
    archive: Archive, root: Path, places: Collection[str] | None = None, attempts: int = 5
) -> list[Path]:
    """Downloads, checks and unpacks one archive, unless what is wanted of it is there.

    Args:
        archive: where it is and what it holds.
        root: the data set's folder; it is made if need be.
        places: those of the archive's folders that are wanted, as they are called in the data set; all where None.
        attempts: how often the connection may fail in a row without a byte received.

    Returns:
        the folders, which are there.

    Raises:
        DataError: the server cannot be reached, the file is damaged, or there is no room for it.
    """
    wanted = {place: archive.folders[place] for place in (archive.folders if places is None else places)}
    folders = [root / place for place in wanted]
    part, unpacking = root / f"{archive.name}.part", root / f".unpacking-{archive.name}"
    try:
        # Asked first, because a read-only disk refuses to remove nothing too.
        if not all(path.is_dir() for path in folders) or part.exists() or unpacking.exists():
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / f".{archive.name}.lock", f"fetching {archive.name}"):
                missing = {place: inner for place, inner in wanted.items() if not (root / place).is_dir()}
                if missing:
                    _download(archive, part, attempts)
                    _verify(part, archive)
                    unpack(part, archive.name, missing, unpacking, root)
                part.unlink(missing_ok=True)
                shutil.rmtree(unpacking, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{archive.name} cannot be stored in {root}: {error}") from error
    return folders


def _download(archive: Archive, part: Path, attempts: int) -> None:
    """Appends to ``part`` until it is whole."""
    url, size, failures = archive.url, archive.size, 0
    with _bar(archive.name, size) as bar:
        while (have := part.stat().st_size if part.exists() else 0) != size:
            if size is not None and have > size:  # of another file
                part.unlink()
                continue
            bar.n = have
            bar.refresh()
            reason: object = "the connection was closed"
            try:
                request = urllib.request.Request(
                    url, headers=_AGENT | ({"Range": f"bytes={have}-"} if have else {})
                )
                with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                    bar.n, size = _start(response, archive.name, part, have, size)
                    bar.total = size
                    _receive(response, part, bar)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416 and size is None:
                    break  # nothing comes after what is there: whether that is the file, its checksum will tell
                if error.code < 500 and error.code not in _TRY_AGAIN:
                    raise DataError(f"{url} cannot be fetched: HTTP {error.code} {error.reason}") from error
                reason = error
            except (
                urllib.error.URLError,
                ssl.SSLError,
                HTTPException,
                TimeoutError,
                ConnectionError,
            ) as error:
                reason = error
            received = part.exists() and part.stat().st_size > have
            failures = 0 if received else failures + 1
            if failures == attempts:
                raise DataError(f"{url} cannot be fetched: {reason}; run the command again to go on")
            if failures:
                time.sleep(min(30.0, 0.5 * 2**failures))


def _start(response: HTTPResponse, name: str, part: Path, have: int, size: int | None) -> tuple[int, int]:
    """Cuts ``part`` to where the response goes on. Returns how much is there, and the size of the whole file."""
    # A server that ignores Range answers 200 and sends the whole file.
    content = response.headers.get("Content-Range", "")
    start = have if response.status == 206 and content.startswith(f"bytes {have}-") else 0
    total = size if response.length is None else start + response.length
    if total is None:
        raise DataError(f"{name} cannot be fetched: the server does not say how large it is")
    if size not in (None, total):
        raise DataError(f"{name} has {total} bytes on the server, not {size}")
    free, needed = shutil.disk_usage(part.parent).free, total - have
    if free < needed:
        raise DataError(
            f"{part.parent} has {free / 1e9:.1f} GB free, but {name} needs {needed / 1e9:.1f} more, and unpacking "
            "it about as much again"
        )
    if not start:
        part.write_bytes(b"")
    return start, total


def _receive(response: HTTPResponse, part: Path, bar: tqdm[None]) -> None:
    with part.open("ab") as stream:
        while block := response.read(_BLOCK):
            stream.write(block)
            bar.update(len(block))


def _verify(part: Path, archive: Archive) -> None:
    algorithm, _, published = archive.checksum.partition(":")
    check = hashlib.new(algorithm, usedforsecurity=False)
    with part.open("rb") as stream, _bar(f"checking {archive.name}", part.stat().st_size) as bar:
        while block := stream.read(_BLOCK):
            check.update(block)
            bar.update(len(block))
    if check.hexdigest() != published:
        part.unlink()
        raise DataError(
            f"{archive.name} is damaged: its {algorithm.upper()} is {check.hexdigest()}, not {published}; it was "
            "deleted, run the command again"
        )


def _bar(title: str, size: int | None) -> tqdm[None]:
    return tqdm(
        total=size,
        desc=title,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=None,
        ncols=bar_columns(),
    )
