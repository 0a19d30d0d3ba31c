"""What takes time: messages that nobody reads, silence, deadlines, a blocked loop, the end of the server."""

from __future__ import annotations

import itertools
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from integration.asgi.apps.flow import PIECE, PIECES
from integration.asgi.conftest import APPS, REPOSITORY, Kind, assert_clean
from integration.asgi.frames import (
    BINARY,
    CLOSE,
    PATIENCE_SECONDS,
    PING,
    PONG,
    TEXT,
    Close,
    Frame,
    FrameClient,
    encode_frame,
)
from integration.asgi.resident_memory import forget_peak, peak_bytes, resident_bytes
from integration.wsgi.fetching import BROKEN, fetch
from uwsgibridge.testing import LocalStack, Site, event_with

MIB = 1024 * 1024

# What the kernel and Nginx may hold on the way, sockets of Linux being what they are.
ON_THE_WAY_BYTES = 40 * MIB
GROWTH_BYTES = 32 * MIB

# A second path to the application, with a shorter patience.
BRIEF = "location /brief/ { uwsgi_read_timeout 1s; uwsgi_pass $uwsgibridge_upstream; }"

REQUEST_SECONDS = 0.5
BLOCK_SECONDS = 0.2

RESTARTING = Close(1012, "the server is restarting")

on_both_libraries = pytest.mark.parametrize(
    "kind",
    [Kind("asyncio", "tcp"), Kind("trio", "unix")],
    ids=str,
    indirect=True,
    scope="session",
)
on_each_loop = pytest.mark.parametrize(
    "kind",
    [Kind("asyncio", "tcp"), Kind("uvloop", "unix"), Kind("trio", "tcp")],
    ids=str,
    indirect=True,
    scope="session",
)

numbers = itertools.count()


@pytest.fixture
def key() -> str:
    """What no other test has in its paths."""
    return str(next(numbers))


@pytest.fixture(scope="session")
def flow(kind: Kind, serve: Callable[..., LocalStack]) -> Iterator[LocalStack]:
    """A bridge with short deadlines and without pings."""
    stack = serve(
        "flow:application",
        kind,
        serve_args=(
            *("--websocket-ping-seconds", "0", "--write-timeout-seconds", "1"),
            *("--request-timeout-seconds", str(REQUEST_SECONDS)),
            *("--loop-block-warning-seconds", str(BLOCK_SECONDS)),
        ),
        nginx_directives=BRIEF,
    )
    yield stack
    assert stack.stop() == 0
    assert_clean(stack)


@pytest.fixture(scope="session")
def pinging(kind: Kind, serve: Callable[..., LocalStack]) -> Iterator[LocalStack]:
    """A bridge with pings, behind an Nginx that ends a silent tunnel soon."""
    stack = serve(
        "flow:application",
        kind,
        serve_args=("--websocket-ping-seconds", "0.3"),
        site=Site(read_timeout_seconds=1),
    )
    yield stack
    assert stack.stop() == 0
    assert_clean(stack)


# --- Backpressure ---------------------------------------------------------------------------------


@on_both_libraries
@pytest.mark.parametrize("message_bytes", [65_536, 4 * MIB])
def test_a_client_waits_for_an_application_that_does_not_receive(
    flow: LocalStack, key: str, message_bytes: int
) -> None:
    frame = encode_frame(BINARY, bytes(message_bytes))
    count = 128 * MIB // message_bytes
    with ExitStack() as at_the_end, FrameClient(flow.url, f"/hold/{key}") as client:
        at_the_end.callback(fetch, f"{flow.url}/release/{key}")
        forget_peak(flow.pid)
        before = resident_bytes(flow.pid)
        stream = itertools.chain.from_iterable(itertools.repeat((frame,), count))
        left = send_until_stopped(client, stream)
        assert left is not None, "everything was taken"
        grown = peak_bytes(flow.pid) - before
        taken = count - left.count
        assert taken * message_bytes < ON_THE_WAY_BYTES + GROWTH_BYTES
        assert grown < GROWTH_BYTES, f"{grown / MIB:.1f} MiB"

        # Nothing is lost: what waits is read as soon as somebody reads.
        assert fetch(f"{flow.url}/release/{key}").seen == 200
        client.send_bytes(left.rest)
        client.send(BINARY)
        frame_of_count = client.receive()
        assert frame_of_count is not None
        assert int(frame_of_count.payload) == (taken + 1) * message_bytes


