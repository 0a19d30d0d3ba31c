"""Streams that never end by themselves hold up no stop and no reload, and may say goodbye.

As processes of this machine, and in the project's containers, where Docker stops the bridge.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from integration.asgi.conftest import APPS, REPOSITORY, Kind, assert_clean
from integration.asgi.frames import CLOSE, TEXT, Close, FrameClient
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from integration.asgi.conftest import Stack
    from uwsgibridge.testing import ComposeStack, LocalStack

PATIENCE_SECONDS = 20.0
GRACEFUL_SECONDS = 25.0
STREAM_DRAIN_SECONDS = 1.5

# From the signal to the end: what is told late, a second for what does not listen, and some for all else on a
# busy machine. What holds it up does so for all of the graceful time.
SOON_SECONDS = STREAM_DRAIN_SECONDS + 8.0

# More than the engine takes to stop a container that has ended.
ENGINE_SECONDS = 10.0

KINDS = [Kind("asyncio", "unix"), Kind("uvloop", "tcp"), Kind("trio", "unix")]
KINDS_IN_COMPOSE = [Kind("uvloop", "tcp", "compose"), Kind("trio", "unix", "compose")]

RESTARTING = Close(1012, "the server is restarting")


@dataclass(frozen=True)
class Row:
    """A stream, and what is to become of it at a stop.

    Attributes:
        path: of it.
        is_whole: whether its client gets a complete answer.
        told: what the application tells, if anything.
        is_late: whether that comes only after the time for streams.
        is_for_asyncio: whether the framework knows no other loop.
    """

    path: str
    is_whole: bool
    told: str
    is_late: bool = False
    is_for_asyncio: bool = False


ROWS = (
    Row("/plain/goodbye", is_whole=True, told="told"),
    Row("/plain/quiet", is_whole=False, told="told"),
    Row("/plain/deaf", is_whole=False, told="closed"),
    Row("/plain/lines", is_whole=True, told="told", is_late=True),
    Row("/starlette/events", is_whole=False, told="closed"),
    Row("/starlette/lines", is_whole=False, told="closed", is_late=True),
    Row("/starlette/listening", is_whole=True, told="told"),
    Row("/django/events", is_whole=False, told="closed", is_for_asyncio=True),
    Row("/wsgi/events", is_whole=False, told="closed"),
    Row("/wsgi/lines", is_whole=False, told="closed", is_late=True),
)

on_each_loop = pytest.mark.parametrize("kind", KINDS, ids=str)


def has_django(kind: Kind) -> bool:
    """Whether the loop can run it, and the bridge's image has it."""
    return kind.loop != "trio" and kind.place == "local"


@contextlib.contextmanager
def served(kind: Kind, make: Callable[..., Stack], *, workers: int) -> Iterator[Any]:
    """Serve all sites that a kind can run."""
    sites = ["plain", "starlette", "wsgi", *(["django"] if has_django(kind) else [])]
    modules = {"plain": "plain", **{name: f"{name}_site" for name in sites if name != "plain"}}
    mounts = [("--mount", f"/{name}={APPS}.streams.{it}:app") for name, it in modules.items()]
    stack = make(
        f"{APPS}.streams.plain:app",
        app_dir=REPOSITORY,
        serve_args=(
            *("--workers", str(workers), "--control-socket", "none"),
            *("--stream-drain-seconds", str(STREAM_DRAIN_SECONDS)),
            *itertools.chain(*mounts),
        ),
        socket=kind.socket,
        loop=kind.loop,
        environment={"PYTHONWARNINGS": "always"},
        graceful_timeout_seconds=GRACEFUL_SECONDS,
    )
    if stack.log.wait_ended(0):
        stack.start()  # a test before this one has stopped it
    yield stack


class Reader:
    """A client of a stream that has begun."""

    def __init__(self, stack: Stack, row: Row) -> None:
        where = urlsplit(stack.url)
        assert where.hostname
        self._connection = http.client.HTTPConnection(
            where.hostname, where.port, timeout=PATIENCE_SECONDS
        )
        self._connection.request("GET", row.path)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self.received = b""
        while b"data: open\n\n" not in self.received:
            piece = self._answer.read1()
            assert piece, self.received
            self.received += piece

    def read_rest(self) -> bool:
        """Read to the end; whether it is a complete one."""
        try:
            self.received += self._answer.read()
        except http.client.IncompleteRead as error:
            self.received += error.partial
            return False
        finally:
            self._connection.close()
        return True


