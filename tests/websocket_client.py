"""A WebSocket's client at the uwsgi socket itself, and what most applications of its tests do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.asgi_messages import Receive, Send
from tests.bridge import Bridge
from tests.raw_client import connect, packet
from tests.websocket_frames import close_payload, frame

_PIECE_BYTES: Final = 1_048_576

HANDSHAKE: dict[str, Any] = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}


class Client:
    """A WebSocket's client; the frames that it gets are whole, or there are none."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self.connection = connection
        self._received = received

    def send(self, opcode: int, payload: bytes = b"", **details: Any) -> None:
        self.connection.sendall(frame(opcode, payload, **details))

    def receive(self) -> tuple[int, bytes] | None:
        """Give opcode and payload; None at the connection's end."""
        head = self._take(2)
        if head is None:
            return None
        size = head[1]
        if size >= 126:
            extended = self._take(2 if size == 126 else 8)
            assert extended is not None
            size = int.from_bytes(extended, "big")
        payload = self._take(size)
        assert payload is not None, "the connection ended within a frame"
        assert head[0] & 0xF0 == 0x80, "a frame that is not whole"
        return head[0] & 15, payload

    def ends(self) -> bool:
        """Wait for the connection's end; False where something else comes."""
        return self.receive() is None

    def _take(self, size: int) -> bytes | None:
        pieces = [self._received]
        missing = size - len(self._received)
        while missing > 0:
            try:
                piece = self.connection.recv(_PIECE_BYTES)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return None
            pieces.append(piece)
            missing -= len(piece)
        whole = b"".join(pieces)
        self._received = whole[size:]
        return whole[:size]


@contextmanager
def opened(bridge: Bridge, path: str = "/", **variables: Any) -> Iterator[Client]:
    with connect(bridge.address) as connection:
        connection.sendall(packet(path, **HANDSHAKE, **variables))
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1024)
        head, _, frames = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        yield Client(connection, frames)


async def accept(receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def said(opcode: int, code: int, reason: str = "") -> tuple[int, bytes]:
    return opcode, close_payload(code, reason)
