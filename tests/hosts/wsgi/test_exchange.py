"""WSGI applications in threads: what they see, what they may do, and what becomes of what they may not."""

from __future__ import annotations

import contextvars
import io
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from integration.wsgi.apps.misbehaving import FAILED, Closing
from tests.bridge import on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask, connect, packet, read_answer, read_until, reset
from uwsgibridge._version import __version__
from uwsgibridge.hosts.wsgi import exchange as wsgi_exchange

StartResponse = Callable[..., Callable[[bytes], object]]
Environ = dict[str, Any]

TEXT = [("Content-Type", "text/plain")]

# For a deadline that is meant to pass.
SHORT_SECONDS = 0.1


BODIES = [
    pytest.param(None, id="no-body"),
    pytest.param(b"a body that is not read", id="body"),
    # A body that is larger than what arrives with the packet and what the kernel buffers.
    pytest.param(bytes(1_000_000), id="large-body"),
]


@on_each_socket
def test_bytes_are_sent_as_they_are_and_told_once(family: str):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return b"by the letter integers"

    with running(app, family) as bridge:
        assert [bridge.ask().body for _ in range(3)] == [b"by the letter integers"] * 3

    (event,) = bridge.events.find(level="warning")
    assert event["event"].startswith("application returned bytes")
    assert event["hint"] == "return [body]"


@on_each_socket
@pytest.mark.parametrize(
    "items",
    [[None], [None, b"a", None, b"b", None], [b"a", b"b", None], (None, b"ab"), [None, None]],
    ids=str,
)
def test_items_that_are_none_are_passed_over_and_told_once(family: str, items: list[bytes | None]):
    """As uWSGI does; some applications yield it while they wait."""

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return items

    with running(app, family) as bridge:
        answers = [bridge.ask() for _ in range(3)]

    body = b"".join(item for item in items if item)
    assert [(answer.seen, answer.body) for answer in answers] == [(200, body)] * 3
    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "application yielded None, which WSGI does not know: it is passed over"
    assert event["hint"] == "yield b''"
    assert bridge.counters.app_errors == 0


def test_traceback_begins_in_the_application():
    def app(environ, start_response):
        raise ValueError

    with running(app) as bridge:
        bridge.ask("/a/path?", method="PUT")

    (event,) = bridge.events.find(event=FAILED)
    files = [line for line in event["exception"].splitlines() if line.startswith("  File ")]
    assert __file__ in files[0]
    assert event["method"] == "PUT"
    assert event["path"] == "/a/path?"
    assert event["app"].endswith("test_traceback_begins_in_the_application.<locals>.app")


def test_log_that_can_not_be_written_keeps_nobody_from_an_answer():
    def app(environ, start_response):
        raise ValueError

    with running(app, threads=1) as bridge:
        bridge.events.broken = True
        assert bridge.ask().seen == 500
        assert bridge.ask().seen == 500
        bridge.events.broken = False
        assert bridge.ask().seen == 500


def test_head_too_large_for_nginx_is_told_with_the_header_that_is_it():
    def app(environ, start_response):
        start_response("200 OK", [("X-Small", "a"), ("X-Large", "b" * 5000)])
        return [b"x"]

    with running(app, frontend_buffer_bytes=4096) as bridge:
        assert bridge.ask().status == 200

    (event,) = bridge.events.find(level="warning")
    assert event["largest_header"] == "X-Large"
    assert event["largest_header_bytes"] == 5000 + len("X-Large: ")
    assert event["head_bytes"] > 5000
    assert "--frontend-buffer-bytes" in event["option"]


# What an application sees.


@on_each_socket
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_passes_the_reference_validator(family: str, body: bytes | None):
    def app(environ, start_response):
        received = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
        environ["wsgi.errors"].flush()
        start_response("200 OK", TEXT)
        return [str(len(received)).encode()]

    def without_empty_values(environ, start_response):
        # The validator refuses them; nginx sends them, and CGI allows both.
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            environ[name] = environ[name] or "0"
        del environ["CONTENT_TYPE"]
        return validator(app)(environ, start_response)

    with running(without_empty_values, family) as bridge:
        answer = bridge.ask("/", method="POST", body=body)

    assert bridge.events.find(level="error") == []
    assert (answer.status, answer.body) == (200, str(len(body or b"")).encode())


