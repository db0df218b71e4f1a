"""What stands between the network and gradio: it refuses what the page never asks for, and bounds what is sent.

Gradio offers more routes than this page uses, some of which fetch an address for the caller. Here nothing is fetched
for anybody; what one request, and all of them together, can put on the disk or into memory has a limit; and a site that
somebody looks at beside this page cannot make his browser use it.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from addersr.page.store import Store

__all__ = ["Guard", "is_loopback"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_API = "/gradio_api/"
_UNUSED = (
    "api/",
    "component_server",
    "deep_link",
    "dev/",
    "process_recording",
    "proxy=",
    "run-history",
    "runs",
    "stream/",
    "undo-vibe",
    "vibe",
)
"""What is behind these is of no use here."""

_FILES = ("file=", "file/")
_UPLOAD = "upload"
_LARGEST_FORM = 2**20  # bytes of any request but an upload
_ENVELOPE = 2**16  # bytes of an upload beside its files
_PATIENCE = 60.0  # seconds for the next piece of what is sent, and before the rate of an upload counts
_SLOWEST = 20_000  # bytes a second of an upload


class Guard:
    """ASGI middleware.

    Args:
        app: gradio's.
        store: takes uploads and results, within its limit.
        most: bytes of one upload, all its files together.
        names: by which the page may be called, beside those of this computer itself (`is_loopback`); None for any, and
            then a site whose name is made to point here ("DNS rebinding") is taken for the page.
    """

    def __init__(self, app: App, store: Store, most: int, names: Collection[str] | None = None) -> None:
        self._app, self._store, self._most, self._names = app, store, most, names
        self._under_way: list[float] = []  # when the uploads began
        self._received = 0  # bytes of all uploads ever

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        part = path.removeprefix(_API).lstrip("/") if path.startswith(_API) else ""
        if not self._is_named(_host_of(f"//{headers.get(b'host', '')}")):
            await _answer(send, 421, "The page is not known by this name; --allow-host NAME makes it so.")
        elif self._is_foreign(headers):
            await _answer(send, 403, "Another site has asked for this.")
        elif part.startswith(_UNUSED) or (part.startswith(_FILES) and "://" in part):
            await _answer(send, 404, "There is no such page here.")
        elif scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif (length := _length(headers)) is None:
            await _answer(send, 411, "Say how long it is (Content-Length).")
        elif part.rstrip("/") == _UPLOAD:
            await self._upload(scope, receive, send, length)
        else:
            await self._form(scope, receive, send, length)

    def _is_named(self, host: str) -> bool:
        return self._names is None or host in self._names or is_loopback(host)

    def _is_foreign(self, headers: dict[bytes, str]) -> bool:
        """Whether a browser sends this for another site; who is no browser does not say."""
        origin = headers.get(b"origin")
        if origin is None:
            return False
        host = _host_of(origin)
        if host in (self._names or ()) and not is_loopback(host):  # a proxy may call it by another name
            return False
        return origin.partition("://")[2] != headers.get(b"host", "")

    async def _upload(self, scope: Message, receive: Receive, send: Send, length: int) -> None:
        if length > self._most + _ENVELOPE:
            await _answer(send, 413, "These are too many bytes at once; upload fewer or smaller pictures.")
            return
        room = self._store.most - await asyncio.to_thread(self._store.used)
        if length > room:
            await _answer(send, 507, "There is no more room for pictures at present; try again in an hour.")
            return
        begun, before, received = time.time(), self._received, 0

        async def next_piece() -> Message:
            nonlocal received
            try:
                message = await asyncio.wait_for(receive(), _PATIENCE)
            except TimeoutError:
                return {"type": "http.disconnect"}
            size = len(message.get("body", b""))
            received, self._received = received + size, self._received + size
            seconds = time.time() - begun
            too_slow = seconds > _PATIENCE and received < min(seconds * _SLOWEST, length)
            # Others that came meanwhile take of the same room.
            too_much = self._received - before > room
            return {"type": "http.disconnect"} if too_slow or too_much else message

        self._under_way.append(begun)
        try:
            await self._app(scope, next_piece, send)
        except ClientDisconnect:  # nobody is there to be told
            pass
        finally:
            self._under_way.remove(begun)
            self._store.sweep_aborted(min(self._under_way, default=float("inf")))

    async def _form(self, scope: Message, receive: Receive, send: Send, length: int) -> None:
        if length > _LARGEST_FORM:
            await _answer(send, 413, "This is too long.")
            return
        body, more = bytearray(), True
        while more:
            try:
                message = await asyncio.wait_for(receive(), _PATIENCE)
            except TimeoutError:
                return
            if message["type"] != "http.request":  # the other side has gone
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if _names_an_address(body):
            await _answer(send, 400, "Nothing is fetched from an address; upload the picture.")
            return
        waiting = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is that of this computer itself, which no other reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(address: str) -> str:
    """Of a URL, without its port; empty where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _length(headers: dict[bytes, str]) -> int | None:
    """Of the body in bytes, which the server in front holds the sender to; None where it does not.

    A body in chunks is as long as its chunks are, whatever else is said of its length.
    """
    length = headers.get(b"content-length", "")
    return int(length) if length.isdecimal() and b"transfer-encoding" not in headers else None


def _names_an_address(body: bytes | bytearray) -> bool:
    """Whether a file in a call is an address, which gradio would fetch."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):  # a form, or what gradio itself refuses
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and "://" in path:
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
