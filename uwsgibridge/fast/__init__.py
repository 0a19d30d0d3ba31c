"""Chooses how requests are handled: with the accelerator, or in Python alone.

The accelerator is `_fast.c` with its parts, the headers beside it. It is built where a compiler is at hand when the package is installed. Its
functions do the plain cases of what each request needs. In other cases they return None before they have changed
anything, and their callers do the work in Python. `receive_request`, `take_and_close`, `accept` and `Intake` tell their
other cases in other ways, as `Accelerator` says. So each rule stands in Python, and everything works without the accelerator,
more slowly.

`UWSGIBRIDGE_PURE=1` in the environment switches the accelerator off. This is no option of `uwsgibridge.config`,
because a process makes the choice once, as it imports its modules.
"""

from __future__ import annotations

import importlib
import os
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

PURE_VARIABLE: Final = "UWSGIBRIDGE_PURE"

# The version of the functions below. A module that was built from another state of the source may have others.
INTERFACE: Final = 22

_FALSE_WORDS: Final = frozenset({"", "0", "false", "no", "off"})

_PacketT = TypeVar("_PacketT", bound=tuple[Any, ...])
_RequestT = TypeVar("_RequestT")


class Descriptor(Protocol):
    """An accepted socket: the methods of `socket.SocketType` that a connection needs. None of them waits."""

    @property
    def family(self) -> int:
        """The address family."""

    @property
    def type(self) -> int:
        """The kind of socket."""

    def fileno(self) -> int:
        """Give the number of the descriptor; -1 once it is closed."""

    def recv_into(self, buffer: memoryview, nbytes: int, flags: int, /) -> int:
        """Receive into a buffer; 0 for `nbytes` fills the buffer."""

    def recv(self, nbytes: int, flags: int, /) -> bytes:
        """Receive up to `nbytes` bytes."""

    def recv_keeping_last(self, nbytes: int, /) -> bytes:
        """Receive up to `nbytes` bytes; where all are there, the last one stays in the kernel as well."""

    def send(self, data: bytes | memoryview, flags: int, /) -> int:
        """Send what fits; give the number of bytes that were sent."""

    def send_pair(self, first: bytes | memoryview, second: bytes | memoryview, /) -> int:
        """Send what fits of two buffers, one after the other; give the number of bytes that were sent."""

    def shutdown(self, how: int, /) -> None:
        """Shut one or both directions down."""

    def setsockopt(self, level: int, optname: int, value: bytes, /) -> None:
        """Set an option of the socket."""

    def close(self) -> None:
        """Close the socket; do nothing where it is closed."""


class Intake(Protocol):
    """Accepts the connections of one listening socket in batches, and hands plain requests to their host.

    What it does of each connection is what `Acceptor` and `Listener` do. Where a connection brings anything but a
    whole plain request, or its host has no room, it calls `take` before it has counted or recorded anything.
    """

    def accept(self, listening: int, most: int, waits: int, /) -> int:
        """Accept a batch of connections.

        Args:
            listening: the descriptor of the socket.
            most: how many to accept at the most.
            waits: how often to wait 0.3 ms for a further connection, where some have come and no more wait.

        Returns:
            The number of connections, which is less than `most` where no more wait, or where accept(2) has failed.

        Raises:
            OSError: accept(2) has failed, now or at the end of the call before.
        """

    @property
    def failed(self) -> int:
        """The errno with which accept(2) has failed at the end of a batch, and which the next call raises; 0 for none."""


class HttpPlan(Protocol):
    """What the accelerator knows of the HTTP exchanges of a host."""


