"""What the accelerator does with a connection that it accepts, and what it leaves to Python before it has counted it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, Self

import pytest

from tests.log_events import PATIENCE_SECONDS
from tests.ways import go
from uwsgibridge import fast
from uwsgibridge.connection.connection import Connection
from uwsgibridge.fast import Accelerator, Intake
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.link.flights import Flight, FlightRecorder, make_flight_file, read_flights
from uwsgibridge.protocol.packet import PING, PacketLimits, encode_packet
from uwsgibridge.protocol.request import Request, is_below
from uwsgibridge.telemetry.counters import Counters

VARS = {
    "QUERY_STRING": "",
    "REQUEST_METHOD": "POST",
    "CONTENT_LENGTH": "4",
    "REQUEST_URI": "/x",
    "PATH_INFO": "/x",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_SCHEME": "http",
    "SERVER_PORT": "80",
    "SERVER_NAME": "example.com",
}
REQUEST = encode_packet(VARS) + b"body"


class Host:
    """Gets connections with their requests."""

    def __init__(self) -> None:
        self.admission: Admission[Connection] = Admission(3, 1, lambda: None)
        self.submitted: list[Connection] = []

    def submit(self, connection: Connection) -> None:
        self.submitted.append(connection)


class Listening:
    """A socket that listens, the accelerator's intake of it, and what the intake works with."""

    def __init__(self, family: str, accelerator: Accelerator, stack: ExitStack) -> None:
        self.socket = stack.enter_context(
            socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET)
        )
        self.socket.bind("" if family == "unix" else ("127.0.0.1", 0))
        self.socket.listen()
        self.socket.setblocking(False)
        self._address = self.socket.getsockname()
        self._stack = stack
        self.descriptor = make_flight_file()
        stack.callback(os.close, self.descriptor)
        self.flights = FlightRecorder(self.descriptor)
        self.counters = Counters()
        self.host = Host()
        self.taken: list[tuple[Connection, int | None]] = []
        self._accelerator = accelerator
        self.is_unix = family == "unix"
        self.intake = self.make()

    def make(self, **changed: Any) -> Intake:
        arguments: dict[str, Any] = {
            "connection_type": Connection,
            "request_type": Request,
            "family": int(self.socket.family),
            "keeps_input": self.is_unix,
            "max_vars_bytes": 65_535,
            "max_vars": 100,
            "max_body_bytes": 100,
            "max_requests": 0,
            "flights": self.flights,
            "arrived": self.counters.own.cell,
            "host": self.host,
            "select": lambda _request: None,
            "take": lambda connection, received: self.taken.append((connection, received)),
            "listening": self.socket.fileno(),
            "file_prefixes": (),
            "looks": False,
            "admits": None,
            **changed,
        }
        return self._accelerator.Intake(**arguments)

    def send(self, data: bytes, *, ends: bool = False) -> socket.socket:
        peer = self._stack.enter_context(socket.socket(self.socket.family))
        peer.connect(self._address)
        peer.sendall(data)
        if ends:
            peer.shutdown(socket.SHUT_WR)
        return peer

    def accept(self, most: int, intake: Intake | None = None, waits: int = 0) -> int:
        return (intake or self.intake).accept(self.socket.fileno(), most, waits)

    def end(self) -> None:
        for connection in [*self.host.submitted, *(it for it, _ in self.taken)]:
            connection.force_close()


@pytest.fixture(params=["unix", "tcp"])
def listening(request: pytest.FixtureRequest) -> Iterator[Listening]:
    way = go("accelerated")
    next(way)
    assert fast.accelerator is not None
    with ExitStack() as stack:
        listening = Listening(request.param, fast.accelerator, stack)
        stack.callback(listening.end)
        yield listening
    next(way, None)


def test_plain_requests_reach_their_host_in_one_call(listening: Listening) -> None:
    peers = [listening.send(REQUEST) for _ in range(2)]
    assert listening.accept(2) == 2
    assert not listening.taken
    assert listening.counters.requests == 2
    assert listening.host.admission.in_flight == set(listening.host.submitted)
    assert read_flights(listening.descriptor).requests == [Flight("POST", "/x")] * 2
    for connection, peer in zip(listening.host.submitted, peers, strict=True):
        assert connection.request.vars == {**VARS, "SCRIPT_NAME": ""}
        assert connection.request.content_length == 4
        assert connection.body_over is False
        assert connection.pop_whole_body() == b"body"
        assert connection.accepted_at > 0
        assert connection.send(b"answer") == 6
        listening.flights.end(connection)
        assert connection.close()
        assert peer.recv(100) == b"answer"
        assert peer.recv(100) == b""
    assert read_flights(listening.descriptor).requests == []


