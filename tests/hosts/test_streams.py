"""Streams at a stop: who is told when, what may still be sent, and what the client sees."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic
from typing import Any

import anyio
import pytest
from starlette.responses import StreamingResponse

from tests.asgi_messages import body, start
from tests.bridge import Bridge, on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import Answer, connect, packet, read_answer, read_until
from uwsgibridge.hosts.streams import Ending, OpenStreams

EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
LINES = (b"content-type", b"text/plain")

# Until streams that are no events are told.
DRAIN_SECONDS = 0.4

# For a stop that waits for nothing: a fraction of the graceful time, on a machine that is busy.
QUICK_SECONDS = PATIENCE_SECONDS / 3


@pytest.fixture
def endings(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[Ending]:
    """What the streams of a bridge's only host were told."""
    told: queue.SimpleQueue[Ending] = queue.SimpleQueue()
    end = OpenStreams.end

    def end_and_tell(self: OpenStreams, ending: Ending) -> None:
        end(self, ending)
        told.put(ending)

    monkeypatch.setattr(OpenStreams, "end", end_and_tell)
    return told


def wait_for(endings: queue.SimpleQueue[Ending], *expected: Ending) -> None:
    """Wait until the streams were told so; where both are due at once, in either order."""
    missing = set(expected)
    while missing:
        missing.discard(endings.get(timeout=PATIENCE_SECONDS))


def stream_over(
    app: Callable[..., Any],
    *,
    loop: str = "trio",
    family: str = "tcp",
    is_open: bytes = b"open\n",
    opened: Callable[[Bridge], object] = lambda _bridge: None,
    **settings: Any,
) -> tuple[bytes, Answer, float, Bridge]:
    """Open a stream and have the bridge stop.

    Returns:
        What came before the stop, the answer from there on as if it were whole, and the seconds of
        the stop.
    """
    options: dict[str, Any] = {"lifespan": "off", "loop": loop, **settings}
    with running(app, family, **options) as bridge, connect(bridge.address) as peer:
        peer.sendall(packet())
        before = read_until(peer, is_open) if is_open else b""
        opened(bridge)
        begin = monotonic()
        bridge.begin_stop()
        answer = read_rest(peer, before)
        bridge.wait_stopped()
        seconds = monotonic() - begin
    return before, answer, seconds, bridge


def read_rest(peer: Any, before: bytes) -> Answer:
    class Joined:
        """The connection as it was before anything was read."""

        def __init__(self) -> None:
            self._before = before

        def recv(self, size: int) -> bytes:
            given, self._before = self._before, b""
            return given or peer.recv(size)

    connection: Any = Joined()
    return read_answer(connection)


# ASGI.


@on_each_socket
@on_each_loop
def test_event_stream_is_told_at_once_and_may_say_goodbye(loop: str, family: str):
    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"data: open\n", more=True))
        await receive()
        told.append((await receive())["type"])
        await send(body(b"data: goodbye\n", more=True))
        await send(body(b""))

    told: list[str] = []
    _, answer, seconds, bridge = stream_over(app, loop=loop, family=family)

    assert told == ["http.disconnect"]
    assert (answer.body, answer.broken) == (b"data: open\ndata: goodbye\n", False)
    assert seconds < QUICK_SECONDS
    assert bridge.events.find() == []


@on_each_loop
def test_rest_that_takes_its_time_is_not_cut(loop: str):
    """As much as the graceful time allows, and past the moment at which others are told."""

    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"open\n", more=True))
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        for number in range(20):
            await anyio.sleep(0.1)
            await send(body(b"%d " % number, more=True))
            assert (await receive())["type"] == "http.disconnect"
        await send(body(b"done"))

    _, answer, _, bridge = stream_over(app, loop=loop, stream_drain_seconds=0)

    assert answer.body == b"open\n" + b"".join(b"%d " % n for n in range(20)) + b"done"
    assert not answer.broken
    assert bridge.events.find() == []


