"""Pictures to build data sets of, archives of them, and a server that fails as servers and networks do."""

import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from addersr.data import download

MakePictures = Callable[..., list[Path]]


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """make_pictures(folder, count, height, width) writes random PNGs, which differ from each other."""

    def make(
        folder: str, count: int = 3, height: int = 24, width: int = 30, suffix: str = ".png"
    ) -> list[Path]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        paths = [tmp_path / folder / f"{index:04}{suffix}" for index in range(count)]
        for path in paths:
            random = np.random.default_rng(len(path.name) + int(path.stem))
            Image.fromarray(random.integers(256, size=(height, width, 3), dtype=np.uint8)).save(path)
        return paths

    return make


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def pack() -> dict[str, Callable[[dict[str, bytes]], bytes]]:
    """pack["zip"]({name: content}) is an archive, pack["tar"] likewise."""
    return {"zip": _zip, "tar": _tar}


class Server(ThreadingHTTPServer):
    """Serves one file, whatever the address says."""

    content = b""
    ranges = True
    length = True  # says how long a response is
    chunked = False  # sends it in chunks, without its length
    drop_after = 0  # bytes of a response after which the connection breaks; 0: never
    drops_left = 0
    status = 200  # instead of the file, if not 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # as chunks need
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
        self.close_connection = True
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.length and not server.chunked:
            self.send_header("Content-Length", str(len(body)))
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        dropped = server.drops_left > 0
        if dropped:
            server.drops_left -= 1
            body = body[: server.drop_after]
        if server.chunked:
            chunks = (body[i : i + 60_000] for i in range(0, len(body), 60_000))
            body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            body += b"" if dropped else b"0\r\n\r\n"
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server; between attempts nobody waits."""
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
