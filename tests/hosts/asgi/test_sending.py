"""Sends of ASGI applications that wait for the client: several at once, and such that are cancelled meanwhile."""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import anyio
import pytest

from tests.asgi_messages import START, Send, body, start
from tests.bridge import Bridge, on_each_loop, on_each_socket, running
from tests.raw_client import Answer, connect, packet, read_answer
from tests.websocket_client import HANDSHAKE

# More than the kernel takes while nobody reads.
PIECE = 8 * 1024 * 1024


def piece(number: int) -> bytes:
    return bytes([number]) * PIECE


async def give_up(send: Send, message: Any) -> bool:
    """Give up a `send` that waits for the client; True where it had to wait."""
    with anyio.move_on_after(0.01) as scope:
        await send(message)
    return scope.cancelled_caught


def ask_late(bridge: Bridge, may_read: threading.Event, **variables: Any) -> Answer:
    """Ask, and read nothing before the application says so."""
    with connect(bridge.address) as connection:
        connection.sendall(packet(**variables))
        assert may_read.wait(20)
        return read_answer(connection)


def answer_of(app: Any, family: str, loop: str, may_read: threading.Event) -> tuple[Answer, Bridge]:
    """Serve an application, ask it once as `ask_late`, and stop."""
    with running(app, family, loop=loop, lifespan="off") as bridge:
        return ask_late(bridge, may_read), bridge


@on_each_loop
@on_each_socket
def test_pieces_of_several_tasks_stay_whole(family: str, loop: str) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send(START)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(send, body(piece(number), more=True))
            await anyio.sleep(0.01)
            may_read.set()
        await send(body(b"end"))

    answer, bridge = answer_of(app, family, loop, may_read)

    # Trio starts tasks in any order.
    found = [answer.body[start : start + PIECE] for start in range(0, 4 * PIECE, PIECE)]
    assert sorted(found) == [piece(number) for number in range(4)]
    assert answer.body[4 * PIECE :] == b"end"
    assert answer.seen == 200
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_a_piece_waits_for_a_file_of_another_task(family: str, loop: str) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send(START)
        with tempfile.TemporaryFile() as file:
            file.write(piece(1))
            whole = {"type": "http.response.zerocopysend", "file": file, "offset": 0}
            async with anyio.create_task_group() as group:
                group.start_soon(send, {**whole, "more_body": True})
                await anyio.sleep(0.01)
                group.start_soon(send, body(b"piece", more=True))
                await anyio.sleep(0.01)
                group.start_soon(send, {**whole, "more_body": True})
                await anyio.sleep(0.01)
                may_read.set()
        await send(body(b"end"))

    answer, _ = answer_of(app, family, loop, may_read)

    parts = [answer.body[:PIECE], answer.body[PIECE : PIECE + 5], answer.body[PIECE + 5 :]]
    assert parts in (
        [piece(1), b"piece", piece(1) + b"end"],
        [piece(1), piece(1)[:5], piece(1)[5:] + b"pieceend"],
    )


@on_each_loop
@on_each_socket
def test_what_follows_a_cancelled_send_follows_the_whole_piece(family: str, loop: str) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send(start(200, (b"content-length", b"%d" % (PIECE + 3))))
        assert await give_up(send, body(piece(1), more=True))
        may_read.set()
        await send(body(b"end"))

    answer, _ = answer_of(app, family, loop, may_read)

    assert answer.seen == 200
    assert answer.body == piece(1) + b"end"


@on_each_loop
@on_each_socket
def test_a_send_that_is_cancelled_before_its_turn_sends_nothing(family: str, loop: str) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send(START)
        for number in range(3):
            assert await give_up(send, body(piece(number), more=True))
        may_read.set()
        await send(body(b"end"))

    answer, _ = answer_of(app, family, loop, may_read)

    assert answer.body == piece(0) + b"end"


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("kind", ["last", "alone", "without the end"])
def test_an_answer_whose_last_send_was_cancelled_is_whole(
    family: str, loop: str, kind: str
) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        length = (b"content-length", b"%d" % PIECE)
        await send(START if kind == "last" else start(200, length))
        if kind == "last":
            await send(body(b"", more=True))
        assert await give_up(send, body(piece(1), more=kind == "without the end"))
        may_read.set()

    answer, bridge = answer_of(app, family, loop, may_read)

    assert answer.seen == 200
    assert answer.body == piece(1)
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_an_application_may_leave_the_last_piece_to_another_task(family: str, loop: str) -> None:
    may_read = threading.Event()
    background: Any = None

    async def app(scope, receive, send):
        await send(START)
        background.start_soon(send, body(piece(1)))
        await anyio.sleep(0.01)
        may_read.set()

    async def with_background(scope, receive, send):
        nonlocal background
        async with anyio.create_task_group() as background:
            message = await receive()
            assert message["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def both(scope, receive, send):
        await (with_background if scope["type"] == "lifespan" else app)(scope, receive, send)

    with running(both, family, loop=loop) as bridge:
        answer = ask_late(bridge, may_read)

    assert answer.seen == 200
    assert answer.body == piece(1)
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("promises", [False, True])
def test_who_raises_after_a_cancelled_send_breaks_the_answer(
    family: str, loop: str, promises: bool
) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send(start(200, *([(b"content-length", b"%d" % PIECE)] if promises else [])))
        assert await give_up(send, body(piece(1), more=promises))
        may_read.set()
        raise TimeoutError("the client is slow")

    with running(app, family, loop=loop, lifespan="off") as bridge:
        answer = ask_late(bridge, may_read)
        assert bridge.ask().status == 200

    assert answer.broken
    event = bridge.events.find(level="error")[0]
    assert event["event"] == "application failed"
    assert event["outcome"] == "connection broken"
    assert "the client is slow" in event["exception"]


@on_each_loop
@on_each_socket
def test_nothing_follows_a_file_whose_send_was_cancelled(family: str, loop: str) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send(START)
        with tempfile.TemporaryFile() as file:
            file.write(piece(1))
            message = {"type": "http.response.zerocopysend", "file": file, "offset": 0}
            assert await give_up(send, {**message, "more_body": True})
        may_read.set()
        await send(body(b"end"))

    answer, bridge = answer_of(app, family, loop, may_read)

    assert answer.broken
    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application broke a rule"
    assert "the send of a file was cancelled" in event["exception"]


@on_each_loop
@on_each_socket
def test_a_denial_is_whole_as_well(family: str, loop: str) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        kind = "websocket.http.response.body"
        assert await give_up(send, {"type": kind, "body": piece(1), "more_body": True})
        may_read.set()
        await send({"type": kind, "body": b"end"})

    with running(app, family, loop=loop, lifespan="off") as bridge:
        answer = ask_late(bridge, may_read, **HANDSHAKE)

    assert answer.seen == 401
    assert answer.body == piece(1) + b"end"


@on_each_loop
@on_each_socket
def test_the_last_piece_of_a_denial_may_be_left_to_the_end(family: str, loop: str) -> None:
    may_read = threading.Event()

    async def app(scope, receive, send):
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        last = {"type": "websocket.http.response.body", "body": piece(1)}
        assert await give_up(send, last)
        may_read.set()

    with running(app, family, loop=loop, lifespan="off") as bridge:
        answer = ask_late(bridge, may_read, **HANDSHAKE)

    assert answer.seen == 401
    assert answer.body == piece(1)
    assert bridge.events.find(level="error") == []
