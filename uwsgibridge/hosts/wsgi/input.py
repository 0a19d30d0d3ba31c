"""``wsgi.input``: the request's body as a file, read from the connection as it arrives (PEP 3333)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, Final, cast

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
    return cast("BinaryIO", _ArrivingBody(connection, wait))


class _ArrivingBody:
    """A file that most applications read as a whole, at once.

    Anything else is done by a reader of `io`, which has a buffer and is made at the first such call. To make one costs
    as much as to receive the body.
    """

    _reader: _BufferedBody | None = None

    def __init__(self, connection: Connection, wait: Callable[[], bool]) -> None:
        self._connection = connection
        self._wait = wait

    def read(self, size: int | None = -1, /) -> bytes:
        if self._reader is None:
            length = self._connection.request.content_length
            if size is None or size < 0 or size >= length:
                return _receive_all(self._connection, self._wait, length)
        return self._in_pieces().read(size)

    def __iter__(self) -> _BufferedBody:
        return self._in_pieces()

    def __next__(self) -> bytes:
        return next(self._in_pieces())

    def __enter__(self) -> _BufferedBody:
        return self._in_pieces()

    def __exit__(self, *_: object) -> None:
        self._in_pieces().close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._in_pieces(), name)

    def _in_pieces(self) -> _BufferedBody:
        if self._reader is None:
            connection = self._connection
            self._reader = _BufferedBody(_BodyReader(connection, self._wait), _BUFFER_BYTES)
            self._reader.most_bytes = connection.request.content_length
        return self._reader


# It has all methods of one: those that are not here are found by `__getattr__`.
io.BufferedIOBase.register(_ArrivingBody)


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
        chunk = _receive(self._connection, self._wait, len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        # The method of `io` asks for 8 KiB at a time.
        return _receive_all(self._connection, self._wait, self._connection.request.content_length)


def _receive_all(connection: Connection, wait: Callable[[], bool], most_bytes: int) -> bytes:
    """Receive what is left of the body, which has so many bytes at the most."""
    piece = _receive(connection, wait, _WHOLE_BYTES)
    if len(piece) == most_bytes:
        return piece
    pieces = []
    while piece:
        pieces.append(piece)
        piece = _receive(connection, wait, _WHOLE_BYTES)
    return b"".join(pieces)


def _receive(connection: Connection, wait: Callable[[], bool], max_bytes: int) -> bytes:
    while True:
        if connection.input_stalled:
            raise BodyStalled  # raised again where it was caught: else the body would have a gap
        try:
            return connection.receive_body(max_bytes)
        except BlockingIOError:
            if not wait():
                # Recorded, because frameworks turn the exception into an answer of their own.
                connection.input_stalled = True
