"""Reading, computing and writing overlap, in order, and end well."""

import threading
from threading import Event, Lock

import pytest

from addersr.inference.pipeline import overlapped, waiting

PATIENCE = 300  # seconds before a test gives up waiting for another thread


def test_all_go_through_the_three_stages_in_order():
    seen = {"read": [], "compute": [], "write": []}
    overlapped(range(20), *(seen[stage].append for stage in seen))
    assert all(works == list(range(20)) for works in seen.values())


def test_no_work_is_fine():
    overlapped([], *[pytest.fail] * 3)


def test_while_one_is_computed_the_next_is_read_and_the_last_one_written():
    read, wrote = Event(), Event()

    def compute(work):
        if work == 1:  # would wait in vain if the stages took turns
            assert read.wait(PATIENCE) and wrote.wait(PATIENCE)

    def write(work):
        if work == 0:
            assert read.wait(PATIENCE)
            wrote.set()

    overlapped(range(3), lambda work: read.set() if work == 2 else None, compute, write)
    assert read.is_set() and wrote.is_set()


def test_three_are_in_memory_at_once_and_no_more():
    most, now, lock = 0, 0, Lock()

    def begin(_):
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)

    def end(_):
        nonlocal now
        with lock:
            now -= 1

    overlapped(range(50), begin, lambda _: None, end)
    assert now == 0 and most <= 3


def test_computing_is_in_the_calling_thread():
    names = {}

    def note(stage):
        return lambda _: names.setdefault(stage, threading.current_thread())

    overlapped([0], note("read"), note("compute"), note("write"))
    assert names["compute"] is threading.current_thread()
    assert len(set(names.values())) == 3


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_a_stage_raises_ends_it(stage):
    done = []

    def fail(work):
        if work == 3:
            raise KeyError(work)

    stages = [lambda _: None, lambda _: None, done.append]
    stages[stage] = fail if stage < 2 else lambda work: (fail(work), done.append(work))
    with pytest.raises(KeyError):
        overlapped(range(100), *stages)
    assert done == [0, 1, 2]


def test_a_write_that_has_begun_is_completed_and_the_rest_is_left():
    begun, written = Event(), []

    def compute(work):
        if work == 1:
            assert begun.wait(PATIENCE)
            raise KeyboardInterrupt

    def write(work):
        begun.set()
        threading.Event().wait(0.2)
        written.append(work)

    with pytest.raises(KeyboardInterrupt):
        overlapped(range(100), lambda _: None, compute, write)
    assert written == [0]


def test_a_reader_that_waits_for_ever_does_not_hold_up_the_end():
    let_go = Event()

    def read(work):
        if work == 1:
            with waiting():
                let_go.wait(PATIENCE)

    def compute(_):
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            overlapped(range(2), read, compute, lambda _: None)
    finally:
        let_go.set()


@pytest.mark.parametrize("stage", ["compute", "write"])
def test_whatever_fails_no_thread_is_left_at_work(stage):
    """It would be aborted in the midst of C++ code, and the process with it, when the interpreter ends."""
    reading, ended = Event(), []

    def read(work):
        if work:
            reading.set()
            threading.Event().wait(0.2)
        ended.append(work)

    def fail(_):
        assert reading.wait(PATIENCE)
        raise KeyError

    before = threading.enumerate()
    stages = {"compute": lambda _: None, "write": lambda _: None} | {stage: fail}
    with pytest.raises(KeyError):
        overlapped(range(9), read, *stages.values())
    assert set(threading.enumerate()) <= set(before)
    assert ended in ([0, 1], [0, 1, 2])
