"""The folder of uploads and results: how much it may hold, and when what lies there goes.

Everything in it has a place of its own at the top: gradio's folder of uploads of one content, our folder of a run's
results. What has not been used for an hour goes; who still needs a place says so (`Store.use`).
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from addersr.errors import AdderSRError

__all__ = ["LIFETIME", "Store"]

LIFETIME = 3600
"""Seconds that files are kept after they were used last."""

_CLOCK = 1.0  # seconds that a file's time may be behind ours
_BLOCK = 4096  # bytes that the smallest file or folder takes


class Store:
    """What the page has on the disk. Several threads may call.

    Args:
        folder: takes uploads and results; gradio serves what lies there.
        most: bytes that they may take together.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.most = most
        self._own: frozenset[Path] = frozenset()

    def settle(self) -> None:
        """What is there now belongs to the page itself, and stays."""
        self._own = frozenset(path for path in self.folder.rglob("*") if path.is_file())

    def room(self) -> Path:
        """A new folder, whose name nobody can guess."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        return folder

    def used(self) -> int:
        """Bytes of all files and folders, at any depth, in whole blocks of 4 KiB."""
        blocks = 0
        for place, folders, names in os.walk(self.folder):
            blocks += len(folders)
            for name in names:
                try:
                    blocks += max(-(-os.lstat(os.path.join(place, name)).st_size // _BLOCK), 1)
                except OSError:  # it has just been deleted
                    continue
        return blocks * _BLOCK

    def check(self) -> None:
        """Whether all is within the limit.

        Raises:
            AdderSRError: it is not.
        """
        if self.used() > self.most:
            raise AdderSRError("the page has no more room for results at present; try again in an hour")

    def use(self, paths: Iterable[Path]) -> None:
        """The hour of the places of these files and folders begins anew; others are none of our business."""
        for path in paths:
            if self.folder in path.parents:
                place = self.folder / path.relative_to(self.folder).parts[0]
                for used in {place, path}:
                    with suppress(OSError):  # it is gone already
                        os.utime(used)

    def sweep(self) -> None:
        """Delete what has not been used for `LIFETIME`."""
        for path in self._places():
            if _used(path) < time.time() - LIFETIME:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def sweep_aborted(self, since: float) -> None:
        """Delete what is left of uploads that broke off; those that began at ``since`` (`time.time`) go on.

        Gradio puts an upload into a file beside the folders until it is whole, and leaves it there if it never is.
        """
        with os.scandir(self.folder) as entries:
            files = [Path(entry) for entry in entries if entry.is_file(follow_symlinks=False)]
        for path in files:
            if path not in self._own and _used(path) < since - _CLOCK:
                path.unlink(missing_ok=True)

    def _places(self) -> Iterator[Path]:
        """What may go by itself: places, and in those that have the page's own files the others.

        Gradio puts an upload of the same content beside a file of the page.
        """
        shared = {path.parent for path in self._own}
        for place in list(self.folder.iterdir()):
            if place in shared:
                yield from (path for path in place.iterdir() if path not in self._own)
            elif place not in self._own:
                yield place


def _used(place: Path) -> float:
    """When a place was used last; infinity if it has gone."""
    try:
        return place.stat().st_mtime
    except OSError:
        return float("inf")
