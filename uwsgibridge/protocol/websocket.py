"""WebSockets: checks the handshake in the vars, and turns frames into messages and back (RFC 6455).

nginx turns a 101 into a tunnel (``ngx_http_upstream_process_upgraded``), so a plain ``uwsgi_pass``
carries WebSockets.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha1
from typing import Final

from uwsgibridge.protocol.answers import switching_protocols
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.handshake import HandshakeRefused
from uwsgibridge.protocol.message_buffer import MessageBuffer
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.response_headers import list_headers, not_pairs
from uwsgibridge.protocol.websocket_deflate import (
    CLOSE_INVALID_DATA,
    INFLATED_PIECE_BYTES,
    Deflate,
    Inflation,
    agree,
)
from uwsgibridge.protocol.websocket_frames import (
    CLOSE_PROTOCOL_ERROR,
    BrokenRule,
    FrameReader,
    Opcode,
    Piece,
    encode_frame,
)

CLOSE_NORMAL: Final = 1000
CLOSE_NO_STATUS: Final = 1005
CLOSE_ABNORMAL: Final = 1006
CLOSE_TOO_BIG: Final = 1009
CLOSE_INTERNAL_ERROR: Final = 1011
CLOSE_SERVICE_RESTART: Final = 1012

# The codes below 3000 that a close frame may have (RFC 6455, section 7.4, and IANA's registry). 1004 has no meaning.
# 1005, 1006 and 1015 stand for a missing close frame.
_PROTOCOL_CODES: Final = frozenset({*range(1000, 1015)} - {1004, CLOSE_NO_STATUS, CLOSE_ABNORMAL})

_MAX_REASON_BYTES: Final = 123  # a control frame has up to 125 bytes, two of which are the code

_ACCEPT_SALT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 4.2.2

# Headers of the handshake itself, which an application may not set; its message has a key for the subprotocol.
_OWN_HEADERS: Final = frozenset(
    {
        b"connection",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"upgrade",
    }
)


class FrontendWithoutTunnels(HandshakeRefused):
    """The frontend passes a 101 on as an ordinary answer, so that no frame would ever come through."""

    status = 501
    reason = "websocket_frontend"


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message from the client.

    Attributes:
        payload: the bytes of the message; text is valid UTF-8. Decoded text may take four times as much.
        is_text: whether the message is text.
    """

    payload: bytes
    is_text: bool

    @property
    def data(self) -> str | bytes:
        """The message as an application gets it: text or bytes."""
        return self.payload.decode() if self.is_text else self.payload


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The client's answer to a ping of the server."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The client has ended the WebSocket, or has broken a rule; no event follows.

    Attributes:
        code: from 1000 to 4999; 1005 where the client gave none.
        reason: from the client, or the rule that was broken.
    """

    code: int
    reason: str


Event = Message | PongReceived | Closed


class _Stage(Enum):
    """The stage of a WebSocket (RFC 6455, section 7.1)."""

    CONNECTING = auto()  # the handshake is not answered
    OPEN = auto()
    CLOSING = auto()  # the server's close frame was sent, and the client's is awaited
    OVER = auto()  # the client has closed the WebSocket, or has broken a rule


class WebSocket:
    """The server's side of one WebSocket.

    Args:
        request: the request that asks for the WebSocket.
        max_message_bytes: a longer message of the client ends the WebSocket with 1009.
        deflate: whether to agree to permessage-deflate.

    Attributes:
        subprotocols: the subprotocols that the client offers.
        is_frontend_known: whether the frontend is known to make a tunnel of a 101.

    Raises:
        HandshakeRefused: the request is not a valid handshake.
    """

    def __init__(self, request: Request, *, max_message_bytes: int, deflate: bool) -> None:
        variables = request.vars
        self.subprotocols = _split(variables.get("HTTP_SEC_WEBSOCKET_PROTOCOL", ""))
        self.is_frontend_known = _check_frontend(variables.get("SERVER_SOFTWARE", ""))
        self._key = _check_handshake(request.method, variables)
        self._deflate: Deflate | None = None
        if deflate:
            self._deflate = agree(_split(variables.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")))
        self._stage = _Stage.CONNECTING
        self._reader = FrameReader(may_compress=self._deflate is not None)
        self._max_message_bytes = max_message_bytes
        # The unfinished message is in one buffer. So it takes no more memory than its bytes, however small its
        # fragments are.
        self._buffer = MessageBuffer(max_message_bytes)
        self._kind: Opcode | None = None
        self._whole = b""  # set for a message that came in one piece
        self._inflation: Inflation | None = None
        self._utf8: codecs.IncrementalDecoder | None = None

    def accept(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Agree to the WebSocket.

        Args:
            subprotocol: one of `subprotocols`, or None.
            headers: further headers of the answer.

        Returns:
            The head of the 101.

        Raises:
            InvalidResponse: a header can't be sent, or the client did not offer the subprotocol.
        """
        lines = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", _accept_token(self._key)),
        ]
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise InvalidResponse(f"the client did not offer the subprotocol {subprotocol!r}")
            lines.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        if self._deflate is not None:
            lines.append((b"Sec-WebSocket-Extensions", self._deflate.answer))
        pairs = list_headers(headers)
        try:
            for name, value in pairs:
                if name.lower() in _OWN_HEADERS:
                    raise InvalidResponse(f"{name!r} is the handshake's own header")
                lines.append((name, value))
        except (TypeError, ValueError, AttributeError):
            raise not_pairs(pairs) from None
        head = switching_protocols(lines)
        self._stage = _Stage.OPEN
        return head

    @property
    def is_open(self) -> bool:
        """Whether messages may still be sent."""
        return self._stage is _Stage.OPEN

    @property
    def unfinished_bytes(self) -> int:
        """How many bytes of an unfinished message are kept."""
        return len(self._buffer)

    def receive(self, data: bytes) -> Iterator[tuple[Event | None, bytes]]:
        """Read bytes that have arrived.

        Args:
            data: bytes of the tunnel; empty for its end.

        Returns:
            Pairs, in order: an event for the application, or None, and bytes to send in answer, which may be
            empty. After a `Closed`, and its answer, the tunnel has to be closed. A caller that stops early
            goes on by `receive_more`, before the next `receive`.
        """
        assert self._stage is not _Stage.CONNECTING, "the handshake is not over"
        if not data:
            self._end()
            yield Closed(CLOSE_ABNORMAL, ""), b""
            return
        self._reader.feed(data)
        yield from self.receive_more()

    def receive_more(self) -> Iterator[tuple[Event | None, bytes]]:
        """Go on with the bytes of the last `receive`; returns as `receive` does."""
        try:
            while self._stage is not _Stage.OVER and (piece := self._reader.next()) is not None:
                if piece.opcode < Opcode.CLOSE:
                    message = self._add_piece(piece)
                    if message is not None:
                        yield message, b""
                elif piece.opcode is Opcode.PING:
                    # No frame may follow a close frame (section 5.5.1).
                    yield None, encode_frame(Opcode.PONG, piece.payload) if self.is_open else b""
                elif piece.opcode is Opcode.PONG:
                    yield PongReceived(), b""
                else:
                    closed = _read_close(piece.payload)
                    answer = encode_frame(Opcode.CLOSE, piece.payload) if self.is_open else b""
                    self._end()
                    yield closed, answer
        except BrokenRule as error:
            answer = self.close(error.code, error.reason)
            self._end()
            yield Closed(error.code, error.reason), answer

    def send(self, data: str | bytes) -> bytes:
        """Turn a message into a frame; the WebSocket has to be open."""
        assert self.is_open
        opcode = Opcode.BINARY
        if isinstance(data, str):
            opcode, data = Opcode.TEXT, data.encode()
        if self._deflate is None:
            return encode_frame(opcode, data)
        return encode_frame(opcode, self._deflate.compress(data), compressed=True)

    def ping(self) -> bytes:
        """Make a ping frame; empty where the WebSocket is closing."""
        return encode_frame(Opcode.PING, b"") if self.is_open else b""

    def close(self, code: int, reason: str = "") -> bytes:
        """Make the close frame that begins the closing handshake; empty where that has begun already.

        Raises:
            InvalidResponse: the code may not be sent (RFC 6455, section 7.4).
        """
        if type(code) is not int or not _may_be_sent(code):
            raise InvalidResponse(
                f"{code!r} is not a code that a close frame may carry: 1000 to 1003, 1007 to 1014, "
                "or 3000 to 4999"
            )
        if not self.is_open:
            return b""
        self._stage = _Stage.CLOSING
        short = reason.encode()[:_MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
        return encode_frame(Opcode.CLOSE, code.to_bytes(2, "big") + short)

    def _add_piece(self, piece: Piece) -> Message | None:
        """Add a piece to the message; return the message if it ends with this piece."""
        if piece.starts:
            self._begin_frame(piece)
        ends = piece.ends and piece.fin
        if self._inflation is None:
            self._append_payload(piece.payload, ends=ends)
        else:
            for inflated in self._inflation.pieces(piece.payload, last=ends):
                self._append_payload(inflated, ends=False)
            if ends:
                self._append_payload(b"", ends=True)
        if not ends:
            return None
        message = Message(self._whole or self._buffer.take(), self._kind is Opcode.TEXT)
        self._drop_message()
        return message

    def _begin_frame(self, piece: Piece) -> None:
        """Check that the frame may come now (section 5.4)."""
        if piece.opcode is Opcode.CONTINUATION:
            if self._kind is None:
                raise BrokenRule(CLOSE_PROTOCOL_ERROR, "a continuation frame of no message")
            return
        if self._kind is not None:
            raise BrokenRule(CLOSE_PROTOCOL_ERROR, "a new message amid another one")
        self._kind = piece.opcode
        if piece.compressed:
            assert self._deflate is not None
            self._inflation = Inflation(self._deflate)

    def _append_payload(self, payload: bytes, *, ends: bool) -> None:
        """Add to the message, after a check of the limit and of UTF-8."""
        if len(self._buffer) + len(payload) > self._max_message_bytes:
            reason = f"a message is over {self._max_message_bytes} bytes"
            raise BrokenRule(CLOSE_TOO_BIG, reason)
        if self._kind is Opcode.TEXT:
            try:
                if self._utf8 is not None or not ends or len(payload) > INFLATED_PIECE_BYTES:
                    self._check_utf8(payload, ends=ends)
                else:
                    payload.decode()
            except UnicodeDecodeError as error:
                reason = f"a text is not UTF-8: {error.reason}"
                raise BrokenRule(CLOSE_INVALID_DATA, reason) from None
        if ends and not self._buffer:
            self._whole = payload
        else:
            self._buffer.append(payload)

    def _check_utf8(self, payload: bytes, *, ends: bool) -> None:
        """Check the UTF-8 of a part of a text, in steps, since the decoded text may be larger than its bytes."""
        if self._utf8 is None:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(payload), INFLATED_PIECE_BYTES):
            self._utf8.decode(payload[start : start + INFLATED_PIECE_BYTES])
        if ends:
            self._utf8.decode(b"", final=True)

    def _drop_message(self) -> None:
        self._kind = None
        self._whole = b""
        self._buffer.clear()
        self._inflation = self._utf8 = None

    def _end(self) -> None:
        """Ignore all further input, and drop the input that was kept."""
        self._stage = _Stage.OVER
        self._drop_message()
        self._reader = FrameReader(may_compress=False)


