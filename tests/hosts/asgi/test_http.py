"""ASGI applications over HTTP: what they see, and what becomes of what they may not do; on each loop."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import sniffio
import trio
import trio.testing

from tests.asgi_messages import START, Receive, Send, body, read_body, start
from tests.bridge import LOOPS, on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer, read_until, reset

# For a deadline that is meant to pass.
SHORT_SECONDS = 0.1


@on_each_loop
def test_function_that_returns_nothing_to_await_is_answered_500(loop: str):
    def app(scope, receive, send):
        pass

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask().seen == 500

    (event,) = bridge.events.find(level="error")
    assert "TypeError" in event["exception"]


@on_each_loop
def test_what_an_application_returns_is_warned_of_once(loop: str):
    def answering(returned: object) -> Callable[..., Any]:
        async def app(scope, receive, send):
            await send(START)
            await send(body(b"answered"))
            return returned

        return app

    mounts = {"/list": answering([]), "/none": answering(None)}
    with running(answering(b"x"), loop=loop, lifespan="off", mounts=mounts) as bridge:
        for path in ("/", "/list", "/none") * 2:
            assert bridge.ask(path).body == b"answered"

    told = bridge.events.find(level="warning")
    assert [event["returned"] for event in told] == ["bytes", "list"]
    assert {event["event"] for event in told} == {
        "application returned a value, which ASGI takes no notice of"
    }
    assert bridge.counters.app_errors == 0


@on_each_loop
def test_an_application_that_returns_its_answer_is_told_both(loop: str):
    async def app(scope, receive, send):
        return {"status": 200}

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask().seen == 500

    (warning,) = bridge.events.find(level="warning")
    assert warning["returned"] == "dict"
    (error,) = bridge.events.find(level="error")
    assert "returned without sending a response" in error["exception"]


@on_each_loop
def test_traceback_of_a_broken_rule_has_none_of_our_frames(loop: str):
    async def app(scope, receive, send):
        try:
            await send({"type": "http.response.start", "status": "no number"})
        except RuntimeError as error:
            raise ValueError from error

    with running(app, loop=loop, lifespan="off") as bridge:
        bridge.ask()

    (event,) = bridge.events.find(event="application failed")
    lines = event["exception"].splitlines()
    assert [__file__ in line for line in lines if line.startswith("  File ")] == [True, True]
    assert any("InvalidResponse: " in line for line in lines)


@on_each_loop
def test_traceback_begins_in_the_application(loop: str):
    async def app(scope, receive, send):
        raise ValueError

    with running(app, loop=loop, lifespan="off") as bridge:
        bridge.ask("/a/path", method="PUT", QUERY_STRING="token=secret")

    (event,) = bridge.events.find(event="application failed")
    files = [line for line in event["exception"].splitlines() if line.startswith("  File ")]
    assert __file__ in files[0]
    assert event["method"] == "PUT"
    assert event["path"] == "/a/path"
    assert event["app"].endswith("test_traceback_begins_in_the_application.<locals>.app")
    assert "secret" not in bridge.events.text()


@on_each_loop
def test_log_that_can_not_be_written_keeps_nobody_from_an_answer(loop: str):
    async def app(scope, receive, send):
        raise ValueError

    with running(app, loop=loop, lifespan="off") as bridge:
        bridge.events.broken = True
        assert bridge.ask().seen == 500
        assert bridge.ask().seen == 500
        bridge.events.broken = False
        assert bridge.ask().seen == 500


@on_each_loop
def test_head_too_large_for_nginx_is_told_with_the_header_that_is_it(loop: str):
    async def app(scope, receive, send):
        await send(start(200, (b"X-Small", b"a"), (b"X-Large", b"b" * 5000)))
        await send(body(b"x"))

    with running(app, loop=loop, frontend_buffer_bytes=4096) as bridge:
        assert bridge.ask().status == 200

    (event,) = bridge.events.find(level="warning")
    assert event["largest_header"] == "X-Large"
    assert event["largest_header_bytes"] == 5000 + len("X-Large: ")


@on_each_loop
@pytest.mark.parametrize(
    ("method", "status", "length", "sent"),
    [
        ("GET", 200, None, 200_000),
        ("GET", 200, 150_000, 150_000),
        ("HEAD", 200, None, 0),
        ("HEAD", 200, 200_000, 0),
        ("GET", 204, None, 0),
        ("GET", 304, None, 0),
    ],
)
def test_piece_of_a_file_is_no_longer_than_the_body(
    loop: str, tmp_path: Path, method: str, status: int, length: int | None, sent: int
):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)
    headers = [] if length is None else [(b"Content-Length", b"%d" % length)]

    async def app(scope, receive, send):
        await send(start(status, *headers))
        with path.open("rb") as file:
            message = {"type": "http.response.zerocopysend", "file": file, "offset": 0}
            await send({**message, "more_body": True})
            await send(body())

    with running(app, loop=loop) as bridge:
        answer = bridge.ask(method=method)
        assert (answer.status, len(answer.body)) == (status, sent)


# What an application sees.


def test_starlettes_gzip_passes_a_file_as_it_is(tmp_path: Path):
    """With http.response.pathsend it sees the file's path, and no body: docs/asgi.md."""
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.responses import FileResponse, PlainTextResponse

    (tmp_path / "page").write_bytes(b"the page" * 1000)

    async def app(scope, receive, send):
        is_file = scope["path"] == "/file"
        response = FileResponse(tmp_path / "page") if is_file else PlainTextResponse("x" * 8000)
        await response(scope, receive, send)

    with running(GZipMiddleware(app), loop="asyncio", lifespan="off") as bridge:
        answer = bridge.ask("/file", HTTP_ACCEPT_ENCODING="gzip")
        assert (answer.seen, answer.body) == (200, b"the page" * 1000)
        assert "content-encoding" not in answer.headers
        assert (
            bridge.ask("/text", HTTP_ACCEPT_ENCODING="gzip").headers["content-encoding"] == "gzip"
        )


