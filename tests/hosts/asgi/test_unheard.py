"""ASGI applications whose client has left: all of them end, and their work at the end is done."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from tests.asgi_messages import START, body, wait_for_disconnect
from tests.bridge import on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_until, reset
from tests.websocket_client import HANDSHAKE, Client, accept, opened, said
from tests.websocket_frames import CLOSE, TEXT, close_payload

QUIET_SECONDS = 0.2


def leave_at_once(address: str, path: str = "/") -> None:
    connection = connect(address)
    connection.sendall(packet(path))
    reset(connection)


@on_each_loop
@on_each_socket
def test_what_nobody_hears_is_dropped_without_a_word(family: str, loop: str) -> None:
    """ASGI before HTTP 2.4: frameworks end by `http.disconnect`, and do not expect that `send` raises."""
    over = threading.Event()

    async def app(scope, receive, send):
        await wait_for_disconnect(receive)
        await send(START)
        for _ in range(100):
            await send(body(b"x", more=True))
        await send(body())
        over.set()

    with running(app, family, loop=loop, lifespan="off") as bridge:
        leave_at_once(bridge.address)
        assert over.wait(PATIENCE_SECONDS)

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("path", ["/pathsend", "/zerocopysend", "/hint"])
def test_extensions_are_dropped_likewise(family: str, loop: str, path: str) -> None:
    over = threading.Event()

    async def app(scope, receive, send):
        await wait_for_disconnect(receive)
        if scope["path"] == "/hint":
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
        await send(START)
        if scope["path"] == "/pathsend":
            await send({"type": "http.response.pathsend", "path": __file__})
        else:
            with Path(__file__).open("rb") as file:  # noqa: ASYNC230 - a short file
                await send({"type": "http.response.zerocopysend", "file": file})
        over.set()

    with running(app, family, loop=loop, lifespan="off") as bridge:
        leave_at_once(bridge.address, path)
        assert over.wait(PATIENCE_SECONDS)


@on_each_loop
@on_each_socket
def test_who_sends_for_ever_gets_an_oserror_after_a_while(family: str, loop: str) -> None:
    """It waits for nothing, and blocks nobody."""
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await send(START)
        if scope["path"] != "/endless":
            await send(body(b"quick"))
            return
        try:
            while True:
                await send(body(bytes(10_000), more=True))
        except OSError as error:
            errors.put(error)
            raise

    with running(
        app, family, loop=loop, lifespan="off", gone_client_send_seconds=QUIET_SECONDS
    ) as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet("/endless"))
        assert connection.recv(10)
        left_at = time.monotonic()
        reset(connection)
        assert bridge.ask("/quick").body == b"quick"
        errors.get(timeout=PATIENCE_SECONDS)
        assert time.monotonic() - left_at >= QUIET_SECONDS

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_who_swallows_that_is_cancelled_in_the_end(family: str, loop: str) -> None:
    ends: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await send(START)
        if scope["path"] != "/endless":
            await send(body(b"quick"))
            return
        try:
            while True:
                with suppress(OSError):
                    await send(body(bytes(10_000), more=True))
        except (asyncio.CancelledError, trio.Cancelled) as error:
            ends.put(error)
            raise

    with running(
        app, family, loop=loop, lifespan="off", gone_client_send_seconds=QUIET_SECONDS
    ) as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet("/endless"))
        assert connection.recv(10)
        reset(connection)
        ends.get(timeout=PATIENCE_SECONDS)
        assert bridge.ask("/quick").body == b"quick"

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_who_receives_for_ever_blocks_nobody_and_is_cancelled(
    family: str, loop: str, kind: str
) -> None:
    ends: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    spinning = threading.Event()

    async def app(scope, receive, send):
        if scope["path"] != "/endless":
            await send(START)
            await send(body(b"quick"))
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        try:
            while True:
                await receive()
                spinning.set()
        except (asyncio.CancelledError, trio.Cancelled) as error:
            ends.put(error)
            raise

    variables = HANDSHAKE if kind == "websocket" else {}
    with running(app, family, loop=loop, lifespan="off") as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet("/endless", **variables))
        assert spinning.wait(PATIENCE_SECONDS)
        reset(connection)
        assert bridge.ask("/quick").body == b"quick"
        ends.get(timeout=PATIENCE_SECONDS)

    (event,) = bridge.events.find(level="error")
    assert event["event"].startswith("application keeps calling receive after the disconnect")
    assert event["path"] == "/endless"
    assert "disconnect" in event["hint"]
    assert bridge.counters.app_errors == 1


@on_each_loop
@on_each_socket
def test_a_websocket_that_sends_to_nobody_blocks_nobody(family: str, loop: str) -> None:
    stop = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(START)
            await send(body(b"quick"))
            return
        await receive()
        await send({"type": "websocket.accept"})
        await wait_for_disconnect(receive)
        while not stop.is_set():
            with suppress(OSError):
                await send({"type": "websocket.send", "text": "to nobody"})

    with running(app, family, loop=loop, lifespan="off") as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet(**HANDSHAKE))
        read_until(connection, b"\r\n\r\n")
        reset(connection)
        assert bridge.ask("/quick").body == b"quick"
        stop.set()


def closes(client: Client) -> None:
    client.send(CLOSE, close_payload(1001))
    assert client.receive() == said(CLOSE, 1001)


def vanishes(client: Client) -> None:
    reset(client.connection)


@on_each_loop
@on_each_socket
@pytest.mark.parametrize(
    ("leave", "code"),
    [(closes, 1001), (vanishes, 1006), (None, 1012)],
    ids=["closes", "vanishes", "stop"],
)
def test_a_websocket_that_receives_is_told_there_and_not_by_send(
    family: str, loop: str, leave: Callable[[Client], None] | None, code: int
) -> None:
    """As Channels needs it, whose consumer would never have its `disconnect` called after an exception."""
    asked, left = threading.Event(), threading.Event()
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        assert (await receive())["text"] == "work"
        asked.set()
        await anyio.to_thread.run_sync(left.wait, PATIENCE_SECONDS)
        for _ in range(100):
            await send({"type": "websocket.send", "text": "to nobody"})
        await send({"type": "websocket.close"})
        messages.put(await receive())

    with (
        running(app, family, loop=loop, lifespan="off", gone_client_send_seconds=60) as bridge,
        opened(bridge) as client,
    ):
        client.send(TEXT, b"work")
        assert asked.wait(PATIENCE_SECONDS)
        if leave is not None:
            leave(client)
        else:
            bridge.begin_stop()
            assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        left.set()
        assert messages.get(timeout=PATIENCE_SECONDS)["code"] == code

    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == bridge.events.find(level="warning") == []


@on_each_loop
@on_each_socket
def test_a_websocket_that_receives_is_told_of_a_close_of_its_own_as_well(
    family: str, loop: str
) -> None:
    """As Channels needs it where a consumer sends after its `close`."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        assert (await receive())["text"] == "leave"
        await send({"type": "websocket.close", "code": 4001})
        await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close"})
        messages.put(await receive())

    with (
        running(app, family, loop=loop, lifespan="off", gone_client_send_seconds=60) as bridge,
        opened(bridge) as client,
    ):
        client.send(TEXT, b"leave")
        assert client.receive() == said(CLOSE, 4001)
        assert messages.get(timeout=PATIENCE_SECONDS)["code"] == 4001
        client.send(CLOSE, close_payload(4001))
        assert client.ends()

    assert bridge.counters.app_errors == 0


