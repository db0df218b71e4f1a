"""What stands already where a result goes: left, replaced, or a failure of that one picture."""

import os
import stat
from pathlib import Path
from typing import Literal, TypeAlias

from addersr.errors import ImageError
from addersr.inference.inputs import STANDARD, identity

__all__ = ["IfExists", "is_left"]

IfExists: TypeAlias = Literal["error", "skip", "overwrite"]
"""A result that is there already fails, is left, which resumes a run that was stopped, or is replaced."""

_LEAVES = "--skip-existing leaves it and does the others"


def is_left(source: Path, target: Path, if_exists: IfExists) -> bool:
    """Whether a result is there already and is to be left.

    A link to a file counts as that file, and where it is replaced, the link is, not what it leads to.

    Raises:
        ImageError: it is there and not to be replaced; or what is there is no file, and so no result: a folder, or,
            where it is not to be replaced, a link that leads nowhere or a pipe.
    """
    if target == STANDARD or not os.path.lexists(target):
        return False
    try:
        kind = stat.S_IFMT(target.stat().st_mode)
    except OSError as error:
        kind, problem = None, f"a link that leads to no file ({error.strerror})"
    else:
        problem = "no file, but a pipe, a device or a socket"
    if kind == stat.S_IFDIR:
        raise ImageError(f"{target}: is a folder; move it away, or choose another name for the result")
    if if_exists == "overwrite":
        return False
    if kind != stat.S_IFREG:
        raise ImageError(f"{target}: already exists, {problem}; remove it, or --overwrite replaces it")
    if if_exists == "error":
        # In place the next search finds the result as a picture, which --overwrite refuses to replace.
        in_place = source != STANDARD and identity(source.parent) == identity(target.parent)
        ways = _LEAVES if in_place else f"--overwrite replaces it, {_LEAVES}"
        raise ImageError(f"{target}: already exists; {ways}")
    return True
