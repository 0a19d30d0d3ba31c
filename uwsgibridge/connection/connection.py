"""An accepted connection: reads its input, writes to it, and ends or breaks it.

One connection carries one request, since nginx never reuses it. Four facts shape this file:

- After a head without Content-Length, a clean close tells nginx that the answer is complete. So an incomplete answer
  has to be *broken*: on TCP by a reset (SO_LINGER 0). On a unix socket, only a close with unread input resets the peer
  (the kernel's ``unix_release_sock``). So the last bytes of the input stay in the kernel there, read by MSG_PEEK alone,
  until the answer is complete. One byte is enough. A packet is peeked at as a whole, since it may have to be parsed
  again; of a longer body, only the last byte.
- Where the process is killed, the kernel closes the connection: with unread input on a unix socket, so that the answer is
  broken there. On TCP, an answer without Content-Length gets SO_LINGER 0 from its beginning until it is complete.
- A normal close with unread input would be a reset, too, and lose the end of the answer. So the input is read, or
  discarded by `LingeringClose`, before a normal close.
- A `socket.socket` for each connection costs more than the rest of accepting it. The plain C type below it, with
  MSG_DONTWAIT, needs neither a wrapper nor a system call to make it non-blocking. The accelerator has a type of its
  own, which does the same without releasing the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from time import monotonic
from typing import Final

from uwsgibridge.connection.sending import GONE, PeerGone, Sending
from uwsgibridge.fast import Descriptor, accelerator
from uwsgibridge.protocol.packet import (
    MAX_PACKET_BYTES,
    MODIFIER_PING,
    MODIFIER_REQUEST,
    PacketLimits,
    parse_packet,
)
from uwsgibridge.protocol.request import Request

# The size of the largest packet. So one system call receives a whole packet, and as much of the body as fits.
SCRATCH_BYTES: Final = MAX_PACKET_BYTES

CHUNK_BYTES: Final = 65_536

# How many chunks to discard at the most: more than the kernel holds of a connection's input.
_DISCARDED_CHUNKS: Final = 256

_DONTWAIT: Final = socket.MSG_DONTWAIT
_PEEK: Final = socket.MSG_DONTWAIT | socket.MSG_PEEK
# Without this flag, a socket would get the default timeout that an application has set for its own sockets.
_NONBLOCK: Final = getattr(socket, "SOCK_NONBLOCK", 0)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_END_ON_CLOSE: Final = struct.pack("ii", 0, 0)

# Only Linux is known to reset a unix socket that is closed with unread input.
_UNIX_CLOSE_CAN_RESET: Final = sys.platform == "linux"


def accept(listening: socket.socket, family: int, kind: int) -> socket.SocketType | Descriptor:
    """Accept a connection for a `Connection`.

    Args:
        listening: a non-blocking socket that listens.
        family: its address family.
        kind: its type, with SOCK_NONBLOCK.

    Raises:
        BlockingIOError: no connection waits.
        OSError: as accept(2) has it.
    """
    if accelerator is not None:
        return accelerator.accept(listening.fileno(), family)
    # What socket.accept() does, but without making a `socket.socket`.
    descriptor, _ = listening._accept()  # type: ignore[attr-defined]  # noqa: SLF001
    return socket.SocketType(family, kind, 0, descriptor)


def keeps_input_in_kernel(*, is_unix: bool) -> bool:
    """Whether the last bytes of the input stay in the kernel until the answer is complete, as the module says."""
    return is_unix and _UNIX_CLOSE_CAN_RESET


class Connection(Sending):
    """A connection and the state of its input; owns the socket, and closes it exactly once.

    No method waits. Where something can't be done at once, a method raises `BlockingIOError`, and the owner waits for
    `fileno()` in its own way. Only one thread uses a connection at a time. `PythonFields` describes its attributes.
    """

    __slots__ = ()

    def __init__(self, accepted: socket.SocketType | Descriptor, *, is_unix: bool) -> None:
        self._socket = accepted
        self._keeps_input_in_kernel = keeps_input_in_kernel(is_unix=is_unix)
        self.accepted_at = monotonic()

    def fileno(self) -> int:
        """Give the descriptor to wait for; -1 once the socket is closed."""
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        """Whether the socket was closed."""
        return self._socket.fileno() < 0

    def receive_packet(
        self,
        scratch: memoryview,
        limits: PacketLimits,
        max_body_bytes: int,
        received: int | None = None,
    ) -> int | None:
        """Receive what has arrived, and try to make a request of it.

        Args:
            scratch: `SCRATCH_BYTES` or more to receive into. It has the packet at the return, and the connection
                keeps no reference to it.
            limits: of the packet.
            max_body_bytes: of the body; 0 is no limit.
            received: how many bytes the accelerator has received into `scratch` already, as this method would;
                None where it has received nothing.

        Returns:
            None where more has to arrive; else the packet's modifier1. For a request, `request` is set.

        Raises:
            BlockingIOError: nothing has arrived.
            PeerGone: the connection ended before the packet did.
            ProtocolError: the packet or the request is refused.
        """
        count = (
            self._receive_into(scratch, limits, max_body_bytes) if received is None else received
        )
        if count is None:
            return MODIFIER_REQUEST
        if not count:
            self.peer_gone = True
            raise PeerGone(GONE)
        arrived = scratch[:count]
        if self._pending:
            arrived = memoryview(self._pending + arrived)
            scratch[: len(arrived)] = arrived[: len(scratch)]
            self._pending = b""
        packet = parse_packet(arrived, limits)
        if packet is None:
            self._pending = arrived.tobytes()
            if self._keeps_input_in_kernel:
                self._consume_peeked(count)
            return None
        modifier1 = packet.modifier1
        end = packet.size_bytes
        if modifier1 != MODIFIER_PING:
            self.request = request = Request(packet, max_body_bytes=max_body_bytes)
            end += request.content_length
        have = len(arrived)
        if have < end:
            if self._keeps_input_in_kernel:
                # What came of the body is received with its rest: to copy it twice costs more than a system call.
                self._consume_peeked(packet.size_bytes - (have - count))
                self.body_unseen = request.content_length
                return modifier1
            self.body_unseen = end - have
        elif self._keeps_input_in_kernel:
            # This counts bytes after the end of the request, too, which belong to nobody and are no second request.
            self._peeked_bytes = count
        if end > packet.size_bytes:
            self._seen_body = arrived[packet.size_bytes : end].tobytes()
        return modifier1

    def _receive_into(
        self, scratch: memoryview, limits: PacketLimits, max_body_bytes: int
    ) -> int | None:
        """Receive what has arrived; give its size, or None where the accelerator has made a request of it."""
        flags = _PEEK if self._keeps_input_in_kernel else _DONTWAIT
        received: tuple[Request, int, bytes] | int | None = None
        try:
            if accelerator is not None and not self._pending:
                received = accelerator.receive_request(
                    self._socket,
                    scratch,
                    flags,
                    limits.max_vars_bytes,
                    limits.max_vars,
                    max_body_bytes,
                    Request,
                )
            if received is None:
                received = self._socket.recv_into(scratch, 0, flags)
        except ConnectionResetError:
            received = 0
        if isinstance(received, int):
            return received
        self.request, count, body = received
        if self._keeps_input_in_kernel:
            self._peeked_bytes = count
        if body:
            self._seen_body = body
        return None

    def receive_body(self, max_bytes: int = CHUNK_BYTES) -> bytes:
        """Read the next piece of the body.

        Returns:
            1 to `max_bytes` bytes; empty when the body has ended.

        Raises:
            BlockingIOError: nothing has arrived.
            PeerGone: the connection ended before the body did.
        """
        if self._seen_body:
            chunk, self._seen_body = self._seen_body[:max_bytes], self._seen_body[max_bytes:]
            return chunk
        left = self.body_unseen
        if not left:
            return b""
        try:
            if self._keeps_input_in_kernel and left <= max_bytes:
                chunk = self._receive_end(left)
            else:
                chunk = self._socket.recv(min(left, max_bytes), _DONTWAIT)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            self.peer_gone = True
            raise PeerGone(GONE)
        self.body_unseen = left - len(chunk)
        return chunk

    def _receive_end(self, left: int) -> bytes:
        """Receive a piece that may have the end of the body, and leave at least its last byte in the kernel then."""
        own = self._socket
        if accelerator is not None and not isinstance(own, socket.SocketType):
            chunk = own.recv_keeping_last(left)
            if len(chunk) == left:
                self._peeked_bytes = 1
            return chunk
        chunk = own.recv(left, _PEEK)
        if len(chunk) == left:
            self._peeked_bytes = left
        elif chunk:
            self._consume_peeked(len(chunk))
        return chunk

    @property
    def body_over(self) -> bool:
        """Whether `receive_body` has given the whole body."""
        return not self.body_unseen and not self._seen_body

    def pop_whole_body(self) -> bytes | None:
        """Give the body if all of it came with the packet, else None; an empty body for none."""
        if self.body_unseen:
            return None
        body, self._seen_body = self._seen_body, b""
        return body

    def take_request(self) -> None:
        """Read the request out of the kernel, so that the connection's end is no longer a reset.

        Raises:
            OSError: the peer is gone.
        """
        count, self._peeked_bytes = self._peeked_bytes, 0
        if count:
            try:  # `contextlib.suppress` costs each request a microsecond more
                self._consume_peeked(count)
            except BlockingIOError:
                return  # the thread that lost the connection may have read the bytes

    def begin_tunnel(self) -> None:
        """Read the request out of the kernel: bytes after it belong to the tunnel of a 101."""
        self.take_request()
        self._keeps_input_in_kernel = False

    def receive_tunnel(self, max_bytes: int) -> bytes:
        """Read what has arrived in the tunnel; empty at its end.

        Raises:
            BlockingIOError: nothing has arrived.
        """
        return self._socket.recv(max_bytes, _DONTWAIT)

    def close(self) -> bool:
        """Close the connection so that the peer reads the answer to its end.

        Returns:
            False where input is outstanding, so that a close now might lose the end of the answer. The
            connection stays open then, and `LingeringClose` discards the rest of the input.
        """
        if self._breaks_if_killed:
            with contextlib.suppress(OSError):  # the peer is gone already
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _END_ON_CLOSE)
            self._breaks_if_killed = False
        if (
            accelerator is not None
            and not self.body_unseen
            and accelerator.take_and_close(self._socket, self._peeked_bytes)
        ):
            self._peeked_bytes = 0
            return True
        self.take_request()
        if self.body_unseen and not self._has_taken_unread():
            return False
        self._socket.close()
        return True

    def _has_taken_unread(self) -> bool:
        """Take a short rest of the body that nobody has read, if all of it has arrived."""
        if self.body_unseen > SCRATCH_BYTES:
            return False
        with contextlib.suppress(OSError):
            # Bytes after the body, which belong to nobody, are taken as well: with them, the close would be a reset.
            while self.body_unseen and (taken := self._socket.recv(SCRATCH_BYTES, _DONTWAIT)):
                self.body_unseen = max(0, self.body_unseen - len(taken))
        return not self.body_unseen

    def discard_input(self) -> bool:
        """Read input and drop it; True when the declared input, or the connection, has ended.

        Raises:
            BlockingIOError: nothing has arrived.
        """
        try:
            chunk = self._socket.recv(CHUNK_BYTES, _DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:  # the peer has reset the connection, or it is closed already
            return True
        return not chunk

    def discard_arrived(self) -> None:
        """Read the input that has arrived and drop it; up to a bound, and without waiting."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_DISCARDED_CHUNKS):
                if self.discard_input():
                    return

    def shutdown_write(self) -> None:
        """Tell the peer that the answer is complete while input is still being discarded."""
        with contextlib.suppress(OSError):  # the peer has closed the connection already
            self._socket.shutdown(socket.SHUT_WR)

    def break_if_killed(self) -> None:
        """Have the kernel break the connection where this process is killed before `close`: its answer is incomplete."""
        if not (self._breaks_if_killed or self._keeps_input_in_kernel):
            with contextlib.suppress(OSError):  # the peer is gone already
                if self._socket.family != socket.AF_UNIX:
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    self._breaks_if_killed = True

    def abort(self) -> bool:
        """Break the connection so that the peer sees that the answer is truncated.

        Returns:
            False where the connection can't be broken yet: a unix socket, whose body has not arrived completely.
            The connection stays open then. Call `force_close` when `fileno()` is readable, or at a deadline.
        """
        with contextlib.suppress(OSError):  # the peer is gone already
            if self._keeps_input_in_kernel:
                if not self._peeked_bytes and self.body_unseen:
                    try:
                        self._socket.recv(1, _PEEK)
                    except BlockingIOError:
                        return False
            elif self._socket.family != socket.AF_UNIX:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()
        return True

    def detach_peer(self) -> Connection:
        """Take the peer away from a thread that is still using this connection.

        A close would free the descriptor's number for the next connection while the thread goes on writing to
        the number. So the number gets a socket whose peer is gone. The thread then meets `PeerGone`, and closes
        that socket later. Do not call this when the thread is ending the connection itself.

        Returns:
            A connection to the peer in the present state, for the caller to end.

        Raises:
            OSError: there is no free descriptor; the connection is hung up instead.
        """
        own = self._socket
        try:
            dead, peer = socket.socketpair()
            with dead, peer:
                peer.close()
                descriptor = os.dup(own.fileno())
                os.dup2(dead.fileno(), own.fileno(), inheritable=False)
        except OSError:
            with contextlib.suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)
            raise
        accepted = socket.SocketType(own.family, own.type | _NONBLOCK, 0, descriptor)
        taken = Connection(accepted, is_unix=self._keeps_input_in_kernel)
        taken.request, taken.accepted_at = self.request, self.accepted_at
        taken.body_unseen, taken._peeked_bytes = self.body_unseen, self._peeked_bytes
        taken._breaks_if_killed = self._breaks_if_killed
        self._peeked_bytes = self.body_unseen = 0
        return taken

    def hang_up(self) -> None:
        """End the connection in both directions, also for other descriptors of it."""
        with contextlib.suppress(OSError):  # the peer has closed the connection already
            self._socket.shutdown(socket.SHUT_RDWR)

    def force_close(self) -> None:
        """Close the connection in its present state; do nothing where it is closed."""
        self._socket.close()

    def _consume_peeked(self, count: int) -> None:
        """Read bytes that were peeked at out of the kernel, where all of them are."""
        while count and (taken := self._socket.recv(count, _DONTWAIT)):
            count -= len(taken)