@dataclass(frozen=True)
class Left:
    """What was not sent.

    Attributes:
        rest: of the frame that was begun, or the whole of it.
        count: of frames, the one of the rest counted.
    """

    rest: bytes
    count: int


def send_until_stopped(client: FrameClient, stream: Iterator[bytes]) -> Left | None:
    """Send until the kernel takes nothing for a while; None where it takes everything."""
    for frame in stream:
        rest = memoryview(frame)
        while rest:
            if not select.select([], [client], [], 0.5)[1]:
                return Left(bytes(rest), 1 + sum(1 for _ in stream))
            rest = rest[client.send_what_fits(rest) :]
    return None


@on_both_libraries
def test_an_application_waits_for_a_client_that_does_not_read(flow: LocalStack, key: str) -> None:
    """In the end it is told that nobody takes what it sends."""
    with FrameClient(flow.url, f"/flood/{key}", receive_buffer_bytes=65_536):
        forget_peak(flow.pid)
        before = resident_bytes(flow.pid)
        path = f"/flood/{key}"
        event = flow.wait_for_event(event_with(event="answer was not taken in time", path=path))
        assert event["option"] == "--write-timeout-seconds"
        told = str(flow.wait_for_event(event_with(event="app", path=path))["told"])
        assert peak_bytes(flow.pid) - before < GROWTH_BYTES
    count = int(told.removeprefix("OSError after "))
    assert count * len(PIECE) < ON_THE_WAY_BYTES
    assert [e for e in flow.log_events() if e.get("path") == path and "exception" in e] == []


@on_both_libraries
def test_a_client_that_reads_late_gets_everything(flow: LocalStack, key: str) -> None:
    with FrameClient(flow.url, f"/flood/{key}", receive_buffer_bytes=65_536) as client:
        assert wait_until_stopped(flow, key) < PIECES
        for _ in range(PIECES):
            assert client.receive() == Frame(BINARY, PIECE)
        frame = client.receive()
        assert frame is not None
        assert (frame.opcode, Close.parse(frame.payload)) == (CLOSE, Close(1000))


def wait_until_stopped(stack: LocalStack, key: str) -> int:
    """Wait until the application that sends is stopped, which it is when several looks find the same.

    Returns:
        How many pieces it has sent.
    """
    found = [b""]
    while len(found) < 5 or len(set(found[-5:])) > 1:
        found.append(fetch(f"{stack.url}/progress/{key}").body)
    return int(found[-1])


@on_both_libraries
def test_a_close_is_answered_when_much_is_still_to_be_sent(flow: LocalStack, key: str) -> None:
    with FrameClient(flow.url, f"/flood/{key}", receive_buffer_bytes=65_536) as client:
        wait_until_stopped(flow, key)
        client.send(CLOSE, Close(1000).payload)
        while (frame := client.receive()) == Frame(BINARY, PIECE):
            pass
        assert frame is not None, "the connection ended without an answer"
        assert (frame.opcode, Close.parse(frame.payload)) == (CLOSE, Close(1000))
        assert client.ends()


# --- Silence --------------------------------------------------------------------------------------


@on_both_libraries
def test_pings_keep_a_silent_tunnel_open(pinging: LocalStack, key: str) -> None:
    with FrameClient(pinging.url, f"/echo/{key}") as client:
        started = time.monotonic()
        while time.monotonic() - started < 1.5:
            frame = client.receive()
            assert frame is not None, "the tunnel was ended"
            assert frame.opcode == PING
            client.send(PONG, frame.payload)
        client.send(TEXT, b"still there")
        assert client.receive_message() == "still there"


@on_both_libraries
def test_without_pings_nginx_ends_a_silent_tunnel(flow: LocalStack, key: str) -> None:
    """The test above would not fail by itself."""
    path = f"/brief/echo/{key}"
    with FrameClient(flow.url, path) as client:
        assert client.receive() is None
    flow.wait_for_event(event_with(event="app", path=path, told="disconnect 1006"))


@on_both_libraries
def test_a_client_that_answers_no_ping_is_closed(pinging: LocalStack, key: str) -> None:
    path = f"/echo/{key}"
    with FrameClient(pinging.url, path) as client:
        assert client.receive() == Frame(PING, b"")
        frame = client.receive()
        assert frame is not None
        assert (frame.opcode, Close.parse(frame.payload)) == (CLOSE, Close(1011, "no pong"))
        assert client.ends()
        pinging.wait_for_event(event_with(event="app", path=path, told="disconnect 1006 no pong"))


