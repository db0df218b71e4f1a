"""Who is let in, and how often somebody may guess."""

import asyncio
from collections.abc import Sequence
from secrets import compare_digest

__all__ = ["Credentials", "Login"]

Credentials = Sequence[tuple[str, str]]
"""Names and passwords."""

_PENALTY = 1.0  # seconds after a guess that is wrong


class Login:
    """Checks names and passwords, one at a time; after a wrong one the next waits for a second."""

    def __init__(self, pairs: Credentials) -> None:
        self._pairs = pairs
        self._one_at_a_time = asyncio.Lock()

    async def check(self, user: str, password: str) -> bool:
        """Whether the password is this user's."""
        async with self._one_at_a_time:
            known = any([_same(user, name) & _same(password, word) for name, word in self._pairs])
            if not known:
                await asyncio.sleep(_PENALTY)
            return known


def _same(given: str, known: str) -> bool:
    """Whether they are equal, in a time that tells nothing else."""
    return compare_digest(given.encode(), known.encode())
