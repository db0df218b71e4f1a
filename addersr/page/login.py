"""Who is let in, and how often somebody may guess."""

import asyncio
from collections.abc import Sequence
from secrets import compare_digest

__all__ = ["Credentials", "Login"]

Credentials = Sequence[tuple[str, str]]
"""Names and passwords."""

_PENALTY = 1.0  # seconds after a guess that is wrong
_WAITING = 10  # guesses; others are wrong without a look


class Login:
    """Checks names and passwords; after a wrong one the next for the same name waits for a second."""

    def __init__(self, pairs: Credentials) -> None:
        self._pairs = pairs
        self._turns = {name: _Turn() for name, _ in pairs}
        self._strangers = _Turn()

    async def check(self, user: str, password: str) -> bool:
        """Whether the password is this user's."""
        turn = self._turns.get(user, self._strangers)
        if turn.waiting >= _WAITING:
            return False
        turn.waiting += 1
        try:
            async with turn.lock:
                known = any([_same(user, name) & _same(password, word) for name, word in self._pairs])
                if not known:
                    await asyncio.sleep(_PENALTY)
                return known
        finally:
            turn.waiting -= 1


class _Turn:
    """Of those who give one name."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def _same(given: str, known: str) -> bool:
    """Whether they are equal, in a time that tells nothing else."""
    return compare_digest(given.encode(), known.encode())