def test_middleware_of_starlette_that_reads_a_file_needs_the_extension_out_of_the_scope(
    tmp_path: Path,
):
    """As docs/asgi.md has it."""
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import FileResponse, Response

    (tmp_path / "page").write_bytes(b"the page")

    async def app(scope, receive, send):
        await FileResponse(tmp_path / "page")(scope, receive, send)

    async def read(request, call_next):
        response = await call_next(request)
        pieces = [piece async for piece in response.body_iterator]
        return Response(b", ".join(pieces))

    reader = BaseHTTPMiddleware(app, dispatch=read)

    async def around(scope, receive, send):
        if scope["path"] == "/bytes":
            del scope["extensions"]["http.response.pathsend"]
        await reader(scope, receive, send)

    with running(around, loop="asyncio", lifespan="off") as bridge:
        assert bridge.ask("/bytes").body == b"the page"
        assert bridge.ask("/file").seen == 500

    (event,) = bridge.events.find(level="error")
    assert "TypeError" in event["detail"]
    assert "dict" in event["detail"]


@on_each_loop
@pytest.mark.parametrize("pieces", [[b""], [b"not", b" this", b""]])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_file_that_is_named_with_a_status_that_nginx_has_not(
    loop: str, tmp_path: Path, method: str, pieces: list[bytes]
):
    """Left to Nginx, the answer would be 200."""
    (tmp_path / "page").write_bytes(b"the page" * 50_000)

    async def app(scope, receive, send):
        headers = [(b"x-sendfile", bytes(tmp_path / scope["path"][1:])), (b"content-length", b"7")]
        await send(start(int(scope["query_string"]), *headers))
        *more, last = pieces
        for piece in more:
            await send(body(piece, more=True))
        await send(body(last))

    offload = (f"/protected={tmp_path}",)
    with running(app, loop=loop, lifespan="off", offload=offload) as bridge:
        sent = bridge.ask("/page", method=method, QUERY_STRING="404")
        assert sent.seen == 404
        assert sent.headers["content-length"] == "400000"
        assert sent.body == (b"the page" * 50_000 if method == "GET" else b"")
        assert "x-sendfile" not in sent.headers
        left = bridge.ask("/page", method=method, QUERY_STRING="200")
        assert left.headers["x-accel-redirect"] == "/protected/page"
        assert left.body == b""
        assert bridge.ask("/nowhere", method=method, QUERY_STRING="404").seen == 500
    (event,) = bridge.events.find(level="error")
    assert "can't be read" in event["detail"]


