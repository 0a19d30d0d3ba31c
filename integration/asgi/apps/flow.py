"""An application for what takes time: messages that nobody reads, silence, deadlines, the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter

import anyio

from integration.asgi.apps.table import (
    Receive,
    Scope,
    Send,
    accept,
    begin,
    close,
    end,
    more,
    say,
    signals,
    tell,
    tell_disconnect,
)

PIECE = bytes(65_536)
PIECES = 1000

sent: Counter[str] = Counter()
codes: list[int] = []


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    _, name, key, *_ = f"{scope['path'].removeprefix('/brief')}//".split("/")
    await HANDLERS[scope["type"], name](scope, receive, send, key)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    scope = {**scope, "path": "lifespan"}
    for step in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{step}"
        tell(scope, step)
        await send({"type": f"lifespan.{step}.complete"})


# --- WebSockets -----------------------------------------------------------------------------------


async def echo(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Repeat messages, and tell how it ended."""
    await accept(receive, send)
    tell(scope, "open")
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    codes.append(message["code"])
    tell(scope, f"disconnect {message['code']} {message['reason']}".rstrip())
    signals.set(f"closed {key}")


async def hold(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Receive nothing until a signal comes; then say how much it was."""
    await accept(receive, send)
    await signals.wait(key)
    total = 0
    while (message := await receive())["type"] == "websocket.receive" and message["bytes"]:
        total += len(message["bytes"])
    await say(send, str(total))


async def flood(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Send more than anything between here and the client can hold."""
    await accept(receive, send)
    try:
        for _ in range(PIECES):
            await say(send, PIECE)
            sent[key] += 1
    except OSError:
        tell(scope, f"OSError after {sent[key]}")
        raise
    tell(scope, "sent all")


async def chatter(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Send a little now and then, and read what comes."""
    await accept(receive, send)

    async def read() -> None:
        while (message := await receive())["type"] == "websocket.receive":
            pass
        tell(scope, f"disconnect {message['code']} {message['reason']}".rstrip())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        while True:
            await say(send, "tick")
            await anyio.sleep(0.05)


async def accepts_late(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Accept when another WebSocket has closed, which it does when the server stops."""
    await receive()
    tell(scope, "waiting")
    await signals.wait(f"closed {key}")
    await send({"type": "websocket.accept"})
    await tell_disconnect(scope, receive)


async def closes(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    await accept(receive, send)
    await close(send, 4000, "first")
    await tell_disconnect(scope, receive)


async def stays_silent(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Take longer than an HTTP request may."""
    await accept(receive, send)
    await anyio.sleep(0.7)
    await say(send, "at last")


# --- HTTP -----------------------------------------------------------------------------------------


async def progress(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    await begin(send)
    await end(send, str(sent[key]).encode())


async def release(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    signals.set(key)
    await begin(send)
    await end(send)


async def until_closed(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Answer when a WebSocket has closed."""
    await begin(send)
    await more(send, b"begun\n")
    tell(scope, "begun")
    await signals.wait(f"closed {key}")
    await end(send, f"{codes}".encode())


async def dawdle(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Take longer than a request may, before the head or after it."""
    if key != "before":
        await begin(send)
        await more(send, b"the first half")
    if key == "stubborn":
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.7)
        await end(send, b", and the second")
        return
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        tell(scope, "cancelled")
        raise


async def never_ends(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Hold on, whoever cancels it."""
    while True:
        with contextlib.suppress(asyncio.CancelledError), anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)


async def answers_and_goes_on(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    await begin(send)
    await end(send, b"answered")
    await anyio.sleep(0.7)
    tell(scope, "went on")


async def endless(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Send for ever, and listen to nothing."""
    await begin(send)
    try:
        while True:
            await more(send, bytes(65_536))  # Nginx passes on what fills its buffers
            await anyio.sleep(0.005)
    finally:
        tell(scope, "ended")


async def block(scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Keep the event loop from doing anything else."""
    await receive()
    computes_for_a_while(float(key))
    await begin(send)
    await end(send, b"at last")


def computes_for_a_while(seconds: float) -> None:
    end_of_it = time.monotonic() + seconds
    while time.monotonic() < end_of_it:
        sum(range(1000))


HANDLERS = {
    ("websocket", "echo"): echo,
    ("websocket", "hold"): hold,
    ("websocket", "flood"): flood,
    ("websocket", "chatter"): chatter,
    ("websocket", "accepts-late"): accepts_late,
    ("websocket", "closes"): closes,
    ("websocket", "stays-silent"): stays_silent,
    ("http", "progress"): progress,
    ("http", "release"): release,
    ("http", "until-closed"): until_closed,
    ("http", "dawdle"): dawdle,
    ("http", "never-ends"): never_ends,
    ("http", "answers-and-goes-on"): answers_and_goes_on,
    ("http", "endless"): endless,
    ("http", "block"): block,
}
