"""The demo's page, at ``/``: an ASGI application in plain Python that runs on asyncio, uvloop and trio.

The page shows what arrived, an upload, a streaming answer, server-sent events and a chat by WebSockets. It asks
the Flask and the FastAPI application for the same.
"""

import json
import platform
from collections.abc import Awaitable, Callable, Iterable, Mapping

from uwsgibridge import __version__
from uwsgibridge.demo.arrived import packet_size_bytes, vars_as_json
from uwsgibridge.demo.asgi import Receive, Scope, Send
from uwsgibridge.demo.chat import Room
from uwsgibridge.demo.event_loop import loop_name, sleep
from uwsgibridge.demo.receipt import Receipt
from uwsgibridge.demo.streams import (
    CLOCK_END,
    CLOCK_HEADERS,
    CLOCK_START,
    CLOCK_TICKS,
    STREAM_CHUNKS,
    STREAM_HEADERS,
    STREAM_INTERVAL_SECONDS,
    clock_event,
    seconds_to_next_tick,
    stream_chunk,
)
from uwsgibridge.demo.web_files import WEB_FILES, WebFile

_ROOM = Room()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one ASGI connection."""
    if scope["type"] == "http":
        await _answer(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _live(receive, send)
    elif _path(scope) == "/chat":
        await _ROOM.host(scope, receive, send)
    else:
        # Another WebSocket is closed before it is accepted, so that the client gets 403.
        await receive()
        await send({"type": "websocket.close"})


def _path(scope: Scope) -> str:
    # By ASGI, `path` begins with `root_path`, the prefix that the application is mounted at.
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    path = _path(scope)
    is_read = scope["method"] in {"GET", "HEAD"}
    if path == "/upload":
        if scope["method"] in {"POST", "PUT"}:
            await _receive_upload(receive, send)
        else:
            await _refuse_method(send, "POST, PUT")
    elif not is_read:
        await _refuse_method(send, "GET, HEAD")
    elif path in {"", "/"}:
        await _send_file(send, WEB_FILES["page.html"])
    elif path.startswith("/assets/") and (file := WEB_FILES.get(path.removeprefix("/assets/"))):
        await _send_file(send, file)
    elif path == "/status":
        await _send_json(send, _status())
    elif path == "/vars" or path.startswith("/vars/"):
        await _send_json(
            send, {"vars": vars_as_json(scope), "packet_bytes": packet_size_bytes(scope)}
        )
    elif path == "/stream":
        await _send_live(send, STREAM_HEADERS, _send_stream, head_only=scope["method"] == "HEAD")
    elif path == "/clock":
        await _send_live(send, CLOCK_HEADERS, _send_clock, head_only=scope["method"] == "HEAD")
    elif path == "/chat":
        await _send_text(send, 400, "The chat is a WebSocket; the page that opens it is at /.\n")
    else:
        await _send_text(send, 404, "There is nothing here; the page is at /.\n")


def _status() -> dict[str, str]:
    return {
        "application": "Plain Python",
        "interface": "ASGI",
        "python": platform.python_version(),
        "runs_on": loop_name(),
        "bridge": __version__,
    }


async def _receive_upload(receive: Receive, send: Send) -> None:
    receipt = Receipt()
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        receipt.add(message.get("body", b""))
        more_body = message.get("more_body", False)
    await _send_json(send, receipt.report())


async def _send_stream(send_chunk: Callable[[bytes], Awaitable[None]]) -> None:
    for number in range(1, STREAM_CHUNKS + 1):
        await send_chunk(stream_chunk(number))
        await sleep(STREAM_INTERVAL_SECONDS)


async def _send_clock(send_chunk: Callable[[bytes], Awaitable[None]]) -> None:
    await send_chunk(CLOCK_START)
    for tick in range(1, CLOCK_TICKS + 1):
        await send_chunk(clock_event(tick))
        await sleep(seconds_to_next_tick())
    await send_chunk(CLOCK_END)


async def _send_live(
    send: Send,
    headers: Mapping[str, str],
    send_chunks: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]],
    *,
    head_only: bool,
) -> None:
    async def send_chunk(chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    try:
        await send(
            {"type": "http.response.start", "status": 200, "headers": _encoded(headers.items())}
        )
        if not head_only:
            await send_chunks(send_chunk)
        await send({"type": "http.response.body", "body": b""})
    except OSError:
        # send() raises where the client is gone, since version 2.4 of the ASGI HTTP specification.
        return


async def _send_file(send: Send, file: WebFile) -> None:
    await _send(send, 200, file.headers.items(), file.body)


async def _send_json(send: Send, value: object) -> None:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    await _send(send, 200, headers.items(), json.dumps(value).encode())


async def _refuse_method(send: Send, allowed: str) -> None:
    await _send_text(send, 405, f"This address answers {allowed}.\n", [("Allow", allowed)])


async def _send_text(
    send: Send, status: int, text: str, headers: Iterable[tuple[str, str]] = ()
) -> None:
    await _send(
        send, status, [("Content-Type", "text/plain; charset=utf-8"), *headers], text.encode()
    )


async def _send(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    # ASGI requires names in lower case.
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
