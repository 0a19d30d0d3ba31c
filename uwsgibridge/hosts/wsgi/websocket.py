"""One WebSocket of a WSGI application, which gets the connection itself, in a thread.

WSGI has no WebSockets. Werkzeug's server began to put the client's socket into environ. simple-websocket, on which
flask-sock and Flask-SocketIO stand, speaks the whole protocol on that socket, beginning with the answer to the
handshake. So this module passes the library's bytes on as they are. It reads along only to put a close frame between
two of the library's frames.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from enum import Enum, auto
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.exchange import record_own_answer
from uwsgibridge.hosts.exchange_states import Step, follow
from uwsgibridge.hosts.wsgi.context import ExchangeContext
from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
from uwsgibridge.protocol.websocket import (
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
    check_handshake,
)
from uwsgibridge.protocol.websocket_frames import (
    MAX_CONTROL_BYTES,
    Opcode,
    SentFrames,
    encode_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import OptExcInfo, ReadableBuffer


# The key of environ that simple-websocket looks at first.
SOCKET_KEY: Final = "werkzeug.socket"

# How long to wait, after the application's end, for the client's close frame and the library's answer to it.
_CLOSE_SECONDS: Final = 5.0

# How long the library's own thread may take to answer the client's close frame, after it has told the application.
_ANSWER_SECONDS: Final = 1.0

# How many bytes a client's short frame has before its payload: two, and the mask.
_SHORT_HEAD_BYTES: Final = 6

# Exceptions by which libraries end a request that they have served by its socket.
_ENDS_OF_LIBRARIES: Final = (ConnectionError, StopIteration)


class _Stage(Enum):
    """Who uses the connection."""

    REQUEST = auto()  # an answer in place of the handshake is still possible
    TUNNEL = auto()  # the application's library has used the socket
    OVER = auto()


class TunnelSocket(socket.socket):
    """The socket that an application gets: blocking, with a descriptor of its own.

    `send` sends all of the data, because simple-websocket does not look how much of a frame was sent. It waits for
    room no longer than `--write-timeout-seconds`.

    Args:
        connection: to the frontend; the exchange owns it.
        write_timeout_seconds: how long a client may read nothing.
        used: called before the first use of the socket.
    """

    def __init__(
        self, connection: Connection, write_timeout_seconds: float, used: Callable[[], None]
    ) -> None:
        super().__init__(fileno=os.dup(connection.fileno()))
        self.setblocking(True)  # also where the application has set a default timeout
        self._connection = connection
        self._seconds = write_timeout_seconds
        self._used: Callable[[], None] | None = used
        self._sending = threading.Lock()
        self._sent: SentFrames | None = SentFrames()
        self._waiting_close = b""
        self._is_closed = threading.Event()
        self._last_received = b""

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send all of the data."""
        self.sendall(data, flags)
        return memoryview(data).nbytes

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send all of the data."""
        self._begin()
        view = memoryview(data).cast("B")
        with self._sending:
            self._send_slowly(view, flags)
            if self._sent is not None:
                self._sent.feed(view)
            self._send_waiting_close()

    def recv(self, *arguments: Any) -> bytes:
        """Receive bytes; empty at the end."""
        self._begin()
        received = super().recv(*arguments)
        self._last_received = received or self._last_received
        return received

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        """Receive into a buffer; 0 at the end."""
        self._begin()
        return super().recv_into(*arguments, **named)

    def dup(self) -> socket.socket:  # type: ignore[override] # a plain socket
        """Give a plain socket for the connection; what it sends is not read along."""
        self._stop_reading_along()
        return socket.socket(fileno=os.dup(self.fileno()))

    def detach(self) -> int:
        """Give the descriptor away; what is sent on it is not read along."""
        self._stop_reading_along()
        self._is_closed.set()
        return super().detach()

    def makefile(self, *arguments: Any, **named: Any) -> Any:
        """Make a file of the socket; `send` sends what is written to it."""
        self._begin()
        return super().makefile(*arguments, **named)

    def close(self) -> None:
        """Close the socket; the connection stays open as long as the request lasts."""
        super().close()
        self._is_closed.set()

    def wait_closed(self, seconds: float) -> None:
        """Wait until the library has closed the socket, which it does when the client has."""
        self._is_closed.wait(seconds)

    def wait_for_answer(self) -> None:
        """Give the library time to answer the client's close frame, if that seems to have come.

        simple-websocket tells the application of the close before its thread has sent the answer.
        """
        if _ends_with_close(self._last_received):
            self._is_closed.wait(_ANSWER_SECONDS)

    def send_close(self, code: int, reason: str) -> None:
        """Send a close frame, now or after the frame that is being sent; from any thread.

        Nothing is sent where the library has sent a close frame itself, or may have done so.
        """
        self._waiting_close = encode_frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode())
        if self._sending.acquire(blocking=False):
            try:
                self._send_waiting_close()
            finally:
                self._sending.release()

    def forget_request(self) -> None:
        """Forget the request: remove all references that lead back to it."""
        self._used = None

    def _send_waiting_close(self) -> None:
        sent = self._sent
        if self._waiting_close and sent is not None and sent.may_close:
            frame, self._waiting_close = self._waiting_close, b""
            sent.feed(memoryview(frame))
            with contextlib.suppress(OSError):  # the client is gone, or does not read
                self._connection.send(frame)  # the library may have closed this socket

    def _send_slowly(self, rest: memoryview, flags: int) -> None:
        deadline = monotonic() + self._seconds
        while True:
            try:
                sent = super().send(rest, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            rest = rest[sent:]
            if not rest:
                return
            if sent:
                deadline = monotonic() + self._seconds
            poll = select.poll()
            poll.register(self.fileno(), select.POLLOUT)
            if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
                self._stop_reading_along()  # in the middle of a frame
                raise TimeoutError(
                    "the client does not take what is sent (--write-timeout-seconds)"
                )

    def _begin(self) -> None:
        used, self._used = self._used, None
        if used is not None:
            used()

    def _stop_reading_along(self) -> None:
        self._begin()
        self._sent = None


class WsgiWebSocket(WsgiExchange):
    """Calls a WSGI application once, with the socket of its client.

    Args:
        context: shared by the requests of the host.
        connection: the connection with its request; owned from now on, and released at the end.
    """

    _stage = _Stage.REQUEST
    _socket: TunnelSocket | None = None
    _is_restarting = False
    _has_caught_failure = False

    def __init__(self, context: ExchangeContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self._stage_lock = threading.Lock()

    def _release(self) -> None:
        """Free the place, after the line of the access log: a drain waits for no request without one."""
        if self._context.logs_access:
            self.log_access()
        self._context.release(self.connection)

    def restart(self) -> None:
        """Close with 1012: the server is stopping, and the client may connect again."""
        self._is_restarting = True
        if self._socket is not None and self._stage is _Stage.TUNNEL:
            self._socket.send_close(CLOSE_SERVICE_RESTART, "the server is restarting")

    def cut(self) -> None:
        """End the connection while the application uses it, which notices at once; from any thread."""
        with self._stage_lock:
            if self._stage is not _Stage.OVER:
                self.connection.hang_up()

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        /,
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """Set the head of an answer in place of the handshake; later heads are dropped."""
        if self._stage is _Stage.REQUEST:
            return super().start_response(status, headers, exc_info)
        # A framework that has caught a failure answers with such a status.
        self._has_caught_failure = status[:1] == "5"
        return _go_nowhere

    def _call_application(self) -> None:
        check_handshake(self.request)
        environ = self._environ()
        context = self._context
        environ[SOCKET_KEY] = self._socket = TunnelSocket(
            self.connection, context.settings.write_timeout_seconds, self._begin_tunnel
        )
        try:
            iterable = context.app(environ, self.start_response)
            try:
                if self._stage is _Stage.REQUEST:
                    self._send(iterable)
                    self._end(complete=True)
            finally:
                close = getattr(iterable, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            if self._stage is _Stage.REQUEST:
                raise
            self._say_end(error)
        else:
            self._close_for_library()
        finally:
            self._end_tunnel(self._socket)

    def _begin_tunnel(self) -> None:
        self._stage = _Stage.TUNNEL
        self.connection.begin_tunnel()
        self._has_written = True
        # The access log shows 101, not the status of an answer that nobody gets.
        self._failure_status = 101
        record_own_answer(self.recorder, self.connection, 101)
        if self._is_restarting and self._socket is not None:
            self._socket.send_close(CLOSE_SERVICE_RESTART, "the server is restarting")

    def _say_end(self, error: BaseException) -> None:
        """Report what the application has raised, unless its library ends requests so."""
        if not isinstance(error, _ENDS_OF_LIBRARIES) and not self._is_restarting:
            self._has_caught_failure = True
            self._context.reporter.websocket_failed(self.request, error, outcome="closed with 1011")
        self._close_for_library()

    def _close_for_library(self) -> None:
        """Send a close frame, if the application's library has sent none."""
        assert self._socket is not None
        if self._has_caught_failure:
            self._socket.send_close(CLOSE_INTERNAL_ERROR, "the application failed")
        else:
            self._socket.wait_for_answer()
            self._socket.send_close(CLOSE_NORMAL, "")

    def _end_tunnel(self, tunnel: TunnelSocket) -> None:
        """Wait for the client's close, and end the connection; the library may be reading as well."""
        if self._stage is _Stage.TUNNEL:
            tunnel.wait_closed(_CLOSE_SECONDS)
        with self._stage_lock:
            was, self._stage = self._stage, _Stage.OVER
            if was is _Stage.TUNNEL:
                self.connection.hang_up()
        if was is _Stage.TUNNEL:
            with self._context.end_lock:
                self._life = follow(Step.END, self._life)
            self.connection.discard_arrived()  # with unread input, the close would be a reset
            self.connection.force_close()
        tunnel.forget_request()
        tunnel.close()
        self._socket = None


def _go_nowhere(_data: bytes) -> None:
    """Replace PEP 3333's `write` where the socket was used: drop the data."""


def _ends_with_close(received: bytes) -> bool:
    """Whether received bytes may end with the client's close frame (RFC 6455, section 5.5.1), its last frame."""
    return any(
        received[start] == 0x80 | Opcode.CLOSE
        and received[start + 1] == 0x80 | len(received) - start - _SHORT_HEAD_BYTES
        for start in range(
            max(0, len(received) - _SHORT_HEAD_BYTES - MAX_CONTROL_BYTES),
            len(received) - _SHORT_HEAD_BYTES + 1,
        )
    )