def test_an_incomplete_answer_is_seen_to_be_broken(listening: Listening) -> None:
    peer = listening.send(REQUEST)
    assert listening.accept(1) == 1
    [connection] = listening.host.submitted
    connection.send(b"half")
    connection.abort()
    with pytest.raises(ConnectionResetError):
        [peer.recv(100) for _ in range(2)]


def upload(body: bytes, arrived: int | None = None, **more: str) -> bytes:
    """Make a request of which so much of the body has arrived."""
    return encode_packet({**VARS, "CONTENT_LENGTH": str(len(body)), **more}) + body[:arrived]


def read_all(connection: Connection) -> bytes:
    body = b""
    while piece := connection.receive_body(1_000_000):
        body += piece
    return body


def read_arrived(connection: Connection) -> bytes:
    """Read a body whose rest has not arrived."""
    body = b""
    with suppress(BlockingIOError):
        while True:
            piece = connection.receive_body()
            assert piece, "nothing is missing"
            body += piece
    return body


BODY = bytes(range(256)) * 400


@pytest.mark.parametrize("arrived", [0, 1, 5_000, 8_000, 50_000, 60_000, 102_399, 102_400])
def test_an_upload_reaches_its_host_while_it_is_on_the_way(
    listening: Listening, arrived: int
) -> None:
    intake = listening.make(max_body_bytes=0)
    peer = listening.send(upload(BODY, arrived))
    assert listening.accept(1, intake) == 1
    [connection] = listening.host.submitted
    assert not listening.taken
    assert connection.request.content_length == len(BODY)
    assert connection.pop_whole_body() is None
    if arrived < len(BODY):
        body = read_arrived(connection)
        assert body == BODY[:arrived]
        peer.sendall(BODY[arrived:])
        body += read_all(connection)
    else:
        body = read_all(connection)
    assert body == BODY
    assert connection.send(b"answer") == 6
    listening.flights.end(connection)
    assert connection.close()
    assert peer.recv(100) == b"answer"
    assert peer.recv(100) == b""


@pytest.mark.parametrize("size", [7_000, 8_000, 8_192, 20_000, 60_000])
@pytest.mark.parametrize("cookie", [0, 20_000])
def test_a_body_of_middle_size_is_there_at_once(
    listening: Listening, size: int, cookie: int
) -> None:
    if size + cookie > 65_000:
        size = 40_000
    intake = listening.make(max_body_bytes=0)
    peer = listening.send(upload(BODY[:size], HTTP_COOKIE="x" * cookie))
    assert listening.accept(1, intake) == 1
    [connection] = listening.host.submitted
    assert connection.pop_whole_body() == BODY[:size]
    listening.flights.end(connection)
    assert connection.close()
    assert peer.recv(100) == b""


@pytest.mark.parametrize("arrived", [3, 50_000])
def test_an_upload_that_a_full_host_does_not_take_is_left_to_python(
    listening: Listening, arrived: int
) -> None:
    listening.host.admission.limit = 0
    intake = listening.make(max_body_bytes=0)
    listening.send(data := upload(BODY, arrived))
    assert listening.accept(1, intake) == 1
    [(connection, received)] = listening.taken
    assert received is not None
    assert 0 < received <= len(data)
    assert not hasattr(connection, "request")
    assert connection.body_unseen == 0
    connection.receive_packet(
        listening.flights.scratch, PacketLimits(), max_body_bytes=0, received=received
    )
    assert read_arrived(connection) == BODY[:arrived]


def test_an_upload_that_is_broken_off_is_seen_to_be(listening: Listening) -> None:
    peer = listening.send(upload(BODY))
    assert listening.accept(1, listening.make(max_body_bytes=0)) == 1
    [connection] = listening.host.submitted
    assert read_all(connection) == BODY
    connection.send(b"half")
    connection.abort()
    with pytest.raises(ConnectionResetError):
        [peer.recv(100) for _ in range(2)]


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:10],
        PING,
        b"GET / HTTP/1.1",
        encode_packet({**VARS, "SCRIPT_NAME": "/x/"}) + b"body",
        encode_packet({**VARS, "CONTENT_LENGTH": "101"}) + bytes(101),
        encode_packet({**VARS, "CONTENT_LENGTH": "x"}),
        encode_packet({f"A{number}": "" for number in range(101)}),
        encode_packet([*VARS.items(), ("PATH_INFO", "/y")]) + b"body",
        b"",
    ],
    ids=["packet", "ping", "http", "script", "large", "length", "vars", "repeated", "end"],
)
def test_what_is_not_plain_is_left_to_python(listening: Listening, data: bytes) -> None:
    listening.send(data, ends=not data)
    listening.send(REQUEST)
    assert listening.accept(2) == 2
    [(connection, received)] = listening.taken
    assert received == len(data)
    assert not hasattr(connection, "request")
    assert len(listening.host.submitted) == listening.counters.requests == 1
    assert connection.pop_whole_body() == b""
    assert connection not in listening.host.admission.in_flight


