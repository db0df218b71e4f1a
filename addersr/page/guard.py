"""What stands between the network and gradio: it refuses what the page never asks for, and bounds what is sent.

Gradio offers more routes than this page uses, some of which fetch an address for the caller. Here nothing is fetched
for anybody, and what one request, and all of them together, can put on the disk or into memory has a limit.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias

from addersr.page.results import used

__all__ = ["Guard"]

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


class Guard:
    """ASGI middleware.

    Args:
        app: gradio's.
        folder: where uploads and results lie.
        most: bytes of one upload, all its files together.
        disk: bytes of all files in ``folder``, with the uploads that are under way.
    """

    def __init__(self, app: App, folder: Path, most: int, disk: int) -> None:
        self._app, self._folder, self._most, self._disk = app, folder, most, disk
        self._under_way = 0  # bytes that have been announced

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        part = path.removeprefix(_API).lstrip("/") if path.startswith(_API) else ""
        if part.startswith(_UNUSED) or (part.startswith(_FILES) and "://" in part):
            await _answer(send, 404, "There is no such page here.")
        elif scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif (length := _length(scope)) is None:
            await _answer(send, 411, "Say how long it is (Content-Length).")
        elif part.rstrip("/") == _UPLOAD:
            await self._upload(scope, receive, send, length)
        else:
            await self._form(scope, receive, send, length)

    async def _upload(self, scope: Message, receive: Receive, send: Send, length: int) -> None:
        if length > self._most + _ENVELOPE:
            await _answer(send, 413, "These are too many bytes at once; upload fewer or smaller pictures.")
        elif used(self._folder) + self._under_way + length > self._disk:
            await _answer(send, 507, "There is no more room for pictures at present; try again in an hour.")
        else:
            self._under_way += length
            try:
                await self._app(scope, receive, send)
            finally:
                self._under_way -= length

    async def _form(self, scope: Message, receive: Receive, send: Send, length: int) -> None:
        if length > _LARGEST_FORM:
            await _answer(send, 413, "This is too long.")
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # the other side has gone
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if _names_an_address(body):
            await _answer(send, 400, "Nothing is fetched from an address; upload the picture.")
            return
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)


def _length(scope: Message) -> int | None:
    """Of the body in bytes, which the server in front holds the sender to; None where it does not.

    A body in chunks is as long as its chunks are, whatever else is said of its length.
    """
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and b"transfer-encoding" not in headers else None


def _names_an_address(body: bytes) -> bool:
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
