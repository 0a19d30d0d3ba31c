"""Streams of WSGI that go on for ever: of items that hold something, and of items that hold nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from integration.asgi.apps.leaving.exercises import EVENTS, tell_at


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """Stream what the path's first segment names."""
    is_full = environ["PATH_INFO"].startswith("/full/")
    start_response("200 OK", [("Content-Type", EVENTS)])
    return _items(environ["SCRIPT_NAME"] + environ["PATH_INFO"], b": more\n\n" if is_full else b"")


def _items(told_path: str, item: bytes) -> Iterator[bytes]:
    try:
        yield b"data: first\n\n"
        tell_at(told_path, "begun")
        while True:
            time.sleep(0.02)
            yield item
    finally:
        tell_at(told_path, "closed")
