"""Folders out of a zip or tar file: nothing is written outside of them, and they appear whole or not at all."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from addersr.atomic import PREFIX
from addersr.errors import DataError
from addersr.progress import bar_columns

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What the two libraries raise for a file that is none of theirs, cut, compressed otherwise, or encrypted."""


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_file: bool
    """A plain one: neither a link nor a device."""
    open: Callable[[], IO[bytes]]


def unpack(path: Path, name: str, folders: Mapping[str, str], work: Path, root: Path) -> None:
    """Unpacks some folders of an archive.

    Args:
        path: the file.
        name: how it is called; tar unless this ends in ``.zip``.
        folders: folder under ``root`` -> folder in the archive that becomes it; nothing else is unpacked.
        work: where they are unpacked before they are renamed; emptied first and removed at the end.
        root: the data set's folder.

    Raises:
        DataError: it is no such archive, lacks a folder, or has a member, wanted or not, that would be written
            elsewhere or is neither a file nor a folder.
        OSError: there is no room, or the folder cannot be written to.
    """
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir()
        try:
            with _members(path, name) as (members, count):
                bar = tqdm(
                    members,
                    total=count,
                    desc=f"unpacking {name}",
                    unit="file",
                    disable=None,
                    ncols=bar_columns(),
                )
                for member in bar:
                    _extract(member, name, folders, work)
        except _BROKEN as error:
            raise DataError(f"{name} cannot be unpacked: {error}") from error
        for place, inner in folders.items():
            if not (work / place).is_dir():
                raise DataError(f"{name} holds no folder {inner}")
        for place in folders:
            _move(work / place, root / place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move(folder: Path, target: Path) -> None:
    """Renames a folder; where a link leads to another disk, it is copied there under a temporary name first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{PREFIX}{target.name}")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        shutil.move(folder, part)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextmanager
def _members(path: Path, name: str) -> Iterator[tuple[Iterator[_Member], int | None]]:
    """The members in their order, and how many they are where that is known before all have been read."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            yield (_zip_member(archive, info) for info in infos), len(infos)
    else:
        with tarfile.open(path) as archive:
            yield (_tar_member(archive, info) for info in archive), None


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive comes from a system without such kinds
    is_file = not info.is_dir() and kind in (0, stat.S_IFREG)
    return _Member(info.filename, info.is_dir(), is_file, lambda: archive.open(info))


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def opened() -> IO[bytes]:
        stream = archive.extractfile(info)
        assert stream is not None, "a plain file has content"
        return stream

    return _Member(info.name, info.isdir(), info.isfile(), opened)


def _extract(member: _Member, name: str, folders: Mapping[str, str], work: Path) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in member.name:
        raise DataError(f"{name} holds {member.name!r}, which would be written elsewhere")
    if not (member.is_file or member.is_folder):
        raise DataError(f"{name} holds {member.name!r}, which is neither a file nor a folder")
    for place, inner in folders.items():
        if path.is_relative_to(inner):
            target = work / place / path.relative_to(inner)
            if member.is_folder:
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, target.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
