"""One HTTP request of a WSGI application without a server: what the client, the application and the log see of it."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from tests.log_events import PATIENCE_SECONDS, LogEvents
from tests.plain_vars import VARS
from tests.ways import socket_pair
from uwsgibridge import Settings
from uwsgibridge.connection.connection import SCRATCH_BYTES, Connection
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.hosts.streams import OpenStreams
from uwsgibridge.hosts.turn import Turn
from uwsgibridge.hosts.wsgi.context import ExchangeContext
from uwsgibridge.hosts.wsgi.error_stream import ErrorStream
from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
from uwsgibridge.hosts.wsgi.running import Running
from uwsgibridge.hosts.wsgi.serving import make_queue, make_thread
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.protocol.packet import PacketLimits, encode_packet
from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.telemetry.overload import OverloadLog
from uwsgibridge.telemetry.reporting import Reporter


class Conversations:
    """A thread of a host, which runs requests when it is told to, in the thread of the caller.

    Args:
        app: the application.
        logs_access: whether there is an access log.
        frontend_buffer_bytes: what a larger head is warned of for.
        offload: has Nginx send files.
        write_timeout_seconds: how long the client may take for a piece of the answer.

    Attributes:
        accesses: what was recorded for the access log: status, size of the body, and whether it was complete.
        concluded: the exchanges that Python has run, or a part of them.
        in_flight: the requests that hold a place.
        woken: how often the listener was woken.
    """

    def __init__(
        self,
        app: Any,
        *,
        logs_access: bool = False,
        frontend_buffer_bytes: int = 4096,
        offload: Offload | None = None,
        write_timeout_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.events = LogEvents()
        self.accesses: list[tuple[int, int, bool]] = []
        self.concluded: list[WsgiExchange] = []
        self.running: Running = {}
        self.counters = Counters()
        self.flights = FlightRecorder()
        self.woken = 0
        self.admission: Admission[Connection] = Admission(10, 9, self._wake)
        logger = make_logger("json", "debug", stream=self.events)
        reporter = Reporter(
            None, logger, self.counters, frontend_buffer_bytes, self if logs_access else None
        )
        self.overload = OverloadLog(logger, self.counters, lambda _seconds, _function: None)
        errors = ErrorStream(reporter.log)
        self.context = ExchangeContext(
            app=app,
            base_environ={"wsgi.version": (1, 0), "wsgi.errors": errors},
            errors=errors,
            reporter=reporter,
            lingering=cast("Any", SimpleNamespace(close=self._close, abort=self._abort)),
            offload=offload,
            streams=OpenStreams(),
            recorders=Recorders(self.counters.memory, "/"),
            release=self._release,
            settings=Settings(
                write_timeout_seconds=write_timeout_seconds,
                frontend_buffer_bytes=frontend_buffer_bytes,
            ),
            logs_access=reporter.logs_access,
        )
        errors.serve_thread()
        self._queue = make_queue()
        self.thread = make_thread(
            self._queue,
            self.context,
            self.running,
            self._conclude,
            Turn(self.context.settings, self.overload, self.context),
            admission=self.admission,
            flights=self.flights,
        )

    @property
    def in_flight(self) -> set[Connection]:
        return self.admission.in_flight

    def ask(
        self,
        variables: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        family: str = "unix",
        send_buffer_bytes: int = 0,
        leaves: bool = False,
        reads: Callable[[socket.socket], None] | None = None,
    ) -> tuple[bytes, bool]:
        """Run one request; give what the client got, and whether the connection was broken.

        Args:
            variables: of the packet, beside `VARS`.
            body: of the request, which comes with the packet.
            family: unix or tcp.
            send_buffer_bytes: of the connection; 0 leaves it as it is.
            leaves: whether the client closes the connection before the application is called.
            reads: called with the client's end, to read from in another thread meanwhile.
        """
        accepted, peer = socket_pair(family)
        with peer:
            if send_buffer_bytes:
                size = struct.pack("i", send_buffer_bytes)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            length = {"CONTENT_LENGTH": str(len(body))} if body else {}
            peer.sendall(encode_packet({**VARS, **(variables or {}), **length}) + body)
            connection = Connection(accepted, is_unix=family == "unix")
            self.flights.await_packet()
            connection.receive_packet(self.flights.scratch, PacketLimits(), 0)
            if leaves:
                peer.close()
            if reads is not None:
                reads(peer)
            self.in_flight.add(connection)
            self._queue.put(connection)
            assert self.thread.serve()
            assert self.thread.exchange is None
            assert not self.running
            return (b"", False) if leaves or reads else read_all(peer)

    def write(self, access: Access) -> None:
        """Record for the access log."""
        assert self.in_flight  # a drain waits for no request that has left its place
        self.accesses.append((access.status, access.body_bytes, access.complete))

    def _conclude(self, exchange: WsgiExchange) -> None:
        self.concluded.append(exchange)
        assert self.running.pop(exchange)
        if self.context.logs_access:
            exchange.log_access()
        self._release(exchange.connection)

    def _close(self, connection: Connection) -> None:
        assert connection.close()

    def _abort(self, connection: Connection, *, is_seen: bool = False) -> None:
        assert connection.abort() or is_seen

    def _release(self, connection: Connection) -> None:
        self.flights.end(connection)
        self.admission.release(connection)

    def _wake(self) -> None:
        self.woken += 1


def read_all(peer: socket.socket) -> tuple[bytes, bool]:
    """Read to the end; tell whether that was a reset."""
    peer.settimeout(PATIENCE_SECONDS)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := peer.recv(SCRATCH_BYTES):
            received += piece
        return received, False
    return received, True
