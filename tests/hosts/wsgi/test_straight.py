"""The straight way of a request: what the accelerator does by itself, and how Python goes on where it does not."""

from __future__ import annotations

import contextvars
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asked_admission import seen_by_who_asks
from tests.bridge import running
from tests.hosts.wsgi.test_interruption import settle
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask
from tests.wsgi_conversation import Conversations, read_all
from uwsgibridge.hosts.exchange_states import Life
from uwsgibridge.hosts.wsgi import serving

# Only with the accelerator is there such a way.
pytestmark = pytest.mark.each("either_way")

TEXT = [("Content-Type", "text/plain")]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
WHOLE = HEAD + b"Content-Length: 5\r\n\r\nwhole"


def is_accelerated() -> bool:
    return getattr(serving, "accelerator", None) is not None


class Closing:
    """An iterable as frameworks return it."""

    def __init__(self, *items: Any, closed: Callable[[], object] = lambda: None) -> None:
        self._items = items
        self.close = closed

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


def answering(answer: Any, headers: list[tuple[str, str]] | None = None) -> Any:
    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT if headers is None else headers)
        return answer() if callable(answer) else answer

    return app


KNOWN_LENGTH = [*TEXT, ("Content-Length", "5")]
PLAIN = {
    "list": answering([b"whole"]),
    "tuple": answering((b"whole",)),
    "known length": answering([b"whole"], KNOWN_LENGTH),
    "framework": answering(lambda: Closing(b"whole"), KNOWN_LENGTH),
    "generator": answering(lambda: (it for it in [b"whole"]), KNOWN_LENGTH),
    "map": answering(lambda: map(bytes, [b"whole"]), KNOWN_LENGTH),
}


@pytest.mark.parametrize("logs_access", [False, True])
@pytest.mark.parametrize("family", ["unix", "tcp"])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_answers_go_straight(name: str, family: str, logs_access: bool) -> None:
    """Else all tests would pass with an accelerator that leaves everything to Python."""
    host = Conversations(PLAIN[name], logs_access=logs_access)
    assert host.ask(family=family) == (WHOLE, False)  # Python meets names of headers first
    host.concluded.clear()
    assert host.ask(family=family) == (WHOLE, False)
    assert len(host.concluded) == (not is_accelerated())
    assert not host.in_flight
    assert host.accesses == [(200, 5, True)] * (2 * logs_access)
    assert host.events.find() == []


EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"
OTHERS: dict[str, tuple[Any, dict[str, str], bytes, bool]] = {
    "empty": (answering([b""]), {}, EMPTY, True),
    "nothing": (answering([]), {}, HEAD + b"Content-Length: 0\r\n\r\n", False),
    "two": (answering([b"wh", b"ole"], KNOWN_LENGTH), {}, WHOLE, False),
    "generator of two": (answering(lambda: iter([b"wh", b"ole"]), KNOWN_LENGTH), {}, WHOLE, False),
    "more": (answering(lambda: Closing(b"whole", b"more"), KNOWN_LENGTH), {}, WHOLE, False),
    "empty first": (answering(lambda: Closing(b"", b"whole"), KNOWN_LENGTH), {}, WHOLE, False),
    "none": (answering(lambda: Closing(None, b"whole"), KNOWN_LENGTH), {}, WHOLE, False),
    "too long": (answering([b"whole and more"], KNOWN_LENGTH), {}, WHOLE, False),
    "head": (
        answering([b"whole"]),
        {"REQUEST_METHOD": "HEAD"},
        HEAD + b"Content-Length: 5\r\n\r\n",
        False,
    ),
    "a tab": (
        answering([b"whole"], [*TEXT, ("X-A", "a\tb")]),
        {},
        HEAD + b"X-A: a\tb\r\nContent-Length: 5\r\n\r\nwhole",
        True,
    ),
    "hop by hop": (answering([b"whole"], [*TEXT, ("Connection", "close")]), {}, WHOLE, True),
    "a stream": (
        answering([b"whole"], [("Content-Type", "text/event-stream")]),
        {},
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5\r\n\r\nwhole",
        True,
    ),
    "latin-1": (
        answering([b"whole"], [*TEXT, ("X-A", "\xe9")]),
        {},
        HEAD + b"X-A: \xe9\r\nContent-Length: 5\r\n\r\nwhole",
        True,
    ),
    "not modified": (
        lambda _environ, start_response: start_response("304 Not Modified", TEXT) and [b""],
        {},
        b"HTTP/1.1 304 Not Modified\r\nContent-Type: text/plain\r\n\r\n",
        False,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_answers_are_those_of_python(name: str) -> None:
    app, variables, expected, is_straight = OTHERS[name]
    host = Conversations(app)
    for _ in range(3):
        host.concluded.clear()
        assert host.ask(variables) == (expected, False)
    assert len(host.concluded) == (not (is_straight and is_accelerated()))
    assert not host.in_flight


class TestStartResponse:
    def test_it_is_called_again_with_exc_info(self) -> None:
        def app(_environ: Any, start_response: Any) -> Any:
            start_response("200 OK", TEXT)
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                start_response("500 Internal Server Error", [("X-A", "1")], sys.exc_info())
            return [b"whole"]

        host = Conversations(app)
        for _ in range(2):
            received, _ = host.ask()
            assert received.startswith(b"HTTP/1.1 500 Internal Server Error\r\nX-A: 1\r\n")

    def test_it_is_called_twice(self) -> None:
        def app(_environ: Any, start_response: Any) -> Any:
            start_response("200 OK", TEXT)
            start_response("200 OK", TEXT)

        host = Conversations(app)
        for _ in range(2):
            received, _ = host.ask()
            assert received.startswith(b"HTTP/1.1 500 ")
        events = host.events.find(event="application broke a rule")
        assert {it["detail"] for it in events} == {
            "start_response was called twice without exc_info"
        }
        assert len(events) == 2

    @pytest.mark.parametrize("exc_info", [None, ()])
    def test_it_takes_the_arguments_of_pep_3333(self, exc_info: Any) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            if environ["PATH_INFO"] == "/named":
                start_response("200 OK", TEXT, exc_info=exc_info)
            else:
                start_response("200 OK", TEXT, exc_info)
            return [b"whole"]

        host = Conversations(app)
        for path in ("/x", "/named"):
            assert host.ask({"PATH_INFO": path}) == (WHOLE, False)

    @pytest.mark.parametrize("arguments", [(), ("200 OK",), ("200 OK", TEXT, None, None)])
    def test_a_wrong_number_of_arguments_is_a_type_error(self, arguments: Any) -> None:
        host = Conversations(lambda _environ, start_response: start_response(*arguments))
        received, _ = host.ask()
        assert received.startswith(b"HTTP/1.1 500 ")
        (event,) = host.events.find(event="application failed")
        assert "TypeError" in event["detail"]

    def test_its_write_sends_at_once(self) -> None:
        def app(_environ: Any, start_response: Any) -> Any:
            write = start_response("200 OK", KNOWN_LENGTH)
            write(b"wh")
            write(b"ole")
            return [b""]

        host = Conversations(app)
        for _ in range(2):
            assert host.ask() == (WHOLE, False)

    def test_it_may_be_called_late(self) -> None:
        def app(_environ: Any, start_response: Any) -> Any:
            start_response("200 OK", KNOWN_LENGTH)
            yield b"whole"

        host = Conversations(app)
        for _ in range(2):
            assert host.ask() == (WHOLE, False)

    def test_it_may_be_called_after_the_request(self) -> None:
        kept: list[Any] = []

        def app(_environ: Any, start_response: Any) -> Any:
            kept.append(start_response)
            start_response("200 OK", TEXT)
            return [b"whole"]

        host = Conversations(app)
        for _ in range(2):
            assert host.ask() == (WHOLE, False)
        for start_response in kept:
            with pytest.raises(Exception, match="twice"):
                start_response("200 OK", TEXT)


class TestEnds:
    @pytest.mark.parametrize("family", ["unix", "tcp"])
    @pytest.mark.parametrize("name", ["list", "framework"])
    def test_the_rest_of_an_answer_that_does_not_fit_is_sent_by_python(
        self, name: str, family: str
    ) -> None:
        body = os.urandom(50_000)
        length = ("Content-Length", str(len(body)))
        app = {
            "list": answering([body]),
            "framework": answering(lambda: Closing(body), [*TEXT, length]),
        }[name]
        host = Conversations(app, logs_access=True)
        expected = HEAD + b"Content-Length: 50000\r\n\r\n" + body
        for _ in range(2):
            got: list[tuple[bytes, bool]] = []
            readers: list[threading.Thread] = []

            def read_meanwhile(
                peer: socket.socket, got: Any = got, readers: list[threading.Thread] = readers
            ) -> None:
                mine = peer.dup()
                readers.append(threading.Thread(target=lambda: got.append(read_and_close(mine))))
                readers[0].start()

            host.ask(family=family, send_buffer_bytes=4096, reads=read_meanwhile)
            readers[0].join(PATIENCE_SECONDS)
            assert got == [(expected, False)]
        assert host.accesses == [(200, 50_000, True)] * 2

    @pytest.mark.parametrize("logs_access", [False, True])
    @pytest.mark.parametrize("name", ["list", "framework"])
    def test_a_client_that_has_left_is_counted(self, name: str, logs_access: bool) -> None:
        host = Conversations(PLAIN[name], logs_access=logs_access)
        for count in range(1, 3):
            host.ask(leaves=True)
            assert host.counters.client_gone == count
        assert host.accesses == [(0, 0, False)] * (2 * logs_access)
        assert not host.in_flight

    def test_close_is_called_after_the_answer_and_may_raise(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        host = Conversations(answering(lambda: Closing(b"whole", closed=fail), KNOWN_LENGTH))
        for count in range(1, 3):
            assert host.ask() == (WHOLE, False)
            assert host.counters.app_errors == count
        assert {it["outcome"] for it in host.events.find()} == {"the answer was complete"}

    def test_close_is_called_after_an_iteration_that_raises(self) -> None:
        closed: list[int] = []

        class Failing(Closing):
            def __iter__(self) -> Iterator[bytes]:
                yield b"whole"
                raise ZeroDivisionError

        host = Conversations(
            answering(lambda: Failing(closed=lambda: closed.append(1)), KNOWN_LENGTH)
        )
        for count in range(1, 3):
            assert host.ask() == (WHOLE, False)
            assert len(closed) == host.counters.app_errors == count

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
    def test_what_the_application_raises_is_answered_500(self, error: type[BaseException]) -> None:
        def app(_environ: Any, start_response: Any) -> Any:
            start_response("200 OK", TEXT)
            raise error

        host = Conversations(app, logs_access=True)
        for count in range(1, 3):
            received, is_broken = host.ask()
            assert received.startswith(b"HTTP/1.1 500 ")
            assert not is_broken
            assert host.counters.app_errors == count
        assert [status for status, _, _ in host.accesses] == [500, 500]
        (event, _) = host.events.find()
        assert "test_straight.py" in event["exception"]
        assert "serving.py" not in event["exception"]

    def test_a_text_without_a_line_end_is_logged_at_the_end(self) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            environ["wsgi.errors"].write("unfinished")
            start_response("200 OK", TEXT)
            return [b"whole"]

        host = Conversations(app)
        for count in range(1, 3):
            assert host.ask() == (WHOLE, False)
            assert len(host.events.find(line="unfinished")) == count

    def test_a_full_host_wakes_the_listener(self) -> None:
        host = Conversations(PLAIN["list"])
        host.ask()
        assert host.admission.wake_at(-1) is True
        assert host.ask() == (WHOLE, False)
        assert host.woken == 0
        placeholder: Any = object()
        host.in_flight.add(placeholder)
        assert host.admission.wake_at(0) is True
        host.in_flight.discard(placeholder)
        assert host.ask() == (WHOLE, False)
        assert host.woken == 1

    def test_a_host_that_is_as_full_as_before_wakes_nobody(self) -> None:
        host = Conversations(PLAIN["list"])
        others: list[Any] = [object(), object()]
        host.in_flight.update(others)
        assert host.admission.wake_at(1) is True
        assert host.ask() == (WHOLE, False)
        assert host.woken == 0
        assert host.in_flight == set(others)

    def test_whether_somebody_waits_is_looked_at_last(self) -> None:
        """Without the GIL, a listener may ask to be woken at any moment."""
        host = Conversations(PLAIN["list"])
        with seen_by_who_asks(host.admission) as seen:
            assert host.ask() == (WHOLE, False)
        assert seen == [0]

    def test_the_slot_of_the_packet_is_free_again(self) -> None:
        host = Conversations(PLAIN["list"])
        host.ask()
        before = len(host.flights.free_slots)
        slot = memoryview(bytearray(b"packet"))

        def app(environ: Any, start_response: Any) -> Any:
            (connection,) = host.in_flight
            connection.slot = slot
            return PLAIN["list"](environ, start_response)

        host = Conversations(app)
        for count in (1, 2):
            assert host.ask() == (WHOLE, False)
            assert len(host.flights.free_slots) - before == count
        assert host.flights.free_slots[-1] is slot
        assert slot[0] == 255

    def test_a_large_head_is_warned_of(self) -> None:
        host = Conversations(PLAIN["list"], frontend_buffer_bytes=10)
        for count in range(1, 3):
            assert host.ask() == (WHOLE, False)
            assert len(host.events.find(head_bytes=len(HEAD) + 2)) == count


class TestApplication:
    def test_each_request_has_a_context_and_an_environ_of_its_own(self) -> None:
        seen: list[object] = []
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

        def app(environ: Any, start_response: Any) -> Any:
            seen.append((variable.get("unset"), environ.get("X"), environ["wsgi.input"].read()))
            variable.set("set")
            environ["X"] = "x"
            environ["wsgi.version"] = None
            start_response("200 OK", TEXT)
            return [b"whole"]

        host = Conversations(app)
        for _ in range(3):
            assert host.ask(body=b"body") == (WHOLE, False)
        assert seen == [("unset", None, b"body")] * 3
        assert variable.get("unset") == "unset"
        assert host.context.base_environ["wsgi.version"] == (1, 0)

    def test_the_exchange_is_a_real_one(self) -> None:
        """Whatever asks it while the application runs gets an answer."""
        seen: list[object] = []

        def app(_environ: Any, start_response: Any) -> Any:
            (exchange,) = host.running
            assert exchange is host.thread.exchange
            seen.append((exchange._life, exchange.given_up, exchange.interruption))
            start_response("200 OK", TEXT)
            assert exchange.used_seconds(exchange.started_at + 5) == 5
            assert exchange.request is exchange.connection.request
            assert exchange.request.path == "/x"
            assert not exchange._response.is_head_sent
            assert exchange._response.status == 200
            return [b"whole"]

        host = Conversations(app)
        for _ in range(2):
            assert host.ask() == (WHOLE, False)
        assert seen == [(Life.RUNNING, False, None)] * 2

    def test_an_answer_that_was_sent_is_told_as_complete(self) -> None:
        seen: list[object] = []

        def closed() -> None:
            (exchange,) = host.running
            response = exchange._response
            seen.append(
                (exchange._life, response.status, response.is_complete, response.body_bytes)
            )

        host = Conversations(answering(lambda: Closing(b"whole", closed=closed), KNOWN_LENGTH))
        for _ in range(2):
            assert host.ask() == (WHOLE, False)
        assert seen == [(Life.ENDED, 200, True, 5)] * 2

    # Of a fork beside threads, from Python 3.12 on.
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_child_that_returns_from_the_application_ends(self) -> None:
        """Two processes would answer one request."""
        children: list[int] = []

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", TEXT)
            if environ["PATH_INFO"] == "/fork":
                child = os.fork()
                if child:
                    children.append(child)
            return [b"whole"]

        with running(app, "unix", threads=1) as bridge:
            for path in ("/x", "/fork", "/x"):
                assert ask(bridge.address, path).body == b"whole"
            settle(bridge)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def read_and_close(peer: socket.socket) -> tuple[bytes, bool]:
    with peer:
        return read_all(peer)
