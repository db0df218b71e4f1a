"""The guard by itself; in front of gradio it is tested in tests/app."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect

from addersr.page import guard as guard_module
from addersr.page.guard import Guard


class Server:
    """What is behind the guard, and what came through to it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask(guard, path, *, body=None, length=True, chunked=False, parts=1, **others):
    """The status of an answer; ``others`` are further headers."""
    method = "GET" if body is None else "POST"
    body = body or b""
    step = -(-len(body) // parts) or 1
    pieces = [body[i : i + step] for i in range(0, len(body), step)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]
    answers = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        answers.append(message)

    headers = [(b"content-length", str(len(body)).encode())] if length else []
    headers += [(b"transfer-encoding", b"chunked")] if chunked else []
    headers += [(name.encode(), value.encode()) for name, value in others.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(guard(scope, receive, send))
    return answers[0]["status"]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def guard(server, store):
    store.most = 100_000
    return Guard(server, store, most=1000)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/assets/proxy=x",
        "/gradio_api/info",
        "/gradio_api/file=uploads/a.png",
        "/gradio_api/queue/data",
    ],
)
def test_what_the_page_needs_passes(guard, server, path):
    assert ask(guard, path) == 200
    assert server.bodies == [b""]


@pytest.mark.parametrize(
    "path",
    ["proxy=https://a.hf.space", "file=https://example.org/a.png", "file=http://127.0.0.1/", "file/http://a", "/proxy=",
     "vibe-code", "component_server", "process_recording", "deep_link", "api/upscale", "stream/1/2/3/playlist.m3u8"],
)  # fmt: skip
def test_what_it_does_not_need_is_not_there(guard, server, path):
    assert ask(guard, f"/gradio_api/{path}") == 404
    assert ask(guard, f"/gradio_api/{path}", body=b"{}") == 404
    assert server.bodies == []


def call(path):
    return json.dumps({"data": [[{"path": path, "meta": {"_type": "gradio.FileData"}}], 2]}).encode()


@pytest.mark.parametrize("parts", [1, 5])
def test_a_call_passes_as_it_is(guard, server, parts):
    assert ask(guard, "/gradio_api/call/upscale", body=call("uploads/a.png"), parts=parts) == 200
    assert server.bodies == [call("uploads/a.png")]


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/a.png", "https://example.org/a.png", "file:///etc/passwd"]
)
def test_a_call_that_names_an_address_is_refused(guard, server, address):
    assert ask(guard, "/gradio_api/queue/join", body=call(address), parts=3) == 400
    assert server.bodies == []


def test_the_length_of_a_call_has_a_limit(guard, server):
    assert ask(guard, "/gradio_api/queue/join", body=bytes(2**20 + 1)) == 413
    assert ask(guard, "/gradio_api/queue/join", body=b"{}", length=False) == 411
    assert ask(guard, "/gradio_api/queue/join", body=b"{}", chunked=True) == 411
    assert (
        ask(guard, "/gradio_api/queue/join", body=b"[" * 2**19) == 200
    )  # gradio's matter, and no crash of ours
    assert len(server.bodies) == 1


def test_uploads_have_limits(guard, server, store):
    assert ask(guard, "/gradio_api/upload", body=bytes(1000)) == 200
    assert ask(guard, "/gradio_api/upload", body=bytes(1000 + 2**16 + 1)) == 413
    assert ask(guard, "/gradio_api/upload", body=b"x", length=False) == 411
    assert ask(guard, "/gradio_api/upload", body=b"x", chunked=True) == 411
    (store.folder / "there").mkdir()
    (store.folder / "there" / "a.png").write_bytes(bytes(22 * 4096))
    assert store.most - store.used() == 5792
    assert ask(guard, "/gradio_api/upload/", body=bytes(5793)) == 507
    assert ask(guard, "/gradio_api/upload", body=bytes(5792)) == 200
    assert [len(body) for body in server.bodies] == [1000, 5792]


