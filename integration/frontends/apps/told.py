"""Tells what arrives: all text of the environ, and the body."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length).decode("latin-1")
    special = _SPECIAL.get(environ.get("HTTP_X_ANSWER", ""))
    if special is not None:
        return special(start_response)
    told: dict[str, Any] = {key: it for key, it in environ.items() if isinstance(it, str)}
    answer = json.dumps({"environ": told, "scheme": told["wsgi.url_scheme"], "body": body}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [answer]


def _allow(start_response: StartResponse) -> list[bytes]:
    start_response("204 No Content", [])
    return []


def _own_headers(start_response: StartResponse) -> list[bytes]:
    start_response("404 Not Found", [("Content-Length", "3"), ("X-Frame-Options", "DENY")])
    return [b"own"]


_SPECIAL: dict[str, Callable[[StartResponse], list[bytes]]] = {
    "allow": _allow,
    "own-headers": _own_headers,
}