@on_both_libraries
def test_a_client_that_talks_need_not_answer_at_once(pinging: LocalStack, key: str) -> None:
    """A pong may come late; it must come before the ping after it."""
    with FrameClient(pinging.url, f"/echo/{key}") as client:
        for _ in range(4):
            assert client.receive() == Frame(PING, b"")
            client.send_bytes(encode_frame(PONG))
            client.send(TEXT, b"text")
            assert client.receive() == Frame(TEXT, b"text")


@on_both_libraries
def test_a_dead_client_that_is_sent_little_is_noticed(pinging: LocalStack, key: str) -> None:
    """What the kernel takes at once says nothing of who reads it."""
    path = f"/chatter/{key}"
    with FrameClient(pinging.url, path):
        pinging.wait_for_event(event_with(event="app", path=path, told="disconnect 1006 no pong"))


@on_both_libraries
def test_a_slow_reader_is_not_taken_for_a_dead_one(pinging: LocalStack, key: str) -> None:
    """A ping waits behind what was sent before it, and so does its pong."""
    with FrameClient(pinging.url, f"/flood/{key}", receive_buffer_bytes=65_536) as client:
        started = time.monotonic()
        pieces = 0
        while pieces < PIECES:
            frame = client.receive()
            assert frame is not None, f"it was closed after {pieces} pieces"
            if frame.opcode == PING:
                client.send(PONG, frame.payload)
            else:
                assert frame == Frame(BINARY, PIECE)
                pieces += 1
                # A slow reader: 64 KiB in 3 ms, and the whole answer in 3 s.
                time.sleep(max(0, started + 0.003 * pieces - time.monotonic()))


# --- A stream without an end ----------------------------------------------------------------------


@on_each_loop
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_endless_stream_ends_when_its_client_has_gone(
    pinging: LocalStack, key: str, method: str
) -> None:
    """For HEAD nothing of it is sent, and so nothing tells but a look."""
    path = f"/endless/{key}"
    where = urlsplit(pinging.url)
    with socket.create_connection((where.hostname, where.port), PATIENCE_SECONDS) as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    pinging.wait_for_event(event_with(event="app", path=path, told="ended"))


# --- Deadlines of HTTP ----------------------------------------------------------------------------


@on_each_loop
def test_a_request_that_takes_too_long_is_cancelled(flow: LocalStack, key: str) -> None:
    path = f"/dawdle/before/{key}"
    answer = fetch(flow.url + path)
    assert answer.seen == 504
    assert answer.body == b"The application did not answer in time.\n"
    flow.wait_for_event(event_with(event="app", path=path, told="cancelled"))
    event = flow.wait_for_event(event_with(event="request took too long", path=path))
    assert event["option"] == "--request-timeout-seconds"
    assert event["outcome"] == "answered 504"
    assert REQUEST_SECONDS <= float(str(event["seconds"])) < REQUEST_SECONDS + 5
    assert_told_once(flow, path)


@on_each_loop
def test_an_answer_that_takes_too_long_is_broken(flow: LocalStack, key: str) -> None:
    path = f"/dawdle/after/{key}"
    assert fetch(flow.url + path).seen == BROKEN
    flow.wait_for_event(event_with(event="app", path=path, told="cancelled"))
    event = flow.wait_for_event(event_with(event="request took too long", path=path))
    assert event["outcome"] == "connection broken"
    assert_told_once(flow, path)


@on_each_loop
def test_what_is_done_after_the_answer_is_not_cancelled(flow: LocalStack, key: str) -> None:
    path = f"/answers-and-goes-on/{key}"
    assert fetch(flow.url + path).body == b"answered"
    flow.wait_for_event(event_with(event="app", path=path, told="went on"))
    assert [e for e in flow.log_events() if e.get("path") == path and e["event"] != "app"] == []


@on_each_loop
def test_a_websocket_may_take_longer(flow: LocalStack, key: str) -> None:
    with FrameClient(flow.url, f"/stays-silent/{key}") as client:
        assert client.receive_message() == "at last"


def assert_told_once(stack: LocalStack, path: str) -> None:
    events = [event for event in stack.log_events() if event.get("path") == path]
    assert len([event for event in events if event["event"] != "app"]) == 1


# --- A blocked loop -------------------------------------------------------------------------------


