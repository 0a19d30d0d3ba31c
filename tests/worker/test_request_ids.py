"""The id of a request is the same wherever it is told: in the log, in the application, in the answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import trio
from asgiref.sync import sync_to_async

import uwsgibridge
from tests.asgi_messages import Receive, Send
from tests.bridge import on_each_loop, on_each_socket, running
from tests.raw_client import Answer, connect, packet
from tests.websocket_client import HANDSHAKE, opened
from tests.websocket_frames import TEXT

HEADER = "X-Request-ID"
CLIENTS = "client-7"
NGINX = "0123456789abcdef0123456789abcdef"

StartResponse = Callable[..., Any]


def header_of(answer: Answer) -> str:
    return answer.headers[HEADER.lower()]


def wsgi(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/raises":
        environ["wsgi.errors"].write("soon\n")
        raise ValueError
    headers = [("Content-Type", "text/plain")]
    if path == "/own":
        headers.append(("x-request-id", "mine"))
    start_response("200 OK", headers)
    told = [uwsgibridge.request_id(), environ.get("HTTP_X_REQUEST_ID")]
    body = " ".join(map(str, told)).encode()
    return iter((body, b"")) if path == "/pieces" else [body]


async def asgi(scope: Any, receive: Receive, send: Send) -> None:
    headers = dict(scope.get("headers", ()))
    if scope["type"] == "websocket":
        await receive()
        if scope["path"] == "/denied":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(uwsgibridge.request_id())})
        return
    if scope["path"] == "/raises":
        raise ValueError
    own = [(b"x-request-id", b"mine")] if scope["path"] == "/own" else []
    start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": own}
    await send(start)
    theirs = headers.get(b"x-request-id", b"None").decode()
    body = f"{uwsgibridge.request_id()} {theirs}".encode()
    if scope["path"] == "/pieces":
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


def each_interface(test: Callable[..., None]) -> Any:
    return pytest.mark.parametrize(
        ("app", "loop"), [(wsgi, "trio"), (asgi, "trio"), (asgi, "asyncio")]
    )(test)


@each_interface
@pytest.mark.parametrize("path", ["/", "/pieces"])
def test_application_and_answer_have_the_same_id(app: Any, loop: str, path: str):
    with running(app, loop=loop, request_id_header=HEADER) as bridge:
        answers = [bridge.ask(path) for _ in range(2)]
        kept = bridge.ask(path, REQUEST_ID=NGINX, HTTP_X_REQUEST_ID=CLIENTS)

    made = [header_of(it) for it in answers]
    assert made[0] != made[1]
    assert [it.body.decode().split() for it in answers] == [[it, it] for it in made]
    assert len(made[0]) == 32
    assert kept.body.decode().split() == [NGINX, NGINX]
    assert header_of(kept) == NGINX


@each_interface
def test_header_of_the_application_stays(app: Any, loop: str):
    with running(app, loop=loop, request_id_header=HEADER) as bridge:
        # The accelerator takes a name that it has met before.
        assert [header_of(bridge.ask("/own")) for _ in range(3)] == ["mine"] * 3


@each_interface
def test_without_the_option_answers_and_requests_are_as_they_were(app: Any, loop: str):
    with running(app, loop=loop) as bridge:
        answer = bridge.ask("/")

    mine, theirs = answer.body.decode().split()
    assert theirs == "None"
    assert len(mine) == 32
    assert HEADER.lower() not in answer.headers


@each_interface
def test_failure_and_what_was_written_before_it_have_the_id(app: Any, loop: str):
    with running(app, loop=loop, request_id_header=HEADER) as bridge:
        answer = bridge.ask("/raises", HTTP_X_REQUEST_ID=CLIENTS)
        assert answer.status == 500
        assert header_of(answer) == CLIENTS
        assert bridge.events.wait(event="application failed")["request_id"] == CLIENTS
        if app is wsgi:
            written = bridge.events.wait(event="application wrote to wsgi.errors")
            assert (written["line"], written["request_id"]) == ("soon", CLIENTS)


@on_each_socket
def test_refusals_have_the_id(family: str):
    with running(wsgi, family, request_id_header=HEADER, max_body_bytes=1) as bridge:
        answer = bridge.ask("/", body=b"ab", HTTP_X_REQUEST_ID=CLIENTS)
        assert answer.status == 413
        assert header_of(answer) == CLIENTS
        assert bridge.events.wait(event="refused")["request_id"] == CLIENTS


def test_path_without_an_application_has_the_header():
    with running(None, mounts={"/a": wsgi}, request_id_header=HEADER) as bridge:
        answer = bridge.ask("/b", HTTP_X_REQUEST_ID=CLIENTS)
    assert (answer.status, header_of(answer)) == (404, CLIENTS)


def test_file_has_the_header(tmp_path: Any):
    (tmp_path / "a.txt").write_text("text")
    with running(wsgi, static=(f"/files={tmp_path}",), request_id_header=HEADER) as bridge:
        answer = bridge.ask("/files/a.txt", HTTP_X_REQUEST_ID=CLIENTS)
    assert (answer.body, header_of(answer)) == (b"text", CLIENTS)


@on_each_loop
def test_websocket_has_the_id(loop: str):
    with running(asgi, loop=loop, request_id_header=HEADER) as bridge:
        with opened(bridge, HTTP_X_REQUEST_ID=CLIENTS) as client:
            assert client.receive() == (TEXT, CLIENTS.encode())
        with connect(bridge.address) as connection:
            connection.sendall(packet("/", HTTP_X_REQUEST_ID=CLIENTS, **HANDSHAKE))
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1024)
        denied = bridge.ask("/denied", HTTP_X_REQUEST_ID=CLIENTS, **HANDSHAKE)
    assert f"\r\n{HEADER}: {CLIENTS}\r\n".encode() in head
    assert (denied.status, header_of(denied)) == (403, CLIENTS)


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "a\\", "ä", "x" * 201])
def test_what_may_not_stand_in_a_log_is_no_id(given: str):
    with running(wsgi, request_id_header=HEADER) as bridge:
        answer = bridge.ask("/", HTTP_X_REQUEST_ID=given)
    assert len(header_of(answer)) == 32


def test_vars_are_taken_in_the_order_that_is_asked_for():
    with running(wsgi, request_id_from=("HTTP_X_TRACE", "REQUEST_ID")) as bridge:
        first = bridge.ask("/", HTTP_X_TRACE="a", REQUEST_ID="b", HTTP_X_REQUEST_ID="c")
        second = bridge.ask("/", REQUEST_ID="b", HTTP_X_REQUEST_ID="c")
        neither = bridge.ask("/", HTTP_X_REQUEST_ID="c")
    assert [it.body.split()[0] for it in (first, second)] == [b"a", b"b"]
    assert len(neither.body.split()[0]) == 32


def test_access_log_has_the_id(tmp_path: Any):
    log = tmp_path / "access.log"
    with running(wsgi, access_log_file=str(log), access_log_format="json") as bridge:
        answer = bridge.ask("/")
    assert f'"request_id": "{answer.body.decode().split()[0]}"' in log.read_text()


class Kept(logging.Handler):
    """Keeps what it is told, with the filter that an application would give to its handler."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(uwsgibridge.RequestIdFilter())
        self.setFormatter(logging.Formatter("%(request_id)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def kept() -> Any:
    logger, handler = logging.getLogger("tests.request_ids"), Kept()
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield handler
    logger.removeHandler(handler)


def log(where: str) -> None:
    logging.getLogger("tests.request_ids").info(where)


async def in_tasks(_scope: Any, _receive: Receive, send: Send) -> None:
    log("here")

    async def child() -> None:
        log("child")

    if fast_loop() == "trio":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        await trio.to_thread.run_sync(log, "thread")
    else:
        await asyncio.create_task(child())
        await asyncio.to_thread(log, "thread")
        await sync_to_async(log)("asgiref")
    bare = threading.Thread(target=log, args=("bare",))
    bare.start()
    bare.join()
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


def fast_loop() -> str:
    import sniffio

    return sniffio.current_async_library()


@on_each_loop
def test_logging_of_tasks_and_threads_has_the_id(loop: str, kept: Kept):
    with running(in_tasks, loop=loop, lifespan="off") as bridge:
        for number in range(2):
            assert bridge.ask("/", HTTP_X_REQUEST_ID=f"id-{number}").status == 204
    log("outside")
    places = ["here", "child", "thread"] + ["asgiref"] * (loop != "trio")
    expected = []
    for number in range(2):
        expected += [f"id-{number} {it}" for it in places]
        expected.append("- bare")
    assert kept.lines == [*expected, "- outside"]


def test_threads_of_requests_that_run_at_once_have_their_own_ids():
    meeting = threading.Barrier(3)

    def meet(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        meeting.wait(10)
        start_response("200 OK", [])
        return [str(uwsgibridge.request_id()).encode()]

    with running(meet, threads=3) as bridge:
        found: dict[str, bytes] = {}

        def ask(name: str) -> None:
            found[name] = bridge.ask("/", HTTP_X_REQUEST_ID=name).body

        threads = [threading.Thread(target=ask, args=(f"id-{i}",)) for i in range(3)]
        for it in threads:
            it.start()
        for it in threads:
            it.join(10)
    assert found == {f"id-{i}": f"id-{i}".encode() for i in range(3)}
