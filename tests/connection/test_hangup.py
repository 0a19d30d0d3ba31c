"""A client that leaves while nobody reads from it: noticed at once, on each loop and kind of socket."""

from __future__ import annotations

import asyncio
import functools
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from tests.asgi_messages import START
from tests.bridge import on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer, read_until, reset
from tests.websocket_client import HANDSHAKE
from uwsgibridge.connection.hangup import HangupWatcher
from uwsgibridge.loop.trio_loop import TrioLoop

on_each_way_to_leave = pytest.mark.parametrize(
    "leave", [reset, socket.socket.close], ids=["reset", "close"]
)


@on_each_loop
@on_each_socket
@on_each_way_to_leave
@pytest.mark.parametrize("body", [None, b"", b"read by the application"], ids=["none", "0", "23"])
def test_receive_gives_disconnect_while_input_is_held(
    family: str, loop: str, leave: Callable[[Any], None], body: bytes | None
):
    # On a unix socket all of the request stays unread in the kernel until the answer is complete,
    # so that the descriptor is readable all the time.
    messages: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def app(scope, receive, send):
        for _ in range(3):
            messages.put((await receive())["type"])

    with running(app, family, loop=loop, lifespan="off") as bridge:
        connection = connect(bridge.address)
        length = None if body is None else len(body)
        connection.sendall(packet(content_length=length) + (body or b""))
        assert messages.get(timeout=PATIENCE_SECONDS) == "http.request"
        leave(connection)
        assert messages.get(timeout=PATIENCE_SECONDS) == "http.disconnect"
        assert messages.get(timeout=PATIENCE_SECONDS) == "http.disconnect"

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
@on_each_way_to_leave
def test_disconnect_comes_during_a_silent_stream(
    family: str, loop: str, leave: Callable[[Any], None]
):
    over = threading.Event()

    async def app(scope, receive, send):
        await receive()
        await send(START)
        await send({"type": "http.response.body", "body": b"event", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        over.set()
        with pytest.raises(OSError, match="gone"):
            await send({"type": "http.response.body", "body": b"event", "more_body": True})

    with running(app, family, loop=loop, lifespan="off") as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet())
        read_until(connection, b"event")
        leave(connection)
        assert over.wait(PATIENCE_SECONDS)

    assert bridge.counters.client_gone == 1
    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
@on_each_way_to_leave
@pytest.mark.parametrize("kind", ["http", "websocket", "accepted"])
def test_a_look_that_waits_for_nothing_sees_it(
    family: str, loop: str, leave: Callable[[Any], None], kind: str
):
    """Starlette's `Request.is_disconnected` asks in a scope that is cancelled already, and each `Request` anew."""
    seen: queue.SimpleQueue[bool] = queue.SimpleQueue()
    begun, left = threading.Event(), threading.Event()

    async def is_disconnected(receive: Any) -> bool:
        message = {}
        with anyio.CancelScope() as scope:
            scope.cancel()
            message = await receive()
        return message.get("type") in {"http.disconnect", "websocket.disconnect"}

    async def app(scope, receive, send):
        await receive()
        if kind == "accepted":
            await send({"type": "websocket.accept"})
        seen.put(await is_disconnected(receive))
        begun.set()
        while not (left.is_set() and await is_disconnected(receive)):  # noqa: ASYNC110 - as applications do
            await anyio.sleep(0.001)
        for _ in range(10):
            seen.put(await is_disconnected(receive))

    async def another_app(scope, receive, send):
        """It has not asked before its client left."""
        await receive()
        begun.set()
        left.wait(PATIENCE_SECONDS)
        for _ in range(10):
            seen.put(await is_disconnected(receive))

    variables = {} if kind == "http" else HANDSHAKE
    apps = [app] if kind == "accepted" else [app, another_app]
    for each in apps:
        begun.clear()
        left.clear()
        with running(each, family, loop=loop, lifespan="off") as bridge:
            connection = connect(bridge.address)
            connection.sendall(packet(**variables))
            assert begun.wait(PATIENCE_SECONDS)
            if each is app:
                assert seen.get(timeout=PATIENCE_SECONDS) is False
            leave(connection)
            left.set()
            assert [seen.get(timeout=PATIENCE_SECONDS) for _ in range(10)] == [True] * 10


@on_each_loop
@on_each_socket
def test_all_that_wait_are_told(family: str, loop: str):
    messages: queue.SimpleQueue[str] = queue.SimpleQueue()
    waiting = threading.Event()

    async def wait(receive):
        messages.put((await receive())["type"])

    async def app(scope, receive, send):
        await receive()
        if loop == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, receive)
                nursery.start_soon(wait, receive)
                await trio.testing.wait_all_tasks_blocked()
                waiting.set()
        else:
            tasks = [asyncio.ensure_future(wait(receive)) for _ in range(2)]
            await asyncio.sleep(0)
            waiting.set()
            await asyncio.gather(*tasks)

    with running(app, family, loop=loop, lifespan="off") as bridge:
        connection = connect(bridge.address)
        connection.sendall(packet())
        assert waiting.wait(PATIENCE_SECONDS)
        connection.close()
        kinds = [messages.get(timeout=PATIENCE_SECONDS) for _ in range(2)]

    assert kinds == ["http.disconnect"] * 2


