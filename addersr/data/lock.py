"""One process at a time, by an advisory lock on a file that is there only while it is held."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from addersr.telling import tell

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(path: Path, work: str, *, wait: bool = True) -> Iterator[bool]:
    """Holds ``path`` alone; where another process or thread does, says so once and waits for it.

    The lock belongs to the open file, so it ends with its holder, be that killed; the file itself is then taken over
    by the next one. It works between machines where their common file system has locks.

    Args:
        path: the file; its folder must be there.
        work: what is done under the lock, for the message: "filling data/cache".
        wait: for the other one; else it is an error that there is one.

    Yields:
        True; False where the platform or the file system has no locks, and so nothing is held.

    Raises:
        BlockingIOError: another one holds it, and is not to be waited for.
        OSError: the file cannot be made.
    """
    if sys.platform == "win32":
        yield False
        return
    descriptor, held = _acquire(path, work, wait)
    try:
        yield held
    finally:
        # Removed before the lock ends: whoever waits for it finds the file gone, and tries a new one.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, work: str, wait: bool) -> tuple[int, bool]:
    told = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                if not told:
                    tell(f"another process is {work}; waiting for it", sys.stderr)
                    told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:  # the file system has no locks
                return descriptor, False
            if _is_at(descriptor, path):
                return descriptor, True
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the last holder has removed it


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