def test_python_gets_the_bytes_that_were_received(listening: Listening) -> None:
    """On TCP they are not in the kernel any more."""
    data = encode_packet({**VARS, "SCRIPT_NAME": "/app/"}) + b"body"
    arrived: list[bytes] = []

    def take(connection: Connection, received: int) -> None:
        connection.force_close()
        arrived.append(bytes(listening.flights.scratch[:received]))

    listening.send(data)
    assert listening.accept(1, listening.make(take=take)) == 1
    assert arrived == [data]


def test_a_connection_on_which_nothing_has_come_is_left_to_python(listening: Listening) -> None:
    listening.send(b"")
    assert listening.accept(1) == 1
    [(_, received)] = listening.taken
    assert received is None


def test_a_full_host_gets_no_request(listening: Listening) -> None:
    for _ in range(4):
        listening.send(REQUEST)
    assert listening.accept(4) == 4
    assert len(listening.host.submitted) == listening.counters.requests == 3
    [(connection, received)] = listening.taken
    assert received == len(REQUEST)
    assert connection not in listening.host.admission.in_flight


def test_requests_from_the_limit_on_are_left_to_python(listening: Listening) -> None:
    """It is the listener that knows what to do then, also where another thread has counted the one at the limit."""
    seen: list[int] = []

    def take(connection: Connection, _received: int) -> None:
        connection.force_close()
        seen.append(listening.counters.requests)

    intake = listening.make(max_requests=2, take=take)
    for _ in range(3):
        listening.send(REQUEST)
    assert listening.accept(2, intake) == 2
    assert seen == [1]
    listening.counters.own.count_request()
    assert listening.accept(1, intake) == 1
    assert seen == [1, 2]
    assert len(listening.host.submitted) == 1
    assert listening.counters.requests == 2


def test_the_path_chooses_among_hosts(listening: Listening) -> None:
    def select(request: Request) -> Host | None:
        return listening.host if request.vars["PATH_INFO"] == "/x" else None

    intake = listening.make(host=None, select=select)
    listening.send(REQUEST)
    listening.send(encode_packet({**VARS, "PATH_INFO": "/y"}) + b"body")
    assert listening.accept(2, intake) == 2
    assert len(listening.host.submitted) == len(listening.taken) == 1
    assert listening.counters.requests == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "get", "GETS"])
@pytest.mark.parametrize(
    "path", ["/s", "/s/", "/s/x", "/sx", "/", "/S/x", "", "s/x", "/caf\xc3\xa9/x", "/caf\xc3/x"]
)
@pytest.mark.parametrize(
    "prefixes", [("/s",), ("/t", "/s"), ("/caf\xc3\xa9",), ("",), ("/longer/than/that",)]
)
def test_what_may_be_a_file_is_left_to_python(
    listening: Listening, method: str, path: str, prefixes: tuple[str, ...]
) -> None:
    listening.send(encode_packet({**VARS, "REQUEST_METHOD": method, "PATH_INFO": path}) + b"body")
    assert listening.accept(1, listening.make(file_prefixes=prefixes)) == 1
    may_be = method in {"GET", "HEAD"} and any(is_below(path, prefix) for prefix in prefixes)
    assert (len(listening.taken), len(listening.host.submitted)) == (may_be, not may_be)
    if may_be:
        [(connection, received)] = listening.taken
        connection.receive_packet(
            listening.flights.scratch, PacketLimits(), max_body_bytes=0, received=received
        )
        assert connection.request.vars["PATH_INFO"] == path
        assert connection.pop_whole_body() == b"body"


@pytest.mark.parametrize("wrong", [["/s"], ("/\u20ac",), (1,), None])
def test_prefixes_are_texts_as_paths_have_them(listening: Listening, wrong: Any) -> None:
    with pytest.raises(TypeError):
        listening.make(file_prefixes=wrong)


