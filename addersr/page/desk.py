"""Who has which run, and when its files go: when its user leaves, after an hour, and at the end."""

import secrets
import shutil
import time
from pathlib import Path
from threading import Lock

from addersr.errors import UsageError
from addersr.page.networks import Networks
from addersr.page.run import Limits, Order, Run

__all__ = ["LIFETIME", "Desk"]

LIFETIME = 3600
"""Seconds that the files of a run are kept at most."""


class Desk:
    """Begins runs and clears up after them. Several threads may call.

    Args:
        folder: takes uploads and results; see `room`.
    """

    def __init__(self, networks: Networks, folder: Path, limits: Limits) -> None:
        self.networks = networks
        self.limits = limits
        self._folder = folder
        self._lock = Lock()
        self._closed = False
        self._runs: dict[str, list[tuple[float, Run]]] = {}

    def begin(self, session: str, order: Order) -> Run:
        """Begin a run for a session.

        Raises:
            UsageError: the desk is closed.
        """
        self._sweep(time.monotonic() - LIFETIME)
        with self._lock:
            if self._closed:
                raise UsageError("The page is closing down; try again later.")
            run = Run(self.networks, order, self.room(), self.limits)
            self._runs.setdefault(session, []).append((time.monotonic(), run))
            run.start()
        return run

    def room(self) -> Path:
        """A new folder, whose name nobody can guess."""
        folder = self._folder / secrets.token_hex(16)
        folder.mkdir()
        return folder

    def latest(self, session: str) -> Run | None:
        """The run that a session began last, if its files are still there."""
        with self._lock:
            runs = self._runs.get(session)
            return runs[-1][1] if runs else None

    def leave(self, session: str) -> None:
        """Stop a session's runs and delete their files."""
        with self._lock:
            runs = self._runs.pop(session, [])
        _clear([run for _, run in runs])

    def close(self) -> None:
        """Stop all runs and delete their files; none is begun any more."""
        with self._lock:
            self._closed = True
        self._sweep(float("inf"))

    def _sweep(self, before: float) -> None:
        with self._lock:
            old = [run for runs in self._runs.values() for begun, run in runs if begun < before]
            kept = {
                session: [(begun, run) for begun, run in runs if begun >= before]
                for session, runs in self._runs.items()
            }
            self._runs = {session: runs for session, runs in kept.items() if runs}
        _clear(old)


def _clear(runs: list[Run]) -> None:
    for run in runs:
        run.stop()
    for run in runs:
        run.wait(60)  # a tile of the largest network, on a slow computer
        shutil.rmtree(run.folder, ignore_errors=True)
