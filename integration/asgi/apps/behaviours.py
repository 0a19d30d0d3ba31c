"""All behaviours as one ASGI application, which calls the one that the path names.

What is not in a table: `echo` and `count` for the frames of WebSockets, `scope` to look at, `settled` to
know that everything before it is over, and a lifespan.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel

from integration.asgi.apps import http_rows, websocket_rows  # noqa: F401 - they fill the tables
from integration.asgi.apps.table import (
    HTTP_ROWS,
    WEBSOCKET_ROWS,
    Receive,
    Row,
    Scope,
    Send,
    accept,
    begin,
    end,
    say,
    signals,
    tell,
)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    name = scope["path"].removeprefix(scope["root_path"]).split("/")[1]
    special = SPECIAL.get((scope["type"], name))
    if special is not None:
        await special(scope, receive, send)
        return
    rows = HTTP_ROWS if scope["type"] == "http" else WEBSOCKET_ROWS
    row: Row = rows[name]
    path = {"path": scope["path"]}
    try:
        await row.app(scope, receive, send)
    finally:
        tell(path, "over")


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"].update(started=True, shared=[])
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    assert scope["state"] == {"started": True, "shared": []}
    await send({"type": "lifespan.shutdown.complete"})


async def settled(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after everything that could be done before, and mark this place in the log."""
    signals.set(scope["path"].removeprefix("/settled"))
    for _ in range(5):
        await anyio.lowlevel.checkpoint()
    await begin(send)
    await end(send)
    tell(scope, "settled")


async def show_scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the scope as Python would write it."""
    await begin(send)
    await end(send, _written(scope).encode())


async def show_websocket_scope(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await say(send, _written(scope))


def _written(scope: Scope) -> str:
    return repr(dict(scope))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Repeat every message, and tell how the WebSocket ended."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    tell(scope, f"disconnect {message['code']} {message['reason']}".rstrip())


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Say how long every message is."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        data = message["bytes"] if message["text"] is None else message["text"]
        await say(send, f"{type(data).__name__} {len(data)}")


SPECIAL = {
    ("http", "settled"): settled,
    ("http", "scope"): show_scope,
    ("websocket", "scope"): show_websocket_scope,
    ("websocket", "echo"): echo,
    ("websocket", "count"): count,
}