@on_each_loop
def test_a_blocked_loop_is_noticed_from_outside(flow: LocalStack) -> None:
    since = len(flow.log_events())
    # Twice: each block is told of, and once.
    for _ in range(2):
        assert fetch(f"{flow.url}/block/0.45").body == b"at last"
        blocked = flow.wait_for_event(
            lambda event: "event loop is blocked" in str(event["event"]), since=since
        )
        assert blocked["option"] == "--loop-block-warning-seconds"
        stack = str(blocked["stack"])
        assert "computes_for_a_while" in stack
        assert "/uwsgibridge/" not in stack.partition("computes_for_a_while")[0]
        goes_on = flow.wait_for_event(event_with(event="event loop goes on"), since=since)
        assert BLOCK_SECONDS < float(str(goes_on["blocked_seconds"])) < PATIENCE_SECONDS
        since = len(flow.log_events())
    assert fetch(f"{flow.url}/block/0.01").body == b"at last"
    assert "loop" not in str([event["event"] for event in flow.log_events(since=since)])


# --- The end of the server ------------------------------------------------------------------------


@pytest.fixture
def own(kind: Kind) -> Iterator[LocalStack]:
    """A bridge that the test may stop."""
    with LocalStack(
        f"{APPS}.flow:application",
        app_dir=REPOSITORY,
        socket=kind.socket,
        loop=kind.loop,
        serve_args=("--workers", "0"),
        environment={"PYTHONWARNINGS": "always"},
    ) as stack:
        yield stack
    assert_clean(stack)


@on_each_loop
def test_websockets_are_closed_at_a_stop_and_requests_end(own: LocalStack) -> None:
    with ExitStack() as clients:
        sockets = [
            clients.enter_context(FrameClient(own.url, f"/echo/{number}")) for number in range(20)
        ]
        request = clients.enter_context(begun(own, "/until-closed/19", "begun"))
        started = time.monotonic()
        own.bridge.signal(signal.SIGTERM)
        for client in sockets:
            frame = client.receive()
            assert frame is not None
            assert Close.parse(frame.payload) == RESTARTING
        assert time.monotonic() - started < 2
        for client in sockets:
            client.send(CLOSE, RESTARTING.payload)
            assert client.ends()
        # What was asked before the stop is answered.
        assert b"1012" in read_until(request, b"0\r\n\r\n")
        assert own.bridge.wait_ended(PATIENCE_SECONDS) == 0
    told = [event["told"] for event in own.log_events() if event.get("path") == "lifespan"]
    assert told == ["startup", "shutdown"]


@on_each_loop
def test_a_websocket_that_opens_during_a_stop_is_closed_too(own: LocalStack) -> None:
    handshake = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    )
    with (
        FrameClient(own.url, "/echo/0") as first,
        begun(own, "/accepts-late/0", "waiting", handshake) as late,
    ):
        started = time.monotonic()
        own.bridge.signal(signal.SIGTERM)
        frame = first.receive()
        assert frame is not None
        first.send(CLOSE, frame.payload)
        read_until(late, encode_frame(CLOSE, RESTARTING.payload, masked=False))
        late.sendall(encode_frame(CLOSE, RESTARTING.payload))
        assert own.bridge.wait_ended(PATIENCE_SECONDS) == 0
        assert time.monotonic() - started < 3


@on_each_loop
def test_a_stop_does_not_wait_for_what_holds_on_after_its_deadline(kind: Kind) -> None:
    with LocalStack(
        f"{APPS}.flow:application",
        app_dir=REPOSITORY,
        socket=kind.socket,
        loop=kind.loop,
        serve_args=("--workers", "0", "--request-timeout-seconds", str(REQUEST_SECONDS)),
        graceful_timeout_seconds=PATIENCE_SECONDS,
    ) as stack:
        path = "/never-ends/0"
        assert fetch(stack.url + path).seen == 504
        lost = "request goes on although its task was cancelled"
        stack.wait_for_event(event_with(event=lost, path=path))
        started = time.monotonic()
        stack.bridge.signal(signal.SIGTERM)
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0
        assert time.monotonic() - started < 3


@contextmanager
def begun(
    stack: LocalStack, path: str, told: str, more_headers: str = ""
) -> Iterator[socket.socket]:
    """Send a request, and wait for what the application tells; its answer may come later."""
    where = urlsplit(stack.url)
    with socket.create_connection((where.hostname, where.port), PATIENCE_SECONDS) as client:
        head = f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n{more_headers}\r\n"
        client.sendall(head.encode())
        stack.wait_for_event(event_with(event="app", path=path, told=told))
        yield client


def read_until(client: socket.socket, ending: bytes) -> bytes:
    """Read up to bytes that are known to come."""
    received = b""
    while not received.endswith(ending):
        piece = client.recv(65_536)
        assert piece, f"the connection ended after {received!r}"
        received += piece
    return received
