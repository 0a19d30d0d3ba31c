"""WebSockets: the handshake from vars, and messages from and to frames (RFC 6455, RFC 7692).

nginx turns a 101 into a tunnel (``ngx_http_upstream_process_upgraded``), so a plain ``uwsgi_pass``
carries WebSockets. The frames are wsproto's; here are the handshake, the limits and the words.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import (
    CloseReason,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    RsvBits,
)
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import LocalProtocolError, generate_accept_token

from uwsgibridge.protocol.errors import InvalidResponse, ProtocolError
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.response import encode_lines

CLOSE_NORMAL: Final = 1000
CLOSE_NO_STATUS: Final = 1005
CLOSE_ABNORMAL: Final = 1006
CLOSE_TOO_BIG: Final = 1009
CLOSE_INTERNAL_ERROR: Final = 1011
CLOSE_SERVICE_RESTART: Final = 1012

_MAX_REASON_BYTES: Final = 123  # a control frame holds 125 bytes, two of them the code

# RFC 7692, section 7.1; a window of 8 bits is one that zlib can't make.
_DEFLATE_PARAMETER: Final = re.compile(
    r"(?:server|client)_no_context_takeover"
    r"|server_max_window_bits\s*=\s*(?:9|1[0-5])"
    r"|client_max_window_bits(?:\s*=\s*(?:9|1[0-5]))?"
)

# The handshake's own headers; an application names its subprotocol by the message's key.
_OWN_HEADERS: Final = frozenset(
    {
        b"connection",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"upgrade",
    }
)


class HandshakeRefused(ProtocolError):
    """The request asks for a WebSocket in a way that RFC 6455, section 4.2.1, does not allow."""

    reason = "websocket_handshake"


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message from the client."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The answer to a ping of ours."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The client, or a rule that it broke, ends the WebSocket; nothing comes after this.

    Attributes:
        code: 1000 to 4999; 1005 where the client gave none.
        reason: in the client's words, or those of the rule.
    """

    code: int
    reason: str


Event = Message | PongReceived | Closed


def wants_websocket(variables: Mapping[str, str]) -> bool:
    """Whether a request asks for a WebSocket."""
    return variables.get("HTTP_UPGRADE", "").lower() == "websocket"


