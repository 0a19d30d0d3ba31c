"""Streams of WSGI: generators that give something from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from integration.asgi.apps.table import tell

_TYPES = {"events": "text/event-stream", "lines": "text/plain"}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """Stream for ever, as the type that the path's last segment names."""
    name = environ["PATH_INFO"].strip("/")
    headers = [("Content-Type", _TYPES[name]), ("X-Accel-Buffering", "no")]
    start_response("200 OK", headers)
    return _pieces(environ["SCRIPT_NAME"] + environ["PATH_INFO"])


def _pieces(told_path: str) -> Iterator[bytes]:
    try:
        while True:
            yield b"data: open\n\n"
            time.sleep(0.05)
    finally:
        tell({"path": told_path}, "closed")
