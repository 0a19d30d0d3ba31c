"""What the workloads without a framework ask for, by path, as WSGI and as ASGI; `wsgi_hello` and its like answer "/"."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sniffio

from benchmarks.apps import asgi_hello, wsgi_hello

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from wsgiref.types import StartResponse, WSGIEnvironment

FILE_VARIABLE: Final = "BENCHMARK_FILE"
"""The environment variable with the path of the file that "/file" sends."""

FILE_BYTES: Final = 100 * 1024
LARGE_BYTES: Final = 1024 * 1024
WAIT_SECONDS: Final = 0.010
COMPUTE_PATH: Final = "/compute/"
"""Before the milliseconds of CPU time."""

_LARGE = bytes(LARGE_BYTES)
_RECORDS = [{"id": number, "name": f"record {number:04}", "open": True} for number in range(22)]
_CHUNK_BYTES = 64 * 1024


def make_json() -> bytes:
    """Encode a list of small records: about 1 KiB."""
    return json.dumps(_RECORDS).encode()


def compute(milliseconds: float) -> None:
    """Use so much CPU time in this thread, however long that takes."""
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        for _ in range(200):
            pass


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by path."""
    path = environ["PATH_INFO"]
    if path == "/":
        return wsgi_hello(environ, start_response)
    if path == "/file":
        file = Path(os.environ[FILE_VARIABLE]).open("rb")  # noqa: SIM115 - the server closes it
        start_response("200 OK", _head(FILE_BYTES))
        if wrapper := environ.get("wsgi.file_wrapper"):
            return wrapper(file, _CHUNK_BYTES)  # type: ignore[no-any-return]
        with file:
            return [file.read()]
    body = _answer(path, environ["wsgi.input"].read) if path != "/wait" else _wait()
    start_response("200 OK", _head(len(body)))
    return [body]


def _head(length: int) -> list[tuple[str, str]]:
    return [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))]


def _wait() -> bytes:
    time.sleep(WAIT_SECONDS)
    return b"waited"


def _answer(path: str, read: Callable[[], bytes]) -> bytes:
    if path == "/json":
        return make_json()
    if path == "/large":
        return _LARGE
    if path == "/pid":
        return b"%d" % os.getpid()
    if path.startswith(COMPUTE_PATH):
        compute(float(path.removeprefix(COMPUTE_PATH)))
        return b"computed"
    return b"%d" % len(read())  # "/upload"


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer by path; a WebSocket gets its messages back."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["type"] == "lifespan" or (path := scope["path"]) == "/":
        await asgi_hello(scope, receive, send)
    elif path == "/file":
        await _send_file(scope, send)
    else:
        if path == "/wait":
            await _sleep()
            body = b"waited"
        elif path == "/upload":
            body = b"%d" % await _count(receive)
        else:
            body = _answer(path, bytes)
        await send(_start(len(body)))
        await send({"type": "http.response.body", "body": body})


def _start(length: int) -> dict[str, Any]:
    headers = [(name.lower().encode(), value.encode()) for name, value in _head(length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _sleep() -> None:
    if sniffio.current_async_library() == "trio":
        import trio

        await trio.sleep(WAIT_SECONDS)
    else:
        import asyncio

        await asyncio.sleep(WAIT_SECONDS)


async def _count(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return size


async def _send_file(
    scope: MutableMapping[str, Any], send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
) -> None:
    path = os.environ[FILE_VARIABLE]
    await send(_start(FILE_BYTES))
    if "http.response.pathsend" in (scope.get("extensions") or {}):
        await send({"type": "http.response.pathsend", "path": path})
        return
    # As frameworks do, but without a thread for each read: the file is in the cache of the system.
    with Path(path).open("rb") as file:  # noqa: ASYNC230
        while chunk := file.read(_CHUNK_BYTES):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _echo(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
