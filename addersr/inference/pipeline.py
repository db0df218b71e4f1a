"""Three stages that overlap: while one picture is computed, the next is read and the last one is written."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from typing import TypeVar

__all__ = ["overlapped", "read_ahead", "waiting", "writing_behind"]

_Work = TypeVar("_Work")

_POLL = 0.02  # seconds

_waiting = set[Thread]()


@contextmanager
def waiting() -> Iterator[None]:
    """For a block that may wait for ever, such as for standard input: who ends a reader does not wait for it then."""
    _waiting.add(current_thread())
    try:
        yield
    finally:
        _waiting.discard(current_thread())


def overlapped(
    works: Iterable[_Work],
    read: Callable[[_Work], None],
    compute: Callable[[_Work], None],
    write: Callable[[_Work], None],
) -> None:
    """Take each work through the three stages, in order: what is written first was read first.

    One is read ahead, in a thread; one is written behind, in another; computing stays in the thread of the
    caller, which Ctrl-C interrupts. So three are in memory at once, however many there are.

    What a stage raises ends it all: an error of one work is the stage's own matter. A write that has begun is
    always completed, also when the caller is interrupted; the rest is left.
    """
    with closing(read_ahead(works, read)) as ready, writing_behind(write) as write_behind:
        for work in ready:
            compute(work)
            write_behind(work)


def read_ahead(works: Iterable[_Work], read: Callable[[_Work], None]) -> Generator[_Work, None, None]:
    """Yield each work after it has been read, in a thread that is one ahead; closing the generator ends that.

    What is being read then is read to its end, but for what is `waiting`: an interpreter that ends with a thread in
    the midst of C++ code is aborted.
    """
    stop, room = Event(), Semaphore(1)
    ready: SimpleQueue[tuple[_Work | None, BaseException | None]] = SimpleQueue()

    def reading() -> None:
        try:
            for work in works:
                room.acquire()
                if stop.is_set():
                    return
                read(work)
                ready.put((work, None))
            ready.put((None, None))
        except BaseException as error:
            ready.put((None, error))

    # A daemon, because it may wait for standard input for ever.
    reader = Thread(target=reading, name="addersr-reader", daemon=True)
    try:
        reader.start()
        while True:
            work, error = ready.get()
            if error is not None:
                raise error
            if work is None:
                return
            room.release()
            yield work
    finally:
        stop.set()
        room.release()
        while reader.is_alive() and reader not in _waiting:
            reader.join(_POLL)


@contextmanager
def writing_behind(write: Callable[[_Work], None]) -> Iterator[Callable[[_Work], None]]:
    """Give a function that has a work written in a thread, once the last one has been.

    All that was handed over has been written when the block is left, also by an exception.
    """
    last: list[Future[None]] = []

    def write_behind(work: _Work) -> None:
        if last:
            last.pop().result()
        last.append(writer.submit(write, work))

    with ThreadPoolExecutor(1, "addersr-writer") as writer:
        yield write_behind
        if last:
            last.pop().result()