@on_each_socket
@on_each_loop
def test_event_stream_that_ends_without_its_end_is_broken_and_no_error(loop: str, family: str):
    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"open\n", more=True))
        await receive()
        await receive()

    _, answer, seconds, bridge = stream_over(app, loop=loop, family=family)

    assert (answer.body, answer.broken) == (b"open\n", True)
    assert seconds < QUICK_SECONDS
    assert bridge.events.find() == []


@on_each_loop
def test_what_is_raised_by_an_application_that_was_told_is_no_error(loop: str):
    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"open\n", more=True))
        await receive()
        await receive()
        raise ConnectionError("the client disconnected")

    _, answer, _, bridge = stream_over(app, loop=loop)

    assert answer.broken
    assert bridge.events.find() == []


@on_each_loop
def test_event_stream_of_an_application_that_does_not_listen_is_cancelled(loop: str):
    ended: list[str] = []

    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        try:
            while True:
                await send(body(b"open\n", more=True))
                await anyio.sleep(0.01)
        finally:
            ended.append("finally")
            if loop != "trio":
                await send(body(b"goodbye", more=True))

    _, answer, seconds, bridge = stream_over(app, loop=loop)

    assert ended == ["finally"]
    assert answer.broken
    assert answer.body.endswith(b"open\n" if loop == "trio" else b"goodbye")
    assert seconds < QUICK_SECONDS
    assert bridge.events.find() == []


@on_each_loop
def test_application_that_looks_from_time_to_time_is_not_cancelled(loop: str):
    """As with Starlette's `request.is_disconnected`, between two events."""

    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await receive()
        while True:
            await send(body(b"open\n", more=True))
            with anyio.CancelScope() as look:
                look.cancel()
                assert (await receive())["type"] == "http.disconnect"
                break
            await anyio.sleep(2)  # longer than those may take who never look
        await send(body(b"goodbye"))

    _, answer, _, bridge = stream_over(app, loop=loop)

    assert (answer.body, answer.broken) == (b"open\nopen\ngoodbye", False)
    assert bridge.events.find() == []


@on_each_loop
@pytest.mark.parametrize("is_told", [True, False], ids=["listens", "does-not-listen"])
def test_event_stream_before_its_first_event_has_begun_for_its_client(loop: str, is_told: bool):
    """A browser comes back to a stream that broke off, and not to a 502 or 503."""
    began = threading.Event()

    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await receive()
        began.set()
        if is_told:
            await receive()
        else:
            await anyio.sleep_forever()

    def opened(_bridge: Bridge) -> None:
        assert began.wait(PATIENCE_SECONDS)

    _, answer, seconds, bridge = stream_over(app, loop=loop, is_open=b"", opened=opened)

    assert (answer.status, answer.body, answer.broken) == (200, b"", True)
    assert seconds < QUICK_SECONDS
    assert bridge.events.find() == []


@on_each_socket
@on_each_loop
def test_event_stream_whose_head_does_not_fit_the_socket_has_no_body_in_the_midst_of_its_head(
    loop: str, family: str
):
    began, told = threading.Event(), threading.Event()
    # More than any socket of the system takes at once.
    headers = [(f"x-{number}".encode(), b"x" * 8192) for number in range(2048)]

    async def app(scope, receive, send):
        await send(start(200, EVENTS, *headers))
        await receive()
        began.set()
        await receive()
        told.set()
        await send(body(b"goodbye"))

    options: dict[str, Any] = {"lifespan": "off", "loop": loop}
    with running(app, family, **options) as bridge, connect(bridge.address) as peer:
        peer.sendall(packet())
        assert began.wait(PATIENCE_SECONDS)
        bridge.begin_stop()
        assert told.wait(PATIENCE_SECONDS)  # the peer has read nothing so far
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := peer.recv(65_536):
                received += data
        bridge.wait_stopped()

    assert b"goodbye" not in received
    assert b"\r\n\r\n" not in received
    (event,) = bridge.events.find()
    assert event["event"] == "head of the answer is larger than Nginx's buffer: it answers 502"


