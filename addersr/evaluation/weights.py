"""Which weights a word of a command line stands for, and by what label each file is told from the others."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from addersr import checkpoint

SCALES = (2, 3, 4)
"""Those of the published tables; a name without a scale stands for its weights at these."""


def named(word: str) -> list[str]:
    """What `addersr.checkpoint.load` is to be given for a word.

    Args:
        word: a name of shipped weights (edsr_small_x2, edsr_small_x2_int8), the same without its scale (edsr_small,
            edsr_small_int8), or a file. A name comes before a file, and a file before a name without its scale.

    Returns:
        The names or the file; of a name without its scale one for each of `SCALES` that is shipped; empty where the
        word is nothing of these.
    """
    known = checkpoint.shipped()
    if word in known or os.path.isfile(word):  # Path.is_file raises for names that are too long
        return [word]
    base = word.removesuffix(checkpoint.INT8_SUFFIX)
    full = (f"{base}_x{scale}{word[len(base) :]}" for scale in SCALES)
    return [name for name in full if name in known]


def labels(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """A short name for each of several files: the shortest end of its path that no other has.

    Args:
        paths: different files.
        taken: names that none of them may have.

    Returns:
        The file's name without its suffix; with as many folders before it as it takes, as in ``a/x`` and ``b/x``; with
        their suffixes where two files differ in that alone.
    """
    whole = [Path(os.path.abspath(path)) for path in paths]  # as it is named, so not where links lead to
    bare = [path.with_suffix("") for path in whole]
    parts = [path.parts for path in (bare if len(set(bare)) == len(bare) else whole)]
    others = [*parts, *((name,) for name in taken)]
    found = []
    for own in parts:
        ends = (own[-count:] for count in range(1, len(own) + 1))
        found.append(next(end for end in ends if sum(other[-len(end) :] == end for other in others) == 1))
    return [Path(*end).as_posix() for end in found]