@on_each_loop
def test_the_scope_has_all_that_the_specification_lists(loop: str):
    seen: dict[str, Any] = {}

    async def app(scope, receive, send):
        seen.update(scope)
        await send(start(204))
        await send(body())

    with running(app, loop=loop, lifespan="off") as bridge:
        bridge.ask(
            "/caf\xc3\xa9",
            method="PUT",
            REQUEST_URI="/caf%C3%A9?a=%20b",
            QUERY_STRING="a=%20b",
            REQUEST_SCHEME="https",
            SERVER_PROTOCOL="HTTP/2.0",
            HTTP_X_NAME="caf\xe9",
            REMOTE_USER="alice",
        )

    assert seen["type"] == "http"
    assert seen["asgi"] == {"version": "3.0", "spec_version": "2.3"}
    assert seen["method"] == "PUT"
    assert seen["scheme"] == "https"
    assert seen["http_version"] == "2"
    assert seen["path"] == "/caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    assert seen["raw_path"] == b"/caf%C3%A9"
    assert seen["query_string"] == b"a=%20b"
    assert seen["root_path"] == ""
    assert seen["client"] == ("203.0.113.7", 40000)
    assert seen["server"] == ("example.org", 80)
    assert seen["state"] == {}
    assert seen["headers"] == [(b"host", b"example.org"), (b"x-name", b"caf\xe9")]
    variables = seen["extensions"]["uwsgi"]["vars"]
    # Text as in WSGI's environ: the specification allows no other keys in a scope.
    assert type(variables) is dict
    assert variables["REMOTE_USER"] == "alice"
    assert variables["PATH_INFO"] == "/caf\xc3\xa9"
    assert all(type(it) is str for pair in variables.items() for it in pair)
    assert json.loads(json.dumps(seen["extensions"]))["uwsgi"]["vars"] == variables


@on_each_loop
def test_the_vars_of_a_scope_are_the_applications_own(loop: str):
    async def app(scope, receive, send):
        scope["extensions"]["uwsgi"]["vars"].clear()
        await send(START)
        await send(body(b"%d" % len(scope["headers"])))
        raise RuntimeError("so that the request is reported")

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask("/kept").body == b"1"
    (event,) = bridge.events.find(level="error")
    assert event["path"] == "/kept"


@on_each_loop
def test_mounted_application_sees_its_root_path(loop: str):
    async def app(scope, receive, send):
        await send(START)
        await send(body(f"{scope['root_path']}|{scope['path']}".encode()))

    with running(app, loop=loop, lifespan="off", mounts={"/api": app}) as bridge:
        assert bridge.ask("/api/x").body == b"/api|/api/x"
        assert bridge.ask("/apix").body == b"|/apix"


@on_each_loop
def test_wsgi_and_asgi_applications_share_a_port(loop: str):
    async def asgi(scope, receive, send):
        await send(START)
        await send(body(b"asgi"))

    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return [b"wsgi"]

    with running(asgi, loop=loop, lifespan="off", mounts={"/wsgi": wsgi}) as bridge:
        assert bridge.ask("/").body == b"asgi"
        assert bridge.ask("/wsgi").body == b"wsgi"


@on_each_loop
def test_application_runs_on_the_loop_that_was_asked_for(loop: str):
    async def app(scope, receive, send):
        library = sniffio.current_async_library()
        if library == "asyncio":
            await asyncio.sleep(0)
            library = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        else:
            await trio.lowlevel.checkpoint()
        await send(START)
        await send(body(library.encode()))

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask().body == loop.encode()


