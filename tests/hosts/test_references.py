"""What a request leaves: nothing, without the help of the garbage collector.

A worker freezes what it has loaded and collects seldom: what only the collector can free stays for long,
and with it the bodies, messages and frames that it refers to.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.asgi_messages import Receive, Send
from tests.bridge import Bridge, on_each_loop, running
from tests.gil import deletes_at_once
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer, reset
from tests.websocket_client import HANDSHAKE, opened
from tests.websocket_frames import BINARY, CLOSE, TEXT, close_payload, frame

KIB = 1024
TIMES = 5
SHORT_SECONDS = 0.05


HELD = ("Connection", "Request", "Large", "HttpExchange", "WebSocketExchange", "WsgiExchange")


class Large:
    """Stands for what an application has at hand when it fails."""


@pytest.fixture(autouse=True)
def only_what_is_new() -> Iterator[None]:
    """Leave out what other tests have loaded: to look through all of it takes longer than to serve."""
    gc.freeze()
    yield
    gc.unfreeze()


def left() -> Counter[str]:
    """Count what exists of the bridge's own things, of applications' and of errors, by kind."""
    counted: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if str(kind.__module__).startswith(("uwsgibridge", "tests.hosts.test_references")):
            counted[kind.__qualname__] += 1
        elif kind.__name__ in {"traceback", "Task"} or issubclass(kind, BaseException):
            counted[kind.__name__] += 1
    # Tasks of trio wait for the next request. Their number is that of the requests that have met, which on a busy
    # machine may be one more each time.
    counted["Task"] -= counted.pop("_Task", 0)
    return counted


def check(bridge: Bridge, do: Callable[[], None]) -> None:
    """See that to do it again and again leaves no more than to do it twice."""
    do()
    do()
    gc.collect()
    gc.disable()
    try:
        bridge.settle()
        before = left()
        for _ in range(TIMES):
            do()
        deadline = time.monotonic() + PATIENCE_SECONDS
        # Nor does a thread that waits for the next request hold the last one.
        while (now := left()) - before or any(now[kind] for kind in HELD):
            if time.monotonic() > deadline:
                assert not now - before
                assert {kind: now[kind] for kind in HELD} == dict.fromkeys(HELD, 0)
            bridge.settle()
    finally:
        gc.enable()


async def read_body(receive: Receive) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    return body


async def asgi_application(scope: Any, receive: Receive, send: Send) -> None:
    large = Large()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "raise":
                raise ValueError(large)
        return
    body = await read_body(receive)
    assert len(body) >= 0
    if scope["path"] == "/raises":
        raise ValueError(large)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/raises-late":
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ValueError(large)
    if scope["path"] == "/waits":
        while True:
            await receive()
    if scope["path"] == "/endless":
        while True:
            await send({"type": "http.response.body", "body": bytes(KIB), "more_body": True})
    await send({"type": "http.response.body", "body": b"done"})


def wsgi_application(environ: Any, start_response: Any) -> Any:
    large = Large()
    body = environ["wsgi.input"].read()
    assert len(body) >= 0
    if environ["PATH_INFO"] == "/raises":
        raise ValueError(large)
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/raises-late":
        return raising(large)
    if environ["PATH_INFO"] == "/endless":
        return iter(lambda: bytes(KIB), None)
    return [b"done"]


def raising(large: Large) -> Iterator[bytes]:
    yield b"a"
    raise ValueError(large)


def post(bridge: Bridge, path: str, *, sends: int | None = None, leaves: bool = False) -> None:
    """Send a body, or a part of it, and read the answer."""
    body = bytes(100 * KIB)
    with connect(bridge.address) as connection:
        connection.sendall(packet(path, method="POST", content_length=len(body)))
        connection.sendall(body[:sends])
        if sends is not None:
            return
        if leaves:
            connection.recv(KIB)
            reset(connection)
            return
        with suppress(ConnectionResetError):
            read_answer(connection)


REQUESTS: dict[str, Callable[[Bridge], None]] = {
    "answered": lambda bridge: post(bridge, "/"),
    "raises": lambda bridge: post(bridge, "/raises"),
    "raises-late": lambda bridge: post(bridge, "/raises-late"),
    "gone-amid-the-body": lambda bridge: post(bridge, "/", sends=50 * KIB),
    "gone-amid-the-answer": lambda bridge: post(bridge, "/endless", leaves=True),
}


@on_each_loop
@pytest.mark.parametrize("do", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_requests_to_asgi_leave_nothing(
    family: str, loop: str, do: Callable[[Bridge], None]
) -> None:
    with running(
        asgi_application,
        family,
        loop=loop,
        lifespan="off",
        request_timeout_seconds=100,
        gone_client_send_seconds=SHORT_SECONDS,
    ) as bridge:
        check(bridge, lambda: do(bridge))


@on_each_loop
def test_a_request_that_takes_too_long_leaves_nothing(loop: str) -> None:
    with running(
        asgi_application, "tcp", loop=loop, lifespan="off", request_timeout_seconds=SHORT_SECONDS
    ) as bridge:
        check(bridge, lambda: post(bridge, "/waits"))


@deletes_at_once
@pytest.mark.parametrize("do", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_requests_to_wsgi_leave_nothing(family: str, do: Callable[[Bridge], None]) -> None:
    with running(wsgi_application, family, loop="trio", threads=1) as bridge:
        check(bridge, lambda: do(bridge))


def talk(bridge: Bridge, *frames: bytes, leaves: bool = False) -> None:
    with opened(bridge) as client:
        client.connection.sendall(b"".join(frames))
        if leaves:
            return
        with suppress(ConnectionResetError, BrokenPipeError):
            while (received := client.receive()) is not None:
                if received[0] == CLOSE:
                    client.send(CLOSE, received[1])


def refused_handshake(bridge: Bridge) -> None:
    with connect(bridge.address) as connection:
        connection.sendall(packet(**{**HANDSHAKE, "HTTP_SEC_WEBSOCKET_KEY": "wrong"}))
        read_answer(connection)


WEBSOCKETS: dict[str, Callable[[Bridge], None]] = {
    "closed": lambda bridge: talk(bridge, frame(TEXT, b"x"), frame(CLOSE, close_payload(1000))),
    "too-big": lambda bridge: talk(bridge, frame(TEXT, b"x" * 70 * KIB)),
    "too-big-in-fragments": lambda bridge: talk(
        bridge, frame(TEXT, b"x" * 60 * KIB, fin=False), frame(0, b"x" * 10 * KIB)
    ),
    "a-broken-rule": lambda bridge: talk(
        bridge, frame(TEXT, b"x" * 60 * KIB, fin=False), frame(BINARY, masked=False)
    ),
    "raises": lambda bridge: talk(bridge, frame(TEXT, b"raise")),
    "gone": lambda bridge: talk(bridge, frame(TEXT, b"x" * 60 * KIB, fin=False), leaves=True),
    "refused": refused_handshake,
}


@on_each_loop
@pytest.mark.parametrize("do", WEBSOCKETS.values(), ids=WEBSOCKETS)
def test_websockets_leave_nothing(loop: str, do: Callable[[Bridge], None]) -> None:
    with running(
        asgi_application,
        "unix",
        loop=loop,
        lifespan="off",
        websocket_max_message_bytes=64 * KIB,
    ) as bridge:
        check(bridge, lambda: do(bridge))
