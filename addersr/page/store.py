"""The folder of uploads and results: how much it may hold, and when what lies there goes.

Everything in it has a place of its own at the top: gradio's folder of an upload, our folder of a run's results. What
has not been used for an hour goes; who still needs a place says so (`Store.use`).
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from addersr.errors import AdderSRError

__all__ = ["LIFETIME", "Store"]

LIFETIME = 3600
"""Seconds that files are kept after they were used last."""

_CLOCK = 1.0  # seconds that a file's time may be behind ours


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
        self._own = frozenset(self.folder.iterdir())

    def room(self) -> Path:
        """A new folder, whose name nobody can guess."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        return folder

    def used(self) -> int:
        """Bytes of all files, at any depth."""
        total = 0
        for place, _, names in os.walk(self.folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(place, name)).st_size
                except OSError:  # it has just been deleted
                    continue
        return total

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
                try:
                    os.utime(place)
                except OSError:  # it is gone already
                    continue

    def sweep(self) -> None:
        """Delete what has not been used for `LIFETIME`."""
        self._delete(path for path in self._places() if _used(path) < time.time() - LIFETIME)

    def sweep_aborted(self, since: float) -> None:
        """Delete what is left of uploads that broke off; those that began at ``since`` (`time.time`) go on.

        Gradio puts an upload into a file beside the folders until it is whole, and leaves it there if it never is.
        """
        self._delete(path for path in self._places() if path.is_file() and _used(path) < since - _CLOCK)

    def _places(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path not in self._own]

    def _delete(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _used(place: Path) -> float:
    """When a place was used last; infinity if it has gone."""
    try:
        return place.stat().st_mtime
    except OSError:
        return float("inf")
