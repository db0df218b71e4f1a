"""Files that are whole or not there: written under a temporary name, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".addersr-"
"""How the names of the temporary files begin."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, of the same suffix and an empty file at first, to write to.

    On success it replaces `path`, with the permissions of any new file; on any exception, Ctrl+C included, it is
    removed and `path` stays as it was.

    Raises:
        OSError: the folder is not there or cannot be written to, or `path` cannot be replaced.
    """
    handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
