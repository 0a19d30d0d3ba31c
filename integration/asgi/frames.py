"""A WebSocket client that sends what it is told, be it right or wrong (RFC 6455, sections 4 and 5)."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

# Longer than anything takes on a busy machine: what hangs is a failure.
PATIENCE_SECONDS: Final = 20.0

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

# Bits of the first byte, as `rsv` of a frame has them.
RSV1: Final = 0x4
RSV2: Final = 0x2
RSV3: Final = 0x1

# RFC 6455, section 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came.

    Attributes:
        opcode: 0 to 15.
        payload: the bytes.
        fin: whether the message ends with it.
        rsv: the reserved bits, 0 to 7.
    """

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


@dataclass(frozen=True, slots=True)
class Close:
    """What a close frame says; a `code` of None is an empty one."""

    code: int | None
    reason: str = ""

    @property
    def payload(self) -> bytes:
        """The frame's payload."""
        return b"" if self.code is None else struct.pack("!H", self.code) + self.reason.encode()

    @classmethod
    def parse(cls, payload: bytes) -> Close:
        """Read the payload of a server's close frame, which has to be a valid one."""
        if not payload:
            return cls(None)
        return cls(struct.unpack("!H", payload[:2])[0], payload[2:].decode())


def encode_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length_bytes: int | None = None,
    declared_bytes: int | None = None,
) -> bytes:
    """Write a frame (RFC 6455, section 5.2).

    Args:
        opcode: 0 to 15.
        payload: of the frame.
        fin: whether it ends its message.
        rsv: the reserved bits.
        masked: whether it has a masking key, as all of a client's have.
        length_bytes: 0, 2 or 8 bytes of extended length; by default the fewest.
        declared_bytes: a length that is not the payload's.
    """
    size = len(payload) if declared_bytes is None else declared_bytes
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65_536 else 8
    short, extended = {
        0: (size, b""),
        2: (126, struct.pack("!H", size & 0xFFFF)),
        8: (127, struct.pack("!Q", size)),
    }[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | short]) + extended
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + _mask(payload, key)


def _mask(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
    return masked.to_bytes(size, "big")


class FrameClient:
    """One WebSocket, or the HTTP answer that came in its place; closes with the `with` block.

    Args:
        url: of the server, without a path.
        target: what the request line names.
        headers: of the handshake beside its own; a value of None leaves one of its own out.
        method: of the handshake.
        version: of HTTP.
        body: to send after the head.
        early: bytes to send in one go with the handshake.
        receive_buffer_bytes: the kernel's, for a client that shall be full soon.

    Attributes:
        status: of the answer; 101 for a WebSocket.
        headers: of the answer.
        body: of an answer that is no WebSocket.
    """

    def __init__(
        self,
        url: str,
        target: str,
        *,
        headers: Mapping[str, str | None] | None = None,
        method: str = "GET",
        version: str = "HTTP/1.1",
        body: bytes = b"",
        early: bytes = b"",
        receive_buffer_bytes: int | None = None,
    ) -> None:
        where = urlsplit(url)
        assert where.hostname
        key = base64.b64encode(os.urandom(16)).decode()
        lines: dict[str, str | None] = {
            "Host": where.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
            **(headers or {}),
        }
        head = [f"{method} {target} {version}"]
        head += [f"{name}: {value}" for name, value in lines.items() if value is not None]
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(PATIENCE_SECONDS)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.connect((where.hostname, where.port))
        self._reader = self._socket.makefile("rb")
        try:
            self.send_bytes("\r\n".join([*head, "", ""]).encode("latin-1") + body + early)
            answer = http.client.HTTPResponse(_Made(self._reader), method=method)  # type: ignore[arg-type] # all that it asks of a socket
            answer.begin()
            self.status = answer.status
            self.headers = answer.headers
            self.body = b"" if self.status == 101 else answer.read()
        except BaseException:
            self.drop()
            raise
        if self.status == 101:
            expected = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
            assert self.headers["Sec-WebSocket-Accept"] == expected
            assert self.headers["Upgrade"].lower() == "websocket"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def send(self, opcode: int, payload: bytes = b"", **details: Any) -> None:
        """Send one frame, as `encode_frame` writes it."""
        self.send_bytes(encode_frame(opcode, payload, **details))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def fileno(self) -> int:
        """The descriptor, to wait for."""
        return self._socket.fileno()

    def send_what_fits(self, data: bytes | memoryview) -> int:
        """Send without waiting; the number of bytes that the kernel took, 0 for a full one."""
        self._socket.setblocking(False)
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        finally:
            self._socket.settimeout(PATIENCE_SECONDS)

    def receive(self) -> Frame | None:
        """Wait for the next frame; None where the connection has ended."""
        try:
            head = self._reader.read(2)
            if len(head) < 2:
                return None
            size = head[1]
            assert size < 128, "a server's frames are not masked (RFC 6455, section 5.1)"
            if size >= 126:
                count = 2 if size == 126 else 8
                size = int.from_bytes(self._reader.read(count), "big")
                assert size > (125 if count == 2 else 65_535), "the length is not the shortest form"
            payload = self._reader.read(size)
        except ConnectionResetError:
            return None
        if len(payload) < size:
            return None
        return Frame(head[0] & 15, payload, fin=bool(head[0] & 128), rsv=head[0] >> 4 & 7)

    def receive_message(self) -> str | bytes | Close | None:
        """Wait for the next whole message; pongs are left out, pings are answered."""
        opcode, parts = 0, b""
        while (frame := self.receive()) is not None:
            if frame.opcode == PING:
                self.send(PONG, frame.payload)
            elif frame.opcode == CLOSE:
                return Close.parse(frame.payload)
            elif frame.opcode != PONG:
                assert frame.rsv == 0, "compressed without an agreement"
                assert (frame.opcode == CONTINUATION) == bool(opcode)
                opcode = opcode or frame.opcode
                parts += frame.payload
                if frame.fin:
                    return parts.decode() if opcode == TEXT else parts
        return None

    def ends(self) -> bool:
        """Wait for the connection's end; False where something else comes."""
        return self.receive() is None

    def drop(self) -> None:
        """Leave without a word."""
        self._reader.close()
        self._socket.close()


class _Made:
    """What `http.client.HTTPResponse` needs to read from a file that others read from later."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> Any:
        return _Unclosable(self._reader)


class _Unclosable:
    def __init__(self, reader: Any) -> None:
        self.read = reader.read
        self.read1 = reader.read1
        self.readinto = reader.readinto
        self.readline = reader.readline
        self.peek = reader.peek

    def close(self) -> None:
        """Leave it open."""

    def flush(self) -> None:
        """Do nothing, as for any file that is only read."""


def subprotocols(*names: str) -> dict[str, str | None]:
    """Make the header that offers them."""
    return {"Sec-WebSocket-Protocol": ", ".join(names)}


def offer(extensions: str) -> dict[str, str | None]:
    """Make the header that offers extensions."""
    return {"Sec-WebSocket-Extensions": extensions}


def fragments(payload: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Cut a payload; what the sizes leave is the last piece."""
    pieces = []
    for size in sizes:
        pieces.append(payload[:size])
        payload = payload[size:]
    return [*pieces, payload]
