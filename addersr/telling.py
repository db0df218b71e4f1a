"""Lines for people, on standard output and error, which may have been closed."""

import os
from contextlib import suppress
from typing import TextIO

from addersr.printable import printable

__all__ = ["tell"]


def tell(text: str, stream: TextIO | None) -> None:
    """Print a line at once; where nobody can read it, such as in a pipe whose reader has ended, drop it.

    Args:
        text: may bring names of files, see `printable`.
        stream: standard output or error; None where it was closed when the program began.
    """
    if stream is None:
        return
    try:
        # Line and newline in one write: processes that share a terminal would come between two.
        stream.write(f"{printable(text)}\n")
        stream.flush()
    except OSError:
        # Else what is left in its buffer fails again when the interpreter ends, and sets the exit code.
        with suppress(OSError):  # a stream of no file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
