"""Streams without a framework: what is told of a stop, and what takes no notice."""

from __future__ import annotations

import anyio

from integration.asgi.apps.table import App, Receive, Scope, Send, accept, say, tell

EVENTS = [(b"content-type", b"text/event-stream")]
LINES = [(b"content-type", b"text/plain"), (b"x-accel-buffering", b"no")]


async def goodbye(scope: Scope, receive: Receive, send: Send) -> None:
    """Give one event, wait for the end, and say goodbye, which takes a moment."""
    await _begin(receive, send, EVENTS)
    assert (await receive())["type"] == "http.disconnect"
    tell(scope, "told")
    await anyio.sleep(0.2)
    await send({"type": "http.response.body", "body": b"data: goodbye\n\n", "more_body": True})
    await send({"type": "http.response.body"})


async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
    """Give one event, wait for the end, and return."""
    await _begin(receive, send, EVENTS)
    assert (await receive())["type"] == "http.disconnect"
    tell(scope, "told")


async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Give events for ever, and never ask."""
    try:
        await _begin(None, send, EVENTS)
        while True:
            await anyio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"data: more\n\n", "more_body": True})
    finally:
        tell(scope, "closed")


async def lines(scope: Scope, receive: Receive, send: Send) -> None:
    """Give one line, wait for the end, and say goodbye."""
    await _begin(receive, send, LINES)
    assert (await receive())["type"] == "http.disconnect"
    tell(scope, "told")
    await send({"type": "http.response.body", "body": b"goodbye\n"})


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    """Repeat messages until the end of a WebSocket, and tell how it came."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await say(send, message["text"])
    tell(scope, f"disconnect {message['code']}")


async def _begin(receive: Receive | None, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: open\n\n", "more_body": True})
    if receive is not None:
        assert (await receive())["type"] == "http.request"


_APPS: dict[str, App] = {it.__name__: it for it in (goodbye, quiet, deaf, lines, chat)}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one of them, by the last segment of the path."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await _APPS[scope["path"].rpartition("/")[2]](scope, receive, send)
