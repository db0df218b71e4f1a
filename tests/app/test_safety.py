"""What the running program refuses. Each request is one that gradio, or an earlier release of it, would answer."""

import re
import socket
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def server(address):
    with httpx.Client(base_url=address, timeout=60) as server:
        yield server


@pytest.fixture
def elsewhere():
    """Another server on this computer, and who has asked it for something."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}", asked
        other.shutdown()
        thread.join()


def upload(server, path, name=None):
    with Path(path).open("rb") as file:
        return server.post("gradio_api/upload", files={"files": (name or Path(path).name, file)})


def call(server, file):
    """How a call ends: its last event, or the status with which it was refused."""
    body = {"data": [[{**file, "meta": {"_type": "gradio.FileData"}}], "tiny", 2, "float32", False]}
    answer = server.post("gradio_api/call/upscale", json=body)
    if answer.status_code != 200:
        return answer.status_code, answer.text
    events = server.get(f"gradio_api/call/upscale/{answer.json()['event_id']}").text
    return re.findall("^event: (.*)$", events, re.MULTILINE)[-1], events


def test_what_was_uploaded_is_read(server, photo):
    (path,) = upload(server, photo).json()
    end, events = call(server, {"path": path})
    assert end == "complete" and "holiday_x2.jpg" in events


def test_no_other_file_of_the_computer_is_read(server, photo, folder, weights):
    inside = upload(server, photo).json()[0]
    around = f"{Path(inside).parent}/../../{photo.relative_to('/')}"
    for path in (str(photo), str(weights), "/etc/passwd", around, f"{folder}/../..{photo}"):
        end, events = call(server, {"path": path})
        assert end == "error", path
        assert "holiday_x2" not in events


def test_no_other_file_is_given_out(server, photo, folder, weights):
    root = Path(__file__).parents[2]
    paths = [
        "/etc/passwd", "../../../../etc/passwd", f"{folder}/../../../../../etc/passwd", str(photo), str(weights),
        str(root / "app.py"), "app.py", "./README.md", str(root / "data" / "samples" / "LICENSES.md"),
    ]  # fmt: skip
    for path in paths:
        for place in ("gradio_api/file=", "gradio_api/file/", "file="):
            for written in (path, path.replace("/", "%2f").replace(".", "%2e")):
                answer = server.get(place + written)
                assert answer.status_code in (403, 404), (place, written)
    for path in (
        "assets/..%2f..%2f..%2frequirements.txt",
        "static/..%2f..%2fapp.py",
        "svelte/%2e%2e/%2e%2e/routes.py",
    ):
        assert server.get(path).status_code in (403, 404), path


@pytest.mark.parametrize(
    "name", ["../../../escaped.jpg", "{outside}/escaped.jpg", "..\\escaped.jpg", "a\x00b.jpg"]
)
def test_an_upload_stays_where_uploads_are(server, photo, folder, name):
    answer = upload(server, photo, name.format(outside=folder.parent))
    if answer.status_code == 200:
        (path,) = answer.json()
        assert Path(path).resolve().is_relative_to(folder)
        assert call(server, {"path": path})[0] == "complete"
    assert not any(p for p in folder.parent.rglob("*escaped*") if not p.is_relative_to(folder))


def test_nothing_is_fetched_from_an_address(server, elsewhere):
    address, asked = elsewhere
    picture = f"{address}/picture.png"
    for file in ({"path": picture}, {"path": picture, "url": picture}):
        assert call(server, file)[0] == 400
    assert call(server, {"path": "nowhere.png", "url": picture})[0] == "error"
    for place in ("gradio_api/file=", "gradio_api/file/", "gradio_api/proxy=", "file=", "proxy="):
        assert server.get(f"{place}{picture}").status_code in (400, 403, 404), place
    assert asked == []


def test_uploads_that_are_too_large(serve, tmp_path):
    big, fits = tmp_path / "big.png", tmp_path / "fits.png"
    big.write_bytes(bytes(1_000_001))
    fits.write_bytes(bytes(900_000))
    with (
        serve("--max-upload", "1") as (address, folder),
        httpx.Client(base_url=address, timeout=60) as server,
    ):
        assert upload(server, big).status_code == 413
        assert upload(server, fits).status_code == 200
        many = [("files", (f"{i}.png", bytes(900_000))) for i in range(23)]
        assert server.post("gradio_api/upload", files=many).status_code == 413
        left = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert left < 3_000_000


def test_a_picture_that_is_too_large_when_unpacked(server, tmp_path):
    Image.fromarray(np.zeros((8000, 8000), np.uint8)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 200_000
    (path,) = upload(server, tmp_path / "bomb.png").json()
    end, events = call(server, {"path": path})
    assert end == "complete" and "8000 x 8000 is too many pixels" in events


def test_it_tells_nobody_where_its_files_are(server, text):
    (path,) = upload(server, text).json()
    _, events = call(server, {"path": path})
    assert "not a PNG" in events and str(Path(path).parent) not in events


def test_another_site_may_not_use_it(server, photo):
    theirs = {"Origin": "https://example.org"}
    with photo.open("rb") as file:
        assert server.post("gradio_api/upload", files={"files": file}, headers=theirs).status_code == 403
    asked = {**theirs, "Access-Control-Request-Method": "POST"}
    answer = server.options("gradio_api/call/upscale", headers=asked)
    assert answer.headers.get("access-control-allow-origin") not in ("*", "https://example.org")
    assert server.get("", headers={"Host": "example.org"}).status_code == 421


def test_an_upload_that_breaks_off_leaves_nothing(address, server, folder, photo):
    url = httpx.URL(address)
    before = set(folder.iterdir())
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nContent-Length: 900000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    )
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode() + bytes(500_000))
        while set(folder.iterdir()) == before:  # until it has begun
            time.sleep(0.01)
    deadline = time.monotonic() + 60
    while set(folder.iterdir()) != before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_no_file_or_has_gone_is_to_be_uploaded_again(server, photo):
    (path,) = upload(server, photo).json()
    for gone in (str(Path(path).parent), path):
        Path(path).unlink(missing_ok=True)
        _, events = call(server, {"path": gone})
        assert "no longer here; upload it again" in events
