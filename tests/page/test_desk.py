import time

import pytest

from addersr.errors import UsageError
from addersr.page import desk as desk_module
from addersr.page.desk import Desk
from addersr.page.run import Limits, Order


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "page"
    path.mkdir()
    return path


@pytest.fixture
def desk(networks, folder):
    return Desk(networks, folder, Limits())


def test_files_go_when_their_user_leaves(desk, folder, photo):
    mine, other = desk.begin("me", Order((photo,), "tiny")), desk.begin("you", Order((photo,), "tiny"))
    assert mine.wait(60) and other.wait(60)
    assert desk.latest("me") is mine and desk.latest("you") is other
    desk.leave("me")
    assert desk.latest("me") is None
    assert list(folder.iterdir()) == [other.folder]
    assert other.results[0].placed.download.exists()


def test_a_run_stops_when_its_user_leaves(desk, networks, folder, photo):
    with networks.lock:
        run = desk.begin("me", Order((photo,), "tiny"))
        desk.leave("me")
        assert run.wait(0) and run.stopped
    assert list(folder.iterdir()) == []


def test_files_go_after_their_time(desk, folder, photo, monkeypatch):
    monkeypatch.setattr(desk_module, "LIFETIME", 0.0)
    old = desk.begin("me", Order((photo,), "tiny"))
    assert old.wait(60)
    time.sleep(0.01)
    new = desk.begin("you", Order((photo,), "tiny"))
    assert list(folder.iterdir()) == [new.folder]
    desk.close()
    assert list(folder.iterdir()) == []
    with pytest.raises(UsageError, match="closing down"):
        desk.begin("me", Order((photo,), "tiny"))