@on_each_loop
@on_each_socket
def test_requests_run_at_once(family: str, loop: str):
    together = threading.Semaphore(0)

    async def app(scope, receive, send):
        # Each waits for the rest of its body, which comes when all have begun.
        together.release()
        await read_body(receive)
        await send(START)
        await send(body(b"done"))

    with running(app, family, loop=loop, lifespan="off") as bridge:
        connections = [connect(bridge.address) for _ in range(10)]
        for connection in connections:
            connection.sendall(packet(method="POST", content_length=1))
        for _ in connections:
            assert together.acquire(timeout=PATIENCE_SECONDS)
        for connection in connections:
            connection.sendall(b"x")
            assert read_answer(connection).body == b"done"
            connection.close()


# Bodies on their way in.


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """Answer as the body comes."""
    await send(START)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send(body(message["body"], more=more))


@on_each_loop
@on_each_socket
def test_body_is_read_and_answered_as_it_arrives(family: str, loop: str):
    with (
        running(echo, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=15))
        for piece in (b"first", b"other", b"third"):
            connection.sendall(piece)
            # Its echo comes although the rest of the body is not there.
            assert read_until(connection, piece).endswith(piece)
        assert connection.recv(1) == b""


@on_each_loop
@on_each_socket
def test_large_body_and_answer_arrive_whole(family: str, loop: str):
    large = bytes(range(256)) * 16_384

    async def app(scope, receive, send):
        received = await read_body(receive)
        await send(START)
        await send(body(received[:100_000], more=True))
        await send(body(memoryview(received)[100_000:]))

    with running(app, family, loop=loop, lifespan="off") as bridge:
        assert bridge.ask(method="POST", body=large).body == large


@on_each_loop
@on_each_socket
def test_request_without_a_body_has_one_empty_piece(family: str, loop: str):
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        messages.put(await receive())
        await send(START)
        await send(body())
        # After the answer, what is received is that the exchange is over.
        messages.put(await receive())
        messages.put(await receive())

    with running(app, family, loop=loop, lifespan="off") as bridge:
        assert bridge.ask().seen == 200

    assert messages.get(timeout=0) == {"type": "http.request", "body": b"", "more_body": False}
    assert messages.get(timeout=0) == {"type": "http.disconnect"}
    assert messages.get(timeout=0) == {"type": "http.disconnect"}


@on_each_loop
@on_each_socket
def test_body_that_stalls_is_answered_408(family: str, loop: str):
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        while (message := await receive())["type"] != "http.disconnect":
            messages.put(message)
        messages.put(message)

    with (
        running(
            app,
            family,
            loop=loop,
            lifespan="off",
            body_timeout_seconds=SHORT_SECONDS,
            linger_seconds=0,
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet("/slow", method="POST", content_length=10) + b"12345")
        answer = read_answer(connection)

    assert messages.get(timeout=0) == {"type": "http.request", "body": b"12345", "more_body": True}
    assert messages.get(timeout=0) == {"type": "http.disconnect"}
    assert answer.seen == 408
    assert b"did not arrive in time" in answer.body
    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "request body did not arrive in time"
    assert event["path"] == "/slow"
    assert event["option"] == "--body-timeout-seconds"
    assert event["outcome"] == "answered 408"
    assert bridge.events.find(level="error") == []
    assert bridge.counters.refused == {"body_timeout": 1}


@on_each_loop
@on_each_socket
def test_application_that_raises_for_a_stalled_body_is_not_blamed(family: str, loop: str):
    async def app(scope, receive, send):
        if (await receive())["type"] == "http.disconnect":
            raise ValueError("the client has gone")

    with (
        running(
            app,
            family,
            loop=loop,
            lifespan="off",
            body_timeout_seconds=SHORT_SECONDS,
            linger_seconds=0,
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=10))
        assert read_answer(connection).seen == 408

    assert bridge.events.find(level="error") == []
    assert bridge.counters.app_errors == 0


@on_each_loop
@on_each_socket
def test_head_that_is_too_large_is_told_where_nginx_leaves_during_the_answer(
    family: str, loop: str
):
    async def app(scope, receive, send):
        headers = [(b"x-large", b"x" * 5000)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})

    with running(
        *(app, family), loop=loop, lifespan="off", gone_client_send_seconds=SHORT_SECONDS
    ) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(packet())
            assert connection.recv(1) == b"H"
        told = bridge.events.wait(
            event="head of the answer is larger than Nginx's buffer: it answers 502"
        )
    assert told["largest_header"] == "x-large"
    assert len(bridge.events.find(level="warning")) == 1


