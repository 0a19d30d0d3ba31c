"""All applications give the same answer, so that the servers are compared with equal work."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import pytest

from benchmarks.apps import BODY, asgi_hello, plain, wsgi_hello
from benchmarks.apps.fastapi_hello import app as fastapi_app
from benchmarks.apps.flask_hello import app as flask_app

if TYPE_CHECKING:
    from collections.abc import MutableMapping


@pytest.mark.parametrize(
    "app", [wsgi_hello, flask_app, plain.wsgi], ids=["hello", "flask", "plain"]
)
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


@pytest.mark.parametrize(
    "app", [asgi_hello, fastapi_app, plain.asgi], ids=["hello", "fastapi", "plain"]
)
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


def called(path: str, body: bytes = b"", more: dict[str, Any] | None = None) -> bytes:
    environ = {"PATH_INFO": path, "wsgi.input": io.BytesIO(body), **(more or {})}
    return b"".join(plain.wsgi(environ, lambda *_: lambda _: None))


def called_asgi(path: str, *bodies: bytes, extensions: Any = None) -> list[dict[str, Any]]:
    inbox = [{"type": "http.request", "body": body, "more_body": True} for body in bodies] + [
        {"type": "http.request", "body": b"", "more_body": False}
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "extensions": extensions}
    asyncio.run(plain.asgi(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("path", "length"),
    [("/json", len(plain.make_json())), ("/large", 1_048_576), ("/wait", 6), ("/compute/0.1", 8)],
)
def test_both_interfaces_answer_the_same_to_a_path(path: str, length: int) -> None:
    assert len(called(path)) == length
    start, body = called_asgi(path)
    assert body["body"] == called(path)
    assert dict(start["headers"])[b"content-length"] == b"%d" % length


def test_an_upload_is_read_whole_and_its_length_is_the_answer() -> None:
    assert called("/upload", b"x" * 1000) == b"1000"
    assert called_asgi("/upload", b"x" * 600, b"x" * 400)[1]["body"] == b"1000"


def test_a_file_is_left_to_the_server_where_it_takes_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = directory / "file"
    file.write_bytes(b"f" * plain.FILE_BYTES)
    monkeypatch.setenv(plain.FILE_VARIABLE, str(file))
    assert called("/file") == file.read_bytes()
    wrapped = called(
        "/file", more={"wsgi.file_wrapper": lambda it, _size: [it.read(), it.close()][:1]}
    )
    assert wrapped == file.read_bytes()
    _, *parts = called_asgi("/file")
    assert b"".join(part["body"] for part in parts) == file.read_bytes()
    assert called_asgi("/file", extensions={"http.response.pathsend": {}})[1:] == [
        {"type": "http.response.pathsend", "path": str(file)}
    ]


def test_computing_takes_cpu_time() -> None:
    before = time.thread_time()
    plain.compute(5)
    assert time.thread_time() - before >= 0.005


def test_a_websocket_gets_its_messages_back() -> None:
    inbox = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "one"},
        {"type": "websocket.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(plain.asgi({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "one"}]


DJANGO = """
from wsgiref.util import setup_testing_defaults
from benchmarks.apps.django_hello import app
environ = {}
setup_testing_defaults(environ)
print(b"".join(app(environ, lambda status, headers: print(status, dict(headers)["Content-Length"]))))
"""


def test_the_django_application_answers() -> None:
    # In a process of its own: its settings are the whole process's.
    done = subprocess.run(
        [sys.executable, "-c", DJANGO],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"200 OK 12\n{BODY!r}\n"
