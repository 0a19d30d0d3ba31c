"""The exercises as an ASGI application, for asyncio and for trio; `exercises.wsgi` has the same ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from .telling import (
    PIECE_BYTES,
    DeliberateError,
    Query,
    pieces,
    served,
    surroundings,
    tell,
    to_json,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

BINARY = (b"content-type", b"application/octet-stream")
JSON = (b"content-type", b"application/json")


class Channel:
    """Texts from /emit to /events, on whichever event loop there is."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._put = _make_event()

    def put(self, text: str) -> None:
        self._texts.append(text)
        self._put.set()

    async def get(self) -> str:
        while not self._texts:
            self._put = _make_event()
            await self._put.wait()
        return self._texts.popleft()


channels: defaultdict[str, Channel] = defaultdict(Channel)


def _make_event() -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.Event()
    return asyncio.Event()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    if scope["type"] == "websocket":
        await talk(scope, receive, send)
        return
    served.append(f"{scope['method']} {scope['path']}")
    path = scope["path"].removeprefix(scope["root_path"])
    name = path.strip("/").partition("/")[0]
    handler = HANDLERS.get(name)
    if handler is None:
        await answer(send, 404, [JSON], to_json({"error": f"there is no exercise {name!r}"}))
        return
    await handler(scope, receive, send, Query(scope["query_string"].decode()))


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    for step in ("startup", "shutdown"):
        message = await receive()
        assert message["type"] == f"lifespan.{step}"
        tell(step)
        await send({"type": f"lifespan.{step}.complete"})


async def talk(scope: Scope, receive: Receive, send: Send) -> None:
    """Repeat every message of a WebSocket, and tell how it was closed."""
    assert (await receive())["type"] == "websocket.connect"
    if "refused" in scope["path"]:
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    tell("websocket closed", path=scope["path"], code=message["code"])


async def answer(send: Send, status: int, headers: Iterable[Header], body: bytes = b"") -> None:
    await start(send, status, headers)
    await send({"type": "http.response.body", "body": body})


async def start(send: Send, status: int, headers: Iterable[Header]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def end(send: Send) -> None:
    await send({"type": "http.response.body"})


async def arrived(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    body = b""
    more_body = True
    while more_body:
        message = await receive()
        body += message.get("body", b"")
        more_body = message.get("more_body", False)
    found = {
        "interface": "asgi",
        "method": scope["method"],
        "root_path": scope["root_path"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "scheme": scope["scheme"],
        "client": scope["client"] and scope["client"][0],
        "server": scope["server"],
        "http_version": f"HTTP/{scope['http_version']}",
        "headers": [
            [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
        ],
        "body": body.decode("latin-1"),
        "vars": scope["extensions"]["uwsgi"]["vars"],
    }
    await answer(send, 200, [JSON], to_json(found))


async def as_told(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    spec = json.loads(query.text("spec"))
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in spec.get("headers", [])
    ]
    await answer(send, spec.get("status", 200), headers, spec.get("body", "").encode())


async def large_header(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    await answer(send, 200, [BINARY, (b"x-large", b"x" * query.number("bytes"))], b"small")


async def body(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    """Send as many bytes as told, under whatever Content-Length; then perhaps fail."""
    length = query.optional_number("length")
    headers = [BINARY] if length is None else [BINARY, (b"content-length", b"%d" % length)]
    await start(send, 200, headers)
    for piece in pieces(query.number("bytes")):
        await more(send, piece)
    if query.number("fail"):
        raise DeliberateError(scope["path"])
    await end(send)


async def fail_before(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    raise DeliberateError(scope["path"])


async def unread(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    await start(send, 200, [BINARY])
    for piece in pieces(query.number("bytes")):
        await more(send, piece)
    await end(send)


async def count(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    total, digest = 0, hashlib.sha256()
    more_body = True
    while more_body:
        message = await receive()
        total += len(message["body"])
        if query.number("digest"):
            digest.update(message["body"])
        more_body = message["more_body"]
    await answer(send, 200, [JSON], to_json({"bytes": total, "sha256": digest.hexdigest()}))


async def answer_first(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    """Begin the answer, and only then read the body."""
    await start(send, 200, [(b"content-type", b"text/event-stream")])
    await more(send, b"first\n")
    total = 0
    more_body = True
    while more_body:
        message = await receive()
        total += len(message["body"])
        more_body = message["more_body"]
    await send({"type": "http.response.body", "body": b"%d\n" % total})


async def events(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    """Send an event for each /emit on the same channel, until one says "end"."""
    channel = channels[query.text("channel")]
    await start(send, 200, [(b"content-type", b"text/event-stream")])
    await more(send, b"data: open\n\n")
    while (text := await channel.get()) != "end":
        await more(send, f"data: {text}\n\n".encode())
    await end(send)


async def emit(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    channels[query.text("channel")].put(query.text("text"))
    await answer(send, 204, [])


async def endless(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    await start(send, 200, [BINARY])
    try:
        while True:
            for piece in pieces(PIECE_BYTES):
                await more(send, piece)
    finally:
        tell("endless ended", path=scope["path"])


async def await_disconnect(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    """Answer nothing; tell when the client has gone."""
    tell("waiting", path=scope["path"])
    while (await receive())["type"] != "http.disconnect":
        pass
    tell("disconnected", path=scope["path"])


async def list_served(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    await answer(send, 200, [JSON], to_json(list(served)))


async def show_surroundings(scope: Scope, receive: Receive, send: Send, query: Query) -> None:
    await answer(send, 200, [JSON], to_json(surroundings()))


HANDLERS: dict[str, Callable[[Scope, Receive, Send, Query], Awaitable[None]]] = {
    "arrived": arrived,
    "as-told": as_told,
    "large-header": large_header,
    "body": body,
    "fail-before": fail_before,
    "unread": unread,
    "count": count,
    "answer-first": answer_first,
    "events": events,
    "emit": emit,
    "endless": endless,
    "await-disconnect": await_disconnect,
    "served": list_served,
    "surroundings": show_surroundings,
}
