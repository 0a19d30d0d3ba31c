"""Two loops in one thread: nothing of the application runs within a turn of the other loop.

What libraries take the loop for (sniffio, anyio), which task asyncio takes for the current one, and
whether trio has one: an application is to see its own loop in its first line as in its last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio
import trio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.asgi_messages import answer
from tests.bridge import on_each_loop, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer


def what_runs() -> tuple[str, bool, bool]:
    """Tell what libraries see: the loop's name, and which of the two has a current task."""
    try:
        has_task = asyncio.current_task() is not None
    except RuntimeError:
        has_task = False
    return sniffio.current_async_library(), has_task, trio.lowlevel.in_trio_task()


def expected(loop: str) -> tuple[str, bool, bool]:
    return ("trio", False, True) if loop == "trio" else ("asyncio", True, False)


def lifespan_of(start: Callable[[], Any]) -> Callable[..., Any]:
    """Make an application that runs something first thing in its lifespan, before any event."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await start()
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await answer(send)

    return app


@on_each_loop
def test_lifespan_sees_its_own_loop_from_its_first_line_on(loop: str):
    seen: dict[str, tuple[str, bool, bool]] = {}

    async def app(scope, receive, send):
        seen[f"{scope['type']} begins"] = what_runs()
        if scope["type"] == "lifespan":
            await receive()
            seen["after receive"] = what_runs()
            await send({"type": "lifespan.startup.complete"})
            seen["after startup"] = what_runs()
            await receive()
            seen["at shutdown"] = what_runs()
            await send({"type": "lifespan.shutdown.complete"})
            seen["after shutdown"] = what_runs()
        else:
            await answer(send)
            seen["after the answer"] = what_runs()

    with running(app, loop=loop, lifespan="on") as bridge:
        assert bridge.ask().body == b"served"

    assert seen == dict.fromkeys(
        [
            "lifespan begins",
            "after receive",
            "after startup",
            "http begins",
            "after the answer",
            "at shutdown",
            "after shutdown",
        ],
        expected(loop),
    )


@on_each_loop
def test_task_group_of_a_lifespan_lives_until_the_shutdown(loop: str):
    order: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:

            async def work() -> None:
                order.append("began")
                try:
                    await anyio.sleep_forever()
                finally:
                    order.append("ended")

            group.start_soon(work)
            yield
            order.append("shutdown")
            group.cancel_scope.cancel()

    async def home(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("served")

    app = Starlette(routes=[Route("/", home)], lifespan=lifespan)
    with running(app, loop=loop, lifespan="on") as bridge:
        assert bridge.ask().body == b"served"

    assert order == ["began", "shutdown", "ended"]
    assert bridge.events.find() == []


@on_each_loop
def test_thread_is_the_first_thing_that_a_lifespan_waits_for(loop: str):
    found: list[int] = []

    async def start() -> None:
        found.append(await anyio.to_thread.run_sync(lambda: 42))

    with running(lifespan_of(start), loop=loop, lifespan="on") as bridge:
        assert bridge.ask().body == b"served"

    assert found == [42]


@on_each_loop
def test_connection_is_the_first_thing_that_a_lifespan_waits_for(loop: str):
    found: list[bytes] = []

    with socket.create_server(("127.0.0.1", 0)) as listening:

        async def start() -> None:
            stream = await anyio.connect_tcp("127.0.0.1", listening.getsockname()[1])
            peer, _ = listening.accept()
            with peer:
                peer.sendall(b"hello")
                found.append(await stream.receive())
            await stream.aclose()

        with running(lifespan_of(start), loop=loop, lifespan="on") as bridge:
            assert bridge.ask().body == b"served"

    assert found == [b"hello"]


@on_each_loop
def test_what_a_lifespan_makes_first_is_of_the_loop_of_its_requests(loop: str):
    made: dict[str, Any] = {}
    makers: dict[str, Callable[[], Any]] = {
        "lock": anyio.Lock,
        "event": anyio.Event,
        "limiter": lambda: anyio.CapacityLimiter(3),
    }
    kinds: dict[str, tuple[type, type]] = {}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            made.update({name: make() for name, make in makers.items()})
            anyio.to_thread.current_default_thread_limiter().total_tokens = 7
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        async with made["lock"]:
            await anyio.lowlevel.checkpoint()
        for name, make in makers.items():
            kinds[name] = type(made[name]), type(make())
        tokens = anyio.to_thread.current_default_thread_limiter().total_tokens
        await answer(send, str(int(tokens)).encode())

    with running(app, loop=loop, lifespan="on") as bridge:
        assert bridge.ask().body == b"7"
        assert bridge.ask().status == 200

    for name, (of_lifespan, of_request) in kinds.items():
        assert of_lifespan is of_request, name


@on_each_loop
def test_async_generator_of_a_lifespan_belongs_to_the_loop_of_the_application(loop: str):
    """One that is left behind is closed by its own loop, where it may await."""
    closed: queue.SimpleQueue[tuple[str, bool, bool]] = queue.SimpleQueue()

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await anyio.lowlevel.checkpoint()
            closed.put(what_runs())

    async def start() -> None:
        left.append(generate())
        assert await anext(left[0]) == 1

    left: list[Any] = []
    with running(lifespan_of(start), loop=loop, lifespan="on") as bridge:
        assert bridge.ask().body == b"served"
        if loop == "trio":
            return  # it warns of each that is left, which is not what this is about
        left.clear()
        assert closed.get(timeout=PATIENCE_SECONDS) == expected(loop)


@on_each_loop
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_request_that_a_stop_takes_from_the_backlog_sees_its_own_loop(loop: str, family: str):
    seen: list[tuple[str, bool, bool]] = []

    async def home(_request: Request) -> PlainTextResponse:
        seen.append(what_runs())
        return PlainTextResponse(str(await run_in_threadpool(lambda: 42)))

    def plain(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("in a thread")

    routes = [Route("/", home), Route("/plain", plain)]
    with running(Starlette(routes=routes), family, loop=loop) as bridge:
        bridge.stop_accepting()
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connect(bridge.address)) for _ in range(4)]
            for number, peer in enumerate(peers):
                peer.sendall(packet("/plain" if number % 2 else "/"))
            bridge.begin_stop()
            answers = [read_answer(peer) for peer in peers]
        bridge.wait_stopped()
        assert [(it.status, it.body) for it in answers] == [
            (200, b"42"),
            (200, b"in a thread"),
        ] * 2
        assert seen == [expected(loop)] * 2
        assert bridge.events.find() == []


@on_each_loop
def test_websocket_that_a_stop_takes_from_the_backlog_sees_its_own_loop(loop: str):
    seen: list[tuple[str, bool, bool]] = []

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            seen.append(what_runs())
            await receive()
            seen.append(what_runs())
            await send({"type": "websocket.close"})

    with running(app, loop=loop, lifespan="off") as bridge:
        bridge.stop_accepting()
        with connect(bridge.address) as peer:
            peer.sendall(
                packet(
                    HTTP_UPGRADE="websocket",
                    HTTP_CONNECTION="Upgrade",
                    HTTP_SEC_WEBSOCKET_VERSION="13",
                    HTTP_SEC_WEBSOCKET_KEY="MDEyMzQ1Njc4OWFiY2RlZg==",
                )
            )
            bridge.begin_stop()
            assert read_answer(peer).status == 403
        bridge.wait_stopped()
        assert seen == [expected(loop)] * 2


# Contexts.


@on_each_loop
def test_no_request_sees_what_another_has_set(loop: str):
    """Also not one that was held back until the other made room for it, nor those that come later."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    outside: contextvars.ContextVar[str] = contextvars.ContextVar("outside", default="unset")
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def app(scope, receive, send):
        seen = f"{variable.get()} {outside.get()}"
        variable.set(scope["path"])
        if scope["path"] == "/first":
            arrived.put("first")
            while (await receive()).get("more_body"):
                pass
        await answer(send, seen.encode())

    token = outside.set("of the process")
    try:
        with (
            running(app, loop=loop, lifespan="off", max_concurrency=1) as bridge,
            contextlib.ExitStack() as stack,
        ):
            first = stack.enter_context(connect(bridge.address))
            first.sendall(packet("/first", method="POST", content_length=1))
            arrived.get(timeout=PATIENCE_SECONDS)
            waiting = [stack.enter_context(connect(bridge.address)) for _ in range(3)]
            for number, peer in enumerate(waiting):
                peer.sendall(packet(f"/{number}"))
            bridge.settle()
            first.sendall(b"x")
            seen = {read_answer(peer).body for peer in (first, *waiting)}
            seen.add(bridge.ask("/later").body)
    finally:
        outside.reset(token)
    # A thread begins with an empty context, and so what is outside of it is not seen in the test.
    assert seen == {b"unset unset"}


@on_each_loop
def test_what_the_process_has_set_before_it_served_is_seen(loop: str):
    """As under every other server: libraries set such variables while they are imported."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def app(scope, receive, send):
        seen.append(variable.get())
        if scope["type"] == "http":
            await answer(send)
        else:
            raise NotImplementedError

    with running(app, loop=loop, before=lambda: variable.set("set")) as bridge:
        assert bridge.ask().status == 200
        assert bridge.ask().status == 200

    assert seen == ["set"] * 3
