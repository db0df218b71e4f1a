"""Three stages that overlap: while one picture is computed, the next is read and the last one is written."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

__all__ = ["overlapped"]

_Work = TypeVar("_Work")


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
    with ThreadPoolExecutor(1, "addersr-writer") as writer:
        written: Future[None] | None = None
        try:
            reader.start()
            while True:
                work, error = ready.get()
                if error is not None:
                    raise error
                if work is None:
                    break
                room.release()
                compute(work)
                if written is not None:
                    written.result()
                written = writer.submit(write, work)
            if written is not None:
                written.result()
        finally:
            stop.set()
            room.release()
