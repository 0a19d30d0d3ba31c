"""An accepted connection: how its input is taken, and how its answer is ended or broken.

One connection carries one request (nginx never reuses it). Three facts shape this file:

- A clean close after a head without Content-Length says "complete" to nginx. What fails half-way
  must be *broken*: on TCP by a reset (SO_LINGER 0). On a unix socket only a close with unread input
  resets the peer (the kernel's ``unix_release_sock``), so there the last bytes of the input stay
  in the kernel, seen by MSG_PEEK, until the answer is complete.
- A normal close with unread input would do the same by accident and lose the answer's end, so the
  input is taken, or discarded by the listener, before a normal close.
- A `socket.socket` for each connection costs more than the rest of accepting it; the plain C type
  below it, with MSG_DONTWAIT, needs neither a wrapper nor a system call to make it non-blocking. The
  accelerator has a type of its own, which does the same and does not let the interpreter's lock go.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
from time import monotonic
from typing import Final

from uwsgibridge.fast import Descriptor, accelerator
from uwsgibridge.loop.interface import Task
from uwsgibridge.protocol.packet import (
    MAX_PACKET_BYTES,
    MODIFIER_PING,
    MODIFIER_REQUEST,
    PacketLimits,
    parse_packet,
)
from uwsgibridge.protocol.request import Request

# The largest packet, so that one system call takes it whole, and what fits of the body behind it.
SCRATCH_BYTES: Final = MAX_PACKET_BYTES

CHUNK_BYTES: Final = 65_536

# More than the kernel holds of a connection's input.
_DISCARDED_CHUNKS: Final = 256

# Applications log what their input and their output raise; without a text they log an empty line.
_GONE: Final = "the client has gone away"

_DONTWAIT: Final = socket.MSG_DONTWAIT
_PEEK: Final = socket.MSG_DONTWAIT | socket.MSG_PEEK
# Else a socket would take over a default timeout that an application has set for its own.
_NONBLOCK: Final = getattr(socket, "SOCK_NONBLOCK", 0)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

# Linux tells of a peer's close also while input is unread.
_PEER_CLOSED: Final = getattr(select, "POLLRDHUP", 0)

# Only Linux is known to reset a unix socket that is closed with unread input.
_UNIX_CLOSE_CAN_RESET: Final = sys.platform == "linux"


class PeerGone(ConnectionError):
    """The frontend closed the connection: its client went away. Not a failure of anybody's."""


def accept(listening: socket.socket, family: int, kind: int) -> socket.SocketType | Descriptor:
    """Accept a connection for a `Connection`.

    Args:
        listening: a non-blocking socket that listens.
        family: its address family.
        kind: its type, with SOCK_NONBLOCK.

    Raises:
        BlockingIOError: none waits.
        OSError: see accept(2).
    """
    if accelerator is not None:
        return accelerator.accept(listening.fileno(), family)
    # What socket.accept() does, but without making a `socket.socket`.
    descriptor, _ = listening._accept()  # type: ignore[attr-defined]  # noqa: SLF001
    return socket.SocketType(family, kind, 0, descriptor)