@on_each_loop
@on_each_socket
def test_one_that_waits_is_told_when_another_completes_the_answer(family: str, loop: str):
    messages: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def wait(receive):
        messages.put((await receive())["type"])

    async def app(scope, receive, send):
        await receive()
        if loop == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, receive)
                await trio.testing.wait_all_tasks_blocked()
                await send(START)
                await send({"type": "http.response.body", "body": b"done"})
        else:
            task = asyncio.ensure_future(wait(receive))
            await asyncio.sleep(0)
            await send(START)
            await send({"type": "http.response.body", "body": b"done"})
            await task

    with (
        running(app, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet())
        answer = read_answer(connection)
        assert messages.get(timeout=PATIENCE_SECONDS) == "http.disconnect"

    assert (answer.seen, answer.body) == (200, b"done")
    assert bridge.counters.client_gone == 0


@on_each_loop
@on_each_socket
def test_descriptor_that_is_used_again_belongs_to_the_new_connection(family: str, loop: str):
    # Descriptors are the smallest free numbers: each request here watches, ends, and gives its own
    # to the next.
    messages: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/waits":
            messages.put((await receive())["type"])
            return
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})
        messages.put((await receive())["type"])

    with running(app, family, loop=loop, lifespan="off") as bridge:
        for _ in range(5):
            connection = connect(bridge.address)
            connection.sendall(packet("/waits"))
            connection.close()
            assert messages.get(timeout=PATIENCE_SECONDS) == "http.disconnect"
            assert bridge.ask("/answers").body == b"x"
            assert messages.get(timeout=PATIENCE_SECONDS) == "http.disconnect"

    assert bridge.counters.client_gone == 5


def test_watcher_reports_each_hangup_once_and_nothing_that_was_removed():
    reported: list[str] = []

    async def main():
        async with trio.open_nursery() as nursery:
            watcher = HangupWatcher(TrioLoop(nursery))
            pairs = {name: socket.socketpair() for name in ("leaves", "stays", "removed")}
            for name, (ours, _) in pairs.items():
                watcher.add(ours, functools.partial(reported.append, name))
            watcher.remove(pairs["removed"][0])
            watcher.remove(pairs["removed"][0])
            for name in ("leaves", "removed"):
                pairs[name][1].close()
            pairs["stays"][1].send(b"input is no hang-up")
            await trio.testing.wait_all_tasks_blocked()
            assert reported == ["leaves"]
            watcher.close()
            for pair in pairs.values():
                for end in pair:
                    end.close()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert reported == ["leaves"]