class Accelerator(Protocol):
    """The functions of `_fast.c`, which describes them, and the cases that they leave to Python."""

    @property
    def INTERFACE(self) -> int:  # noqa: N802 - a constant
        """The version of the functions in the source that the module was built from."""

    @property
    def SOURCE_DIGEST(self) -> str:  # noqa: N802 - a constant
        """The checksum of the source that the module was built from."""

    @property
    def ConnectionFields(self) -> type:  # noqa: N802 - a class
        """The base of `Connection`."""

    @property
    def WsgiFields(self) -> type:  # noqa: N802 - a class
        """The base of `WsgiAnswer`."""

    def Recorder(self, cells: memoryview, bounds: tuple[float, ...], /) -> Any:  # noqa: N802 - a class
        """Make what records requests: `uwsgibridge.figures.recorder` has its methods."""

    def Handover(self) -> Any:  # noqa: N802 - a class
        """Make a queue that has the methods `put`, `get` and `get_nowait` of `queue.SimpleQueue`."""

    def WsgiThread(self, **arguments: object) -> Any:  # noqa: N802 - a class
        """Make what a thread of a WSGI host serves by: `uwsgibridge.hosts.wsgi.serving` has its arguments."""

    def Intake(  # noqa: N802 - a class
        self,
        *,
        connection_type: type,
        request_type: type,
        family: int,
        keeps_input: bool,
        max_vars_bytes: int,
        max_vars: int,
        max_body_bytes: int,
        max_requests: int,
        flights: object,
        arrived: memoryview,
        host: object,
        select: Callable[[Any], object],
        take: Callable[[Any, int | None], None],
        listening: int,
        file_prefixes: tuple[str, ...],
        looks: bool,
        admits: Callable[[int], bool] | None,
    ) -> Intake:
        """Make an intake.

        Args:
            connection_type: derived from `ConnectionFields`.
            request_type: has the slots `vars` and `content_length`.
            family: the address family of the socket.
            keeps_input: whether packets are peeked at.
            max_vars_bytes: what a packet may have; `take` is called for a larger one.
            max_vars: how many vars it may have; likewise.
            max_body_bytes: what a body may have; likewise. 0 is no limit.
            max_requests: `take` is called for the request with this number; 0 for none.
            flights: the `FlightRecorder`.
            arrived: a cell of eight bytes, which counts requests.
            host: gets all requests; None where `select` chooses.
            select: gives the host of a request, or None.
            take: called with a connection, and with the number of bytes that were received from it into the slot;
                None where nothing was.
            listening: the descriptor of the socket; of another one in its place, nothing is accepted.
            file_prefixes: `take` is called for GET and HEAD of a path at or below one of them.
            looks: `take` is called for a request whose client has closed the connection, as far as that was looked at.
            admits: called with the descriptor of each accepted connection, which is closed at once where it gives False;
                None where all are served.

        Raises:
            OSError: the descriptor is closed.
        """

    @property
    def HttpFields(self) -> type:  # noqa: N802 - a class
        """The base of `hosts.asgi.http.HttpExchange`, which calls the application in the plain case."""

    @property
    def HttpPlan(self) -> Callable[..., HttpPlan]:  # noqa: N802 - a class
        """What `HttpFields` needs of a host; `hosts.asgi.http_plan` makes it."""

    @property
    def Caller(self) -> type:  # noqa: N802 - a class
        """The type of `receive` and `send`, as an application gets them."""

    @property
    def FirstStep(  # noqa: N802 - a class
        self,
    ) -> Callable[[Coroutine[Any, Any, None], Context, Callable[[], object]], Awaitable[None]]:
        """Awaits a coroutine whose first step runs in a context.

        The third argument is called where that step does not end the coroutine. Its further steps run in the
        context of whoever does them.
        """

    @property
    def Step(self) -> type:  # noqa: N802 - a class
        """The type of what `receive` and `send` give: a coroutine, done after its first step in the plain case."""

    def parse_packet(
        self,
        buffer: memoryview,
        max_vars_bytes: int,
        max_vars: int,
        packet_type: type[_PacketT],
        /,
    ) -> _PacketT | None:
        """Parse a whole packet."""

    def settle_vars(self, variables: dict[str, str], max_body_bytes: int, /) -> int | None:
        """Clean the vars of a request in place; give the length of its body."""

    def seconds_since_sent(self, variables: dict[str, str], now: float, /) -> float | None:
        """Tell how long ago the frontend has sent a request; None where it does not say so."""

    def http_scope(
        self,
        variables: dict[str, str],
        header_names: dict[str, bytes | None],
        http_versions: dict[str, str],
        asgi: dict[str, str],
        /,
    ) -> dict[str, Any] | None:
        """Build the scope of a request."""

    def encode_head(
        self,
        line: bytes,
        headers: object,
        kinds: dict[bytes, int],
        stream_kinds: dict[bytes, int],
        /,
    ) -> tuple[bytes, int | None, int, bool, bool] | None:
        """Encode the head of an answer."""

    def encode_pairs(self, headers: object, /) -> list[tuple[bytes, bytes]] | None:
        """Encode the headers of a WSGI application."""

    def environ(
        self, variables: dict[str, str], base: dict[str, Any], server_software: str, /
    ) -> dict[str, Any] | None:
        """Build an environ without its input."""

    def accept(self, listening: int, family: int, /) -> Descriptor:
        """Accept a connection, which is non-blocking; raise BlockingIOError where none waits."""

    def receive_request(
        self,
        connection: object,
        scratch: memoryview,
        flags: int,
        max_vars_bytes: int,
        max_vars: int,
        max_body_bytes: int,
        request_type: type[_RequestT],
        /,
    ) -> tuple[_RequestT, int, bytes] | int | None:
        """Receive what has arrived, and make a request of it if it is a whole one.

        Else give the number of bytes that were received; None, with nothing received, where the connection is not
        one that `accept` has given.
        """

    def take_and_close(self, connection: object, count: int, /) -> bool:
        """Read the bytes that were peeked at, and close the connection.

        False, with nothing done, where the connection is not one that `accept` has given.
        """

    def access_line(
        self,
        variables: dict[str, str],
        now: str,
        status: int,
        body_bytes: int,
        complete: bool,
        queue_seconds: float,
        seconds: float,
        worker: int,
        request_id: str,
        /,
    ) -> str | None:
        """Make a line of the access log as JSON, without its end."""

    def SentLine(  # noqa: N802 - a class
        self,
        sources: tuple[str, ...],
        name: Callable[[Any], str],
        traces: object,
        clock: Callable[[], str],
        buffer: object,
        write: Callable[[bytes], object],
        otherwise: Callable[[Any, int, int, float, float], None],
        /,
    ) -> Callable[[Any, int, int, float, float], None]:
        """Make what writes the line of an answer that was sent as a whole, as `telemetry.access.SentWriter`.

        Args:
            sources: names of vars with an id, the first one first.
            name: gives a request its id, where those have none.
            traces: tells by ``are_kept`` whether a line may have more than an id.
            clock: gives the present time as a line has it.
            buffer: a `LineBuffer`; as long as it is idle, lines are written beside it. None for no such buffer.
            write: takes a line with its end, in other cases.
            otherwise: writes a line that is not plain.
        """

    def write_at_once(self, descriptor: int, data: bytes | memoryview, /) -> int:
        """Write what can be written without a wait; raise as `os.pwritev` with ``RWF_NOWAIT``."""

    def begin_file(
        self, descriptor: int, offset: int, whole_bytes: int, first_bytes: int, /
    ) -> tuple[int, bytes] | None:
        """Tell how many bytes a regular file has from an offset on, and read the first ones, or all if they are few."""


