"""Writing to an accepted connection, and looking whether its peer is still there."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from functools import cache
from typing import Final

from uwsgibridge.connection.fields import ConnectionFields

# A text, since applications log what their input and output raise, and would log an empty line.
GONE: Final = "the client has gone away"

_DONTWAIT: Final = socket.MSG_DONTWAIT

_PEEK: Final = socket.MSG_DONTWAIT | socket.MSG_PEEK

# Linux doubles it, and bounds it by net.core.wmem_max (socket(7)).
_LARGE_SEND_BUFFER_BYTES: Final = 524_288

# Linux reports a peer's close also while input is unread.
_PEER_CLOSED: Final = getattr(select, "POLLRDHUP", 0)


class PeerGone(ConnectionError):
    """The frontend has closed the connection, because its client left. This is nobody's failure."""


@cache
def _default_send_buffer_bytes() -> int:
    """Tell how large the buffer of a unix socket is: net.core.wmem_default, which the operator may have raised."""
    with socket.socket(socket.AF_UNIX) as any_socket:
        return any_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


class Sending(ConnectionFields):
    """The sending part of a `Connection`."""

    __slots__ = ()

    def send(self, data: bytes | memoryview) -> int:
        """Write what fits.

        Returns:
            The number of bytes that the kernel has taken.

        Raises:
            BlockingIOError: nothing fits at the moment.
            PeerGone: the peer is gone.
        """
        try:
            try:
                return self._socket.send(data, _DONTWAIT)
            except BlockingIOError:
                if self._has_large_buffer or not self._keeps_input_in_kernel:
                    raise
                self._enlarge_send_buffer()
                return self._socket.send(data, _DONTWAIT)
        except (BrokenPipeError, ConnectionResetError):
            self.peer_gone = True
            raise PeerGone(GONE) from None

    def send_pair(self, first: bytes | memoryview, second: bytes | memoryview) -> int:
        """Write what fits of two buffers, one after the other, without joining them; otherwise as `send`."""
        try:
            try:
                return self._send_pair(first, second)
            except BlockingIOError:
                if self._has_large_buffer or not self._keeps_input_in_kernel:
                    raise
                self._enlarge_send_buffer()
                return self._send_pair(first, second)
        except (BrokenPipeError, ConnectionResetError):
            self.peer_gone = True
            raise PeerGone(GONE) from None

    def _send_pair(self, first: bytes | memoryview, second: bytes | memoryview) -> int:
        own = self._socket
        if isinstance(own, socket.SocketType):
            return own.sendmsg((first, second), (), _DONTWAIT)
        return own.send_pair(first, second)

    def has_hung_up(self) -> bool:
        """Look whether the peer has closed the connection; on other systems than Linux, unread input hides that."""
        try:
            if self._keeps_input_in_kernel:
                # The peeked bytes hide the close from recv(), but not from send().
                self._socket.send(b"", _DONTWAIT)
                return False
            if _PEER_CLOSED:
                poll = select.poll()
                poll.register(self._socket.fileno(), _PEER_CLOSED)
                return bool(poll.poll(0))
            return not self._socket.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except (OSError, ValueError):  # ValueError: poll of a closed connection
            return True

    def send_file(self, descriptor: int, offset: int, size_bytes: int) -> int:
        """Have the kernel write from a regular file.

        Returns:
            The number of bytes that were written; 0 at the end of the file.

        Raises:
            BlockingIOError: nothing fits at the moment.
            PeerGone: the peer is gone.
            OSError: sendfile(2) does not work for this file or on this system.
        """
        own = self._socket.fileno()
        # sendfile has no MSG_DONTWAIT. What the accelerator has accepted is non-blocking from the start.
        if not self._is_nonblocking and isinstance(self._socket, socket.SocketType):
            os.set_blocking(own, False)
            self._is_nonblocking = True
        try:
            try:
                return os.sendfile(own, descriptor, offset, size_bytes)
            except BlockingIOError:
                if self._has_large_buffer or not self._keeps_input_in_kernel:
                    raise
                self._enlarge_send_buffer()
                return os.sendfile(own, descriptor, offset, size_bytes)
        except (BrokenPipeError, ConnectionResetError):
            self.peer_gone = True
            raise PeerGone(GONE) from None

    def _enlarge_send_buffer(self) -> None:
        """Have the kernel hold more of an answer that does not fit, as TCP does by itself.

        A unix socket is writable again only when three quarters of its buffer are free (the kernel's
        ``unix_writable``). So with a small buffer, a thread is woken often, and waits for Nginx each time.
        """
        self._has_large_buffer = True
        if _default_send_buffer_bytes() < 2 * _LARGE_SEND_BUFFER_BYTES:
            size = struct.pack("i", _LARGE_SEND_BUFFER_BYTES)
            with contextlib.suppress(
                OSError
            ):  # the next call for the socket tells what is wrong with it
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
