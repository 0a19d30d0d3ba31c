"""An application that returns bytes instead of a list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> bytes:
    if environ["PATH_INFO"] == "/settled":
        environ["wsgi.errors"].write("/settled\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return b"by the letter integers"