def _choose(environ: Mapping[str, str]) -> tuple[Accelerator | None, str]:
    """Give the accelerator, or None, and say in a few words why."""
    if environ.get(PURE_VARIABLE, "").strip().lower() not in _FALSE_WORDS:
        return None, f"off ({PURE_VARIABLE})"
    try:
        found = cast("Accelerator", importlib.import_module("uwsgibridge.fast._fast"))
    except ImportError:
        return None, "not built"
    if found.INTERFACE != INTERFACE or _digest() not in {found.SOURCE_DIGEST, ""}:
        return None, "built from another version"
    return found, "in use"


def _digest() -> str:
    """Give the CRC-32 of the source, such as that of a checkout which has changed since it was installed.

    Empty where the source is not there; what says its version is then `INTERFACE` alone.
    """
    try:
        # No cryptographic one: nobody forges a source, and OpenSSL comes with `hashlib`, which is 6 ms of each start.
        digest = zlib.crc32((source := Path(__file__).with_name("_fast.c")).read_bytes())
        for part in sorted(source.parent.glob("*.h")):
            digest = zlib.crc32(part.read_bytes(), digest)
        return f"{digest:08x}"
    except OSError:
        return ""


accelerator, accelerator_state = _choose(os.environ)
"""The accelerator, None where Python does all; and how that is, for people."""