def test_the_environ_has_all_that_the_pep_lists():
    seen: Environ = {}

    def app(environ, start_response):
        seen.update(environ)
        start_response("204 No Content", [])
        return []

    with running(app, threads=3) as bridge:
        bridge.ask(
            "/caf\xc3\xa9",
            REQUEST_SCHEME="https",
            HTTP_PROXY="evil",
            REMOTE_USER="alice",
            HTTP_X_FORWARDED_FOR="198.51.100.1",
        )

    assert seen["PATH_INFO"] == "/caf\xc3\xa9"
    assert seen["SCRIPT_NAME"] == ""
    assert seen["wsgi.url_scheme"] == "https"
    assert seen["wsgi.version"] == (1, 0)
    assert seen["wsgi.multithread"] is True
    assert seen["wsgi.multiprocess"] is False
    assert seen["wsgi.run_once"] is False
    assert seen["wsgi.input_terminated"] is True
    assert seen["REMOTE_ADDR"] == "203.0.113.7"
    assert seen["REMOTE_USER"] == "alice"
    assert "HTTP_PROXY" not in seen
    assert type(seen["wsgi.input"].read()) is bytes


@pytest.mark.parametrize("text", ["a line\n", "a line", "a line\n\n"])
def test_what_is_written_to_wsgi_errors_is_logged(text: str):
    def app(environ, start_response):
        environ["wsgi.errors"].write(text)
        start_response("200 OK", [])
        return []

    with running(app, threads=1) as bridge:
        bridge.ask()
        bridge.ask()

    events = bridge.events.find(event="application wrote to wsgi.errors")
    assert [event["line"] for event in events] == ["a line", "a line"]


def test_one_thread_is_no_multithreading():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [repr(environ["wsgi.multithread"]).encode()]

    with running(app, threads=1) as bridge:
        assert bridge.ask().body == b"False"


def test_nothing_of_one_request_is_seen_by_the_next():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def app(environ, start_response):
        before = variable.get()
        variable.set("set by another request")
        start_response("200 OK", [])
        return [before.encode()]

    with running(app, threads=1) as bridge:
        assert [bridge.ask().body for _ in range(3)] == [b"unset"] * 3


@on_each_socket
def test_requests_run_at_once_up_to_the_number_of_threads(family: str):
    barrier = threading.Barrier(3)

    def app(environ, start_response):
        barrier.wait(PATIENCE_SECONDS)
        start_response("200 OK", [])
        return [threading.current_thread().name.encode()]

    with running(app, family, threads=3) as bridge:
        connections = [connect(bridge.address) for _ in range(3)]
        for connection in connections:
            connection.sendall(packet())
        names = {read_answer(connection).body for connection in connections}
        for connection in connections:
            connection.close()

    assert names == {b"wsgi-1", b"wsgi-2", b"wsgi-3"}


# Bodies on their way in.


def echo_lines(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return iter(environ["wsgi.input"].readline, b"")


@on_each_socket
def test_body_is_read_as_it_arrives(family: str):
    with running(echo_lines, family) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet(method="POST", content_length=18))
        for line in (b"line 1\n", b"line 2\n", b"last"):
            connection.sendall(line)
            if line.endswith(b"\n"):
                # Its echo comes although the rest of the body is not there.
                read_until(connection, line)
        answer = read_until(connection, b"last")
        assert connection.recv(1) == b""

    assert answer == b"last"


def read_by_lines(stream: Any) -> list[bytes]:
    return list(iter(stream.readline, b""))


READERS: dict[str, Callable[[Any], Any]] = {
    "read": lambda stream: [stream.read()],
    "read-by-5": lambda stream: list(iter(lambda: stream.read(5), b"")),
    "read-minus-1": lambda stream: [stream.read(-1)],
    "readline": read_by_lines,
    "readline-by-3": lambda stream: list(iter(lambda: stream.readline(3), b"")),
    "readlines": lambda stream: stream.readlines(),
    "readlines-hint": lambda stream: stream.readlines(1) + stream.readlines(),
    "iteration": list,
    "read-then-iterate": lambda stream: [stream.read(4), *stream],
}