@on_each_loop
def test_other_streams_are_told_after_their_time(loop: str):
    told: list[float] = []

    async def app(scope, receive, send):
        await send(start(200, LINES))
        await send(body(b"open\n", more=True))
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        told.append(monotonic())
        await send(body(b"goodbye"))

    begin: list[float] = []
    _, answer, _, bridge = stream_over(
        app,
        loop=loop,
        opened=lambda _: begin.append(monotonic()),
        stream_drain_seconds=DRAIN_SECONDS,
    )

    assert (answer.body, answer.broken) == (b"open\ngoodbye", False)
    assert told[0] - begin[0] >= DRAIN_SECONDS - 0.01
    assert bridge.events.find() == []


@on_each_loop
def test_other_streams_that_end_in_their_time_know_nothing_of_it(loop: str):
    async def app(scope, receive, send):
        await send(start(200, LINES))
        await send(body(b"open\n", more=True))
        await receive()
        with anyio.move_on_after(DRAIN_SECONDS):
            raise AssertionError(await receive())
        await send(body(b"done"))

    _, answer, _, bridge = stream_over(app, loop=loop)

    assert (answer.body, answer.broken) == (b"open\ndone", False)
    assert bridge.events.find() == []


@on_each_loop
def test_time_of_other_streams_is_at_most_half_of_the_graceful_time(loop: str):
    async def app(scope, receive, send):
        await send(start(200, LINES))
        await send(body(b"open\n", more=True))
        await receive()
        await receive()
        await send(body(b"goodbye"))

    _, answer, seconds, bridge = stream_over(
        app, loop=loop, stream_drain_seconds=100.0, graceful_timeout_seconds=2 * DRAIN_SECONDS
    )

    assert (answer.body, answer.broken) == (b"open\ngoodbye", False)
    assert seconds >= DRAIN_SECONDS - 0.01
    assert bridge.events.find() == []


@on_each_loop
@pytest.mark.parametrize("content_type", [EVENTS, LINES], ids=["events", "lines"])
def test_answer_whose_length_is_known_is_told_nothing(loop: str, content_type: Any):
    async def app(scope, receive, send):
        await send(start(200, content_type, (b"content-length", b"9")))
        await send(body(b"open\n", more=True))
        await receive()
        with anyio.move_on_after(DRAIN_SECONDS):
            raise AssertionError(await receive())
        await send(body(b"done"))

    _, answer, _, bridge = stream_over(app, loop=loop, stream_drain_seconds=0)

    assert (answer.body, answer.broken) == (b"open\ndone", False)
    assert bridge.events.find() == []


@on_each_loop
def test_answer_that_has_not_begun_is_told_nothing(loop: str):
    """A long poll has its graceful time, and its client gets what it waited for."""
    began = threading.Event()

    async def app(scope, receive, send):
        await receive()
        began.set()
        with anyio.move_on_after(DRAIN_SECONDS):
            raise AssertionError(await receive())
        await send(start(200, LINES))
        await send(body(b"done"))

    def opened(_bridge: Bridge) -> None:
        assert began.wait(PATIENCE_SECONDS)

    _, answer, _, bridge = stream_over(
        app, loop=loop, is_open=b"", opened=opened, stream_drain_seconds=0
    )

    assert (answer.body, answer.broken) == (b"done", False)
    assert bridge.events.find() == []


@on_each_loop
@pytest.mark.parametrize("content_type", [EVENTS, LINES], ids=["events", "lines"])
def test_stream_that_begins_after_its_moment_is_told_when_it_begins(
    loop: str, content_type: Any, endings: queue.SimpleQueue[Ending]
):
    began, goes_on = threading.Event(), queue.SimpleQueue[None]()

    async def app(scope, receive, send):
        began.set()
        await receive()
        await anyio.to_thread.run_sync(goes_on.get)
        await send(start(200, content_type))
        await send(body(b"open\n", more=True))
        assert (await receive())["type"] == "http.disconnect"
        await send(body(b"goodbye"))

    with (
        running(app, loop=loop, lifespan="off", stream_drain_seconds=0) as bridge,
        connect(bridge.address) as peer,
    ):
        peer.sendall(packet())
        assert began.wait(PATIENCE_SECONDS)
        bridge.begin_stop()
        wait_for(endings, Ending.EVENTS, Ending.ALL)
        goes_on.put(None)
        answer = read_answer(peer)
        bridge.wait_stopped()

    assert (answer.body, answer.broken) == (b"open\ngoodbye", False)
    assert bridge.events.find() == []


