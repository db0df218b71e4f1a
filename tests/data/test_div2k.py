import hashlib
import io
import signal
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from addersr.data import div2k
from addersr.data.div2k import Archive, fetch, fetch_missing, published_lr
from addersr.errors import DataError

NAME = "DIV2K_train_LR_bicubic_X2"
FOLDER = "DIV2K_train_LR_bicubic/X2"
PICTURES = {f"{FOLDER}/{i:04}x2.png": bytes([i]) * 100_000 for i in range(1, 6)}


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one file in the ways in which servers and networks fail."""

    content = b""
    ranges = True
    drop_after = 0  # bytes of a response after which the connection breaks; 0: never
    drops_left = 0
    status = 200  # instead of the file, if not 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            return self.send_error(server.status)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if wanted and server.ranges and start >= len(server.content):
            return self.send_error(416)
        body = server.content[start:]
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.drops_left:
            server.drops_left -= 1
            body = body[: server.drop_after]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.content = zip_of(PICTURES)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(div2k.time, "sleep", lambda seconds: None)


def fetched(server: Server, root, content: bytes | None = None):
    """Fetches from the server, which may serve something other than the published ``content``."""
    content = server.content if content is None else content
    archive = Archive(len(content), hashlib.sha256(content).hexdigest(), FOLDER)
    return fetch(NAME, root, {NAME: archive}, server.url)


def assert_whole(root):
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert found == PICTURES  # and nothing else: no archive, no temporary file


def test_an_archive_is_fetched_and_unpacked(server, tmp_path):
    assert fetched(server, tmp_path) == tmp_path / FOLDER
    assert_whole(tmp_path)
    assert server.asked == [None]


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    fetched(server, tmp_path)
    fetched(server, tmp_path)
    assert len(server.asked) == 1


def test_a_dropped_connection_goes_on_where_it_stopped(server, tmp_path):
    server.drop_after, server.drops_left = 150_000, 3
    fetched(server, tmp_path)
    assert_whole(tmp_path)
    assert server.asked == [None, "bytes=150000-", "bytes=300000-", "bytes=450000-"]


def test_a_download_goes_on_after_the_process_ended(server, tmp_path):
    (tmp_path / f"{NAME}.zip.part").write_bytes(server.content[:123_456])
    fetched(server, tmp_path)
    assert_whole(tmp_path)
    assert server.asked == ["bytes=123456-"]


def test_a_whole_download_is_only_checked_and_unpacked(server, tmp_path):
    (tmp_path / f"{NAME}.zip.part").write_bytes(server.content)
    fetched(server, tmp_path)
    assert_whole(tmp_path)
    assert server.asked == []


def test_a_server_that_ignores_range_sends_all_again(server, tmp_path):
    server.ranges = False
    server.drop_after, server.drops_left = 150_000, 1
    fetched(server, tmp_path)
    assert_whole(tmp_path)
    assert server.asked == [None, "bytes=150000-"]


def test_a_part_larger_than_the_file_is_started_anew(server, tmp_path):
    (tmp_path / f"{NAME}.zip.part").write_bytes(b"x" * (len(server.content) + 1))
    fetched(server, tmp_path)
    assert_whole(tmp_path)


def test_a_damaged_file_is_refused_deleted_and_fetched_anew(server, tmp_path):
    good = server.content
    server.content = good[:1000] + b"?" + good[1001:]
    with pytest.raises(DataError, match=r"zip is damaged: its SHA-256 is"):
        fetched(server, tmp_path, good)
    assert not list(tmp_path.iterdir())
    server.content = good
    fetched(server, tmp_path)
    assert_whole(tmp_path)


@pytest.mark.parametrize("have", [0, 1000])
def test_a_file_of_another_size_than_published_is_not_fetched(server, tmp_path, have):
    good = server.content
    server.content = good[:-10]
    (tmp_path / f"{NAME}.zip.part").write_bytes(good[:have])
    with pytest.raises(DataError, match=f"has {len(good) - 10} bytes on the server, not {len(good)}"):
        fetched(server, tmp_path, good)


def test_a_part_that_reaches_beyond_the_servers_file_is_an_error_not_a_loop(server, tmp_path):
    good = server.content
    server.content = good[:-10]
    (tmp_path / f"{NAME}.zip.part").write_bytes(good[:-5])
    with pytest.raises(DataError, match="HTTP 416"):
        fetched(server, tmp_path, good)


def test_a_server_that_keeps_breaking_is_given_up_and_the_part_is_kept(server, tmp_path):
    server.drop_after, server.drops_left = 0, 100
    (tmp_path / f"{NAME}.zip.part").write_bytes(server.content[:1000])
    with pytest.raises(DataError, match="run the command again"):
        fetched(server, tmp_path)
    assert len(server.asked) == 5
    assert (tmp_path / f"{NAME}.zip.part").stat().st_size == 1000


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (408, 5), (429, 5), (503, 5)])
def test_a_refusal_is_final_but_a_busy_server_is_asked_again(server, tmp_path, status, attempts):
    server.status = status
    with pytest.raises(DataError, match=f"HTTP.*{status}"):
        fetched(server, tmp_path)
    assert len(server.asked) == attempts


def test_no_server_is_a_data_error(tmp_path):
    with Server() as closed:
        pass
    with pytest.raises(DataError, match="cannot be fetched"):
        fetched(closed, tmp_path, b"content")


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", f"{FOLDER}/../../../evil.png", "C:\\evil.png"])
def test_an_archive_that_would_write_elsewhere_is_refused(server, tmp_path, name):
    server.content = zip_of({**PICTURES, name: b"evil"})
    with pytest.raises(DataError, match="written elsewhere"):
        fetched(server, tmp_path / "root")
    assert not (tmp_path / "root" / FOLDER).exists()
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_in_an_archive_is_refused(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo(f"{FOLDER}/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    server.content = buffer.getvalue()
    with pytest.raises(DataError, match="written elsewhere"):
        fetched(server, tmp_path)


@pytest.mark.parametrize("content", [b"no zip at all", zip_of({"OTHER/0001.png": b"x"})])
def test_an_archive_without_the_pictures_is_refused(server, tmp_path, content):
    server.content = content
    with pytest.raises(DataError, match=r"cannot be unpacked|holds no folder"):
        fetched(server, tmp_path)
    assert not (tmp_path / "DIV2K_train_LR_bicubic").exists()


def test_another_scale_is_unpacked_beside_the_first(server, tmp_path):
    other = tmp_path / "DIV2K_train_LR_bicubic" / "X3" / "0001x3.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"3")
    fetched(server, tmp_path)
    assert other.read_bytes() == b"3" and (tmp_path / FOLDER / "0001x2.png").is_file()


def test_an_encrypted_connection_that_breaks_is_taken_up_again(server, tmp_path, monkeypatch):
    receive, failures = div2k._receive, [ssl.SSLError("bad record")]

    def break_once(*args):
        if failures:
            raise failures.pop()
        receive(*args)

    monkeypatch.setattr(div2k, "_receive", break_once)
    fetched(server, tmp_path)
    assert_whole(tmp_path)


@pytest.mark.parametrize("step", ["_verify", "_check_member"])
def test_an_interrupt_leaves_the_download_and_nothing_else(server, tmp_path, monkeypatch, step):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(div2k, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetched(server, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.zip.part"]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("div2k._receive", []),
        ("div2k._verify", [f"{NAME}.zip.part"]),
        ("zipfile.ZipFile.extract", [f".unpacking-{NAME}", f"{NAME}.zip.part"]),
        ("pathlib.Path.unlink", ["DIV2K_train_LR_bicubic", f"{NAME}.zip.part"]),
    ],
)
def test_what_a_killed_process_leaves_is_gone_on_with_and_removed(server, tmp_path, step, left):
    code = f"""