LINES = [b"first\n", b"\n", b"a longer third line\n", b"no end"]


@on_each_socket
@pytest.mark.parametrize("in_pieces", [False, True], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_input_reads_like_a_file(reader: Callable[[Any], Any], family: str, in_pieces: bool):
    body = b"".join(LINES)
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    called = threading.Event()

    def app(environ, start_response):
        called.set()
        results.put(reader(environ["wsgi.input"]))
        results.put(environ["wsgi.input"].read(10))
        start_response("204 No Content", [])
        return []

    with running(app, family) as bridge, connect(bridge.address) as connection:
        request = packet(method="POST", content_length=len(body))
        if in_pieces:
            connection.sendall(request)
            assert called.wait(PATIENCE_SECONDS)
            for position in range(len(body)):
                connection.sendall(body[position : position + 1])
        else:
            connection.sendall(request + body)
        assert read_answer(connection).status == 204

    assert results.get(timeout=PATIENCE_SECONDS) == reader(io.BytesIO(body))
    assert results.get(timeout=PATIENCE_SECONDS) == b""


@on_each_socket
def test_large_body_arrives_whole(family: str):
    body = bytes(range(256)) * 8192

    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    with running(app, family) as bridge:
        assert bridge.ask(method="POST", body=body).body == body


@on_each_socket
def test_body_that_stalls_is_answered_408(family: str):
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.put(error)
            raise
        raise AssertionError

    with (
        running(app, family, body_timeout_seconds=SHORT_SECONDS, linger_seconds=0) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet("/slow", method="POST", content_length=10) + b"12345")
        answer = read_answer(connection)

    assert answer.seen == 408
    assert b"did not arrive in time" in answer.body
    assert isinstance(errors.get(timeout=PATIENCE_SECONDS), TimeoutError)
    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "request body did not arrive in time"
    assert event["path"] == "/slow"
    assert event["option"] == "--body-timeout-seconds"
    assert event["outcome"] == "answered 408"
    assert "hint" not in event
    assert bridge.events.find(level="error") == []
    assert bridge.counters.refused == {"body_timeout": 1}


@on_each_socket
def test_head_that_is_too_large_is_told_where_nginx_leaves_during_the_answer(family: str):
    def app(environ, start_response):
        start_response("200 OK", [("X-Large", "x" * 5000)])
        while True:
            yield bytes(100_000)

    with running(app, family) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(packet())
            assert connection.recv(1) == b"H"
        told = bridge.events.wait(
            event="head of the answer is larger than Nginx's buffer: it answers 502"
        )
    assert told["largest_header"] == "X-Large"
    assert len(bridge.events.find(level="warning")) == 1


@on_each_socket
def test_body_that_stalls_during_the_answer_breaks_it(family: str):
    with (
        running(echo_lines, family, body_timeout_seconds=SHORT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=10) + b"line\n")
        read_until(connection, b"line\n")
        told = bridge.events.wait(
            event="request body did not arrive in time", outcome="connection broken"
        )
        assert "read the body first" in told["hint"]
        if family == "unix":
            # It can be broken only with input in hand; until then it stays open.
            connection.sendall(b"5")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@on_each_socket
def test_answer_is_intact_when_the_body_is_not_read(family: str):
    body = bytes(3_000_000)
    answer_body = b"no, thank you\n" * 1000

    def app(environ, start_response):
        start_response("413 Content Too Large", TEXT)
        return [answer_body]

    with running(app, family) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet(method="POST", content_length=len(body)))
        # The answer is complete before the body has begun; a frontend goes on sending all the same.
        bytes_sent_early = read_until(connection, answer_body)
        connection.sendall(body)
        assert connection.recv(1) == b""

    assert bytes_sent_early.startswith(b"HTTP/1.1 413 ")


@on_each_socket
def test_unread_body_holds_a_thread_only_until_the_answer_is_complete(family: str):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [b"done"]

    with (
        running(app, family, threads=1, accept_margin=1) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=10))
        read_until(connection, b"done")
        # Its body is still outstanding.
        assert bridge.ask().body == b"done"
        connection.sendall(bytes(10))
        assert connection.recv(1) == b""