class WebSocket:
    """The server's side of one WebSocket.

    Args:
        request: that asks for it.
        max_message_bytes: a longer message of the client's ends it with 1009.
        deflate: whether to agree to permessage-deflate. Without context takeover in either direction:
            the price of a window (up to 300 KiB for a connection) is then paid only during a message.

    Raises:
        HandshakeRefused: the request is not a valid handshake.
    """

    def __init__(self, request: Request, *, max_message_bytes: int, deflate: bool) -> None:
        variables = request.vars
        self.subprotocols = _split(variables.get("HTTP_SEC_WEBSOCKET_PROTOCOL", ""))
        self._key = _check_handshake(request.method, variables)
        self._offers = _split(variables.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", ""))
        self._deflate = deflate
        self._max_message_bytes = max_message_bytes
        self._connection: Connection | None = None
        self._buffer = bytearray()

    def accept(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Agree to the WebSocket.

        Args:
            subprotocol: one of `subprotocols`, or None.
            headers: further ones for the answer.

        Returns:
            The head of the 101.

        Raises:
            InvalidResponse: a header can't be sent, or the client did not offer the subprotocol.
        """
        lines = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", generate_accept_token(self._key)),
        ]
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise InvalidResponse(f"the client did not offer the subprotocol {subprotocol!r}")
            lines.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        extensions: list[Extension] = []
        if self._deflate:
            offer = next(filter(_is_deflate_offer, self._offers), None)
            if offer is not None:
                deflate = _Deflate(client_no_context_takeover=True, server_no_context_takeover=True)
                agreed = server_extensions_handshake([offer], [deflate])
                if agreed is not None:
                    extensions = [deflate]
                    lines.append((b"Sec-WebSocket-Extensions", agreed))
        try:
            for name, value in headers:
                if name.lower() in _OWN_HEADERS:
                    raise InvalidResponse(f"{name!r} is the handshake's own header")
                lines.append((name, value))
        except (TypeError, ValueError, AttributeError):
            raise InvalidResponse(f"headers must be pairs of bytes, not {headers!r}") from None
        head = encode_lines(b"101 Switching Protocols", lines)
        self._connection = Connection(ConnectionType.SERVER, extensions)
        return head

    @property
    def is_open(self) -> bool:
        """Whether messages may still be sent."""
        return self._connection is not None and self._connection.state is ConnectionState.OPEN

    def receive(self, data: bytes) -> Iterator[tuple[Event | None, bytes]]:
        """Take what arrived.

        Args:
            data: bytes of the tunnel; empty for its end.

        Returns:
            Pairs, in order: what it means for the application, if anything, and what is to be sent
            in answer, if anything. After a `Closed`, and its answer, the tunnel is to be closed.
        """
        connection = self._open_connection()
        if not data:
            yield Closed(CLOSE_ABNORMAL, ""), b""
            return
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                # In one buffer, text as UTF-8: however small its fragments are, a message takes no
                # more memory than its bytes.
                part: str | bytes | bytearray = event.data
                self._buffer += part.encode() if isinstance(part, str) else part
                if len(self._buffer) > self._max_message_bytes:
                    reason = f"a message is over {self._max_message_bytes} bytes"
                    yield Closed(CLOSE_TOO_BIG, reason), self.close(CLOSE_TOO_BIG, reason)
                    return
                if event.message_finished:
                    whole, self._buffer = self._buffer, bytearray()
                    is_text = isinstance(event, TextMessage)
                    yield Message(whole.decode() if is_text else bytes(whole)), b""
            elif isinstance(event, Ping):
                yield None, connection.send(event.response()) if self.is_open else b""
            elif isinstance(event, Pong):
                yield PongReceived(), b""
            elif isinstance(event, CloseConnection):
                # wsproto's for a frame that breaks a rule, too; then its code is to be sent.
                answer = b""
                if connection.state in {ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING}:
                    answer = connection.send(event.response())
                yield Closed(int(event.code), event.reason or ""), answer
                return

    def send(self, data: str | bytes) -> bytes:
        """Turn a message into a frame; the WebSocket must be open."""
        connection = self._open_connection()
        if isinstance(data, str):
            return connection.send(TextMessage(data=data))
        return connection.send(BytesMessage(data=data))

    def ping(self) -> bytes:
        """Make a ping; empty where the WebSocket is closing."""
        return self._open_connection().send(Ping()) if self.is_open else b""

    def close(self, code: int, reason: str = "") -> bytes:
        """Begin the closing handshake; empty where it has begun already.

        Raises:
            InvalidResponse: the code may not be sent (RFC 6455, section 7.4).
        """
        if (
            type(code) is not int
            or not (1000 <= code <= 4999)
            or code in {1004, CLOSE_NO_STATUS, CLOSE_ABNORMAL, 1015}
        ):
            raise InvalidResponse(f"{code!r} is not a code that a close frame may carry")
        short = reason.encode()[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
        try:
            return self._open_connection().send(CloseConnection(code=code, reason=short))
        except LocalProtocolError:
            return b""

    def _open_connection(self) -> Connection:
        assert self._connection is not None, "the handshake is not over"
        return self._connection


class _Deflate(PerMessageDeflate):
    """Permessage-deflate that keeps its place in a message when a control frame comes in between."""

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Begin a frame; a control frame says nothing of the message around it."""
        if opcode.iscontrol() and not rsv.rsv1:
            self._inbound_is_compressible = False
            return RsvBits(rsv1=True, rsv2=False, rsv3=False)
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """End a frame; a control frame is no part of the compressed message around it."""
        if not self._inbound_is_compressible:
            return None
        return super().frame_inbound_complete(proto, fin)


def _is_deflate_offer(offer: str) -> bool:
    """Whether an offer is one that may be agreed to; any other has to be declined (RFC 7692, 7.1)."""
    name, *parameters = (part.strip() for part in offer.split(";"))
    if name != PerMessageDeflate.name:
        return False
    names = [parameter.partition("=")[0].strip() for parameter in parameters]
    return len(set(names)) == len(names) and all(map(_DEFLATE_PARAMETER.fullmatch, parameters))


def _check_handshake(method: str, variables: Mapping[str, str]) -> bytes:
    """Check what RFC 6455, section 4.2.1, asks of a client; its key."""
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
