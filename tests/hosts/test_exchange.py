"""What is answered before an exchange has begun: the answer, its line, and the place that is free again."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from tests.raw_client import packet
from uwsgibridge.connection.connection import SCRATCH_BYTES, Connection
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.hosts.exchange import answer_instead
from uwsgibridge.protocol.packet import PacketLimits
from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.telemetry.reporting import Reporter

ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Retry-After: 1\r\nContent-Length: 39\r\n\r\nThe server can't run this request now.\n"
)


class Lingering:
    """Ends connections at once."""

    def close(self, connection: Connection) -> None:
        connection.close()


class AccessLog:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[Access] = []

    def write(self, access: Access) -> None:
        self.written.append(access)


@dataclass
class Ending:
    """What a host gives to its exchanges."""

    reporter: Reporter
    recorders: Recorders
    released: list[Connection] = field(default_factory=list)
    lingering: LingeringClose = field(default_factory=lambda: cast("LingeringClose", Lingering()))

    @property
    def release(self) -> Callable[[Connection], None]:
        return self.released.append


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection with its request, and the client's end."""
    ours, theirs = socket.socketpair()
    theirs.sendall(packet("/late"))
    with theirs:
        accepted = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, ours.detach())
        connection = Connection(accepted, is_unix=True)
        connection.receive_packet(memoryview(bytearray(SCRATCH_BYTES)), PacketLimits(), 0)
        yield connection, theirs
        connection.force_close()


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "gone"])
def test_request_that_nothing_is_left_to_run(
    pair: tuple[Connection, socket.socket], *, is_there: bool
) -> None:
    connection, client = pair
    access_log, counters = AccessLog(), Counters()
    reporter = Reporter(None, make_logger("json", stream=io.StringIO()), counters, 4096, access_log)
    ending = Ending(reporter, Recorders(counters.memory, "/"))
    if not is_there:
        client.close()

    answer_instead(ending, connection, reporter.not_run(connection.request))

    assert connection.closed
    assert ending.released == [connection]
    assert counters.refused == {"stopping": 1}
    (access,) = access_log.written
    assert access.request.path == "/late"
    assert access.complete is is_there
    assert (access.status, access.body_bytes) == ((503, 39) if is_there else (0, 0))
    if is_there:
        assert client.recv(1000) == ANSWER
        assert client.recv(1000) == b""
