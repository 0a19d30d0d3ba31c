"""An HTTP/1.1 client in pieces: requests that stall half-way, answers that are not read."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from integration.wsgi.fetching import PATIENCE_SECONDS


class RawHttp:
    """One connection, with one request on it.

    Args:
        url: where to.
        method: of the request.
        content_length: of its body, which `send` sends; None for none.
        receive_buffer_bytes: a small one has the kernel hold little of an answer that is not read.
    """

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        content_length: int | None = None,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        where = urlsplit(url)
        self._socket = socket.socket()
        self._socket.settimeout(PATIENCE_SECONDS)
        if receive_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.connect((where.hostname, where.port))
        length = "" if content_length is None else f"Content-Length: {content_length}\r\n"
        target = url.partition(where.netloc)[2]
        head = f"{method} {target} HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n{length}\r\n"
        self._socket.sendall(head.encode())

    def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        self._socket.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        """Read up to something that is known to come."""
        received = b""
        while mark not in received:
            piece = self._socket.recv(65_536)
            assert piece, f"the answer ended without {mark!r}: {received!r}"
            received += piece
        return received

    def read_to_end(self) -> bytes:
        """Read until the connection ends, one way or another."""
        received = bytearray()
        try:
            while piece := self._socket.recv(1 << 20):
                received += piece
        except ConnectionResetError:
            pass
        return bytes(received)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
