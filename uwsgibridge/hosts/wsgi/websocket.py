"""One WebSocket of a WSGI application: the connection itself is its application's, in a thread.

WSGI has no WebSockets. Werkzeug's server began to put the client's socket into environ, and
simple-websocket, with flask-sock and Flask-SocketIO on top of it, speaks the protocol on that socket by
itself, from the handshake's answer on. So what is written to it passes through here as it is; it is
followed only so far that a close frame can be put between two of its frames.
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
from uwsgibridge.hosts.exchange_states import Step, follow
from uwsgibridge.hosts.wsgi.context import ExchangeContext
from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
from uwsgibridge.protocol.errors import ProtocolError
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


# Where simple-websocket looks first.
SOCKET_KEY: Final = "werkzeug.socket"

# After the application's end, for the client's close frame and for what its library does then.
_CLOSE_SECONDS: Final = 5.0

# For the library's own thread to answer the client's close frame, after it has told the application.
_ANSWER_SECONDS: Final = 1.0

# Bytes of a client's frame before its payload where that is short: two, and the mask.
_SHORT_HEAD_BYTES: Final = 6

# What libraries raise to end a request that they have served by its socket.
_ENDS_OF_LIBRARIES: Final = (ConnectionError, StopIteration)


class TooManyWebSockets(ProtocolError):
    """A WSGI application has as many WebSockets as it may have."""

    status = 503
    reason = "wsgi_websockets"
    headers = ((b"Retry-After", b"1"),)


class _Stage(Enum):
    """Whose the connection is."""

    REQUEST = auto()  # an answer in place of the handshake is still possible
    TUNNEL = auto()  # the application's library has used the socket
    OVER = auto()


class TunnelSocket(socket.socket):
    """The socket that an application gets: blocking, on a descriptor of its own.

    Sending waits for room for no longer than `--write-timeout-seconds`, and takes all of the data:
    simple-websocket does not look at how much of a frame was taken.

    Args:
        connection: to the frontend; it stays somebody else's.
        write_timeout_seconds: after which a client that does not read is given up.
        used: called at the first use, before it.
    """

    def __init__(
        self, connection: Connection, write_timeout_seconds: float, used: Callable[[], None]
    ) -> None:
        super().__init__(fileno=os.dup(connection.fileno()))
        self.setblocking(True)  # whatever the application's default timeout is
        self._connection = connection
        self._seconds = write_timeout_seconds
        self._used: Callable[[], None] | None = used
        self._sending = threading.Lock()
        self._sent: SentFrames | None = SentFrames()
        self._last_words = b""
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
            self._say_last_words()

    def recv(self, *arguments: Any) -> bytes:
        """Receive; empty at the end."""
        self._begin()
        received = super().recv(*arguments)
        self._last_received = received or self._last_received
        return received

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        """Receive into a buffer; 0 at the end."""
        self._begin()
        return super().recv_into(*arguments, **named)

    def dup(self) -> socket.socket:  # type: ignore[override] # one that is not followed
        """Give a socket of its own; what it sends is not followed."""
        self._lose_sight()
        return socket.socket(fileno=os.dup(self.fileno()))

    def detach(self) -> int:
        """Give the descriptor away; what it sends is not followed."""
        self._lose_sight()
        self._is_closed.set()
        return super().detach()

    def makefile(self, *arguments: Any, **named: Any) -> Any:
        """Make a file of it; what is written to it is sent by `send`."""
        self._begin()
        return super().makefile(*arguments, **named)

    def close(self) -> None:
        """Close; the connection stays open as long as the request lasts."""
        super().close()
        self._is_closed.set()

    def wait_closed(self, seconds: float) -> None:
        """Wait until the library has closed it, which it does when the client has."""
        self._is_closed.wait(seconds)

    def wait_for_answer(self) -> None:
        """Give the library time to answer the client's close frame, where that seems to have come.

        simple-websocket tells the application of it before its thread has sent the answer.
        """
        if _ends_with_close(self._last_received):
            self._is_closed.wait(_ANSWER_SECONDS)

    def say_last(self, code: int, reason: str) -> None:
        """Send a close frame, now or behind the frame that is being sent; from any thread.

        Nothing is sent where the library has sent one itself, or where it can't be known.
        """
        self._last_words = encode_frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode())
        if self._sending.acquire(blocking=False):
            try:
                self._say_last_words()
            finally:
                self._sending.release()

    def forget_request(self) -> None:
        """Drop what leads back to the request."""
        self._used = None

    def _say_last_words(self) -> None:
        sent = self._sent
        if self._last_words and sent is not None and sent.may_close:
            words, self._last_words = self._last_words, b""
            sent.feed(memoryview(words))
            with contextlib.suppress(OSError):  # nobody is there, or nobody reads
                self._connection.send(words)  # the library may have closed this socket

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
                self._lose_sight()  # amid a frame
                raise TimeoutError(
                    "the client does not take what is sent (--write-timeout-seconds)"
                )

    def _begin(self) -> None:
        used, self._used = self._used, None
        if used is not None:
            used()

    def _lose_sight(self) -> None:
        self._begin()
        self._sent = None


class WsgiWebSocket(WsgiExchange):
    """One call of a WSGI application with the socket of its client.

    Args:
        context: what the requests of the host share.
        connection: with its request; owned from now on, and released at the end.
    """

    _stage = _Stage.REQUEST
    _socket: TunnelSocket | None = None
    _is_restarting = False
    _has_caught_failure = False

    def __init__(self, context: ExchangeContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self._stage_lock = threading.Lock()

    def run(self) -> None:
        """Call the application, and write the line of the access log: nobody else ends this one."""
        super().run()
        if self._context.logs_access:
            self.log_access()

    def restart(self) -> None:
        """Close with 1012: the server is stopping, and the client may come back."""
        self._is_restarting = True
        if self._socket is not None and self._stage is _Stage.TUNNEL:
            self._socket.say_last(CLOSE_SERVICE_RESTART, "the server is restarting")

    def cut(self) -> None:
        """End the connection under the application, which meets its end at once; from any thread."""
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
        """Take the head of an answer in place of the handshake; what comes later goes nowhere."""
        if self._stage is _Stage.REQUEST:
            return super().start_response(status, headers, exc_info)
        # A framework that has caught a failure answers with it.
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
            self._say_last()
        finally:
            self._end_tunnel(self._socket)

    def _begin_tunnel(self) -> None:
        self._stage = _Stage.TUNNEL
        self.connection.begin_tunnel()
        self._has_written = True
        self._failure_status = 101  # what the access log shows, in place of what nobody gets
        if self._is_restarting and self._socket is not None:
            self._socket.say_last(CLOSE_SERVICE_RESTART, "the server is restarting")

    def _say_end(self, error: BaseException) -> None:
        """Tell of what the application has raised, unless that is how its library ends a request."""
        if not isinstance(error, _ENDS_OF_LIBRARIES) and not self._is_restarting:
            self._has_caught_failure = True
            self._context.reporter.websocket_failed(self.request, error, outcome="closed with 1011")
        self._say_last()

    def _say_last(self) -> None:
        """Close, where the application's library has not."""
        assert self._socket is not None
        if self._has_caught_failure:
            self._socket.say_last(CLOSE_INTERNAL_ERROR, "the application failed")
        else:
            self._socket.wait_for_answer()
            self._socket.say_last(CLOSE_NORMAL, "")

    def _end_tunnel(self, tunnel: TunnelSocket) -> None:
        """Let the client's close come, then end the connection, under a library that reads on too."""
        if self._stage is _Stage.TUNNEL:
            tunnel.wait_closed(_CLOSE_SECONDS)
        with self._stage_lock:
            was, self._stage = self._stage, _Stage.OVER
            if was is _Stage.TUNNEL:
                self.connection.hang_up()
        if was is _Stage.TUNNEL:
            with self._context.end_lock:
                self._life = follow(Step.END, self._life)
            self.connection.discard_arrived()  # or the close is a reset, and the last frame is lost
            self.connection.force_close()
        tunnel.forget_request()
        tunnel.close()
        self._socket = None


def _go_nowhere(_data: bytes) -> None:
    """Stand for PEP 3333's `write`, where the socket was used."""


def _ends_with_close(received: bytes) -> bool:
    """Whether what a client has sent may end with its close frame (RFC 6455, section 5.5.1), which is its last."""
    return any(
        received[start] == 0x80 | Opcode.CLOSE
        and received[start + 1] == 0x80 | len(received) - start - _SHORT_HEAD_BYTES
        for start in range(
            max(0, len(received) - _SHORT_HEAD_BYTES - MAX_CONTROL_BYTES),
            len(received) - _SHORT_HEAD_BYTES + 1,
        )
    )
