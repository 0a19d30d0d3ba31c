"""The exercises as a WSGI application; `exercises.asgi` has the same ones."""

from __future__ import annotations

import hashlib
import json
import queue
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

from .telling import (
    PIECE_BYTES,
    DeliberateError,
    Query,
    pieces,
    served,
    surroundings,
    tell,
    to_json,
)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

BINARY = ("Content-Type", "application/octet-stream")
JSON = ("Content-Type", "application/json")

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}

channels: defaultdict[str, queue.SimpleQueue[str]] = defaultdict(queue.SimpleQueue)


def _handle(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    served.append(f"{environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}{environ['PATH_INFO']}")
    name = environ["PATH_INFO"].strip("/").partition("/")[0]
    handler = HANDLERS.get(name)
    if handler is None:
        start_response("404 Not Found", [JSON])
        return [to_json({"error": f"there is no exercise {name!r}"})]
    return handler(environ, start_response, Query(environ["QUERY_STRING"]))


def arrived(environ: Environ, start_response: StartResponse, _query: Query) -> Iterable[bytes]:
    body = b"".join(iter(lambda: environ["wsgi.input"].read(PIECE_BYTES), b""))
    headers = [
        [name[5:].replace("_", "-").lower(), value]
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    headers += [
        [name.replace("_", "-").lower(), environ[name]]
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(name)
    ]
    start_response("200 OK", [JSON])
    return [
        to_json(
            {
                "interface": "wsgi",
                "method": environ["REQUEST_METHOD"],
                "root_path": environ["SCRIPT_NAME"],
                "path": (environ["SCRIPT_NAME"] + environ["PATH_INFO"])
                .encode("latin-1")
                .decode("utf-8", "replace"),
                "raw_path": environ.get("REQUEST_URI", "").partition("?")[0],
                "query": environ["QUERY_STRING"],
                "scheme": environ["wsgi.url_scheme"],
                "client": environ.get("REMOTE_ADDR"),
                "server": [environ["SERVER_NAME"], int(environ["SERVER_PORT"])],
                "http_version": environ["SERVER_PROTOCOL"],
                "headers": headers,
                "body": body.decode("latin-1"),
                "vars": {name: value for name, value in environ.items() if type(value) is str},
            }
        )
    ]


def as_told(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    spec = json.loads(query.text("spec"))
    reason = spec.get("reason", "Told")
    start_response(
        f"{spec.get('status', 200)} {reason}",
        [(name, value) for name, value in spec.get("headers", [])],
    )
    return [spec.get("body", "").encode()]


def large_header(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    start_response("200 OK", [BINARY, ("X-Large", "x" * query.number("bytes"))])
    return [b"small"]


def body(environ: Environ, start_response: StartResponse, query: Query) -> Iterator[bytes]:
    """Send as many bytes as told, under whatever Content-Length; then perhaps fail."""
    length = query.optional_number("length")
    headers = [BINARY] if length is None else [BINARY, ("Content-Length", str(length))]
    start_response("200 OK", headers)
    yield from pieces(query.number("bytes"))
    if query.number("fail"):
        raise DeliberateError(environ["PATH_INFO"])


def fail_before(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    raise DeliberateError(environ["PATH_INFO"])


def unread(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    start_response("200 OK", [BINARY])
    return pieces(query.number("bytes"))


def count(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    total, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(PIECE_BYTES):
        total += len(piece)
        if query.number("digest"):
            digest.update(piece)
    start_response("200 OK", [JSON])
    return [to_json({"bytes": total, "sha256": digest.hexdigest()})]


def answer_first(environ: Environ, start_response: StartResponse, query: Query) -> Iterator[bytes]:
    """Begin the answer, and only then read the body."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield b"first\n"
    total = 0
    while piece := environ["wsgi.input"].read(PIECE_BYTES):
        total += len(piece)
    yield b"%d\n" % total


def events(environ: Environ, start_response: StartResponse, query: Query) -> Iterator[bytes]:
    """Send an event for each /emit on the same channel, until one says "end"."""
    channel = query.text("channel")
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield b"data: open\n\n"
    while (text := channels[channel].get(timeout=60)) != "end":
        yield f"data: {text}\n\n".encode()


def emit(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    channels[query.text("channel")].put(query.text("text"))
    start_response("204 No Content", [])
    return []


def endless(environ: Environ, start_response: StartResponse, query: Query) -> Iterator[bytes]:
    start_response("200 OK", [BINARY])
    try:
        while True:
            yield from pieces(PIECE_BYTES)
    finally:
        tell("endless ended", path=environ["PATH_INFO"])


def list_served(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    start_response("200 OK", [JSON])
    return [to_json(list(served))]


def show_surroundings(
    environ: Environ, start_response: StartResponse, query: Query
) -> Iterable[bytes]:
    start_response("200 OK", [JSON])
    return [to_json(surroundings())]


HANDLERS: dict[str, Callable[[Environ, StartResponse, Query], Iterable[bytes]]] = {
    "arrived": arrived,
    "as-told": as_told,
    "large-header": large_header,
    "body": body,
    "fail-before": fail_before,
    "unread": unread,
    "count": count,
    "answer-first": answer_first,
    "events": events,
    "emit": emit,
    "endless": endless,
    "served": list_served,
    "surroundings": show_surroundings,
}

_checked = validator(_handle)


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Have the reference validator between the bridge and the application, where it has nothing against it.

    Of an answer that was told it might; and of a method that it does not know it warns.
    """
    is_told = environ["PATH_INFO"].startswith("/as-told")
    app = _handle if is_told or environ["REQUEST_METHOD"] not in METHODS else _checked
    return app(environ, start_response)