def test_uploads_that_are_under_way_count_by_what_has_come(store):
    """Each fits by itself; the first to go beyond is broken off, and who only announces keeps nobody out."""
    got = []

    async def app(scope, receive, send):
        name, more = scope["path"], True
        if not got:
            got.append(name)
            status.append(await asyncio.to_thread(ask, guard, "/gradio_api/upload/", body=bytes(6000)))
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message["more_body"]
        got.append(name)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    status: list[int] = []
    store.most = 10_000
    guard = Guard(app, store, most=10_000)
    with pytest.raises(IndexError):  # no answer
        ask(guard, "/gradio_api/upload", body=bytes(6000), parts=3)
    assert status == [200] and got == ["/gradio_api/upload", "/gradio_api/upload/"]
    got.append("again")
    assert ask(guard, "/gradio_api/upload", body=bytes(6000)) == 200


def test_an_upload_that_trickles_is_given_up(store, monkeypatch):
    monkeypatch.setattr(guard_module, "_PATIENCE", 5.0)
    monkeypatch.setattr(guard_module, "_SLOWEST", 1000)
    told = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            told.append(message)

    async def slowly():
        await asyncio.sleep(0.1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    scope = {
        "type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": [(b"content-length", b"5000")],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(Guard(app, store, most=5000)(scope, slowly, slowly), 60))
    assert 1 <= len(told) < 100


def test_what_is_left_of_an_upload_that_breaks_off_goes(store):
    """As gradio has it: in a file beside the folders, which another upload that goes on has, too."""

    async def app(scope, receive, send):
        inner.append(store.folder / f"tmp{len(inner)}")
        mine = inner[-1]
        mine.write_bytes(b"half")
        if len(inner) == 1:
            second = asyncio.to_thread(ask, guard, "/gradio_api/upload", body=b"second")
            with pytest.raises(IndexError):  # it has no answer either
                await second
            kept.append(mine.exists())
        raise ClientDisconnect

    inner: list[Path] = []
    kept: list[bool] = []
    guard = Guard(app, store, most=1000)
    with pytest.raises(IndexError):
        ask(guard, "/gradio_api/upload", body=b"first")
    assert kept == [True]
    assert len(inner) == 2 and list(store.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "passed_on"), [("upload", [{"type": "http.disconnect"}]), ("queue/join", [])]
)
def test_what_pauses_for_too_long_is_given_up(store, monkeypatch, path, passed_on):
    monkeypatch.setattr(guard_module, "_PATIENCE", 0.01)
    told = []

    async def app(scope, receive, send):
        told.append(await receive())

    async def never():
        await asyncio.Event().wait()

    scope = {
        "type": "http", "method": "POST", "path": f"/gradio_api/{path}", "headers": [(b"content-length", b"5")],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(Guard(app, store, most=1000)(scope, never, never), 60))
    assert told == passed_on


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:7860", 200), ("127.0.0.1", 200), ("[::1]:7860", 200), ("LOCALHOST", 200),
        ("pictures.example", 200), ("evil.example:7860", 421), ("127.0.0.1.evil.example", 421), ("", 421),
        ("[::1", 421),
    ],
)  # fmt: skip
def test_it_answers_to_its_own_names_alone(server, store, host, status):
    assert ask(Guard(server, store, most=1000, names={"pictures.example"}), "/", host=host) == status
    assert ask(Guard(server, store, most=1000), "/", host=host) == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:7860", 200), ("https://pictures.example", 200), ("http://127.0.0.1:3000", 403),
        ("https://evil.example", 403), ("null", 403), ("http://[", 403), ("http://127.0.0.1:7860@evil.example", 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["upload", "queue/join", "upload_progress"])
def test_other_sites_may_not_use_it(server, store, origin, status, path):
    guard = Guard(server, store, most=1000, names={"pictures.example", "127.0.0.1"})
    headers = {"host": "127.0.0.1:7860", "origin": origin}
    body = None if path == "upload_progress" else b"{}"
    assert ask(guard, f"/gradio_api/{path}", body=body, **headers) == status
    assert len(server.bodies) == (status == 200)