@on_each_loop
def test_upload_whose_answer_is_a_stream_is_told_as_well(loop: str):
    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"open\n", more=True))
        while (message := await receive())["type"] == "http.request":
            await send(body(message["body"], more=True))
        await send(body(b"goodbye"))

    with (
        running(app, loop=loop, lifespan="off", linger_seconds=0.1) as bridge,
        connect(bridge.address) as peer,
    ):
        peer.sendall(packet(method="POST", content_length=10))
        before = read_until(peer, b"open\n")
        peer.sendall(b"12345")
        before += read_until(peer, b"12345")
        bridge.begin_stop()
        # The rest of its body is discarded.
        answer = read_rest(peer, before)
        bridge.wait_stopped()

    assert (answer.body, answer.broken) == (b"open\n12345goodbye", False)
    assert bridge.events.find() == []


@on_each_loop
def test_stream_that_takes_no_notice_is_broken_off_at_the_end_of_the_time(loop: str):
    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"open\n", more=True))
        await receive()
        await receive()
        await anyio.sleep_forever()

    _, answer, _, bridge = stream_over(app, loop=loop, graceful_timeout_seconds=DRAIN_SECONDS)

    assert answer.broken
    (event,) = bridge.events.find(level="error")
    assert event["event"].startswith("requests were broken off")


@on_each_loop
def test_streams_of_starlette_end_and_their_generators_are_closed(loop: str):
    ended = threading.Event()

    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"open\n"
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def app(scope, receive, send):
        response = StreamingResponse(generate(), media_type="text/event-stream")
        await response(scope, receive, send)

    _, answer, seconds, bridge = stream_over(app, loop=loop)

    assert (answer.body, answer.broken) == (b"open\n", True)
    assert ended.is_set()
    assert seconds < QUICK_SECONDS
    assert bridge.events.find() == []


@on_each_loop
def test_client_that_leaves_after_the_word_is_still_noticed(loop: str):
    failed: queue.SimpleQueue[type] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"open\n", more=True))
        await receive()
        await receive()
        told.set()
        with contextlib.suppress(asyncio.CancelledError):
            try:
                while True:
                    await send(body(b"x" * 1000, more=True))
                    await anyio.sleep(0.01)
            except OSError as error:
                failed.put(type(error))
                raise

    told = threading.Event()
    with running(app, loop=loop, lifespan="off") as bridge:
        with connect(bridge.address) as peer:
            peer.sendall(packet())
            read_until(peer, b"open\n")
            bridge.begin_stop()
            assert told.wait(PATIENCE_SECONDS)
        bridge.wait_stopped()
        assert issubclass(failed.get(timeout=PATIENCE_SECONDS), OSError)
    assert bridge.events.find(level="error") == []


# WSGI.


class Items:
    """An iterable whose next item comes when it is let go, and that tells when it is closed."""

    def __init__(self, *items: bytes) -> None:
        self._items = items
        self.wanted: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.let_go: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield b"open\n"
        for item in self._items:
            self.wanted.put(None)
            self.let_go.get(timeout=PATIENCE_SECONDS)
            yield item

    def close(self) -> None:
        self.closed.set()


def wsgi_stream(
    items: Items,
    endings: queue.SimpleQueue[Ending],
    *headers: tuple[str, str],
    until: Ending = Ending.EVENTS,
    **settings: Any,
) -> tuple[Answer, float, Bridge]:
    """Open a stream, have the bridge stop, and let items come from then on."""

    def app(environ, start_response):
        start_response("200 OK", list(headers))
        return Several(items)

    with (
        running(app, loop="trio", **settings) as bridge,
        connect(bridge.address) as peer,
    ):
        peer.sendall(packet())
        before = read_until(peer, b"open\n")
        items.wanted.get(timeout=PATIENCE_SECONDS)
        begin = monotonic()
        bridge.begin_stop()
        wait_for(endings, until)
        items.let_go.put(None)
        items.let_go.put(None)
        answer = read_rest(peer, before)
        bridge.wait_stopped()
        seconds = monotonic() - begin
    return answer, seconds, bridge