def _may_be_sent(code: int) -> bool:
    return code in _PROTOCOL_CODES or 3000 <= code <= 4999


def _read_close(payload: bytes) -> Closed:
    """Read a close frame (sections 5.5.1 and 7.4)."""
    if not payload:
        return Closed(CLOSE_NO_STATUS, "")
    if len(payload) == 1:
        raise BrokenRule(CLOSE_PROTOCOL_ERROR, "a close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not _may_be_sent(code):
        raise BrokenRule(CLOSE_PROTOCOL_ERROR, f"{code} is not a code that a close frame may carry")
    try:
        return Closed(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise BrokenRule(CLOSE_INVALID_DATA, "a close frame's reason is not UTF-8") from None


def _accept_token(key: bytes) -> bytes:
    """Make the answer to the client's key (section 4.2.2)."""
    return base64.b64encode(sha1(key + _ACCEPT_SALT, usedforsecurity=False).digest())


def check_handshake(request: Request) -> None:
    """Check a handshake that an application's library will answer itself.

    Raises:
        HandshakeRefused: the request is not a valid handshake.
    """
    _check_frontend(request.vars.get("SERVER_SOFTWARE", ""))
    _check_handshake(request.method, request.vars)


def _check_frontend(software: str) -> bool:
    """Refuse a handshake through a frontend that can't carry WebSockets.

    Args:
        software: SERVER_SOFTWARE. Apache and lighttpd always send it; nginx's own uwsgi_params do not.

    Returns:
        Whether the frontend is known to carry WebSockets.
    """
    for name, module in (("Apache", "mod_proxy_uwsgi"), ("lighttpd", "mod_scgi")):
        if software.startswith(name):
            raise FrontendWithoutTunnels(
                f"{name}'s {module} can't carry WebSockets: it hands the answer 101 on as an ordinary one. "
                "Let Nginx pass them to the bridge"
            )
    return software.startswith("nginx")


def _check_handshake(method: str, variables: Mapping[str, str]) -> bytes:
    """Check what RFC 6455, section 4.2.1, asks of a client; return the client's key."""
    connection = _split(variables.get("HTTP_CONNECTION", "").lower())
    if method != "GET":
        raise HandshakeRefused("a WebSocket handshake is a GET request")
    if variables["SERVER_PROTOCOL"] != "HTTP/1.1":
        raise HandshakeRefused("a WebSocket handshake through nginx is HTTP/1.1")
    if "upgrade" not in connection:
        raise HandshakeRefused("a WebSocket handshake has a Connection header with 'Upgrade'")
    if variables.get("HTTP_SEC_WEBSOCKET_VERSION") != "13":
        error = HandshakeRefused("this server speaks WebSocket version 13")
        error.status = 426
        error.headers = ((b"Sec-WebSocket-Version", b"13"),)
        raise error
    key = variables.get("HTTP_SEC_WEBSOCKET_KEY", "").strip().encode("latin-1")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        raise HandshakeRefused("Sec-WebSocket-Key is not 16 bytes in base64")
    return key


def _split(text: str) -> list[str]:
    return [item for item in (part.strip() for part in text.split(",")) if item]