@on_each_socket
def test_body_that_never_comes_is_waited_for_within_a_bound(family: str):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [b"done"]

    with (
        running(app, family, linger_seconds=SHORT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=10))
        assert read_until(connection, b"done")
        # The bridge has said all; the connection itself goes when the time is over.
        assert connection.recv(1) == b""
        bridge.stop()
        if family == "tcp":
            connection.sendall(b"1")  # only provokes the reset
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"1")


@on_each_socket
def test_what_follows_a_request_is_never_another_one(family: str):
    paths = []

    def app(environ, start_response):
        paths.append(environ["PATH_INFO"])
        start_response("200 OK", TEXT)
        return [b"one"]

    with running(app, family) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet("/1") + packet("/2"))
        answer = read_answer(connection)

    assert answer.body == b"one"
    assert not answer.broken
    assert paths == ["/1"]


# Answers on their way out.


@on_each_socket
def test_answer_is_sent_as_it_is_made(family: str):
    go_on = threading.Semaphore(0)

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        for chunk in (b"", b"first", b"", b"second", b"third"):
            yield chunk
            if chunk:
                assert go_on.acquire(timeout=PATIENCE_SECONDS)

    with running(app, family) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet())
        for chunk in (b"first", b"second", b"third"):
            assert read_until(connection, chunk).endswith(chunk)
            go_on.release()
        assert connection.recv(1) == b""


@on_each_socket
def test_write_callable_sends_before_the_iterable(family: str):
    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        write(b"written, ")
        write(b"")
        return [b"returned"]

    with running(app, family) as bridge:
        answer = bridge.ask()

    assert (answer.seen, answer.body) == (200, b"written, returned")


@on_each_socket
def test_large_answer_arrives_whole(family: str):
    body = bytes(range(256)) * 32_768

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [body] if environ["PATH_INFO"] == "/one" else [body[:100_000], body[100_000:]]

    with running(app, family) as bridge:
        assert bridge.ask("/one").body == body
        assert bridge.ask("/two").body == body


@on_each_socket
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)], ids=["head", "204", "304"]
)
def test_answers_without_a_body_have_none(family: str, method: str, status: int):
    def app(environ, start_response):
        start_response(f"{status} Whatever", TEXT)
        return iter([b"this is ", b"not sent"])

    with running(app, family) as bridge:
        answer = bridge.ask(method=method)

    assert (answer.seen, answer.body) == (status, b"")
    assert bridge.counters.app_errors == 0


def test_head_answer_keeps_the_length():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "1000")])
        return []

    with running(app) as bridge:
        answer = bridge.ask(method="HEAD")

    assert (answer.seen, answer.headers["content-length"]) == (200, "1000")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_head_answer_has_the_length_that_get_has(status: str):
    def app(environ, start_response):
        start_response(status, TEXT)
        return [b"a page"]

    with running(app) as bridge:
        head, get = bridge.ask(method="HEAD"), bridge.ask(method="GET")

    assert (head.seen, head.body) == (get.seen, b"")
    assert head.headers == get.headers
    assert head.headers["content-length"] == "6"


def test_head_answer_has_no_length_where_the_application_left_the_body_out():
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [b""]

    with running(app) as bridge:
        assert "content-length" not in bridge.ask(method="HEAD").headers


@on_each_socket
def test_reader_that_does_not_read_is_given_up(family: str):
    closed = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        try:
            while True:
                yield bytes(1_000_000)
        finally:
            closed.set()

    with (
        running(app, family, write_timeout_seconds=SHORT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet("/endless"))
        event = bridge.events.wait(event="answer was not taken in time")
        assert closed.wait(PATIENCE_SECONDS)
        assert read_answer(connection).broken

    assert event["path"] == "/endless"
    assert event["option"] == "--write-timeout-seconds"
    assert event["outcome"] == "connection broken"
    assert bridge.counters.refused == {"write_timeout": 1}
    assert bridge.counters.app_errors == 0


@pytest.mark.parametrize(
    ("sent", "seen"), [(None, f"uwsgibridge/{__version__}"), ("nginx/1.30", "nginx/1.30")]
)
def test_server_software_is_the_frontends_or_ours(sent: str | None, seen: str):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [environ["SERVER_SOFTWARE"].encode()]

    with running(app) as bridge:
        variables = {} if sent is None else {"SERVER_SOFTWARE": sent}
        assert bridge.ask(**variables).body == seen.encode()


@on_each_socket
def test_time_in_which_the_client_sends_its_body_does_not_count(family: str):
    limit_seconds = 0.2
    pause = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [environ["wsgi.input"].read()]

    with (
        running(app, family, request_timeout_seconds=limit_seconds) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=4))
        for _ in range(4):
            pause.wait(0.75 * limit_seconds)
            connection.sendall(b"x")
        answer = read_answer(connection)

    assert (answer.seen, answer.body) == (200, b"xxxx")
    assert bridge.events.find() == []