import os, pathlib, signal, zipfile
from addersr.data import div2k

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)

{step} = die
archive = div2k.Archive({len(server.content)}, "{hashlib.sha256(server.content).hexdigest()}", "{FOLDER}")
div2k.fetch("{NAME}", pathlib.Path("."), {{"{NAME}": archive}}, "{server.url}")
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGTERM, killed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left)
    fetched(server, tmp_path)
    assert_whole(tmp_path)
    assert not list(tmp_path.glob(".unpacking*"))


def test_what_is_left_beside_a_whole_folder_is_removed(server, tmp_path):
    fetched(server, tmp_path)
    (tmp_path / f"{NAME}.zip.part").write_bytes(server.content)
    (tmp_path / f".unpacking-{NAME}").mkdir()
    fetched(server, tmp_path)
    assert_whole(tmp_path)
    assert not list(tmp_path.glob(".unpacking*"))
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_written_is_a_data_error(server, tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(DataError, match="cannot be stored"):
        fetched(server, tmp_path / "root")


def test_only_missing_folders_of_the_layout_are_fetched(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(div2k, "fetch", lambda name, root: asked.append((name, root)))
    fetch_missing([tmp_path / "DIV2K_valid_HR", tmp_path / "mine_HR", "mine"], 3)
    assert asked == [("DIV2K_valid_HR", tmp_path), ("DIV2K_valid_LR_bicubic_X3", tmp_path)]


def test_the_published_archives_are_described():
    assert len(div2k.ARCHIVES) == 8
    for name, archive in div2k.ARCHIVES.items():
        assert archive.folder.replace("/", "_") == name
        assert archive.size > 30_000_000 and len(bytes.fromhex(archive.sha256)) == 32


def test_lr_is_found_by_the_published_name(tmp_path):
    hr = tmp_path / "DIV2K_valid_HR" / "0801.png"
    lr = tmp_path / "DIV2K_valid_LR_bicubic" / "X4" / "0801x4.png"
    lr.parent.mkdir(parents=True)
    assert published_lr(hr, 4) is None
    lr.touch()
    assert published_lr(hr, 4) == lr
    assert published_lr(tmp_path / "pictures" / "0801.png", 4) is None
