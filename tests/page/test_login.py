import asyncio
import time

from addersr.page import login as login_module
from addersr.page.login import Login


def test_who_is_let_in(monkeypatch):
    monkeypatch.setattr(login_module, "_PENALTY", 0.0)
    login = Login([("ann", "secret"), ("bob", "a:b")])

    async def ask():
        return [
            await login.check(*pair)
            for pair in [
                ("ann", "secret"),
                ("bob", "a:b"),
                ("bob", "secret"),
                ("bob:a", "b"),
                ("é", ""),
                ("", ""),
            ]
        ]

    assert asyncio.run(ask()) == [True, True, False, False, False, False]


def test_guesses_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(login_module, "_PENALTY", 0.1)
    login = Login([("ann", "secret")])

    async def guess():
        return await asyncio.gather(*(login.check("ann", str(number)) for number in range(4)))

    started = time.monotonic()
    assert asyncio.run(guess()) == [False] * 4
    assert time.monotonic() - started >= 0.4
