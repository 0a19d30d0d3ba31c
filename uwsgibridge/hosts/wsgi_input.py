"""``wsgi.input``: the request's body as a file, read from the connection as it arrives (PEP 3333)."""

from __future__ import annotations

import io
import select
from typing import Any, BinaryIO, Final

from uwsgibridge.connection import Connection

_BUFFER_BYTES: Final = 65_536


class BodyStalled(TimeoutError):
    """The client stopped sending its body; frameworks see an OSError from `wsgi.input`."""


def open_input(connection: Connection, timeout_seconds: float) -> BinaryIO:
    """Make the input of a request.

    Args:
        connection: with the body, or what has arrived of it.
        timeout_seconds: how long the next piece may take to arrive.

    Returns:
        A file that ends where the body does (``wsgi.input_terminated``). Reading it may raise
        `BodyStalled`, or `PeerGone` where the client left before the body's end.
    """
    body = connection.take_whole_body()
    if body is not None:
        return io.BytesIO(body)
    reader = _BufferedBody(_BodyReader(connection, timeout_seconds), _BUFFER_BYTES)
    reader.most_bytes = connection.request.content_length
    return reader


class _BufferedBody(io.BufferedReader):
    """A reader that makes room for no more than there can be: an application may ask for any size."""

    most_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None else min(size, self.most_bytes))

    def read1(self, size: int = -1, /) -> bytes:
        return super().read1(min(size, self.most_bytes))


class _BodyReader(io.RawIOBase):
    """What `io.BufferedReader` reads the body from."""

    def __init__(self, connection: Connection, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        while True:
            try:
                chunk = self._connection.receive_body(len(view))
            except BlockingIOError:
                if not wait_for(self._connection, select.POLLIN, self._timeout_seconds):
                    # Kept: frameworks make an answer of their own of the exception.
                    self._connection.input_stalled = True
                    raise BodyStalled from None
            else:
                view[: len(chunk)] = chunk
                return len(chunk)


def wait_for(connection: Connection, event: int, seconds: float) -> bool:
    """Block this thread until `event` of `select.poll` comes; False when `seconds` have passed."""
    poll = select.poll()
    poll.register(connection.fileno(), event)
    return bool(poll.poll(max(0.0, seconds) * 1000))
