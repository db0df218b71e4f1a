"""Files are whole or not there."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from addersr.atomic import remove_abandoned, replacing


def test_success_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as part:
        assert (part.parent, part.suffix) == (tmp_path, ".txt")
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as part:
        part.write_text("half")
        raise error
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_came_in_the_meantime_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refused(*_paths: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:  # as FAT
        monkeypatch.setattr(os, "link", refused)
    target = tmp_path / "a.txt"
    with replacing(target, overwrite=False) as part:
        part.write_text("first")
    assert target.read_text() == "first"
    target.unlink()
    with pytest.raises(FileExistsError), replacing(target, overwrite=False) as part:
        part.write_text("ours")
        target.write_text("another's")
    assert target.read_text() == "another's" and os.listdir(tmp_path) == ["a.txt"]


def test_what_is_in_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, target.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    target = tmp_path / "a.txt"
    with replacing(target) as part:
        part.write_text("new")
    assert synced[0] == (3, False)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError), replacing(tmp_path / "missing" / "a.txt"):
        raise AssertionError("not reached")


WRITER = """
import sys
from pathlib import Path
from addersr.atomic import remove_abandoned, replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    other = tmp_path / ".addersr-other.txt"
    other.write_text("not ours")
    strange = tmp_path / ".addersr-part-strange"
    strange.mkdir()
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        remove_abandoned(tmp_path)
        assert len(os.listdir(tmp_path)) == 3
        writer.kill()
        writer.wait()
        assert len(os.listdir(tmp_path)) == 3
        remove_abandoned(tmp_path)
        assert sorted(os.listdir(tmp_path)) == [other.name, strange.name]


def test_a_writer_whose_file_is_taken_away_before_it_is_locked_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def open_and_lose(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = opened(path, flags, mode)
        monkeypatch.setattr(os, "open", opened)
        remove_abandoned(tmp_path)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with replacing(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "new"
