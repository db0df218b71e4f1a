import errno
import hashlib
import signal
import socket
import ssl
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from urllib.error import URLError

import pytest

from addersr.data import download
from addersr.data.download import Archive, fetch
from addersr.errors import DataError

FOLDER = "LR_bicubic/X2"
PICTURES = {f"{FOLDER}/{i:04}x2.png": bytes([i]) * 100_000 for i in range(1, 6)}

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def content(server, pack):
    server.content = pack["zip"](PICTURES)
    return server.content


@pytest.fixture
def fetched(server, content, tmp_path):
    """Fetches from the server, which may serve something other than the published ``content``."""

    def fetched(root=tmp_path, content=content, size=True):
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        size = len(content) if size else None
        return fetch(Archive(f"{server.url}/set.zip", checksum, {FOLDER: FOLDER}, size), root)

    return fetched


@pytest.fixture
def part(tmp_path):
    return tmp_path / "set.zip.part"


def assert_whole(root):
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert found == PICTURES  # and nothing else: no archive, no temporary file, no lock
    assert not list(root.glob(".unpacking*"))


@pytest.mark.parametrize("size", [True, False], ids=["size published", "size unknown"])
class TestResuming:
    """The same whether the size is known before the server is asked or not."""

    def test_an_archive_is_fetched_and_unpacked(self, server, fetched, tmp_path, size):
        assert fetched(size=size) == [tmp_path / FOLDER]
        assert_whole(tmp_path)
        assert server.asked == [None]

    def test_a_dropped_connection_goes_on_where_it_stopped(self, server, fetched, tmp_path, size):
        server.drop_after, server.drops_left = 150_000, 3
        fetched(size=size)
        assert_whole(tmp_path)
        assert server.asked == [None, "bytes=150000-", "bytes=300000-", "bytes=450000-"]

    def test_a_download_goes_on_after_the_process_ended(self, server, fetched, tmp_path, part, size):
        part.write_bytes(server.content[:123_456])
        fetched(size=size)
        assert_whole(tmp_path)
        assert server.asked == ["bytes=123456-"]

    def test_a_whole_download_is_not_fetched_again(self, server, fetched, tmp_path, part, size):
        part.write_bytes(server.content)
        fetched(size=size)
        assert_whole(tmp_path)
        assert server.asked == ([] if size else [f"bytes={len(server.content)}-"])

    def test_a_server_that_ignores_range_sends_all_again(self, server, fetched, tmp_path, size):
        server.ranges = False
        server.drop_after, server.drops_left = 150_000, 1
        fetched(size=size)
        assert_whole(tmp_path)
        assert server.asked == [None, "bytes=150000-"]

    def test_a_damaged_file_is_refused_deleted_and_fetched_anew(self, server, fetched, tmp_path, size):
        good = server.content
        server.content = good[:1000] + b"?" + good[1001:]
        with pytest.raises(DataError, match=r"set\.zip is damaged: its SHA256 is") as caught:
            fetched(size=size)
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
        server.content = good
        fetched(size=size)
        assert_whole(tmp_path)


def test_what_is_there_is_not_fetched_again(server, fetched):
    fetched()
    fetched()
    assert len(server.asked) == 1


def test_a_part_larger_than_the_file_is_started_anew(fetched, content, tmp_path, part):
    part.write_bytes(b"x" * (len(content) + 1))
    fetched()
    assert_whole(tmp_path)


def test_a_part_larger_than_a_file_of_unknown_size_is_deleted(fetched, content, tmp_path, part):
    part.write_bytes(b"x" * (len(content) + 1))
    with pytest.raises(DataError, match=r"damaged.*deleted"):
        fetched(size=False)
    fetched(size=False)
    assert_whole(tmp_path)


