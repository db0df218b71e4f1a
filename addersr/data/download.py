"""Fetching one published archive: resumed, checked, unpacked, and put into its place in one step.

An archive is fetched into ``NAME.part`` (a broken download goes on where it stopped), checked by its published
checksum, unpacked in ``.unpacking-NAME`` beside its place and renamed into it, so that a folder that is there is
whole. A process that is killed leaves these two behind, until the next one has gone on with them and removes them.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
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
        make_room = "make room there or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise DataError(
            f"{archive.name} cannot be stored in {root}: {error.strerror or error}; {make_room}choose another "
            "folder, and run the command again"
        ) from error
    return folders


def _download(archive: Archive, part: Path, attempts: int) -> None:
    """Adds to ``part`` until it is whole, as far as the server's word goes; whether it is, its checksum tells."""
    url, size, failures = archive.url, archive.size, 0
    if size is not None and _length(part) > size:  # of another file
        part.unlink()
    with _bar(archive.name, size) as bar:
        while (have := _length(part)) != size:
            bar.n = have
            bar.refresh()
            reason = "the connection broke off"
            try:
                request = urllib.request.Request(
                    url, headers=_AGENT | ({"Range": f"bytes={have}-"} if have else {})
                )
                with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                    start, size = _start(response, archive.name, part, have, size)
                    if have and not start:
                        _say(
                            f"{archive.name}: the server cannot go on in the middle and sends all of it again"
                        )
                    bar.n, bar.total = start, size
                    part.touch()
                    size = _receive(response, part, start, size, bar)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416 and size is None:
                    break  # nothing comes after what is there: whether that is the file, its checksum will tell
                reason = _reason(error, url)
                if error.code == 416:
                    raise DataError(
                        f"{url} cannot be fetched: {reason}, its file ends before {part}: delete that and run the "
                        "command again"
                    ) from error
                if error.code < 500 and error.code not in _TRY_AGAIN:
                    raise DataError(
                        f"{url} cannot be fetched: {reason}; open it in a browser to see whether it has moved"
                    ) from error
            except (
                urllib.error.URLError,
                ssl.SSLError,
                HTTPException,
                TimeoutError,
                ConnectionError,
            ) as error:
                reason = _reason(error, url)
            if _length(part) == size:
                break
            # Only what is new counts: a server that begins again each time would be asked for ever.
            failures = 0 if _length(part) > have else failures + 1
            if failures == attempts:
                raise DataError(
                    f"{url} cannot be fetched: {reason}, {attempts} times in a row; see whether this machine is "
                    "online and run the command again, which goes on from here"
                )
            wait = min(30.0, 0.5 * 2**failures) if failures else 0.0
            when = f"trying again in {wait:.0f} s ({failures} of {attempts})" if failures else "going on"
            _say(f"{archive.name}: {reason}; {when}")
            time.sleep(wait)


def _start(
    response: HTTPResponse, name: str, part: Path, have: int, size: int | None
) -> tuple[int, int | None]:
    """Where in the file the response begins, and the size of the whole file where that is known."""
    # A server that ignores Range answers 200 and sends the whole file.
    content = response.headers.get("Content-Range", "")
    start = have if response.status == 206 and content.startswith(f"bytes {have}-") else 0
    total = size if response.length is None else start + response.length
    if size not in (None, total):
        raise DataError(
            f"{name} has {total} bytes on the server, not {size}: it is another file than this version of addersr "
            "knows; a newer one may"
        )
    free, needed = shutil.disk_usage(part.parent).free, (total or 0) - have
    if free < needed:
        raise DataError(
            f"{part.parent} has {free / 1e9:.1f} GB free, but {name} needs {needed / 1e9:.1f} more, and unpacking "
            "it about as much again"
        )
    return start, total


def _receive(response: HTTPResponse, part: Path, start: int, size: int | None, bar: tqdm[None]) -> int | None:
    """Writes the response over ``part`` from ``start`` on; what lies further on stays, if the connection breaks.

    Returns:
        the size of the whole file: ``size``, or where no one knew it the length at which the response ended.
    """
    with part.open("r+b") as stream:
        stream.seek(start)
        # read1 keeps what has come of a block that breaks off
        while block := response.read1(_BLOCK if size is None else min(_BLOCK, size - stream.tell())):
            stream.write(block)
            bar.update(len(block))
        if size is None:
            size = stream.truncate()
    return size


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _reason(error: Exception, url: str) -> str:
    """What went wrong, for a person."""
    host = urllib.parse.urlsplit(url).netloc
    if isinstance(error, urllib.error.HTTPError):
        return f"{host} answers HTTP {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    match cause:
        case socket.gaierror():
            return f"the address of {host} cannot be looked up"
        case TimeoutError():
            return f"{host} does not answer"
        case ConnectionRefusedError():
            return f"{host} refuses the connection"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {host} is not accepted ({cause.verify_message})"
        case ConnectionError() | HTTPException() | ssl.SSLError():
            return "the connection broke off"
        case OSError():
            return f"there is no connection to {host} ({cause.strerror})"
    return f"there is no connection to {host} ({cause})"


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
