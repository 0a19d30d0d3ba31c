"""Sends one request while its answer is read, on one connection."""

from __future__ import annotations

import io
import selectors
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Final

from uwsgibridge.client.dialing import Deadline
from uwsgibridge.client.errors import RequestError, describe
from uwsgibridge.client.transport import Transport

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES: Final = 64 * 1024

# A body of unknown size is kept in memory up to this size, and in a temporary file beyond it.
_SPOOLED_BODY_BYTES: Final = 1024 * 1024
# After this silence, the server is asked once whether it speaks HTTP.
_SILENCE_SECONDS: Final = 1.0


@contextmanager
def measured(body: bytes | IO[bytes]) -> Iterator[tuple[IO[bytes], int | None]]:
    """Give the body as a file, and its size; None where there is no body."""
    if isinstance(body, bytes | bytearray | memoryview):
        yield io.BytesIO(body), len(body) or None
        return
    with ExitStack() as stack:
        try:
            if body.seekable():
                start = body.tell()
                size_bytes = body.seek(0, io.SEEK_END) - start
                body.seek(start)
            else:
                copy = stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED_BODY_BYTES))
                shutil.copyfileobj(body, copy)
                size_bytes = copy.tell()
                copy.seek(0)
                body = copy
        except OSError as error:
            raise RequestError(f"The request's body can't be read: {describe(error)}") from error
        yield body, size_bytes


class Exchange(io.RawIOBase):
    """The connection as a file, from which the answer is read; reading also sends the request.

    Each read works in both directions: otherwise an application that answers while it reads its body would fill both
    buffers, and both sides would wait for ever. The transport belongs to the caller.

    Attributes:
        when_silent: called once when the server has sent nothing for a second; it may raise.
    """

    def __init__(
        self,
        transport: Transport,
        packet: bytes,
        body: IO[bytes],
        body_bytes: int,
        deadline: Deadline,
    ) -> None:
        self._transport = transport
        self._pending = memoryview(packet)
        self._body = body
        self._unread_bytes = body_bytes
        self._deadline = deadline
        self.when_silent: Callable[[], None] | None = None
        self._silent_at = time.monotonic() + _SILENCE_SECONDS
        self._selector = selectors.DefaultSelector()
        self._awaited = transport.receives_on | transport.sends_on
        self._selector.register(transport.connection, self._awaited)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while True:
            events = self._wait()
            if events & self._transport.receives_on:
                received_bytes = self._transport.receive_into(buffer)
                if received_bytes is not None:
                    self.when_silent = None
                    return received_bytes
            if self._is_sending and events & self._transport.sends_on:
                self._send()
            if self.when_silent is not None and time.monotonic() >= self._silent_at:
                when_silent, self.when_silent = self.when_silent, None
                when_silent()

    def close(self) -> None:
        self._selector.close()
        super().close()

    @property
    def _is_sending(self) -> bool:
        return bool(self._pending or self._unread_bytes)

    def _wait(self) -> int:
        """Wait for the connection; give the events of `selectors` that are there."""
        transport = self._transport
        wait_seconds = self._deadline.remaining_seconds()
        if transport.has_received():
            return transport.receives_on
        if self.when_silent is not None:
            wait_seconds = min(wait_seconds, max(0.0, self._silent_at - time.monotonic()))
        awaited = transport.receives_on | (transport.sends_on if self._is_sending else 0)
        if awaited != self._awaited:
            self._selector.modify(transport.connection, awaited)
            self._awaited = awaited
        ready = self._selector.select(wait_seconds)
        return ready[0][1] if ready else 0

    def _send(self) -> None:
        if not self._pending:
            self._pending = memoryview(self._next_piece())
        try:
            sent_bytes = self._transport.send(self._pending)
        except (BrokenPipeError, ConnectionResetError):
            # The server refuses the rest of the request, but may have sent an answer.
            self._unread_bytes = 0
            sent_bytes = len(self._pending)
        self._pending = self._pending[sent_bytes or 0 :]

    def _next_piece(self) -> bytes:
        try:
            piece = self._body.read(min(CHUNK_BYTES, self._unread_bytes))
        except OSError as error:
            raise RequestError(f"The request's body can't be read: {describe(error)}") from error
        if not piece:
            raise RequestError(
                f"The file of the request's body ended {self._unread_bytes} bytes early: "
                "it became shorter while it was sent"
            )
        self._unread_bytes -= len(piece)
        return piece
