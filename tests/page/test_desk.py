import os
import time

import pytest

from addersr.errors import UsageError
from addersr.page import desk as desk_module
from addersr.page import run as run_module
from addersr.page.desk import Desk
from addersr.page.run import Order
from addersr.page.store import LIFETIME


@pytest.fixture
def desk(networks, store):
    desk = Desk(networks, store, queue=1)
    yield desk
    desk.close()


@pytest.fixture
def order(photo):
    return Order((photo,), "tiny")


def age(path):
    then = time.time() - LIFETIME - 5
    os.utime(path, (then, then))


def test_files_go_when_their_user_leaves(desk, store, order):
    mine, other = desk.begin("me", order), desk.begin("you", order)
    assert mine.wait(60) and other.wait(60)
    assert desk.latest("me") is mine and desk.latest("you") is other
    desk.leave("me")
    assert desk.latest("me") is None
    assert list(store.folder.iterdir()) == [other.folder]
    assert other.results[0].placed.download.exists()


def test_who_waits_is_told_behind_how_many_and_too_many_are_refused(desk, held, order):
    first = desk.begin("me", order)
    assert held.reached.wait(60)
    second = desk.begin("you", order)
    assert (desk.before(first), desk.before(second)) == (0, 1)
    with pytest.raises(UsageError, match="Too many are waiting"):
        desk.begin("them", order)
    desk.leave("you")
    assert second.stopped and not second.folder.exists()
    third = desk.begin("them", order)
    held.go.set()
    assert first.wait(60) and third.wait(60)
    assert desk.before(third) == 0 and len(third.results) == 1


def test_results_go_an_hour_after_they_were_looked_at(desk, store, order):
    seen, forgotten = desk.begin("me", order), desk.begin("you", order)
    assert seen.wait(60) and forgotten.wait(60)
    age(seen.folder)
    age(forgotten.folder)
    assert desk.latest("me") is seen
    desk.tidy()
    assert desk.latest("me") is seen and desk.latest("you") is None
    assert list(store.folder.iterdir()) == [seen.folder]


def test_a_run_keeps_its_pictures_and_results_however_long_it_takes(desk, store, held, photo):
    """An upload has a folder of its own, as gradio makes it."""
    uploads = []
    for name in ("a", "b", "unused"):
        (store.folder / name).mkdir()
        uploads.append(store.folder / name / photo.name)
        uploads[-1].write_bytes(photo.read_bytes())
    computing = desk.begin("me", Order((uploads[0],), "tiny"))
    assert held.reached.wait(60)
    waiting = desk.begin("you", Order((uploads[1],), "tiny"))
    for path in store.folder.iterdir():
        age(path)
    desk.tidy()
    assert set(store.folder.iterdir()) == {
        uploads[0].parent, uploads[1].parent, computing.folder, waiting.folder,
    }  # fmt: skip
    held.go.set()
    assert waiting.wait(60) and len(waiting.results) == 1


def test_a_run_that_nobody_follows_makes_way(desk, held, order, monkeypatch):
    computing, waiting = desk.begin("me", order), desk.begin("you", order)
    assert held.reached.wait(60)
    computing.follow()
    assert not computing.abandoned
    monkeypatch.setattr(run_module, "_LEASE", 0.2)
    time.sleep(0.3)
    third = desk.begin("them", order)  # there is room again
    assert waiting.ended and waiting.stopped
    held.go.set()
    assert computing.wait(60) and computing.stopped and computing.outcomes == []
    monkeypatch.undo()
    third.follow()
    assert third.wait(60)


def test_stop_is_for_all_runs_of_a_session(desk, held, order):
    first, second = desk.begin("me", order), desk.begin("me", order)
    assert held.reached.wait(60)
    desk.stop("me")
    held.go.set()
    assert first.wait(60) and first.stopped and second.ended and second.stopped


def test_a_look_that_fails_is_not_the_last(desk, store, monkeypatch, capsys):
    looks = []

    def sweep():
        looks.append(1)
        raise PermissionError("not now")

    monkeypatch.setattr(desk_module, "_TIDY", 0.01)
    monkeypatch.setattr(store, "sweep", sweep)
    other = Desk(desk.networks, store)
    deadline = time.monotonic() + 60
    while len(looks) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other.close()
    assert "not now" in capsys.readouterr().err


def test_a_desk_that_is_closed(desk, store, held, order):
    run = desk.begin("me", order)
    assert held.reached.wait(60)
    waiting = desk.begin("you", order)
    held.go.set()
    desk.close()
    assert run.ended and waiting.ended
    assert list(store.folder.iterdir()) == []
    with pytest.raises(UsageError, match="closing down"):
        desk.begin("me", order)
