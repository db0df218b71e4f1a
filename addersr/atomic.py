"""Files that are whole or not there: written under a temporary name, then renamed."""

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = ".addersr-"
"""How the names of all temporary files begin."""

_PART = f"{PREFIX}part-"  # those of `replacing`, which hold a lock as long as their writer lives


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, of the same suffix and an empty file at first, to write to.

    On success it replaces `path`, with the permissions of any new file; on any exception, Ctrl+C included, it is
    removed and `path` stays as it was. What is in it is on the disk before it has its name, so that a power failure
    leaves no empty file under that name.

    Args:
        overwrite: False: what has come to `path` in the meantime is not replaced, where the file system has hard links.

    Raises:
        FileExistsError: `path` is there, and not to be overwritten.
        OSError: the folder is not there or cannot be written to, or `path` cannot be replaced.
    """
    descriptor, part = _new_part(path)
    try:
        yield part
        with part.open("rb+") as file:  # not `descriptor`: the caller may have put another file there
            os.fsync(file.fileno())
        if overwrite:
            part.replace(path)
        else:
            _give_name(part, path)
        _sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _give_name(part: Path, path: Path) -> None:
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # no hard links here, such as on FAT
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.replace(path)
    else:
        part.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring names to the disk where the system can: without, the file that is lost is lost as a whole."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _new_part(path: Path) -> tuple[int | None, Path]:
    while True:
        part = path.with_name(f"{_PART}{secrets.token_hex(8)}{path.suffix}")
        # Not by tempfile, whose files are for their owner only: the umask cannot be asked for in a process of threads.
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if sys.platform == "win32":  # where a file that is open cannot be renamed
            os.close(descriptor)
            return None, part
        # Between the two, `remove_abandoned` may have found it without a lock: then it is gone or about to go.
        if _lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
            return descriptor, part
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether it is ours now; None where the file system or the platform has no locks."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            pass
    return None


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of `replacing` in a folder whose writers were killed.

    A writer holds a lock, which ends with it, so files that are being written are left alone, be it by another
    process or, where their common file system has locks, another machine. Without locks nothing is removed, nor is what
    cannot be opened or removed, such as another user's file.

    Raises:
        OSError: the folder cannot be read.
    """
    for part in folder.glob(f"{_PART}*"):
        with suppress(OSError):  # also: renamed by its writer in the meantime
            descriptor = os.open(part, os.O_RDWR)
            try:
                if _lock(descriptor) and os.path.samestat(os.fstat(descriptor), part.stat()):
                    part.unlink()
            finally:
                os.close(descriptor)