@pytest.mark.parametrize("size", [True, False], ids=["size published", "size unknown"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("chunked", [True, False], ids=["chunks", "no chunks"])
class TestWithoutLength:
    """A server that does not say how long its answer is."""

    @pytest.fixture(autouse=True)
    def _without_length(self, server, ranges, chunked):
        server.length, server.ranges, server.chunked = False, ranges, chunked

    @pytest.mark.parametrize("have", [0, 123_456])
    def test_the_end_of_its_answer_is_that_of_the_file(self, server, fetched, tmp_path, part, size, have):
        part.write_bytes(server.content[:have])
        fetched(size=size)
        assert_whole(tmp_path)
        assert len(server.asked) == 1

    def test_what_is_longer_than_the_file_is_cut_or_refused_and_no_loop(
        self, server, fetched, tmp_path, part, size
    ):
        content, server.content = server.content, server.content + b"more"
        if size:
            fetched()
            assert_whole(tmp_path)
        else:
            with pytest.raises(DataError, match="damaged"):
                fetched(size=False)
            part.write_bytes(content + b"more than there is")
            server.content = content
            if server.ranges:  # which tells that there is no more, and so not where it ends
                with pytest.raises(DataError, match="damaged"):
                    fetched(size=False)
            fetched(size=False)
            assert_whole(tmp_path)
        assert len(server.asked) <= 3


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("length", [True, False])
def test_a_server_that_begins_again_and_breaks_is_given_up_and_nothing_is_lost(
    server, fetched, content, part, length, chunked, capsys
):
    """It never gets as far as what is there."""
    server.length, server.ranges, server.chunked = length, False, chunked
    server.drop_after, server.drops_left = 60_000, 1000
    part.write_bytes(content[:100_000])
    with pytest.raises(DataError, match="cannot be fetched: the connection broke off, 5 times in a row; see"):
        fetched()
    assert len(server.asked) == 5 and part.read_bytes() == content[:100_000]
    assert "the server cannot go on in the middle and sends all of it again" in capsys.readouterr().err


def test_each_attempt_is_told_in_one_line(server, fetched, monkeypatch, capsys):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.status = 503
    with pytest.raises(DataError, match=r"HTTP 503 .*, 5 times in a row; .* run the command again") as caught:
        fetched()
    host = server.url.removeprefix("http://")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"set.zip: {host} answers HTTP 503 Service Unavailable; trying again in {wait:.0f} s ({n} of 5)"
        for n, wait in enumerate(waits, 1)
    ]
    assert waits == [1, 2, 4, 8] and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            URLError(socket.gaierror(-2, "Name or service not known")),
            "the address of a.b cannot be looked up",
        ),
        (URLError(TimeoutError("timed out")), "a.b does not answer"),
        (TimeoutError("The read operation timed out"), "a.b does not answer"),
        (URLError(ConnectionRefusedError(111, "Connection refused")), "a.b refuses the connection"),
        (URLError(OSError(101, "Network is unreachable")), "there is no connection to a.b (Network is unr"),
        (IncompleteRead(b""), "the connection broke off"),
        (ConnectionResetError(104, "Connection reset by peer"), "the connection broke off"),
        (URLError("unknown url type: ftpx"), "there is no connection to a.b (unknown url type: ftpx)"),
    ],
)
def test_what_went_wrong_is_told_in_words(error, reason):
    told = download._reason(error, "https://a.b/set.zip")
    assert told.startswith(reason) and "Errno" not in told and "urlopen" not in told


@pytest.mark.parametrize("have", [0, 1000])
def test_a_file_of_another_size_than_published_is_not_fetched(server, fetched, content, part, have):
    server.content = content[:-10]
    part.write_bytes(content[:have])
    with pytest.raises(DataError, match=f"has {len(content) - 10} bytes on the server, not {len(content)}"):
        fetched()
    assert part.read_bytes() == content[:have]


def test_a_part_that_reaches_beyond_the_servers_file_is_an_error_not_a_loop(server, fetched, content, part):
    server.content = content[:-10]
    part.write_bytes(content[:-5])
    with pytest.raises(DataError, match=r"HTTP 416.*delete that"):
        fetched()


def test_a_server_that_keeps_breaking_is_given_up_and_the_part_is_kept(server, fetched, part):
    server.drop_after, server.drops_left = 0, 100
    part.write_bytes(server.content[:1000])
    with pytest.raises(DataError, match="run the command again"):
        fetched()
    assert len(server.asked) == 5
    assert part.stat().st_size == 1000


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (408, 5), (429, 5), (503, 5)])
def test_a_refusal_is_final_but_a_busy_server_is_asked_again(server, fetched, status, attempts):
    server.status = status
    with pytest.raises(DataError, match=f"HTTP.*{status}"):
        fetched()
    assert len(server.asked) == attempts


