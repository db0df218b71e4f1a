"""DIV2K in its published layout: where its pictures lie, and how to fetch them.

    DIV2K_train_HR/0001.png ... 0800.png        DIV2K_train_LR_bicubic/X2/0001x2.png ... (X3, X4 likewise)
    DIV2K_valid_HR/0801.png ... 0900.png        DIV2K_valid_LR_bicubic/X2/0801x2.png ...

Agustsson and Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution" (CVPRW 2017).
An archive is fetched into ``NAME.zip.part`` (a broken download goes on where it stopped), checked by size and
SHA-256, unpacked in ``.unpacking-NAME`` beside its place and renamed into it, so that a folder that is there is
whole. A process that is killed leaves these two behind, until the next one has gone on with them and removes them.
"""

from __future__ import annotations

import hashlib
import shutil
import ssl
import stat
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from addersr.errors import DataError

URL = "https://data.vision.ee.ethz.ch/cvl/DIV2K"

_TIMEOUT = 60
_BLOCK = 1 << 20
_TRY_AGAIN = (408, 429)
"""HTTP's "request timeout" and "too many requests": like a server's own errors (5xx), they pass."""


@dataclass(frozen=True)
class Archive:
    """One published zip file."""

    size: int
    """Bytes."""
    sha256: str
    folder: str
    """The folder in it, relative to the data set's own."""


ARCHIVES: Mapping[str, Archive] = {
    # Sizes and checksums as TensorFlow Datasets has them (tensorflow_datasets/datasets/div2k/checksums.tsv).
    name: Archive(size, sha256, folder)
    for name, size, sha256, folder in (
        (
            "DIV2K_train_HR",
            3530603713,
            "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
            "DIV2K_train_HR",
        ),
        (
            "DIV2K_valid_HR",
            448993893,
            "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
            "DIV2K_valid_HR",
        ),
        (
            "DIV2K_train_LR_bicubic_X2",
            925390592,
            "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850",
            "DIV2K_train_LR_bicubic/X2",
        ),
        (
            "DIV2K_train_LR_bicubic_X3",
            427847282,
            "ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a",
            "DIV2K_train_LR_bicubic/X3",
        ),
        (
            "DIV2K_train_LR_bicubic_X4",
            246914039,
            "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a",
            "DIV2K_train_LR_bicubic/X4",
        ),
        (
            "DIV2K_valid_LR_bicubic_X2",
            117763600,
            "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57",
            "DIV2K_valid_LR_bicubic/X2",
        ),
        (
            "DIV2K_valid_LR_bicubic_X3",
            54513392,
            "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3",
            "DIV2K_valid_LR_bicubic/X3",
        ),
        (
            "DIV2K_valid_LR_bicubic_X4",
            31505881,
            "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553",
            "DIV2K_valid_LR_bicubic/X4",
        ),
    )
}


def published_lr(hr: Path, scale: int) -> Path | None:
    """The bicubic LR picture published beside an HR picture, or None where there is none."""
    folder = hr.parent
    if not folder.name.endswith("_HR"):
        return None
    folder = folder.with_name(f"{folder.name.removesuffix('_HR')}_LR_bicubic")
    lr = folder / f"X{scale}" / f"{hr.stem}x{scale}.png"
    return lr if lr.is_file() else None


def fetch_missing(folders: Sequence[str | Path], scale: int) -> None:
    """Fetches those of ``folders`` that are named as in the layout and missing, and their LR of ``scale``."""
    for folder in map(Path, folders):
        lr = f"{folder.name.removesuffix('_HR')}_LR_bicubic_X{scale}"
        for name in (folder.name, lr):
            if name in ARCHIVES and folder.name in ARCHIVES:
                fetch(name, folder.parent)


