"""What a row of the tables of behaviours is, and what the applications in them have in common.

An application is called for each path, by its first segment. What it learns it tells: a line in the
log that the bridge writes to as well, so that tests see it in its order among the bridge's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import anyio

from integration.asgi.frames import Close
from integration.wsgi.fetching import BROKEN

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[str, str], ...]

TEXT: Final = [(b"content-type", b"text/plain")]

FAILED: Final = "application failed"
FAILED_LATE: Final = "application failed after its client had gone"
BROKE_A_RULE: Final = "application broke a rule"
CUT: Final = "body was longer than its Content-Length: the rest was cut off"

# What the log says became of an HTTP request, by what the client saw.
OUTCOMES: Final[dict[int | str, str]] = {
    200: "the answer was complete",
    500: "answered 500",
    BROKEN: "connection broken",
}

# An end without a closing handshake, said or heard.
DROP: Final = "(drop)"
GONE: Final = "(gone)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One application, and what it must lead to in the log.

    Attributes:
        app: the application.
        event: of the log; None for not a word.
        says: part of the event's detail or exception.
        fields: of the event.
        told: what the application tells, in this order.
        leaves_at: the word of the application's at which the client goes away.
        headers: of the request.
        target: follows the row's own path in the request line.
    """

    app: App
    event: str | None = None
    says: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    leaves_at: str | None = None
    headers: Headers = ()
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRow(Row):
    """An application that is asked over HTTP.

    Attributes:
        seen: the status that the client gets, or `BROKEN`; None where it does not wait for one.
        method: to ask with.
        body: to send.
        text: the body that the client gets, where it matters.
        has: headers of the answer, in this order among those of their names.
        lacks: names that the answer has no header of.
        takes_any_body: whether the outcome is the same whatever body is sent: not where a client that sends its
            body first would not take the answer in time.
    """

    seen: int | str | None
    method: str = "GET"
    body: bytes | None = None
    text: bytes | None = None
    has: Headers = ()
    lacks: tuple[str, ...] = ()
    takes_any_body: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketRow(Row):
    """An application that is asked for a WebSocket.

    Attributes:
        hears: what the client gets: messages, and at the end a `Close`, `GONE`, or the status of an
            answer that refuses.
        says_first: what the client sends as soon as there is a WebSocket.
        has: headers of the answer.
        text: the body of an answer that refuses, where it matters.
    """

    hears: tuple[str | bytes | Close | int, ...]
    says_first: tuple[str | bytes | Close, ...] = ()
    has: Headers = ()
    text: bytes | None = None


HTTP_ROWS: Final[dict[str, HttpRow]] = {}
WEBSOCKET_ROWS: Final[dict[str, WebSocketRow]] = {}


def http(
    seen: int | str | None, event: str | None = None, says: str = "", **more: Any
) -> Callable[[App], App]:
    """Put an application into the table of HTTP."""

    def register(app: App) -> App:
        fields = more.pop("fields", {})
        if event in {FAILED, BROKE_A_RULE} and seen is not None:
            fields = {"level": "error", "outcome": OUTCOMES[seen], **fields}
        HTTP_ROWS[_name(app)] = HttpRow(
            app=app, seen=seen, event=event, says=says, fields=fields, **more
        )
        return app

    return register


def websocket(
    *hears: str | bytes | Close | int, event: str | None = None, says: str = "", **more: Any
) -> Callable[[App], App]:
    """Put an application into the table of WebSockets."""

    def register(app: App) -> App:
        WEBSOCKET_ROWS[_name(app)] = WebSocketRow(
            app=app, hears=hears, event=event, says=says, **more
        )
        return app

    return register


def _name(app: App) -> str:
    name: str = app.__name__
    return name.replace("_", "-")


def tell(scope: Scope, what: str) -> None:
    """Write what an application has learnt to the log."""
    line = json.dumps({"event": "app", "path": scope["path"], "told": what})
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


async def attempt(scope: Scope, call: Awaitable[object]) -> None:
    """Do what may be refused, and tell how."""
    try:
        await call
    except RuntimeError as error:
        tell(scope, f"RuntimeError: {error}")
    except OSError:
        tell(scope, "OSError")
    else:
        tell(scope, "taken")


async def begin(
    send: Send, status: Any = 200, headers: Iterable[Any] = TEXT, **more: object
) -> None:
    """Send the head of an HTTP answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def more(send: Send, body: Any) -> None:
    """Send a piece of the body."""
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def end(send: Send, body: Any = b"") -> None:
    """Send the last piece."""
    await send({"type": "http.response.body", "body": body})


async def whole_body(receive: Receive) -> bytes:
    """Read the request's body."""
    body, more_body = b"", True
    while more_body:
        message = await receive()
        assert message["type"] == "http.request"
        body += message.get("body", b"")
        more_body = message.get("more_body", False)
    return body


async def accept(receive: Receive, send: Send, **options: object) -> None:
    """Take the WebSocket."""
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **options})


async def say(send: Send, data: str | bytes) -> None:
    """Send a message."""
    kind = "text" if isinstance(data, str) else "bytes"
    await send({"type": "websocket.send", kind: data})


async def close(send: Send, *code_and_reason: object) -> None:
    """Close the WebSocket, or deny it."""
    named = zip(("code", "reason"), code_and_reason, strict=False)
    await send({"type": "websocket.close", **dict(named)})


async def tell_disconnect(scope: Scope, receive: Receive) -> None:
    """Wait for the end of a WebSocket, and tell how it came."""
    message = await receive()
    assert message["type"] == "websocket.disconnect", message
    tell(scope, f"disconnect {message['code']} {message['reason']}".rstrip())


class Signals:
    """Named events, each set once, between one request and another."""

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}

    async def wait(self, name: str) -> None:
        await self._events.setdefault(name, anyio.Event()).wait()

    def set(self, name: str) -> None:
        self._events.setdefault(name, anyio.Event()).set()


signals: Final = Signals()