def test_requests_beyond_the_slots_are_served_unrecorded(listening: Listening) -> None:
    listening.host.admission.limit = 100
    for _ in range(70):
        listening.send(REQUEST)
        assert listening.accept(1) == 1
    assert len(listening.host.submitted) == 70
    assert len(read_flights(listening.descriptor).requests) == 63
    for connection in listening.host.submitted:
        listening.flights.end(connection)
    assert read_flights(listening.descriptor).requests == []
    listening.send(REQUEST)
    assert listening.accept(1) == 1
    assert len(read_flights(listening.descriptor).requests) == 1


def test_a_batch_ends_where_no_more_wait(listening: Listening) -> None:
    listening.send(REQUEST)
    assert listening.accept(5) == 1
    assert listening.accept(5) == 0
    assert listening.intake.failed == 0
    assert read_flights(listening.descriptor).connections == 0  # the slot does not await one


class Follower:
    """Connects again, from another thread, each time that a connection was accepted."""

    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self._submitted = threading.Semaphore(0)
        listening.host.admission.limit = 1000
        listening.host.submit = self._submit  # type: ignore[method-assign]
        # A connection may be accepted before its packet has come.
        self.intake = listening.make(take=self._take)
        self.before: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._follow)
        self._is_over = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._submitted.release()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def _submit(self, connection: Connection) -> None:
        self._listening.host.submitted.append(connection)
        self._submitted.release()

    def _take(self, connection: Connection, received: int | None) -> None:
        self._listening.taken.append((connection, received))
        self._submitted.release()

    def _follow(self) -> None:
        while self._submitted.acquire() and not self._is_over:
            self.before()
            self._listening.send(REQUEST)


def wait_for_one(listening: Listening) -> None:
    assert select.select([listening.socket], [], [], PATIENCE_SECONDS)[0]


@pytest.mark.parametrize("waits", [0, 8])
def test_connections_that_come_in_a_moment_are_of_the_same_batch(
    listening: Listening, waits: int
) -> None:
    batches: list[int] = []
    with Follower(listening) as follower:
        listening.send(REQUEST)
        # A busy machine may take longer than the moment, but not each time.
        while len(batches) < 60 and max(batches, default=1) == 1:
            wait_for_one(listening)
            batches.append(listening.accept(3, follower.intake, waits))
        wait_for_one(listening)  # for what the last one had follow
    assert (max(batches) > 1) is (waits > 0)
    assert sum(batches) == len(listening.host.submitted) + len(listening.taken)
    assert listening.counters.requests == len(listening.host.submitted)
    listening.accept(10)


def test_nothing_is_waited_for_where_nothing_has_come(listening: Listening) -> None:
    assert listening.accept(5, waits=1_000_000) == 0


def test_nothing_is_accepted_of_a_socket_that_was_replaced_in_that_moment(
    listening: Listening,
) -> None:
    """It may be another server's, and what waits there is not for the bridge."""
    number = listening.socket.fileno()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(other.getsockname()),
        contextlib.closing(listening.socket.dup()) as same,
        Follower(listening) as follower,
    ):
        # With the interpreter's lock, which `os.dup2` lets go: else it could come between the look at the socket and
        # accept(2), which would then wait for ever.
        dup2 = ctypes.PyDLL(None).dup2
        follower.before = lambda: dup2(other.fileno(), number)
        for count in range(1, 11):
            same.setblocking(False)
            if count == 1:
                listening.send(REQUEST)
            # The follower connects after it has replaced the socket: it is through with the last connection then.
            assert select.select([same], [], [], PATIENCE_SECONDS)[0]
            os.dup2(same.fileno(), number)
            assert listening.accept(2, follower.intake, waits=1) == 1
            assert len(listening.host.submitted) + len(listening.taken) == count
        assert select.select([same], [], [], PATIENCE_SECONDS)[0]
        os.dup2(same.fileno(), number)
    assert listening.accept(2) >= 1


