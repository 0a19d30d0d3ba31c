"""What the sites have in common: what they send, and how they tell what nobody could see otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Final

import anyio
import anyio.lowlevel
import sniffio

from integration.asgi.apps.table import signals, tell

# Nginx compresses text, and collects it for that.
BINARY: Final = "application/octet-stream"

PIECES: Final = tuple(bytes([number]) * 20_000 for number in range(30))


async def numbered_pieces() -> AsyncIterator[bytes]:
    """Give a body of 600,000 bytes, piece by piece."""
    for piece in PIECES:
        yield piece
        await anyio.lowlevel.checkpoint()


async def two_events(key: str) -> AsyncIterator[str]:
    """Give one event at once, and the other at a signal."""
    yield "data: first\n\n"
    await signals.wait(key)
    yield "data: second\n\n"


async def endless(name: str) -> AsyncIterator[bytes]:
    """Give pieces until nobody takes them, and tell when that is noticed."""
    tell_of(name, "endless begins")
    try:
        while True:
            yield bytes(100_000)
            await anyio.sleep(0.001)
    finally:
        tell_of(name, "endless ended")


async def work_in_background(name: str, key: str) -> None:
    """Wait for a signal, which comes after the answer."""
    await signals.wait(key)
    tell_of(name, f"background {key}")


def about(content: bytes) -> dict[str, object]:
    """Describe what was uploaded."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def libraries() -> dict[str, object]:
    """Tell which library others take this event loop for."""
    backend = type(anyio.Event()).__module__.rpartition(".")[2].strip("_")
    return {"sniffio": sniffio.current_async_library(), "anyio": backend}


def tell_of(name: str, what: str) -> None:
    """Write to the log what the site called `name` has learnt."""
    tell({"path": f"/{name}"}, what)


def set_signal(name: str, key: str) -> None:
    """Let what waits for it go on, and tell so: in the log, it comes after all that was before."""
    signals.set(key)
    tell_of(name, f"signal {key}")
