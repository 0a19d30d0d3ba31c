"""Sends each line of a log as a datagram, without ever waiting for who receives it.

A `LineBuffer` keeps what can't be sent. The receiver may be restarted: its socket is connected anew then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from uwsgibridge.telemetry.line_stream import say

Address: TypeAlias = str | tuple[str, int]

# How long a receiver that is not there is left alone: a daemon that restarts is away for about a second.
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0

# The receiver has closed its socket, or has not made it yet.
_AWAY: Final = frozenset({
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EDESTADDRREQ, errno.EPIPE, errno.ENOENT, errno.EBADF,
})  # fmt: skip
# Its queue is full, or the network's.
_BUSY: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


class Datagrams:
    """Sends datagrams to one receiver; a `LineOutlet`.

    Args:
        name: of the receiver, as the option has it, for what is said on standard error.
        address: a path, or host and port for UDP.
        send_large: sends what is larger than the kernel takes at once; by default its beginning is sent.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        send_large: Callable[[socket.socket, bytes], None] | None = None,
    ) -> None:
        self._socket: socket.socket | None = None
        self._name = name
        self._address = address
        self._send_large = send_large or _send_beginning
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._is_away = False
        if not isinstance(address, str):
            self._connect()

    def send(self, data: bytes | memoryview) -> int:
        """Send a datagram now.

        Returns:
            The number of its bytes; 0 where the receiver does not keep up, or is away.
        """
        line = bytes(data)
        # The name of a host is looked up by `wait` alone, since that takes time.
        if self._socket is None and not (isinstance(self._address, str) and self._connect()):
            return 0
        try:
            self._send(line)
        except OSError as error:
            if error.errno in _AWAY and isinstance(self._address, str):
                self._close()
            # Those are worth another try, which comes at once: over UDP, the error is that of the datagram before. Another
            # error is one of this datagram, and the next one may go.
            return 0 if error.errno in _BUSY | _AWAY else len(line)
        return len(line)

    def wait(self, seconds: float | None) -> bool:
        """Wait until a datagram is worth another try; False where the time was over first."""
        known = self._socket
        if known is not None:
            # Not for ever: another thread may connect anew meanwhile.
            most = _LONGEST_PAUSE_SECONDS if seconds is None else seconds
            poll = select.poll()
            with contextlib.suppress(OSError, ValueError):  # another thread has closed it
                poll.register(known, select.POLLOUT)
                return bool(poll.poll(most * 1000)) or seconds is None
            return True
        pause = self._pause_seconds
        if seconds is not None and seconds < pause:
            time.sleep(max(seconds, 0))
            return False
        time.sleep(pause)
        self._pause_seconds = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        if not isinstance(self._address, str):
            self._connect()
        return True

    def look_again(self) -> None:
        """Connect anew with the next datagram."""
        if isinstance(self._address, str):
            self._close()

    def __del__(self) -> None:
        # Without a word on standard error, at the end of a process. A parent goes on with the same socket.
        if self._socket is not None:
            self._socket.close()

    def _send(self, line: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(line)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._send_large(self._socket, line)

    def _connect(self) -> bool:
        made: socket.socket | None = None
        address: object = self._address
        try:
            if isinstance(self._address, str):
                made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            else:
                family, kind, protocol, _, address = socket.getaddrinfo(
                    *self._address, type=socket.SOCK_DGRAM
                )[0]
                made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            made.connect(address)  # type: ignore[arg-type] # of the socket's family
        except OSError as error:
            if made is not None:
                made.close()
            if not self._is_away:
                self._is_away = True
                # Not an event, which would come back to this receiver.
                say(
                    f"Warning: --log-to {self._name} can't be reached: {error.strerror or error}; lines are kept, as many "
                    "as --log-buffer-bytes says"
                )
            return False
        self._socket = made
        self._is_away = False
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        return True

    def _close(self) -> None:
        closed, self._socket = self._socket, None
        if closed is not None:
            with contextlib.suppress(OSError):
                closed.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for it
            closed.close()


def send_by_memory_file(connected: socket.socket, line: bytes) -> None:
    """Send a large entry to journald as a sealed memory file (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    if sys.platform != "linux":
        return
    descriptor = os.memfd_create("uwsgibridge-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(line)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        socket.send_fds(connected, [b""], [descriptor])
    finally:
        os.close(descriptor)


def _send_beginning(connected: socket.socket, line: bytes) -> None:
    with contextlib.suppress(OSError):
        connected.send(line[:1024])