def test_nothing_is_accepted_of_a_socket_that_was_replaced_since(listening: Listening) -> None:
    """What waits there is another server's. With nothing there, accept(2) would wait for ever, if that one blocks."""
    number = listening.socket.fileno()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(other.getsockname()),
        contextlib.closing(listening.socket.dup()) as same,
    ):
        os.dup2(other.fileno(), number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            listening.accept(1)
        other.settimeout(PATIENCE_SECONDS)
        other.accept()[0].close()
        os.dup2(same.fileno(), number)
    listening.send(REQUEST)
    assert listening.accept(1) == 1


def test_the_next_call_says_why_accept_has_failed(listening: Listening) -> None:
    number = listening.socket.fileno()

    def take(connection: Connection, _received: int) -> None:
        connection.force_close()
        os.dup2(2, number)  # no socket any more

    intake = listening.make(take=take)
    listening.send(PING)
    assert intake.accept(number, 5, 0) == 1
    assert intake.failed == errno.ENOTSOCK
    with pytest.raises(OSError, match="non-socket"):
        intake.accept(number, 5, 0)
    assert intake.failed == 0
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        listening.intake.accept(-1, 1, 0)
    assert caught.value.errno == errno.EBADF


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # nobody closes what was accepted
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["take", "submit", "select", "scratch"])
def test_what_python_raises_goes_to_the_caller(listening: Listening, where: str) -> None:
    def fail(connection: object, *_arguments: object) -> None:
        if isinstance(connection, Connection):
            connection.force_close()
        raise ZeroDivisionError

    intake = listening.intake
    if where == "take":
        intake = listening.make(take=fail)
        listening.send(PING)
    elif where == "submit":
        listening.host.submit = fail  # type: ignore[method-assign]
    elif where == "select":
        intake = listening.make(host=None, select=fail)
    else:
        listening.flights.scratch = memoryview(b"read-only")
    listening.send(REQUEST)
    with pytest.raises(TypeError if where == "scratch" else ZeroDivisionError):
        listening.accept(1, intake)


@pytest.mark.parametrize(
    "changed", [{"connection_type": int}, {"request_type": 1}, {"family": None}, {"more": 1}]
)
def test_wrong_arguments_are_refused(listening: Listening, changed: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        listening.make(**changed)
    for wrong in ((), (None, 1, 0), (1, None, 0), (1, 1, None), (1, 1)):
        with pytest.raises(TypeError):
            listening.intake.accept(*wrong)


def test_fields_of_a_connection_have_their_types(listening: Listening) -> None:
    listening.send(REQUEST)
    assert listening.accept(1) == 1
    [connection] = listening.host.submitted
    for name in ("body_unseen", "peer_gone", "input_stalled", "accepted_at"):
        with pytest.raises(TypeError):
            setattr(connection, name, "text")
    with pytest.raises(AttributeError):
        connection.task  # noqa: B018 - reading it is the test


def left(listening: Listening, seconds_ago: float) -> None:
    """Have a client send a request, and leave."""
    sent = f"{time.time() - seconds_ago:.3f}"
    listening.send(encode_packet({**VARS, "UWSGIBRIDGE_SENT": sent}) + b"body").close()


def test_a_request_without_its_client_is_left_to_python(listening: Listening) -> None:
    intake = listening.make(looks=True)
    left(listening, 10)
    assert listening.accept(1, intake) == 1
    assert len(listening.taken) == 1
    left(listening, 10)  # within 5 ms; but where one is gone, the next is looked at
    assert listening.accept(1, intake) == 1
    assert len(listening.taken) == 2
    assert not listening.host.submitted


def test_a_client_is_looked_at_only_where_its_request_has_waited(listening: Listening) -> None:
    left(listening, 10)
    assert listening.accept(1, listening.make(looks=False)) == 1
    intake = listening.make(looks=True)
    left(listening, 0)
    assert listening.accept(1, intake) == 1
    listening.send(REQUEST).close()
    assert listening.accept(1, listening.make(looks=True)) == 1
    assert len(listening.host.submitted) == 3
    assert not listening.taken


def test_a_client_that_is_there_keeps_its_request(listening: Listening) -> None:
    sent = encode_packet({**VARS, "UWSGIBRIDGE_SENT": f"{time.time() - 10:.3f}"}) + b"body"
    listening.send(sent)
    assert listening.accept(1, listening.make(looks=True)) == 1
    assert len(listening.host.submitted) == 1


def test_a_peer_that_is_not_admitted_is_closed_unread(listening: Listening) -> None:
    numbers: list[int] = []

    def admits(number: int) -> bool:
        numbers.append(number)
        return len(numbers) == 2

    intake = listening.make(admits=admits)
    peers = [listening.send(REQUEST) for _ in range(3)]
    assert listening.accept(3, intake) == 3
    assert len(listening.host.submitted) == listening.counters.requests == 1
    assert listening.host.submitted[0].fileno() == numbers[1]
    assert read_flights(listening.descriptor).requests == [Flight("POST", "/x")]
    for peer in (peers[0], peers[2]):
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_a_question_that_fails_closes_the_connection(listening: Listening) -> None:
    def admits(_: int) -> bool:
        raise ValueError("no answer")

    peer = listening.send(REQUEST)
    with pytest.raises(ValueError, match="no answer"):
        listening.accept(3, listening.make(admits=admits))
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    assert listening.accept(3) == 0
    assert not listening.host.submitted
    assert not listening.taken
