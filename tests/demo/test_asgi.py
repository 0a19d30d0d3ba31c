"""The demo's two ASGI applications: the plain page and FastAPI, on each event loop that the bridge offers."""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing
import uvloop

from uwsgibridge.demo import asgi_fastapi, page

SECRET = "s3cr3t-value"
APPLICATIONS = pytest.mark.parametrize("application", [page, asgi_fastapi])
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])


@dataclass
class Answer:
    """What an application sent, and when: each piece of the body with the loop's time."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:
        return json.loads(self.body)


def run(loop: str, main: Callable[[], Awaitable[Answer]]) -> Answer:
    if loop == "trio":
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    async def as_coroutine() -> Answer:
        return await main()

    return uvloop.run(as_coroutine()) if loop == "uvloop" else asyncio.run(as_coroutine())


def ask(
    app: Any,
    path: str,
    *,
    loop: str = "trio",
    method: str = "GET",
    body: Iterable[bytes] = (b"",),
    scope: dict[str, Any] | None = None,
    gone_after: int | None = None,
) -> Answer:
    """Drive an application through one request; from `gone_after` pieces on, send() raises."""
    answer = Answer()
    incoming = list(body)
    path, _, query = path.partition("?")
    whole_scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8080")],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 8080),
        "state": {},
        "extensions": {},
        **(scope or {}),
    }

    async def receive() -> dict[str, Any]:
        if not incoming:
            return {"type": "http.disconnect"}
        chunk = incoming.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(incoming)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert answer.status == 0
            answer.status = message["status"]
            answer.headers = {
                name.decode(): value.decode() for name, value in message.get("headers", [])
            }
            return
        if gone_after is not None and len(answer.pieces) >= gone_after:
            raise BrokenPipeError
        if message.get("body"):
            answer.pieces.append(message["body"])
            if loop == "trio":
                answer.times.append(trio.current_time())
        answer.complete = not message.get("more_body", False)

    async def main() -> Answer:
        await app(whole_scope, receive, send)
        return answer

    return run(loop, main)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let streams run through where the loop's clock can't be made to jump."""
    for module in (page, asgi_fastapi):
        monkeypatch.setattr(module, "STREAM_INTERVAL_SECONDS", 0)
        monkeypatch.setattr(module, "seconds_to_next_tick", lambda: 0)


@LOOPS
@APPLICATIONS
def test_the_status_names_the_loop(application: ModuleType, loop: str) -> None:
    answer = ask(application.app, "/status", loop=loop)

    assert answer.status == 200
    assert answer.json()["interface"] == "ASGI"
    assert answer.json()["runs_on"] == loop


@LOOPS
@APPLICATIONS
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_is_counted_and_hashed(application: ModuleType, loop: str, method: str) -> None:
    chunks = [b"first ", b"second ", b"", b"third"]

    answer = ask(application.app, "/upload", method=method, body=chunks, loop=loop)

    assert answer.status == 200
    receipt = answer.json()
    assert receipt["size_bytes"] == 18
    assert receipt["chunks"] == 3
    assert receipt["sha256"] == hashlib.sha256(b"first second third").hexdigest()


@APPLICATIONS
def test_the_stream_comes_a_line_at_a_time(application: ModuleType) -> None:
    answer = ask(application.app, "/stream")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    assert [piece.count(b"\n") for piece in answer.pieces] == [1] * 20
    gaps = [after - before for before, after in zip(answer.times, answer.times[1:], strict=False)]
    assert gaps == pytest.approx([0.25] * 19)
    assert answer.complete


@LOOPS
@APPLICATIONS
@pytest.mark.usefixtures("no_waiting")
def test_the_stream_ends_on_every_loop(application: ModuleType, loop: str) -> None:
    answer = ask(application.app, "/stream", loop=loop)

    assert len(answer.pieces) == 20
    assert answer.complete


@LOOPS
@APPLICATIONS
@pytest.mark.usefixtures("no_waiting")
def test_the_clock_sends_events_and_ends(application: ModuleType, loop: str) -> None:
    answer = ask(application.app, "/clock", loop=loop)

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-store"
    first, *ticks, last = answer.pieces
    assert first == b"retry: 3000\n\n"
    assert last == b"event: end\ndata: {}\n\n"
    assert len(ticks) == 600
    for number, event in enumerate(ticks, start=1):
        assert re.fullmatch(rb"id: %d\ndata: \{[^\n]+\}\n\n" % number, event)
    assert answer.complete


@LOOPS
@pytest.mark.parametrize("path", ["/stream", "/clock"])
@pytest.mark.usefixtures("no_waiting")
def test_the_page_stops_when_the_client_goes_away(loop: str, path: str) -> None:
    answer = ask(page.app, path, loop=loop, gone_after=3)

    assert len(answer.pieces) == 3
    assert not answer.complete