@on_each_loop
@on_each_socket
def test_what_one_task_of_a_websocket_was_told_does_not_make_send_raise_in_another(
    family: str, loop: str
) -> None:
    """Channels receives in a task of its own, and handles the message of a group meanwhile."""
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        is_told = anyio.Event()

        async def handle() -> None:
            await is_told.wait()
            await send({"type": "websocket.send", "text": "to nobody"})
            told.put("handled")

        async with anyio.create_task_group() as group:
            group.start_soon(handle)
            await wait_for_disconnect(receive)
            is_told.set()
        try:
            await send({"type": "websocket.send", "text": "to nobody"})
        except OSError:
            told.put("OSError")

    with (
        running(app, family, loop=loop, lifespan="off", gone_client_send_seconds=60) as bridge,
        opened(bridge) as client,
    ):
        closes(client)
        assert told.get(timeout=PATIENCE_SECONDS) == "handled"
        assert told.get(timeout=PATIENCE_SECONDS) == "OSError"


@on_each_loop
@on_each_socket
def test_a_websocket_whose_client_leaves_before_it_is_accepted_is_told_by_receive(
    family: str, loop: str
) -> None:
    called, left = threading.Event(), threading.Event()
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        called.set()
        await anyio.to_thread.run_sync(left.wait, PATIENCE_SECONDS)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "to nobody"})
        messages.put(await receive())

    with running(app, family, loop=loop, lifespan="off", gone_client_send_seconds=60) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(packet(**HANDSHAKE))
            assert called.wait(PATIENCE_SECONDS)
            reset(connection)
        left.set()
        assert messages.get(timeout=PATIENCE_SECONDS)["code"] == 1006

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == bridge.events.find(level="warning") == []


