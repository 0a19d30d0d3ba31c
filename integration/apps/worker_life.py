"""What a worker's life is tested with: it holds requests, blocks, crashes, and takes memory.

`wsgi` and `asgi` do the same, as the first part of the path says, and tell of it on standard error.
Standard library alone, as all applications here that every interpreter runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

# A socket that the test listens at: a connection to it ends when the latch is opened.
LATCH = os.environ.get("WORKER_LIFE_LATCH", "")

# Longer than any test.
FOREVER_SECONDS = 600

# Many small objects, as an application with a large module has them: some hundred bytes each.
STRUCTURE = [[number] for number in range(int(os.environ.get("WORKER_LIFE_OBJECTS", "0")))]

eaten: list[bytes] = []
asked: list[str] = []


def tell(event: str, **fields: object) -> None:
    """Write an event to the log that the bridge writes to as well."""
    sys.stderr.write(json.dumps({"event": f"app: {event}", "pid": os.getpid(), **fields}) + "\n")


def on_fork() -> None:
    tell("on_fork")


def on_exit() -> None:
    tell("on_exit")


def collect() -> None:
    gc.collect()


def failing_hook() -> None:
    raise RuntimeError("no database today")


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = begin(environ["PATH_INFO"])
    if path.startswith("/hold"):
        hold(path)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [act(path, multiprocess=environ["wsgi.multiprocess"])]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    path = begin(scope["path"])
    if path.startswith("/hold"):
        await hold_in_loop(path)
    body = act(path)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def begin(path: str) -> str:
    if not asked:
        asked.append(path)
        tell("first request", path=path)
    return path


def hold(path: str) -> None:
    tell("holds", path=path)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(LATCH)
        waiting.recv(1)
    tell("goes on", path=path)


async def hold_in_loop(path: str) -> None:
    tell("holds", path=path)
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_unix_connection(LATCH)
        try:
            await reader.read(1)
        finally:
            writer.close()
    tell("goes on", path=path)


def act(path: str, **more: object) -> bytes:
    name, _, argument = path.strip("/").partition("/")
    match name:
        case "abort":
            abort_deliberately(path)
        case "block":
            block_deliberately(path)
        case "eat":
            tell("eats", path=path)
            eaten.append(b"x" * int(argument))
        case "facts":
            facts = {"pid": os.getpid(), "template": os.getppid(), "frozen": gc.get_freeze_count()}
            return json.dumps(facts | more).encode()
    return f"alive {os.getpid()}".encode()


def abort_deliberately(path: str) -> None:
    tell("aborts", path=path)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def block_deliberately(path: str) -> None:
    tell("blocks", path=path)
    time.sleep(FOREVER_SECONDS)