@LOOPS
@pytest.mark.parametrize("path", ["/stream", "/clock"])
@pytest.mark.usefixtures("no_waiting")
def test_fastapi_stops_when_the_client_goes_away(loop: str, path: str) -> None:
    # How it ends is Starlette's choice; that it ends, and sends nothing more, is ours.
    with pytest.raises(Exception, match=r"^$") as caught:
        ask(asgi_fastapi.app, path, loop=loop, gone_after=3)

    assert type(caught.value).__name__ == "ClientDisconnect"


@pytest.mark.parametrize("path", ["/stream", "/clock"])
def test_head_starts_no_stream(path: str) -> None:
    answer = ask(page.app, path, method="HEAD")

    assert answer.status == 200
    assert answer.complete
    assert answer.pieces == []


def test_an_upload_that_breaks_off_gets_no_receipt() -> None:
    answer = ask(page.app, "/upload", method="POST", body=())

    assert answer.status == 0


@APPLICATIONS
def test_the_page_and_its_files_are_served(application: ModuleType) -> None:
    html = ask(application.app, "/")
    assert html.status == 200
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in html.headers["content-security-policy"]

    script = ask(application.app, "/assets/page.js")
    assert script.status == 200
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["x-content-type-options"] == "nosniff"
    assert int(script.headers["content-length"]) == len(script.body)


@APPLICATIONS
@pytest.mark.parametrize(
    "path",
    [
        "/assets/",
        "/assets/../page.py",
        "/assets/../static/page.js",
        "/assets/./page.js",
        "/assets//etc/passwd",
        "/assets/..\\page.py",
        "/assets/page.js\0.css",
        "/assets/__init__.py",
    ],
)
def test_no_path_leads_out_of_the_assets(application: ModuleType, path: str) -> None:
    assert ask(application.app, path).status == 404


@pytest.mark.parametrize("path", ["/nothing", "/status/more", "/varsity", "/page.py"])
def test_an_unknown_path_is_a_404(path: str) -> None:
    answer = ask(page.app, path)

    assert answer.status == 404
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/status", "GET, HEAD"),
        ("GET", "/upload", "POST, PUT"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    method: str, path: str, allowed: str
) -> None:
    answer = ask(page.app, path, method=method)

    assert answer.status == 405
    assert answer.headers["allow"] == allowed


def test_the_vars_are_shown_with_secrets_masked() -> None:
    uwsgi_vars = {"PATH_INFO": "/vars/caf\xc3\xa9", "HTTP_COOKIE": SECRET}

    answer = ask(page.app, "/vars/café", scope={"extensions": {"uwsgi": {"vars": uwsgi_vars}}})

    assert answer.json() == {
        "vars": {"PATH_INFO": "/vars/café", "HTTP_COOKIE": "(masked)"},
        "packet_bytes": 4 + (2 + 9 + 2 + 11) + (2 + 11 + 2 + 12),
    }
    assert answer.headers["cache-control"] == "no-store"


def test_vars_that_did_not_come_are_null() -> None:
    assert ask(page.app, "/vars").json() == {"vars": None, "packet_bytes": None}


def test_the_scope_is_shown_with_secrets_masked() -> None:
    headers = [(b"host", b"example.org"), (b"authorization", b"Bearer " + SECRET.encode())]
    extensions = {"uwsgi": {"vars": {"HTTP_AUTHORIZATION": f"Bearer {SECRET}"}}}

    answer = ask(
        asgi_fastapi.app,
        "/fastapi/scope/caf%C3%A9?size=large",
        scope={
            "path": "/fastapi/scope/café",
            "root_path": "/fastapi",
            "headers": headers,
            "extensions": extensions,
        },
    )

    assert SECRET.encode() not in answer.body
    shown = answer.json()
    assert shown["headers"] == [["host", "example.org"], ["authorization", "(masked)"]]
    assert shown["root_path"] == "/fastapi"
    assert shown["path"] == "/fastapi/scope/café"
    assert shown["raw_path"] == "/fastapi/scope/caf%C3%A9"
    assert shown["query_string"] == "size=large"


@APPLICATIONS
def test_a_mounted_application_finds_its_paths(application: ModuleType) -> None:
    answer = ask(application.app, "/mounted/status", scope={"root_path": "/mounted"})

    assert answer.status == 200


def test_fastapi_adds_numbers_and_refuses_the_rest() -> None:
    assert ask(asgi_fastapi.app, "/sum?number=1&number=2.5").json() == {"sum": 3.5}
    assert ask(asgi_fastapi.app, "/sum?number=one").status == 422
    assert ask(asgi_fastapi.app, "/sum").status == 422


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_fastapi_serves_no_page_that_loads_from_a_cdn(path: str) -> None:
    assert ask(asgi_fastapi.app, path).status == 404


def test_the_page_takes_part_in_the_lifespan() -> None:
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    trio.run(page.app, {"type": "lifespan"}, receive, send)

    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_the_page_declines_websockets() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    trio.run(page.app, {"type": "websocket", "path": "/"}, receive, send)

    assert sent == [{"type": "websocket.close"}]
