"""Work whose warnings nobody can act on, in several threads at once."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

__all__ = ["unwarned"]

_lock = Lock()
_inside = 0
_ignoring = ExitStack()


@contextmanager
def unwarned() -> Iterator[None]:
    """Ignore all warnings, of all threads, until nobody is inside any more.

    `warnings.catch_warnings` gives the filters back that it found: of two threads that overlap, the one that ends last
    would give back the other's, which ignore everything, for good.
    """
    global _inside
    with _lock:
        if not _inside:
            _ignoring.enter_context(warnings.catch_warnings(action="ignore"))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _ignoring.close()