@on_each_loop
@on_each_socket
def test_a_websocket_that_only_sends_gets_an_oserror_at_once(family: str, loop: str) -> None:
    opened_by_app, left = threading.Event(), threading.Event()
    errors: queue.SimpleQueue[OSError] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        opened_by_app.set()
        await anyio.to_thread.run_sync(left.wait, PATIENCE_SECONDS)
        try:
            await send({"type": "websocket.send", "text": "to nobody"})
        except OSError as error:
            errors.put(error)

    with (
        running(app, family, loop=loop, lifespan="off", gone_client_send_seconds=60) as bridge,
        opened(bridge) as client,
    ):
        assert opened_by_app.wait(PATIENCE_SECONDS)
        closes(client)
        left.set()
        errors.get(timeout=PATIENCE_SECONDS)


@on_each_loop
@on_each_socket
def test_a_websocket_that_has_stopped_to_receive_gets_an_oserror_after_a_while(
    family: str, loop: str
) -> None:
    asked, errors = threading.Event(), queue.SimpleQueue[OSError]()

    async def app(scope, receive, send):
        await accept(receive, send)
        await receive()
        asked.set()
        try:
            while True:
                await send({"type": "websocket.send", "text": "more"})
        except OSError as error:
            errors.put(error)

    with running(
        app, family, loop=loop, lifespan="off", gone_client_send_seconds=QUIET_SECONDS
    ) as bridge:
        with opened(bridge) as client:
            client.send(TEXT, b"begin")
            assert asked.wait(PATIENCE_SECONDS)
            left_at = time.monotonic()
            reset(client.connection)
            errors.get(timeout=PATIENCE_SECONDS)
        assert time.monotonic() - left_at >= QUIET_SECONDS

    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_who_returns_when_told_of_the_end_has_broken_no_rule(family: str, loop: str) -> None:
    """As a long poll does: it has nothing to say, and its client has left."""

    async def app(scope, receive, send):
        if scope["path"] == "/begun":
            await send(START)
        await wait_for_disconnect(receive)

    with running(app, family, loop=loop, lifespan="off") as bridge:
        for path in ("/", "/begun"):
            leave_at_once(bridge.address, path)

    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == bridge.events.find(level="warning") == []


@on_each_loop
@on_each_socket
def test_a_failure_that_shows_only_then_is_told_in_one_line(family: str, loop: str) -> None:
    async def app(scope, receive, send):
        await wait_for_disconnect(receive)
        raise KeyError("in its clean-up")

    with running(app, family, loop=loop, lifespan="off") as bridge:
        leave_at_once(bridge.address, "/clean-up")

    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "application failed after its client had gone"
    assert event["path"] == "/clean-up"
    assert event["detail"] == "KeyError: 'in its clean-up'"
    assert event["where"].startswith(__file__ + ":")
    assert bridge.events.find(level="error") == []
    assert "Traceback" not in bridge.events.text()


@on_each_loop
def test_work_after_an_answer_that_nobody_heard_has_no_deadline(loop: str) -> None:
    """As work after any other answer."""
    over = threading.Event()

    async def app(scope, receive, send):
        await wait_for_disconnect(receive)
        await send(START)
        await send(body(b"for nobody"))
        await anyio.sleep(4 * QUIET_SECONDS)
        over.set()

    with running(app, loop=loop, lifespan="off", request_timeout_seconds=QUIET_SECONDS) as bridge:
        leave_at_once(bridge.address)
        assert over.wait(PATIENCE_SECONDS)

    assert bridge.events.find(level="error") == []
