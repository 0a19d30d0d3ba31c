"""What publishes figures, in the trio loop of a test."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.figures.snapshots import service, worker
from tests.log_events import PATIENCE_SECONDS, LogEvents
from uwsgibridge.config.address import UnixAddress
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.figures.family import Family, Kind, Sample
from uwsgibridge.figures.snapshot import Snapshot
from uwsgibridge.status.sources import Sources
from uwsgibridge.telemetry.logs import Logger, make_logger


class Service:
    """A service that counts what a test says.

    Attributes:
        requests: the one counter.
        now: its state.
        fault: what collecting raises, if anything.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.now: Snapshot = service(worker(1, requests=7))
        self.fault: Exception | None = None

    async def collect(self) -> list[Family]:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        return [Family("test_requests", Kind.COUNTER, "Requests.", [Sample((), self.requests)])]

    async def snapshot(self) -> Snapshot:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        return self.now

    @property
    def sources(self) -> Sources:
        return Sources(self.collect, self.snapshot, lambda: self.now)


@pytest.fixture
def counted() -> Service:
    return Service()


@pytest.fixture
def log() -> LogEvents:
    return LogEvents()


@pytest.fixture
def logger(log: LogEvents) -> Logger:
    return make_logger("json", stream=log)


@pytest.fixture
def short() -> Iterator[Path]:
    """Give a directory whose paths are short enough for a unix socket; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


Serve = Callable[[ListeningSocket], Any]


@contextlib.asynccontextmanager
async def serving(serve: Serve, address: str) -> AsyncIterator[ListeningSocket]:
    """Serve at an address while a block runs."""
    with open_sockets([address], mode="0600", backlog=50) as [listening]:
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, listening)
                yield listening
                nursery.cancel_scope.cancel()
        assert listening.listens


async def connected(listening: ListeningSocket) -> trio.SocketStream:
    """Connect to a socket."""
    if isinstance(listening.address, UnixAddress):
        return await trio.open_unix_socket(listening.address.path)
    return await trio.open_tcp_stream(*listening.socket.getsockname()[:2])


async def received(stream: trio.SocketStream) -> bytes:
    """Receive all that comes up to the end."""
    data = b""
    async for piece in stream:
        data += piece
    return data


def settings(**values: Any) -> Settings:
    """Make settings."""
    return Settings(workers=1, **values)
