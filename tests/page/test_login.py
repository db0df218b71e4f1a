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


def test_who_guesses_for_one_does_not_keep_out_others(monkeypatch):
    monkeypatch.setattr(login_module, "_PENALTY", 60.0)
    login = Login([("ann", "secret"), ("bob", "word")])

    async def attack():
        guesses = [
            asyncio.create_task(login.check(name, "guess")) for name in ("ann", "eve") for _ in range(50)
        ]
        while not (refused := [task for task in guesses if task.done()]):
            await asyncio.sleep(0)
        assert await login.check("bob", "word")
        assert not await login.check("ann", "secret")  # too many wait already
        for task in guesses:
            task.cancel()
        return len(refused)

    assert asyncio.run(attack()) == 100 - 2 * 10