@on_each_loop
@on_each_socket
def test_body_that_stalls_during_the_answer_breaks_it(family: str, loop: str):
    with (
        running(
            echo, family, loop=loop, lifespan="off", body_timeout_seconds=SHORT_SECONDS
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=10) + b"start")
        read_until(connection, b"start")
        told = bridge.events.wait(
            event="request body did not arrive in time", outcome="connection broken"
        )
        assert "read the body first" in told["hint"]
        if family == "unix":
            # It can be broken only with input in hand; until then it stays open.
            connection.sendall(b"5")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@on_each_loop
@on_each_socket
def test_answer_is_intact_when_the_body_is_not_read(family: str, loop: str):
    answer_body = b"no, thank you\n" * 1000

    async def app(scope, receive, send):
        await send(start(413))
        await send(body(answer_body))

    large = bytes(3_000_000)
    with (
        running(app, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=len(large)))
        # The answer is complete before the body has begun; a frontend goes on sending all the same.
        read_until(connection, answer_body)
        connection.sendall(large)
        assert connection.recv(1) == b""


@on_each_loop
@on_each_socket
def test_answer_while_the_body_is_waited_for_is_intact(family: str, loop: str):
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting = threading.Event()

    async def answer(send):
        await send(start(413))
        await send(body(b"no, thank you"))

    async def listen(receive):
        waiting.set()
        messages.put(await receive())

    async def app(scope, receive, send):
        if loop == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, receive)
                await trio.testing.wait_all_tasks_blocked()
                await answer(send)
        else:
            listener = asyncio.ensure_future(listen(receive))
            await asyncio.sleep(0)
            await answer(send)
            await listener

    with (
        running(app, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=10))
        read_until(connection, b"no, thank you")
        assert messages.get(timeout=PATIENCE_SECONDS) == {"type": "http.disconnect"}
        connection.sendall(bytes(10))
        assert connection.recv(1) == b""

    assert waiting.is_set()
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_two_may_receive_at_once(family: str, loop: str):
    # As frameworks do that look for a disconnect while a handler reads the body.
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting = threading.Event()

    async def listen(receive):
        messages.put(await receive())

    async def app(scope, receive, send):
        if loop == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, receive)
                nursery.start_soon(listen, receive)
                await trio.testing.wait_all_tasks_blocked()
                waiting.set()
        else:
            both = [asyncio.ensure_future(listen(receive)) for _ in range(2)]
            await asyncio.sleep(0)
            waiting.set()
            await asyncio.gather(*both)
        await send(START)
        await send(body(b"done"))

    with (
        running(app, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=2))
        assert waiting.wait(PATIENCE_SECONDS)
        received = b""
        for _ in range(2):
            connection.sendall(b"x")
            message = messages.get(timeout=PATIENCE_SECONDS)
            assert message["type"] == "http.request"
            received += message["body"]
        assert received == b"xx"
        assert read_answer(connection).body == b"done"


# Answers on their way out.


@on_each_loop
@on_each_socket
def test_answer_is_sent_as_it_is_made(family: str, loop: str):
    async def app(scope, receive, send):
        await send(START)
        for piece in (b"first", b"second", b"third"):
            await send(body(piece, more=True))
            # The client sends a byte when it has seen the piece.
            assert (await receive())["body"]
        await send(body())

    with (
        running(app, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=4))
        for piece in (b"first", b"second", b"third"):
            assert read_until(connection, piece).endswith(piece)
            connection.sendall(b"+")
        connection.sendall(b"+")
        assert connection.recv(1) == b""


