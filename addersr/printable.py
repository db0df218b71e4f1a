"""Text that brings names of files, made safe for a terminal."""

import unicodedata

__all__ = ["printable"]

_JOINERS = "\u200c\u200d"  # which belong to the spelling of Persian and of emoji


def printable(text: str) -> str:
    r"""One line in which nothing moves the cursor, colours, clears or reorders what a terminal shows.

    A file's name may hold any character but "/". Line breaks, control characters, marks of direction and bytes that
    are no text become escapes as Python writes them, such as ``\n``, ``\x1b``, ``\u202e``, ``\udc80``; all other
    characters stay as they are.
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_hidden(character) else character
        for character in text
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
