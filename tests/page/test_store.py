import os
import time

import pytest

from addersr.errors import AdderSRError
from addersr.page.store import LIFETIME


def put(store, name, age=0.0, size=50):
    """A file in a place of its own that was used so many seconds ago."""
    path = store.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(store.folder / path.relative_to(store.folder).parts[0], (then, then))
    return path


def test_its_limit_is_that_of_all_files_together(store):
    put(store, "a/b/file")
    put(store, "c")
    put(store, "large", size=4097)
    assert store.used() == (2 + 2 + 2) * 4096  # folders, small files, the large one
    store.most = store.used()
    store.check()
    store.most -= 1
    with pytest.raises(AdderSRError, match="no more room"):
        store.check()


def test_what_has_not_been_used_for_an_hour_goes(store):
    old, new = put(store, "old/a.png", LIFETIME + 5), put(store, "new/a.png", LIFETIME - 60)
    loose = put(store, "loose", LIFETIME + 5)
    store.sweep()
    assert new.exists() and not old.parent.exists() and not loose.exists()


def test_who_uses_a_file_keeps_it(store, tmp_path):
    used, room = put(store, "used/deep/a.png", LIFETIME + 5), put(store, "room/a.png", LIFETIME + 5)
    outside = tmp_path / "outside.png"
    outside.touch()
    os.utime(outside, (1, 1))
    store.use([used, room.parent, outside, store.folder / "gone" / "a.png"])
    store.sweep()
    assert used.exists() and room.exists()
    assert outside.stat().st_mtime == 1


def test_the_page_s_own_files_stay(store):
    """Also where gradio puts an upload of the same content beside one of them."""
    own, loose = put(store, "sample/a.png", LIFETIME + 5), put(store, "own", LIFETIME + 5)
    store.settle()
    other = put(store, "upload/a.png", LIFETIME + 5)
    old, new = own.with_name("b.png"), own.with_name("c.png")
    for path in (old, new):
        path.touch()
        os.utime(path, (1, 1))
    store.use([new])
    store.sweep()
    store.sweep_aborted(float("inf"))
    assert own.exists() and loose.exists() and not other.exists()
    assert new.exists() and not old.exists()


def test_what_broke_off_goes_and_what_is_under_way_stays(store):
    broken, going = put(store, "tmp1", 100), put(store, "tmp2", 10)
    whole = put(store, "upload/a.png", 100)
    store.sweep_aborted(time.time() - 50)
    assert whole.exists() and going.exists() and not broken.exists()
    store.sweep_aborted(float("inf"))
    assert whole.exists() and not going.exists()


def test_rooms_have_names_that_nobody_guesses(store):
    names = {store.room().name for _ in range(100)}
    assert len(names) == 100 and all(len(name) == 32 for name in names)