@pytest.mark.parametrize("way", ["write", "pieces", "file"])
def test_deadline_amid_an_answer_that_is_taken_slowly_says_so(way: str, tmp_path: Path):
    """The application has nothing to answer for: its answer is there, and leaves no faster."""
    file = tmp_path / "file"
    file.write_bytes(bytes(10_000_000))

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        if way == "file":
            return environ["wsgi.file_wrapper"](file.open("rb"))
        return [file.read_bytes()] if way == "write" else [b"x", file.read_bytes()]

    with (
        running(app, request_timeout_seconds=SHORT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet())
        event = bridge.events.wait(event="request took too long")
        assert read_answer(connection).broken

    assert "--offload" in event["hint"]


def test_deadline_of_an_application_that_is_slow_itself_has_no_such_hint():
    ended = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"begun"
        ended.wait()

    with running(app, request_timeout_seconds=SHORT_SECONDS) as bridge:
        assert bridge.ask().broken
        event = bridge.events.wait(event="request took too long")
        ended.set()

    assert "hint" not in event


# Clients that go away.


@on_each_socket
def test_client_gone_before_the_answer_is_counted(family: str):
    started, gone = threading.Event(), threading.Event()
    closing = Closing([b"nobody", b" reads", b" this"])

    def app(environ, start_response):
        started.set()
        assert gone.wait(PATIENCE_SECONDS)
        start_response("200 OK", TEXT)
        return closing

    with running(app, family) as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet())
        assert started.wait(PATIENCE_SECONDS)
        reset(connection)
        gone.set()

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find() == []
    assert closing.closed == 1


@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_client_gone_during_the_body_is_counted(family: str, leave: Callable[[Any], None]):
    reading = threading.Event()
    errors: list[BaseException] = []

    def app(environ, start_response):
        reading.set()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
            raise
        return []

    with running(app, family) as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet(method="POST", content_length=100) + b"123")
        assert reading.wait(PATIENCE_SECONDS)
        leave(connection)

    assert len(errors) == 1
    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find() == []


@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_client_gone_during_the_answer_ends_it(family: str, leave: Callable[[Any], None]):
    closings: queue.SimpleQueue[Closing] = queue.SimpleQueue()

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(10_000)

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        closings.put(closing := Closing(endless()))
        return closing

    with running(app, family) as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet())
        assert connection.recv(10)
        leave(connection)

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find() == []
    assert closings.get(timeout=0).closed == 1


@on_each_socket
@pytest.mark.parametrize("unread", [b"", b"12345"], ids=["no-body", "unread-body"])
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
@pytest.mark.parametrize("item", [b"", None, b"x"], ids=["empty", "none", "not-empty"])
@pytest.mark.parametrize("begun", [False, True], ids=["before", "midway"])
def test_client_gone_is_noticed_at_the_next_item(
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    unread: bytes,
    leave: Callable[[Any], None],
    item: bytes | None,
    begun: bool,
):
    """Also at one that sends nothing: else idle streams hold their threads for ever."""
    # However soon it comes.
    monkeypatch.setattr(wsgi_exchange, "_LOOK_SECONDS", 0.0)
    waiting, gone = threading.Event(), threading.Event()
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def items() -> Iterator[Any]:
        if begun:
            yield b"first"
        waiting.set()
        assert gone.wait(PATIENCE_SECONDS)
        yield item
        asked.put("for more")

    closing = Closing(items())

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return closing

    with running(app, family, threads=1) as bridge:
        connection = connect(bridge.address)
        # Of a body, all but one byte has come.
        length = len(unread) + 1 if unread else None
        connection.sendall(packet(method="POST", content_length=length) + unread)
        assert waiting.wait(PATIENCE_SECONDS)
        leave(connection)
        gone.set()

    assert asked.empty()
    assert closing.closed == 1
    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == []


