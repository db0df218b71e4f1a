"""The width of a progress bar."""

import os
import sys

__all__ = ["bar_columns"]


def bar_columns() -> int | None:
    """How wide a bar on standard error shall be, for tqdm's ``ncols``.

    Returns:
        None, which lets tqdm find out; 80 on a terminal that says it has no columns, as a serial line does and a
        pseudo-terminal whose size nobody has set, because there tqdm would draw nothing.
    """
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # no terminal, or no file at all
        return None
    return None if columns else 80
