import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from addersr.data import lock
from addersr.data.lock import locked


def test_one_at_a_time_and_no_file_is_left(tmp_path, capsys):
    path, inside, most, done = tmp_path / ".lock", [], [], []

    def work(number):
        for _ in range(50):
            with locked(path, "counting") as held:
                assert held
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
        done.append(number)

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(work, number) for number in range(4)]:
            job.result()
    assert max(most) == 1 and len(most) == 200 and len(done) == 4
    assert not path.exists()


def test_who_waits_is_told_so_and_is_let_in_at_the_end(tmp_path, capsys, monkeypatch):
    path, order, told, tell = tmp_path / ".lock", [], threading.Event(), lock.tell
    monkeypatch.setattr(lock, "tell", lambda *args: (tell(*args), told.set()))

    def second():
        with locked(path, "filling the cache"):
            order.append("second")

    with locked(path, ""):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert capsys.readouterr().err == "another process is filling the cache; waiting for it\n"


def test_who_does_not_wait_is_told_by_an_error_and_leaves_the_lock_alone(tmp_path, capsys):
    path = tmp_path / ".lock"
    with locked(path, ""):
        with pytest.raises(BlockingIOError), locked(path, "", wait=False):
            pass
        assert path.exists()
    with locked(path, "", wait=False) as held:
        assert held
    assert capsys.readouterr().err == ""


def test_a_file_that_the_last_holder_removes_meanwhile_is_not_the_lock(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / ".lock", lock.fcntl.flock, []

    def remove_before_the_first(*args):
        if not calls:
            path.unlink()
        calls.append(args)
        flock(*args)

    monkeypatch.setattr(lock.fcntl, "flock", remove_before_the_first)
    with locked(path, "") as held:
        assert held and path.exists() and len(calls) == 2


def test_the_lock_ends_with_a_killed_process(tmp_path):
    code = """
import pathlib
from addersr.data.lock import locked
with locked(pathlib.Path(".lock"), ""):
    print("held", flush=True)
    input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", "") as held:
        assert held
    assert not (tmp_path / ".lock").exists()


def test_an_error_inside_ends_the_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / ".lock", ""):
            raise ZeroDivisionError
    assert not (tmp_path / ".lock").exists()


def test_where_there_are_no_locks_the_work_is_done_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path / ".lock", "") as held:
        assert not held
    assert not (tmp_path / ".lock").exists()