def test_no_server_is_a_data_error(server, tmp_path):
    with type(server)() as closed:
        pass
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(Archive(f"{closed.url}/set.zip", "sha256:", {FOLDER: FOLDER}), tmp_path)


def test_a_full_disk_is_told_before_the_download(server, fetched, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: Usage(9, 9, 400_000))
    with pytest.raises(DataError, match=r"has 0\.0 GB free, but set\.zip needs 0\.0 more"):
        fetched()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["_receive", "unpack"])
def test_a_disk_that_fills_up_is_told_in_one_line_and_the_download_kept(
    server, fetched, tmp_path, part, monkeypatch, step
):
    work = getattr(download, step)

    def fill(*args):
        work(*args) if step == "_receive" else (tmp_path / ".unpacking-set.zip").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, step, fill)
    with pytest.raises(DataError, match=r"set\.zip cannot be stored in .*No space left") as caught:
        fetched()
    assert "\n" not in str(caught.value) and part.read_bytes() == server.content
    monkeypatch.undo()
    fetched()
    assert_whole(tmp_path)
    assert len(server.asked) == 1


def test_an_encrypted_connection_that_breaks_is_taken_up_again(fetched, tmp_path, monkeypatch):
    receive, failures = download._receive, [ssl.SSLError("bad record")]

    def break_once(*args):
        if failures:
            raise failures.pop()
        receive(*args)

    monkeypatch.setattr(download, "_receive", break_once)
    fetched()
    assert_whole(tmp_path)


@pytest.mark.parametrize("step", ["_verify", "unpack"])
def test_an_interrupt_leaves_the_download_and_nothing_else(fetched, tmp_path, part, monkeypatch, step):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetched()
    assert list(tmp_path.iterdir()) == [part]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("download._receive", ["set.zip.part"]),
        ("download._verify", ["set.zip.part"]),
        ("shutil.copyfileobj", [".unpacking-set.zip", "set.zip.part"]),
        ("pathlib.Path.unlink", ["LR_bicubic", "set.zip.part"]),
    ],
)
def test_what_a_killed_process_leaves_is_gone_on_with_and_removed(
    server, fetched, content, tmp_path, step, left
):
    code = f"""
import os, pathlib, shutil, signal
from addersr.data import download

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

{step} = die
checksum = "sha256:{hashlib.sha256(content).hexdigest()}"
archive = download.Archive("{server.url}/set.zip", checksum, {{"{FOLDER}": "{FOLDER}"}}, {len(content)})
download.fetch(archive, pathlib.Path("."))
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*left, ".set.zip.lock"])
    fetched()
    assert_whole(tmp_path)


def test_what_is_left_beside_a_whole_folder_is_removed(server, fetched, tmp_path, part):
    fetched()
    part.write_bytes(server.content)
    (tmp_path / ".unpacking-set.zip").mkdir()
    fetched()
    assert_whole(tmp_path)
    assert len(server.asked) == 1


def test_two_downloads_at_once_fetch_once(server, fetched, tmp_path, capsys):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(fetched) for _ in range(2)]
        assert [job.result() for job in jobs] == [[tmp_path / FOLDER]] * 2
    assert_whole(tmp_path)
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_written_is_a_data_error(fetched, tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(DataError, match="cannot be stored"):
        fetched(tmp_path / "root")


def test_of_a_large_archive_only_what_is_wanted_and_missing_is_unpacked(server, pack, tmp_path):
    server.content = pack["tar"]({f"Set/{name}/1.png": name.encode() for name in ("HR", "X2", "X3", "X4")})
    checksum = f"md5:{hashlib.md5(server.content, usedforsecurity=False).hexdigest()}"
    folders = {"Set_HR": "Set/HR", "LR/X2": "Set/X2", "LR/X3": "Set/X3"}
    archive = Archive(f"{server.url}/Set.tar", checksum, folders)
    assert fetch(archive, tmp_path, ["Set_HR"]) == [tmp_path / "Set_HR"]
    assert [path.name for path in tmp_path.iterdir()] == ["Set_HR"]
    (tmp_path / "Set_HR" / "1.png").write_bytes(b"mine")
    fetch(archive, tmp_path, ["Set_HR", "LR/X3"])
    fetch(archive, tmp_path, ["LR/X3"])
    found = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"Set_HR/1.png": b"mine", "LR/X3/1.png": b"X3"}
    assert len(server.asked) == 2
