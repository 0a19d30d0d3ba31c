"""All applications give the same answer, so that the servers are compared with equal work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import pytest

from benchmarks.apps import BODY, asgi_hello, wsgi_hello
from benchmarks.apps.fastapi_hello import app as fastapi_app
from benchmarks.apps.flask_hello import app as flask_app

if TYPE_CHECKING:
    from collections.abc import MutableMapping


@pytest.mark.parametrize("app", [wsgi_hello, flask_app], ids=["hello", "flask"])
def test_the_wsgi_application_answers(app: Any) -> None:
    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []
    chunks = app(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
    body = b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    ((status, headers),) = started
    named = {name.lower(): value for name, value in headers}
    assert status == "200 OK"
    assert named == {"content-type": "text/plain", "content-length": "12"}
    assert body == BODY
    assert len(BODY) == 12


@pytest.mark.parametrize("app", [asgi_hello, fastapi_app], ids=["hello", "fastapi"])
def test_the_asgi_application_answers(app: Any) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"]) == {b"content-type": b"text/plain", b"content-length": b"12"}
    assert b"".join(message.get("body", b"") for message in sent[1:]) == BODY


def test_the_smallest_asgi_application_speaks_lifespan() -> None:
    inbox: list[dict[str, Any]] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return inbox.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(asgi_hello({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
