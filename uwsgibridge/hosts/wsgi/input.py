"""``wsgi.input``: the request's body as a file, read from the connection as it arrives (PEP 3333)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from uwsgibridge.connection.connection import Connection

_BUFFER_BYTES: Final = 65_536

# The size of a piece for an application that wants the whole body. Most bodies are one piece, which is not copied
# again. The kernel of a unix socket seldom holds more.
_WHOLE_BYTES: Final = 262_144


class BodyStalled(TimeoutError):
    """The client stopped sending its body; frameworks get this as an OSError from `wsgi.input`."""


def open_input(connection: Connection, wait: Callable[[], bool]) -> BinaryIO:
    """Make the input of a request whose body has not arrived completely.

    Args:
        connection: has the part of the body that has arrived.
        wait: blocks until more has arrived; returns False where that takes too long.

    Returns:
        A file that ends where the body does (``wsgi.input_terminated``). Reading it may raise
        `BodyStalled`, or `PeerGone` where the client left before the body's end.
    """
    reader = _BufferedBody(_BodyReader(connection, wait), _BUFFER_BYTES)
    reader.most_bytes = connection.request.content_length
    return reader


class _BufferedBody(io.BufferedReader):
    """A reader that allocates no more than the body has, since an application may ask for any size."""

    most_bytes = 0

    # Any negative size counts as -1, as it does for a body that has arrived completely (`io.BytesIO`).

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(None if size is None else max(-1, min(size, self.most_bytes)))

    def read1(self, size: int = -1, /) -> bytes:
        return super().read1(max(-1, min(size, self.most_bytes)))


class _BodyReader(io.RawIOBase):
    """The raw stream that `io.BufferedReader` reads the body from."""

    def __init__(self, connection: Connection, wait: Callable[[], bool]) -> None:
        self._connection = connection
        self._wait = wait

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        chunk = self._receive(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        # What an application calls that wants the whole body. The method of `io` asks for 8 KiB at a time.
        pieces = []
        while piece := self._receive(_WHOLE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def _receive(self, max_bytes: int) -> bytes:
        connection = self._connection
        while True:
            if connection.input_stalled:
                raise BodyStalled  # raised again where it was caught: else the body would have a gap
            try:
                return connection.receive_body(max_bytes)
            except BlockingIOError:
                if not self._wait():
                    # Recorded, because frameworks turn the exception into an answer of their own.
                    connection.input_stalled = True