class Connection:
    """A connection and the state of its input; owns the socket, and closes it exactly once.

    Nothing here waits: what can't be done at once raises `BlockingIOError`, and the owner waits for
    `fileno()` in its own way. Used by one thread at a time.

    Attributes:
        request: the request, once the packet has arrived.
        accepted_at: `time.monotonic()` when it was accepted.
        body_unseen: bytes of the body not seen yet.
        peer_gone: whether `PeerGone` was raised.
        input_stalled: whether the owner's wait for the body came to its deadline.
        slot: where the packet stays for the report of a crash, if it is recorded.
        task: what serves the request, where an event loop holds its tasks only weakly.
        closing_task: the task that discards the rest of the input; kept for the same reason.
    """

    request: Request
    task: Task
    closing_task: Task

    # On the class: what most connections never change costs them nothing.
    body_unseen = 0
    peer_gone = False
    input_stalled = False
    slot: memoryview | None = None
    _is_nonblocking = False
    _held = 0  # bytes seen by peeking that are still in the kernel
    _pending = b""  # the start of a packet that came in pieces
    _seen_body = b""  # body bytes that came along with the packet

    def __init__(self, accepted: socket.SocketType | Descriptor, *, is_unix: bool) -> None:
        self._socket = accepted
        self._hold = is_unix and _UNIX_CLOSE_CAN_RESET
        self.accepted_at = monotonic()

    def fileno(self) -> int:
        """The descriptor, to wait for; -1 once closed."""
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        """Whether the socket was closed."""
        return self._socket.fileno() < 0

    def receive_packet(
        self, scratch: memoryview, limits: PacketLimits, max_body_bytes: int
    ) -> int | None:
        """Take what has arrived and try to make a request of it.

        Args:
            scratch: `SCRATCH_BYTES` or more to receive into; holds the packet at the return, and
                nothing here refers to it.
            limits: for the packet.
            max_body_bytes: for the body; 0 is any.

        Returns:
            None where more has to arrive; else the packet's modifier1, and where that asks for a
            request, `request` is set.

        Raises:
            BlockingIOError: nothing had arrived.
            PeerGone: the connection ended before the packet did.
            ProtocolError: it is refused.
        """
        flags = _PEEK if self._hold else _DONTWAIT
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
        if isinstance(received, tuple):
            self.request, count, body = received
            if self._hold:
                self._held = count
            if body:
                self._seen_body = body
            return MODIFIER_REQUEST
        count = received
        if not count:
            self.peer_gone = True
            raise PeerGone(_GONE)
        arrived = scratch[:count]
        if self._pending:
            arrived = memoryview(self._pending + arrived)
            scratch[: len(arrived)] = arrived[: len(scratch)]
            self._pending = b""
        packet = parse_packet(arrived, limits)
        if packet is None:
            self._pending = arrived.tobytes()
            if self._hold:
                self._consume_peeked(count)
            return None
        modifier1 = packet.modifier1
        end = packet.size_bytes
        if modifier1 != MODIFIER_PING:
            self.request = request = Request(packet, max_body_bytes=max_body_bytes)
            end += request.content_length
        have = len(arrived)
        if have < end:
            self.body_unseen = end - have
            if self._hold:
                self._consume_peeked(count)
        elif self._hold:
            # With what lies beyond the end: it belongs to nobody, and is never a second request.
            self._held = count
        if end > packet.size_bytes:
            self._seen_body = arrived[packet.size_bytes : end].tobytes()
        return modifier1

    def receive_body(self, max_bytes: int = CHUNK_BYTES) -> bytes:
        """Take the next piece of the body.

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
            if self._hold and left <= max_bytes:
                # The end may be in this piece: look first, and leave it where it is if so.
                chunk = self._socket.recv(left, _PEEK)
                if len(chunk) == left:
                    self._held = left
                elif chunk:
                    self._consume_peeked(len(chunk))
            else:
                chunk = self._socket.recv(min(left, max_bytes), _DONTWAIT)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            self.peer_gone = True
            raise PeerGone(_GONE)
        self.body_unseen = left - len(chunk)
        return chunk

    @property
    def body_over(self) -> bool:
        """Whether `receive_body` has given everything."""
        return not self.body_unseen and not self._seen_body

    def pop_whole_body(self) -> bytes | None:
        """Take the body if all of it came with the packet, else None; empty for no body."""
        if self.body_unseen:
            return None
        body, self._seen_body = self._seen_body, b""
        return body

    def send(self, data: bytes | memoryview) -> int:
        """Write what fits; the number of bytes taken by the kernel.

        Raises:
            BlockingIOError: nothing fits at the moment.
            PeerGone: nobody is there to read it.
        """
        try:
            return self._socket.send(data, _DONTWAIT)
        except (BrokenPipeError, ConnectionResetError):
            self.peer_gone = True
            raise PeerGone(_GONE) from None

    def has_hung_up(self) -> bool:
        """Look whether the peer has closed the connection; on other systems than Linux, unread input hides that."""
        try:
            if self._hold:  # the packet would hide it, but nothing can be sent then
                self._socket.send(b"", _DONTWAIT)
                return False
            if _PEER_CLOSED:
                poll = select.poll()
                poll.register(self._socket.fileno(), _PEER_CLOSED)
                return bool(poll.poll(0))
            return not self._socket.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except (OSError, ValueError):  # the latter by poll, of a connection that is closed
            return True

    def begin_tunnel(self) -> None:
        """Take the request out of the kernel: what comes next belongs to the tunnel of a 101."""
        self._consume_peeked(self._held)
        self._held = 0
        self._hold = False

    def receive_tunnel(self, max_bytes: int) -> bytes:
        """Take what has arrived in the tunnel; empty at its end.

        Raises:
            BlockingIOError: nothing has arrived.
        """
        return self._socket.recv(max_bytes, _DONTWAIT)

    def send_file(self, descriptor: int, offset: int, size_bytes: int) -> int:
        """Let the kernel write from a regular file; the number of bytes taken, 0 at the file's end.

        Raises:
            BlockingIOError: nothing fits at the moment.
            PeerGone: nobody is there to read it.
            OSError: this file, or this system, can't do that.
        """
        own = self._socket.fileno()
        if not self._is_nonblocking:
            os.set_blocking(own, False)  # sendfile knows no MSG_DONTWAIT
            self._is_nonblocking = True
        try:
            return os.sendfile(own, descriptor, offset, size_bytes)
        except (BrokenPipeError, ConnectionResetError):
            self.peer_gone = True
            raise PeerGone(_GONE) from None

    def close(self) -> bool:
        """Close so that the peer reads the answer to its end.

        Returns:
            False where input is outstanding, so that closing now might lose the answer: it stays
            open, and is to be handed to the listener, which discards the rest within a bound.
        """
        if (
            accelerator is not None
            and not self.body_unseen
            and accelerator.take_and_close(self._socket, self._held)
        ):
            self._held = 0
            return True
        if self._held:
            # The thread that lost the connection may have read it.
            with contextlib.suppress(BlockingIOError):
                self._consume_peeked(self._held)
            self._held = 0
        if self.body_unseen:
            return False
        self._socket.close()
        return True

    def discard_input(self) -> bool:
        """Read and forget; True when the declared input, or the connection, has ended.

        Raises:
            BlockingIOError: nothing has arrived.
        """
        try:
            chunk = self._socket.recv(CHUNK_BYTES, _DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:  # reset by the peer, or closed by somebody in a hurry
            return True
        return not chunk

    def discard_arrived(self) -> None:
        """Read and forget what is there; within a bound, and without a wait."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_DISCARDED_CHUNKS):
                if self.discard_input():
                    return

    def shutdown_write(self) -> None:
        """Say that the answer is complete while input is still being discarded."""
        with contextlib.suppress(OSError):  # the peer was quicker
            self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> bool:
        """Break the connection so that the peer sees that the answer is truncated.

        Returns:
            False where it can't be broken yet: a unix socket, with the rest of the body still on its
            way. It stays open; once `fileno()` is readable, or after a deadline, `force_close`.
        """
        with contextlib.suppress(OSError):  # gone anyway
            if self._hold:
                if not self._held and self.body_unseen:
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

        Closing would free the descriptor's number for the next connection while the thread goes on
        writing to it. So the number is given a socket whose peer is gone; the thread meets `PeerGone`
        and closes it in its own time. Not to be called once the thread ends the connection itself.

        Returns:
            The connection to the peer, as far as it has come, for the caller to end.

        Raises:
            OSError: there are no descriptors left for that; the connection is hung up.
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
        taken = Connection(accepted, is_unix=self._hold)
        taken.request, taken.accepted_at = self.request, self.accepted_at
        taken.body_unseen, taken._held = self.body_unseen, self._held
        self._held = self.body_unseen = 0
        return taken

    def hang_up(self) -> None:
        """End the connection in both directions, also for those who have another descriptor of it."""
        with contextlib.suppress(OSError):  # the peer was quicker
            self._socket.shutdown(socket.SHUT_RDWR)

    def force_close(self) -> None:
        """Close as it is; does nothing when closed."""
        self._socket.close()

    def _consume_peeked(self, count: int) -> None:
        """Take bytes that were peeked at out of the kernel; they are all there."""
        while count and (taken := self._socket.recv(count, _DONTWAIT)):
            count -= len(taken)
