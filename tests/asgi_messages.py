"""What ASGI applications of tests send and receive: the messages of an HTTP answer, in short words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Any], Awaitable[None]]

START: Final = {"type": "http.response.start", "status": 200, "headers": []}


def start(status: Any = 200, *headers: Any) -> dict[str, Any]:
    """Make the message that begins an answer."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(chunk: Any = b"", *, more: bool = False) -> dict[str, Any]:
    """Make the message of a piece of the body, by default the last one."""
    return {"type": "http.response.body", "body": chunk, "more_body": more}


async def answer(send: Send, text: bytes = b"served") -> None:
    """Send a whole answer."""
    await send(START)
    await send(body(text))


async def read_body(receive: Receive) -> bytes:
    """Read the request's body, of a client that stays."""
    received = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        received += bytes(message["body"])
        if not message["more_body"]:
            return received


async def wait_for_disconnect(receive: Receive) -> None:
    """Receive until the client has left."""
    while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
        pass