@on_each_loop
def test_stream_that_never_waits_does_not_keep_others_waiting(loop: str):
    async def app(scope, receive, send):
        await send(START)
        if scope["path"] == "/endless":
            with suppress(OSError):
                while True:
                    await send(body(b"x", more=True))
        else:
            await send(body(b"quick"))

    with running(app, loop=loop, lifespan="off") as bridge, connect(bridge.address) as connection:
        connection.sendall(packet("/endless"))
        assert connection.recv(1)
        assert bridge.ask("/quick").body == b"quick"


@on_each_loop
@on_each_socket
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)], ids=["head", "204", "304"]
)
def test_answers_without_a_body_have_none(family: str, loop: str, method: str, status: int):
    async def app(scope, receive, send):
        await send(start(status))
        await send(body(b"this is ", more=True))
        await send(body(b"not sent"))

    with running(app, family, loop=loop, lifespan="off") as bridge:
        answer = bridge.ask(method=method)

    assert (answer.seen, answer.body) == (status, b"")
    assert bridge.counters.app_errors == 0


LENGTH = (b"content-length", b"4")


@on_each_loop
@on_each_socket
@pytest.mark.parametrize(
    ("method", "messages", "length"),
    [
        ("HEAD", [start(200)], None),
        ("HEAD", [start(200, LENGTH)], "4"),
        ("HEAD", [start(200), body(b"this", more=True)], None),
        ("GET", [start(204)], None),
        ("GET", [start(304)], None),
        ("GET", [start(200, (b"content-length", b"0"))], "0"),
        ("GET", [start(500, (b"content-length", b"0"))], "0"),
        ("GET", [start(200, LENGTH), body(b"this", more=True)], "4"),
    ],
)
def test_answer_that_is_whole_by_its_framing_is_sent(
    family: str, loop: str, method: str, messages: list[Any], length: str | None
):
    """Though nobody said that nothing follows: uvicorn and hypercorn send it, too."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    with running(app, family, loop=loop, lifespan="off") as bridge:
        for _ in range(2):
            answer = bridge.ask(method=method)
            assert answer.seen == messages[0]["status"]
            assert answer.headers.get("content-length") == length
            assert len(answer.body) == (4 if len(messages) > 1 and method == "GET" else 0)

    (event,) = bridge.events.find(level="warning")
    assert event["event"].startswith("application returned without an http.response.body")
    assert event["app"].endswith("<locals>.app")
    assert bridge.events.find(level="error") == []
    assert bridge.counters.app_errors == 0


@on_each_loop
@on_each_socket
def test_reader_that_does_not_read_is_given_up(family: str, loop: str):
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await send(START)
        try:
            while True:
                await send(body(bytes(1_000_000), more=True))
        except OSError as error:
            errors.put(error)
            raise

    with (
        running(
            app,
            family,
            loop=loop,
            lifespan="off",
            write_timeout_seconds=SHORT_SECONDS,
            gone_client_send_seconds=SHORT_SECONDS,
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet("/endless"))
        event = bridge.events.wait(event="answer was not taken in time")
        errors.get(timeout=PATIENCE_SECONDS)
        assert read_answer(connection).broken

    assert event["path"] == "/endless"
    assert event["option"] == "--write-timeout-seconds"
    assert event["outcome"] == "connection broken"
    assert bridge.counters.refused == {"write_timeout": 1}
    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == []


# Clients that go away.


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_client_gone_during_the_body_is_a_disconnect(
    family: str, loop: str, leave: Callable[[Any], None]
):
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        while True:
            message = await receive()
            messages.put(message)
            if message["type"] == "http.disconnect":
                return

    with running(app, family, loop=loop, lifespan="off") as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet(method="POST", content_length=10) + b"12345")
        assert messages.get(timeout=PATIENCE_SECONDS)["body"] == b"12345"
        leave(connection)
        assert messages.get(timeout=PATIENCE_SECONDS) == {"type": "http.disconnect"}

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find() == []
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
@pytest.mark.parametrize("raises", [OSError, ValueError], ids=["its-error", "another-error"])
def test_client_gone_during_the_answer_ends_it_without_a_traceback(
    family: str, loop: str, leave: Callable[[Any], None], raises: type[Exception]
):
    async def app(scope, receive, send):
        await send(START)
        try:
            while True:
                await send(body(bytes(10_000), more=True))
        except OSError:
            if raises is OSError:
                raise
            raise ValueError from None

    with running(
        app, family, loop=loop, lifespan="off", gone_client_send_seconds=SHORT_SECONDS
    ) as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet())
        assert connection.recv(10)
        leave(connection)

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert "Traceback" not in bridge.events.text()
    assert bridge.events.find(level="error") == []


# The end of the host.


@on_each_loop
@on_each_socket
def test_stop_waits_for_running_requests(family: str, loop: str):
    with (
        running(echo, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=9) + b"1st\n")
        read_until(connection, b"1st\n")
        bridge.begin_stop()
        connection.sendall(b"last\n")
        assert read_until(connection, b"last\n") == b"last\n"
        assert connection.recv(1) == b""
        bridge.wait_stopped()

    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_stop_waits_for_background_work_after_the_answer(family: str, loop: str):
    go_on, over = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"answered"))
        wait = trio.to_thread.run_sync if loop == "trio" else asyncio.to_thread
        await wait(go_on.wait, PATIENCE_SECONDS)
        over.set()

    with running(app, family, loop=loop, lifespan="off") as bridge:
        assert bridge.ask().body == b"answered"
        bridge.begin_stop()
        go_on.set()
        bridge.wait_stopped()
        assert over.is_set()

    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_graceful_timeout_cancels_what_runs(family: str, loop: str):
    async def app(scope, receive, send):
        if scope["path"] == "/begun":
            await send(START)
            await send(body(b"begun", more=True))
        await receive()
        await receive()
        await anyio.sleep_forever()  # whatever it is told

    with (
        running(
            app, family, loop=loop, lifespan="off", graceful_timeout_seconds=SHORT_SECONDS
        ) as bridge,
        connect(bridge.address) as begun,
        connect(bridge.address) as waiting,
    ):
        begun.sendall(packet("/begun"))
        read_until(begun, b"begun")
        waiting.sendall(packet("/waiting"))
        bridge.settle()
        bridge.stop()
        with pytest.raises(ConnectionResetError):
            begun.recv(1)
        answer = read_answer(waiting)

    assert answer.seen == 503
    assert answer.body == b"The server can't run this request now.\n"
    (event,) = bridge.events.find(level="error")
    assert event["event"] == "requests were broken off: they did not end in time"
    assert event["requests"] == 2
    assert event["option"] == "--graceful-timeout-seconds"
    assert bridge.counters.app_errors == 0


@on_each_loop
def test_hurry_breaks_off_at_once(loop: str):
    started = threading.Event()

    async def app(scope, receive, send):
        await receive()
        started.set()
        await receive()

    with running(app, loop=loop, lifespan="off") as bridge, connect(bridge.address) as waiting:
        waiting.sendall(packet())
        assert started.wait(PATIENCE_SECONDS)
        bridge.begin_stop()
        bridge.hurry()
        assert read_answer(waiting).seen == 503
        bridge.wait_stopped()

    assert bridge.events.find(level="error")[0]["requests"] == 1


@pytest.mark.parametrize("needs", ["task", "future", "group"])
def test_an_application_that_needs_asyncio_names_the_option_of_the_loop(needs: str):
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if needs == "future":
            loop = asyncio.new_event_loop()
            with closing(loop):
                await loop.create_future()
        try:
            await asyncio.sleep(1)
        except RuntimeError as error:
            if needs == "group":
                raise ExceptionGroup("of a task group", [error]) from None
            raise

    with running(app, loop="trio", lifespan="off") as bridge:
        assert bridge.ask().status == 500

    (event,) = bridge.events.find(level="error")
    assert "leave out --loop trio" in event["hint"]


@pytest.mark.parametrize("loop", [it for it in LOOPS if it != "trio"])
def test_a_loop_that_is_missing_in_a_thread_has_nothing_to_do_with_that_option(loop: str):
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(asyncio.get_running_loop)

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask().status == 500

    (event,) = bridge.events.find(level="error")
    assert event["detail"] == "RuntimeError: no running event loop"
    assert "hint" not in event
