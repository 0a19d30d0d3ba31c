"""Streams that go on when their client says so, and answers whose HEAD tells no length."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FIRST, LAST = b'{"token": "first"}\n', b'{"token": "last"}\n'

# The headers of an answer that redirects Nginx to a file.
OWN_HEADERS = {
    "Content-Type": "text/x-own",
    "Content-Disposition": "attachment",
    "Content-Language": "de",
    "Content-Encoding": "own",
    "Cache-Control": "private",
    "Expires": "Thu, 01 Jan 2099 00:00:00 GMT",
    "Set-Cookie": "own=1",
    "Accept-Ranges": "none",
    "ETag": '"own"',
    "Last-Modified": "Thu, 01 Jan 1998 00:00:00 GMT",
    "Vary": "Cookie",
    "Link": "</own.css>; rel=preload",
    "Content-Security-Policy": "default-src 'self'",
    "Strict-Transport-Security": "max-age=1",
    "Access-Control-Allow-Origin": "*",
    "X-Own": "own",
    "Refresh": "1",
    "WWW-Authenticate": "Own",
    "Location": "/own",
    "P3P": "own",
}

# A test that fails leaves its stream waiting.
_PATIENCE_SECONDS = 15.0

_gates: dict[str, threading.Event] = {}


def _query(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text).items()}


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    query = _query(environ["QUERY_STRING"])
    match environ["PATH_INFO"].strip("/").rpartition("/")[2]:
        case "lines":
            gate = _gates.setdefault(query["gate"], threading.Event())
            start_response("200 OK", [("Content-Type", query["type"])])
            return _lines(gate)
        case "breaks":
            length = [("Content-Length", query["length"])] if "length" in query else []
            start_response("200 OK", [("Content-Type", "text/plain"), *length])
            return _break()
        case "release":
            _gates.setdefault(query["gate"], threading.Event()).set()
            start_response("204 No Content", [])
            return []
        case "named":
            own = [(name, OWN_HEADERS[name]) for name in OWN_HEADERS]
            start_response("200 OK", [*own, ("X-Accel-Redirect", "/protected/page")])
            return []
        case _:
            length = [("Content-Length", query["length"])] if "length" in query else []
            start_response("200 OK", [("Content-Type", "text/plain"), *length])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else iter([b"the ", b"content"])


def _break() -> Iterator[bytes]:
    yield FIRST
    raise RuntimeError("it breaks in the middle of its answer")


def _lines(gate: threading.Event) -> Iterator[bytes]:
    yield FIRST
    gate.wait(_PATIENCE_SECONDS)
    yield LAST


_loop_gates: dict[str, asyncio.Event] = {}

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def asgi(scope: dict[str, Any], receive: object, send: Send) -> None:
    if scope["type"] != "http":
        return
    query = _query(scope["query_string"].decode())
    match scope["path"].strip("/").rpartition("/")[2]:
        case "lines":
            gate = _loop_gates.setdefault(query["gate"], asyncio.Event())
            await _start(send, 200, query["type"])
            await send({"type": "http.response.body", "body": FIRST, "more_body": True})
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await gate.wait()
            await send({"type": "http.response.body", "body": LAST})
        case "release":
            _loop_gates.setdefault(query["gate"], asyncio.Event()).set()
            await _start(send, 204)
            await send({"type": "http.response.body"})
        case _:
            told = {"path": scope["path"], "raw_path": scope["raw_path"].decode()}
            body = json.dumps({**told, "vars": scope["extensions"]["uwsgi"]["vars"]}).encode()
            await _start(send, 200, "application/json")
            await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, content_type: str = "text/plain") -> None:
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