class Several:
    """An iterable with `close`, as the PEP has it."""

    def __init__(self, items: Items) -> None:
        self.close = items.close
        self._iterator = iter(items)

    def __iter__(self) -> Iterator[bytes]:
        return self._iterator


def test_generator_of_events_is_closed_after_the_item_that_it_is_at(
    endings: queue.SimpleQueue[Ending],
):
    items = Items(b"one\n", b"two\n")
    answer, seconds, bridge = wsgi_stream(items, endings, ("Content-Type", "text/event-stream"))

    assert (answer.body, answer.broken) == (b"open\none\n", True)
    assert items.closed.is_set()
    assert seconds < QUICK_SECONDS
    assert bridge.events.find() == []


def test_empty_item_is_a_place_to_close_as_well(endings: queue.SimpleQueue[Ending]):
    items = Items(b"", b"two\n")
    answer, _, bridge = wsgi_stream(items, endings, ("Content-Type", "text/event-stream"))

    assert (answer.body, answer.broken) == (b"open\n", True)
    assert items.closed.is_set()
    assert bridge.events.find() == []


def test_other_generator_has_its_time(endings: queue.SimpleQueue[Ending]):
    items = Items(b"one\n", b"two\n")
    answer, _, bridge = wsgi_stream(items, endings, ("Content-Type", "text/plain"))

    assert (answer.body, answer.broken) == (b"open\none\ntwo\n", False)
    assert items.closed.is_set()
    assert bridge.events.find() == []


def test_other_generator_is_closed_when_its_time_is_over(endings: queue.SimpleQueue[Ending]):
    items = Items(b"one\n", b"two\n")
    answer, _, bridge = wsgi_stream(
        items, endings, ("Content-Type", "text/plain"), stream_drain_seconds=0, until=Ending.ALL
    )

    assert (answer.body, answer.broken) == (b"open\none\n", True)
    assert items.closed.is_set()
    assert bridge.events.find() == []


def test_generator_is_not_closed_before_its_answer_has_begun(endings: queue.SimpleQueue[Ending]):
    """Its client gets an answer that broke off, as it would have a moment later, and no failure."""
    wanted, let_go = queue.SimpleQueue[None](), queue.SimpleQueue[None]()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        wanted.put(None)
        let_go.get(timeout=PATIENCE_SECONDS)
        yield b""
        yield b"one\n"
        yield b"two\n"

    with (
        running(app, loop="trio", stream_drain_seconds=0) as bridge,
        connect(bridge.address) as peer,
    ):
        peer.sendall(packet())
        wanted.get(timeout=PATIENCE_SECONDS)
        bridge.begin_stop()
        wait_for(endings, Ending.ALL)
        let_go.put(None)
        answer = read_answer(peer)
        bridge.wait_stopped()

    assert (answer.status, answer.body, answer.broken) == (200, b"one\n", True)
    assert bridge.events.find() == []


def test_generator_whose_length_is_known_is_not_closed(endings: queue.SimpleQueue[Ending]):
    items = Items(b"one\n", b"two\n")
    answer, _, bridge = wsgi_stream(
        items,
        endings,
        ("Content-Type", "text/event-stream"),
        ("Content-Length", "13"),
        stream_drain_seconds=0,
        until=Ending.ALL,
    )

    assert (answer.body, answer.broken) == (b"open\none\ntwo\n", False)
    assert bridge.events.find() == []


def test_failure_in_closing_is_told(endings: queue.SimpleQueue[Ending]):
    items = Items(b"one\n", b"two\n")

    def fail() -> None:
        raise ValueError("in close")

    items.close = fail  # type: ignore[method-assign] # a stand-in
    answer, _, bridge = wsgi_stream(items, endings, ("Content-Type", "text/event-stream"))

    assert answer.broken
    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application failed"
    assert "ValueError: in close" in event["exception"]
