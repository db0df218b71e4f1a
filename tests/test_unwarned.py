"""Warnings that nobody can act on are ignored, and no others."""

import threading
import warnings

from addersr.unwarned import unwarned


def test_nothing_is_told_inside_and_all_is_as_before_outside():
    before = list(warnings.filters)
    with unwarned(), unwarned():
        warnings.warn("unseen", stacklevel=1)
    assert warnings.filters == before


def test_threads_that_overlap_give_back_what_the_first_one_found():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def first():
        with unwarned():
            inside.set()
            assert leave.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with unwarned():
        leave.set()
        thread.join()
        warnings.warn("unseen", stacklevel=1)
    assert warnings.filters == before
