"""The deadline of an ASGI request needs nobody's cooperation, and counts the application's time alone."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import anyio
import pytest
import trio

from tests.asgi_messages import START, body
from tests.bridge import on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer, read_until
from uwsgibridge.errors import WorkerUnfit
from uwsgibridge.hosts.asgi import exchange as asgi_exchange

LIMIT_SECONDS = 0.2

STUBBORN = "/stubborn"

CANCELLED = (asyncio.CancelledError, trio.Cancelled)


class Gate:
    """What an application waits for, whoever would like it to end."""

    def __init__(self) -> None:
        self._is_open = threading.Event()

    def open(self) -> None:
        self._is_open.set()

    async def wait(self) -> None:
        while not self._is_open.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.005)
            except asyncio.CancelledError:
                pass  # as code does that catches too much


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("then", ["returns", "raises", "sends"])
def test_client_is_answered_whatever_the_application_does_with_its_cancellation(
    monkeypatch: pytest.MonkeyPatch, family: str, loop: str, then: str
):
    monkeypatch.setattr(asgi_exchange, "_LOST_SECONDS", 0.05)
    gate = Gate()

    async def app(scope, receive, send):
        if scope["path"] == "/quick":
            await send(START)
            await send(body(b"quick"))
            return
        await gate.wait()
        if then == "raises":
            raise ValueError("after its deadline")
        if then == "sends":
            await send(START)
            await send(body(b"too late"))

    with running(
        app, family, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS
    ) as bridge:
        answer = bridge.ask(STUBBORN)
        assert answer.seen == 504
        event = bridge.events.wait(event="request goes on although its task was cancelled")
        assert event["path"] == STUBBORN
        # It holds no place, and is not forgotten.
        assert bridge.figures().in_flight == 0
        assert f"GET {STUBBORN}" in bridge.stacks()
        assert bridge.ask("/quick").body == b"quick"
        gate.open()
        bridge.events.wait(event="request has ended after all", path=STUBBORN)
        bridge.settle()
        assert f"GET {STUBBORN}" not in bridge.stacks()

    (overdue,) = bridge.events.find(event="request took too long")
    assert overdue["outcome"] == "answered 504"
    late = bridge.events.find(event="application failed after its deadline")
    assert [event["detail"] for event in late] == ["ValueError: after its deadline"] * (
        then == "raises"
    )
    assert bridge.events.find(event="application failed") == []
    assert bridge.counters.client_gone == 0


@on_each_loop
@on_each_socket
def test_client_does_not_wait_for_the_clean_up(family: str, loop: str):
    cleaned = threading.Event()
    gate = Gate()

    async def app(scope, receive, send):
        try:
            await anyio.sleep(600)
        finally:
            await gate.wait()
            cleaned.set()

    with running(
        app, family, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS
    ) as bridge:
        assert bridge.ask().seen == 504
        assert not cleaned.is_set()
        gate.open()
        assert cleaned.wait(PATIENCE_SECONDS)

    (event,) = bridge.events.find(level="error")
    assert event["outcome"] == "answered 504"


@on_each_loop
@on_each_socket
def test_answer_that_has_begun_is_broken_at_the_deadline(family: str, loop: str):
    gate = Gate()

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"the first half", more=True))
        await gate.wait()
        await send(body(b"and the second"))

    with (
        running(
            app, family, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet())
        read_until(connection, b"the first half")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        gate.open()

    (event,) = bridge.events.find(event="request took too long")
    assert event["outcome"] == "connection broken"


@on_each_loop
@on_each_socket
def test_deadline_amid_a_write_that_nobody_takes(family: str, loop: str):
    ended = threading.Event()

    async def app(scope, receive, send):
        await send(START)
        try:
            while True:
                await send(body(bytes(1_000_000), more=True))
        except CANCELLED:
            ended.set()
            raise

    with (
        running(
            app, family, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet())
        assert ended.wait(PATIENCE_SECONDS)
        assert read_answer(connection).broken

    (event,) = bridge.events.find(level="error")
    assert event["outcome"] == "connection broken"


@on_each_loop
@pytest.mark.parametrize("way", ["write", "file"])
def test_deadline_amid_an_answer_that_is_taken_slowly_says_so(
    way: str, loop: str, tmp_path: Path
) -> None:
    """The application has nothing to answer for: its answer is there, and leaves no faster."""
    file = tmp_path / "file"
    file.write_bytes(bytes(10_000_000))

    async def app(scope, receive, send):
        await send(START)
        if way == "file":
            await send({"type": "http.response.pathsend", "path": str(file)})
        else:
            await send(body(file.read_bytes()))

    with (
        running(app, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet())
        event = bridge.events.wait(event="request took too long")
        assert read_answer(connection).broken

    assert "--offload" in event["hint"]


@on_each_loop
def test_deadline_of_an_application_that_is_slow_itself_has_no_such_hint(loop: str) -> None:
    async def app(scope, receive, send):
        await send(START)
        await send(body(b"begun", more=True))
        await anyio.sleep(600)

    with running(app, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS) as bridge:
        assert bridge.ask().broken
        event = bridge.events.wait(event="request took too long")

    assert "hint" not in event


@on_each_loop
@on_each_socket
def test_time_in_which_the_client_sends_its_body_does_not_count(family: str, loop: str):
    async def app(scope, receive, send):
        received = b""
        while True:
            message = await receive()
            received += message["body"]
            if not message["more_body"]:
                break
        if received == b"xxxx":
            await send(START)
            await send(body(received))
        else:
            await anyio.sleep(600)

    pieces = threading.Event()
    with running(
        app, family, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS
    ) as bridge:
        for last in (b"x", b"y"):
            with connect(bridge.address) as slow:
                slow.sendall(packet(method="POST", content_length=4))
                for piece in (b"x", b"x", b"x", last):
                    pieces.wait(0.75 * LIMIT_SECONDS)
                    slow.sendall(piece)
                answer = read_answer(slow)
            # And what the application does after it counts again.
            assert answer.seen == (200 if last == b"x" else 504)

    (event,) = bridge.events.find(level="error")
    assert LIMIT_SECONDS <= event["seconds"] < 3 * LIMIT_SECONDS + 1


@on_each_loop
def test_time_before_the_application_reads_its_body_counts(loop: str):
    async def app(scope, receive, send):
        await anyio.sleep(600)
        await receive()

    with (
        running(app, loop=loop, lifespan="off", request_timeout_seconds=LIMIT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=4))
        assert read_answer(connection).seen == 504


@on_each_loop
def test_worker_that_has_lost_as_many_as_it_has_places_is_replaced(
    monkeypatch: pytest.MonkeyPatch, loop: str
):
    monkeypatch.setattr(asgi_exchange, "_LOST_SECONDS", 0.05)
    gate = Gate()

    async def app(scope, receive, send):
        await gate.wait()

    def lose_all() -> None:
        with running(
            app,
            loop=loop,
            lifespan="off",
            max_concurrency=2,
            request_timeout_seconds=LIMIT_SECONDS,
        ) as bridge:
            for _ in range(2):
                assert bridge.ask().seen == 504
            bridge.events.wait(event="stopping to be started again")
            gate.open()

    with pytest.raises(WorkerUnfit, match="2 requests go on"):
        lose_all()
