"""Who has which run: one computes, the others wait in the order in which they came."""

import shutil
import traceback
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, Thread

from addersr.errors import UsageError
from addersr.page.networks import Networks
from addersr.page.run import MAX_PIXELS, Order, Run
from addersr.page.store import Store

__all__ = ["Desk"]

_TIDY = 60.0  # seconds between two looks at what may go
_PATIENCE = 60.0  # seconds for a tile of the largest network, on a slow computer


class Desk:
    """Begins runs and clears up after them. Several threads may call.

    Args:
        queue: how many runs may wait while one computes.
        max_pixels: as `Run` has it.
    """

    def __init__(
        self, networks: Networks, store: Store, *, queue: int = 20, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.networks = networks
        self.store = store
        self._queue = queue
        self._max_pixels = max_pixels
        self._lock = Lock()
        self._runs: list[tuple[str, Run]] = []  # with their sessions, in their order
        self._one_by_one = ThreadPoolExecutor(1, thread_name_prefix="addersr-page-run")
        self._closed = Event()
        Thread(target=self._keep_tidy, name="addersr-page-tidy", daemon=True).start()

    def begin(self, session: str, order: Order) -> Run:
        """Begin a run for a session.

        Raises:
            UsageError: too many wait already, or the desk is closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise UsageError("The page is closing down; try again later.")
            for run in self._unfinished():
                if run.abandoned:
                    run.stop()
            if len(self._unfinished()) > self._queue:
                raise UsageError("Too many are waiting already; try again in a few minutes.")
            run = Run(self.networks, order, self.store, self._max_pixels)
            self.store.use(order.pictures)
            self._runs.append((session, run))
            run.start(self._one_by_one)
        return run

    def before(self, run: Run) -> int:
        """How many runs have their turn before this one, which has not ended."""
        with self._lock:
            waiting = self._unfinished()
        return waiting.index(run) if run in waiting else 0

    def latest(self, session: str) -> Run | None:
        """The run that a session began last, if its files are still there; they are kept for another hour."""
        with self._lock:
            runs = [run for whose, run in self._runs if whose == session]
        if not runs or not runs[-1].folder.exists():
            return None
        self.store.use([runs[-1].folder])
        return runs[-1]

    def stop(self, session: str) -> None:
        """Stop a session's runs; their files stay."""
        with self._lock:
            runs = [run for whose, run in self._runs if whose == session]
        for run in runs:
            run.stop()

    def leave(self, session: str) -> None:
        """Stop a session's runs and delete their files."""
        with self._lock:
            runs = [run for whose, run in self._runs if whose == session]
            self._runs = [(whose, run) for whose, run in self._runs if whose != session]
        _clear(runs)

    def close(self) -> None:
        """Stop all runs and delete their files; none is begun any more."""
        with self._lock:
            self._closed.set()
            runs = [run for _, run in self._runs]
            self._runs = []
        _clear(runs)
        self._one_by_one.shutdown(wait=False)

    def tidy(self) -> None:
        """Delete what has not been used for an hour; a run that waits or computes uses its pictures and results."""
        with self._lock:
            for run in self._unfinished():
                self.store.use([*run.order.pictures, run.folder])
        self.store.sweep()
        with self._lock:
            self._runs = [(session, run) for session, run in self._runs if run.folder.exists()]

    def _keep_tidy(self) -> None:
        while not self._closed.wait(_TIDY):
            try:
                self.tidy()
            except OSError:  # the next time may be better
                traceback.print_exc()

    def _unfinished(self) -> list[Run]:
        return [run for _, run in self._runs if not run.ended]


def _clear(runs: list[Run]) -> None:
    for run in runs:
        run.stop()
    for run in runs:
        run.wait(_PATIENCE)
        shutil.rmtree(run.folder, ignore_errors=True)