def fetch(
    name: str, root: Path, archives: Mapping[str, Archive] = ARCHIVES, url: str = URL, attempts: int = 5
) -> Path:
    """Downloads, checks and unpacks one archive, unless it is there.

    Args:
        name: the archive's name without its suffix, a key of ``archives``.
        root: the data set's folder.
        archives: the archives there are.
        url: where they are.
        attempts: how often the connection may fail in a row without a byte received.

    Returns:
        the folder unpacked.

    Raises:
        DataError: the server cannot be reached, the file is damaged, or there is no room for it.
    """
    archive = archives[name]
    folder = root / archive.folder
    part, unpacking = root / f"{name}.zip.part", root / f".unpacking-{name}"
    try:
        if not folder.is_dir():
            root.mkdir(parents=True, exist_ok=True)
            _download(f"{url}/{name}.zip", part, archive.size, attempts)
            _verify(part, archive)
            _unpack(part, unpacking, root, archive.folder)
        # They may be there from a killed run; asked first, because a read-only disk refuses to remove nothing too.
        if part.exists():
            part.unlink()
        if unpacking.exists():
            shutil.rmtree(unpacking)
    except OSError as error:
        raise DataError(f"{name}.zip cannot be stored in {root}: {error}") from error
    return folder


def _download(url: str, part: Path, size: int, attempts: int) -> None:
    """Appends to ``part`` until it has ``size`` bytes."""
    failures = 0
    with tqdm(total=size, desc=url.rpartition("/")[2], unit="B", unit_scale=True, unit_divisor=1024) as bar:
        while (have := part.stat().st_size if part.exists() else 0) != size:
            if have > size:  # of another file
                part.unlink()
                continue
            bar.n = have
            bar.refresh()
            reason: object = "the connection was closed"
            try:
                request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
                with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                    _receive(response, part, have, size, bar)
            except urllib.error.HTTPError as error:
                error.close()
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
        bar.n = size


def _receive(response: HTTPResponse, part: Path, have: int, size: int, bar: tqdm[None]) -> None:
    # A server that ignores Range answers 200 and sends the whole file.
    content = response.headers.get("Content-Range", "")
    goes_on = response.status == 206 and content.startswith(f"bytes {have}-")
    if not goes_on:
        have = bar.n = 0
    if response.length is not None and response.length != size - have:
        raise DataError(f"{bar.desc} has {response.length + have} bytes on the server, not {size}")
    with part.open("ab" if goes_on else "wb") as stream:
        while block := response.read(_BLOCK):
            stream.write(block)
            bar.update(len(block))


def _verify(part: Path, archive: Archive) -> None:
    sha256 = hashlib.sha256()
    with (
        part.open("rb") as stream,
        tqdm(
            total=archive.size, desc=f"checking {part.stem}", unit="B", unit_scale=True, unit_divisor=1024
        ) as bar,
    ):
        while block := stream.read(_BLOCK):
            sha256.update(block)
            bar.update(len(block))
    digest = sha256.hexdigest()
    if digest != archive.sha256:
        part.unlink()
        raise DataError(
            f"{part.stem} is damaged: its SHA-256 is {digest}, not {archive.sha256}; it was deleted, run the "
            "command again"
        )


def _unpack(part: Path, unpacking: Path, root: Path, folder: str) -> None:
    """Unpacks into a temporary folder, emptied of what a killed run left, and renames ``folder`` into its place."""
    target = root / folder
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        unpacking.mkdir()
        try:
            with zipfile.ZipFile(part) as archive:
                for member in tqdm(archive.infolist(), desc=f"unpacking {part.stem}", unit="file"):
                    _check_member(member, part)
                    archive.extract(member, unpacking)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{part.stem} cannot be unpacked: {error}") from error
        unpacked = unpacking / folder
        if not unpacked.is_dir():
            raise DataError(f"{part.stem} holds no folder {folder}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.move(unpacked, target)
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


def _check_member(member: zipfile.ZipInfo, part: Path) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in member.filename or is_link:
        raise DataError(f"{part.stem} holds {member.filename!r}, which would be written elsewhere")
