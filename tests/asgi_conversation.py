"""One HTTP request of an ASGI application without a server: what the client, the application and the log see of it.

The loop is none: what waits is done at once. So all of a request happens within one step of its coroutine.
"""

from __future__ import annotations

import contextvars
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from tests.log_events import LogEvents
from tests.plain_vars import VARS
from tests.ways import socket_pair
from uwsgibridge import Settings
from uwsgibridge.connection.connection import SCRATCH_BYTES, Connection
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.asgi.exchange import AsgiApplication, AsgiContext
from uwsgibridge.hosts.asgi.http import HttpExchange
from uwsgibridge.hosts.asgi.http_plan import Places, make_plan
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.hosts.streams import OpenStreams
from uwsgibridge.protocol.packet import PacketLimits, encode_packet
from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.telemetry.reporting import Reporter


class SetEvent:
    """An event that was always set: who waits for the client to leave is told so at once."""

    def set(self) -> None: ...

    async def wait(self) -> None: ...


class Conversation:
    """A request, from its packet to the end of the application's call.

    Args:
        app: the application.
        variables: of the packet.
        body: of the request, which comes with the packet.
        family: unix or tcp.
        send_buffer_bytes: of the connection; 0 leaves it as it is.
        logs_access: whether there is an access log.
        frontend_buffer_bytes: what a larger head is warned of for.
        offload: has Nginx send files.

    Attributes:
        received: what the client got; complete after `run`.
        is_broken: whether the connection was reset.
        woken: how often the listener was woken for the place of the request.
        accesses: what was recorded for the access log: status, size of the body, and whether it was complete.
    """

    def __init__(
        self,
        app: AsgiApplication,
        variables: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        family: str = "unix",
        send_buffer_bytes: int = 0,
        logs_access: bool = False,
        frontend_buffer_bytes: int = 4096,
        offload: Offload | None = None,
    ) -> None:
        self.received = b""
        self.is_broken = False
        self.woken = 0
        self.accesses: list[tuple[int, int, bool]] = []
        self.events = LogEvents()
        accepted, self.peer = socket_pair(family)
        self.peer.setblocking(True)
        if send_buffer_bytes:
            size = struct.pack("i", send_buffer_bytes)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        length = {"CONTENT_LENGTH": str(len(body))} if body else {}
        self.peer.sendall(encode_packet({**VARS, **(variables or {}), **length}) + body)
        self.connection = Connection(accepted, is_unix=family == "unix")
        scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.connection.receive_packet(scratch, PacketLimits(), 0)
        logger = make_logger("json", "debug", stream=self.events)
        self.counters = Counters()
        recorders = Recorders(self.counters.memory, "/")
        reporter = Reporter(
            None, logger, self.counters, frontend_buffer_bytes, self if logs_access else None
        )
        me = cast("Any", self)
        self.context = AsgiContext(
            app=app,
            state={"of": "lifespan"},
            loop=me,
            hangups=me,
            reporter=reporter,
            lingering=me,
            offload=offload,
            streams=OpenStreams(),
            recorders=recorders,
            recorder=recorders.make(),
            release=self._release,
            lose=self._release,
            settings=Settings(),
        )
        self.admission: Admission[Connection] = Admission(2, 1, self._wake)
        self.admission.in_flight.add(self.connection)
        places = Places(self.admission, set(), {}, [])
        self.context.plan = make_plan(self.context, places)
        self.exchange = HttpExchange(self.context, self.connection)

    def run(self) -> None:
        """Call the application, and read the answer to its end; what waits comes back at once."""
        try:
            self.begin()
        except StopIteration:
            pass
        finally:
            self._read_to_the_end()

    def begin(self) -> None:
        """Do the first step, in a context of its own, as each request has one; raises StopIteration where it is the last."""
        contextvars.Context().run(self.exchange.run().send, None)

    @property
    def outcome(self) -> tuple[object, ...]:
        """All that was seen; the log without its times."""
        said = [
            {
                key: value
                for key, value in event.items()
                if key not in {"timestamp", "exception", "request_id"}
            }
            for event in self.events.find()
        ]
        seen = (self.received, self.is_broken, self.is_released, self.accesses, said)
        return (*seen, self.exchange._life.name, self.exchange._input.name, self.exchange._gone)

    def _read_to_the_end(self) -> None:
        is_closed = self.connection.closed
        self.connection.force_close()
        try:
            while data := self.peer.recv(65_536):
                self.received += data
        except ConnectionResetError:
            self.is_broken = True
        self.peer.close()
        assert is_closed

    def _release(self, connection: Connection) -> None:
        self.admission.release(connection)

    def _wake(self) -> None:
        self.woken += 1

    @property
    def is_released(self) -> bool:
        """Whether the place of the request was given back."""
        return not self.admission.in_flight

    # The access log.

    def write(self, access: Access) -> None:
        self.accesses.append((access.status, access.body_bytes, access.complete))

    # The end of connections. All of the request has arrived.

    def close(self, connection: Connection) -> None:
        if not connection.close():
            connection.discard_arrived()
            connection.force_close()

    def abort(self, connection: Connection, *, is_seen: bool) -> None:
        assert connection.abort(), is_seen

    # The watch for clients that leave.

    def add(self, _source: object, _callback: Callable[[], None]) -> None: ...

    def remove(self, _source: object) -> None: ...

    # The loop.

    def event(self) -> SetEvent:
        return SetEvent()

    async def checkpoint(self) -> None: ...

    async def wait_writable(self, _source: object, _seconds: float) -> bool:
        self.received += self.peer.recv(1 << 20)
        return True

    def call_later(self, _seconds: float, _function: Callable[[], object]) -> Any:
        raise AssertionError("nothing takes time here")