def check(
    stack: Stack,
    kind: Kind,
    end: Callable[[], object],
    over: Callable[[], object],
    soon_seconds: float = SOON_SECONDS,
) -> None:
    """Open all streams and a WebSocket, have the server end, and see what becomes of each."""
    rows = [row for row in ROWS if has_django(kind) or not row.is_for_asyncio]
    with FrameClient(stack.url, "/plain/chat") as chat:
        chat.send(TEXT, b"open")
        assert chat.receive_message() == "open"
        readers = {row: Reader(stack, row) for row in rows}
        began = time.monotonic()
        end()
        assert chat.receive_message() == RESTARTING
        chat.send(CLOSE, RESTARTING.payload)
        # Those that are told at once are over before the others are told.
        for row, reader in sorted(readers.items(), key=lambda item: item[0].is_late):
            assert reader.read_rest() is row.is_whole, row
            seconds = time.monotonic() - began
            if row.is_late:
                assert seconds >= STREAM_DRAIN_SECONDS - 0.1, row
            goodbye = b"goodbye\n\n" if not row.is_late else b"goodbye\n"
            assert reader.received.endswith(goodbye) is row.is_whole, row
    over()
    assert time.monotonic() - began < soon_seconds
    for row in rows:
        stack.wait_for_event(event_with(event="app", path=row.path, told=row.told))
    stack.wait_for_event(event_with(event="app", path="/plain/chat", told="disconnect 1012"))
    levels = {"warning", "error", "critical"}
    assert [event for event in stack.log_events() if event.get("level") in levels] == []


@on_each_loop
@pytest.mark.parametrize("workers", [0, 1], ids=["unsupervised", "forked"])
def test_streams_end_at_a_stop(
    kind: Kind, workers: int, local_stack: Callable[..., LocalStack]
) -> None:
    with served(kind, local_stack, workers=workers) as stack:
        bridge = stack.bridge
        check(
            stack,
            kind,
            lambda: bridge.signal(signal.SIGTERM),
            lambda: bridge.wait_ended(PATIENCE_SECONDS),
        )
        assert stack.stop() == 0
        # Trio's ResourceWarning is about a generator that Starlette leaves to the garbage collector.
        assert_clean(stack, but="ResourceWarning")


@on_each_loop
def test_streams_end_at_a_reload(kind: Kind, local_stack: Callable[..., LocalStack]) -> None:
    with served(kind, local_stack, workers=1) as stack:

        def wait_replaced() -> None:
            stack.wait_for_event(event_with(event="generation has ended", generation=1))

        check(stack, kind, lambda: os.kill(stack.pid, signal.SIGHUP), wait_replaced)
        reader = Reader(stack, ROWS[0])  # who comes back is served by the new worker
        assert stack.stop() == 0
        assert reader.read_rest()
        assert_clean(stack, but="ResourceWarning")


@pytest.mark.parametrize("kind", KINDS_IN_COMPOSE, ids=lambda kind: f"{kind.loop}-{kind.place}")
def test_streams_end_at_a_stop_by_compose(
    kind: Kind, compose_stack: Callable[..., ComposeStack]
) -> None:
    """Of the whole project: Nginx is there while the bridge says goodbye."""
    with served(kind, compose_stack, workers=1) as stack, ThreadPoolExecutor() as pool:
        stopping: list[Future[str]] = []
        check(
            stack,
            kind,
            lambda: stopping.append(pool.submit(stack.compose, "stop")),
            lambda: stopping.pop().result(PATIENCE_SECONDS),
            SOON_SECONDS + ENGINE_SECONDS,
        )
        for container in (stack.bridge, stack.nginx):
            state = container.attrs["State"]
            assert (state["Running"], state["ExitCode"]) == (False, 0)
        assert_clean(stack, but="ResourceWarning")