def test_failure_after_the_client_has_gone_is_told_in_one_line():
    waiting, gone = threading.Event(), threading.Event()

    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        waiting.set()
        assert gone.wait(PATIENCE_SECONDS)
        try:
            write(b"to nobody")
        finally:
            raise KeyError("in its clean-up")

    with running(app, "unix") as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet("/clean-up"))
        assert waiting.wait(PATIENCE_SECONDS)
        connection.close()
        gone.set()

    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "application failed after its client had gone"
    assert event["path"] == "/clean-up"
    assert event["detail"] == "KeyError: 'in its clean-up'"
    assert event["where"].startswith(__file__ + ":")
    assert bridge.counters.client_gone == 1
    assert "Traceback" not in bridge.events.text()


@on_each_socket
def test_client_gone_is_noticed_at_an_empty_write(family: str):
    waiting, gone = threading.Event(), threading.Event()
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        waiting.set()
        assert gone.wait(PATIENCE_SECONDS)
        try:
            write(b"")
        except OSError as error:
            errors.put(error)
            raise
        return []

    with running(app, family) as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet())
        assert waiting.wait(PATIENCE_SECONDS)
        reset(connection)
        gone.set()
        errors.get(timeout=PATIENCE_SECONDS)

    assert bridge.counters.client_gone == 1


def test_streams_of_clients_that_left_hold_no_thread():
    def nothing() -> Iterator[bytes]:
        while True:
            time.sleep(0.01)
            yield b""

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return nothing() if environ["PATH_INFO"] == "/stream" else [b"served"]

    with running(app, "unix", threads=4) as bridge:
        connections = [connect(bridge.address) for _ in range(4)]
        for connection in connections:
            connection.sendall(packet("/stream"))
        for connection in connections:
            connection.close()
        assert bridge.ask().body == b"served"

    assert bridge.counters.client_gone == 4


# The end of the host.


@on_each_socket
def test_stop_waits_for_running_requests(family: str):
    with running(echo_lines, family) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet(method="POST", content_length=9) + b"1st\n")
        read_until(connection, b"1st\n")
        bridge.begin_stop()
        connection.sendall(b"last\n")
        assert read_until(connection, b"last\n") == b"last\n"
        assert connection.recv(1) == b""
        bridge.wait_stopped()

    assert bridge.events.find(level="error") == []


@on_each_socket
def test_graceful_timeout_breaks_off_without_blaming_the_application(family: str):
    go_on, over = threading.Event(), threading.Event()

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"first"
        assert go_on.wait(PATIENCE_SECONDS)
        try:
            yield b"second"
            yield b"third"
        finally:
            over.set()

    with (
        running(app, family, threads=1, graceful_timeout_seconds=SHORT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet())
        read_until(connection, b"first")
        bridge.stop()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        (event,) = bridge.events.find(level="error")
        (thread,) = [it for it in threading.enumerate() if it.name == "wsgi-1"]
        go_on.set()
        assert over.wait(PATIENCE_SECONDS)
        thread.join(PATIENCE_SECONDS)

    assert event["event"] == "requests were broken off: they did not end in time"
    assert event["requests"] == 1
    assert event["option"] == "--graceful-timeout-seconds"
    # What the thread did afterwards is not the application's fault.
    assert bridge.events.find(level="error") == [event]
    assert bridge.counters.app_errors == 0


def test_clients_of_one_application_do_not_wait_for_another_at_its_prefix():
    release = threading.Event()

    def slow(environ, start_response):
        assert release.wait(PATIENCE_SECONDS)
        start_response("200 OK", [])
        return [b"slow"]

    def quick(environ, start_response):
        start_response("200 OK", [])
        return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]

    with (
        running(slow, threads=1, mounts={"/quick": quick}) as bridge,
        connect(bridge.address) as waiting,
    ):
        waiting.sendall(packet("/"))
        assert bridge.ask("/quick/x").body == b"/quick|/x"
        release.set()
        assert read_answer(waiting).body == b"slow"
        assert ask(bridge.address, "/quickly").body == b"slow"
