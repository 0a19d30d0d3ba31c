"""What each site does while its client leaves, and how it tells that its work at the end was done."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any, Final

import anyio

from integration.asgi.apps.table import App, Receive, Scope, Send, signals, tell

EVENTS: Final = "text/event-stream"

# Of the request, for what is called without it.
current_path: Final[ContextVar[str]] = ContextVar("current_path")

# Longer than any test waits.
_LONG_SECONDS: Final = 600


async def idle(told_path: str) -> AsyncIterator[bytes]:
    """Give one event, and then nothing."""
    try:
        yield b"data: first\n\n"
        await anyio.sleep(_LONG_SECONDS)
    finally:
        tell_at(told_path, "closed")


async def busy(told_path: str) -> AsyncIterator[bytes]:
    """Give events all the time."""
    try:
        while True:
            yield b"data: " + b"x" * 10_000 + b"\n\n"
            await anyio.sleep(0.001)
    finally:
        tell_at(told_path, "closed")


async def work(told_path: str) -> None:
    """Do what a framework calls at the end of a request."""
    await anyio.sleep(0.01)
    tell_at(told_path, "work done")


async def dawdle(told_path: str) -> None:
    """Compute an answer until the test lets go, which it does when the client has left."""
    tell_at(told_path, "begun")
    await signals.wait(told_path)


def tell_at(told_path: str, what: str) -> None:
    """Write to the log what was learnt for a request."""
    tell({"path": told_path}, what)


def observed(app: Callable[..., Any], name: str) -> App:
    """Tell when the calls of an application end.

    Args:
        app: of ASGI.
        name: of the site, whose mount the path begins with.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        path = scope["path"]
        current_path.set(path)
        if path.startswith(f"/{name}/release/"):
            signals.set(f"/{name}/late/" + path.rpartition("/")[2])
            gc.collect()
        tell_at(path, "called")
        try:
            await app(scope, receive, send)
        finally:
            tell_at(path, "over")

    return application
