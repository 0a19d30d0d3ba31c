"""Parses and encodes uwsgi packets.

A packet is ``modifier1: u8, datasize: u16le, modifier2: u8``, and then ``datasize`` bytes of vars. Each var is
``keysize: u16le, key, valsize: u16le, value``. The request's body follows the packet, and is no part of it. (uWSGI's
``core/protocol.c``; nginx's ``ngx_http_uwsgi_create_request``.)
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from uwsgibridge.fast import accelerator
from uwsgibridge.protocol.errors import (
    HttpNotUwsgi,
    MalformedPacket,
    ProtocolError,
    TlsNotUwsgi,
    TooManyVars,
    UnsupportedModifier,
)
from uwsgibridge.protocol.repeated_vars import settle_repeated
from uwsgibridge.quick_dataclass import dataclass

HEADER_BYTES: Final = 4
MAX_VARS_BYTES: Final = 65_535  # datasize is a u16
MAX_PACKET_BYTES: Final = HEADER_BYTES + MAX_VARS_BYTES

MODIFIER_REQUEST: Final = 0
MODIFIER_REQUEST_STRIP_SCRIPT_NAME: Final = 30
MODIFIER_PING: Final = 100

_ACCEPTED_MODIFIERS: Final = frozenset(
    {MODIFIER_REQUEST, MODIFIER_REQUEST_STRIP_SCRIPT_NAME, MODIFIER_PING}
)

# uWSGI's answer to a ping: modifier1 is 100 again, and modifier2 is 1 for "I am here".
PONG: Final = struct.pack("<BHB", MODIFIER_PING, 0, 1)
PING: Final = struct.pack("<BHB", MODIFIER_PING, 0, 0)

# The first four bytes of HTTP. A method is a token, and all methods in use are upper case. No accepted modifier is an
# upper-case letter, so that four bytes are enough to tell (RFC 9112, section 3; RFC 9113, 3.4).
_HTTP_METHOD_START: Final = re.compile(rb"[A-Z][A-Z ][A-Z/ ]?[A-Z/ *]?")
_TLS_HANDSHAKE_START: Final = re.compile(rb"\x16\x03[\x00-\x04]?")

# In a refused packet that is not parsed, these bytes tell that its answer has no body.
HEAD_VAR: Final = b"\x0e\0REQUEST_METHOD\x04\0HEAD"

_header = struct.Struct("<BHB")
_unpack_header = _header.unpack_from


@dataclass(frozen=True, slots=True)
class PacketLimits:
    """The sizes over which a packet is refused.

    Attributes:
        max_vars_bytes: bytes of vars in one packet, at most the 65,535 of the format.
        max_vars: number of vars in one packet.
    """

    max_vars_bytes: int = MAX_VARS_BYTES
    max_vars: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.max_vars_bytes <= MAX_VARS_BYTES:
            raise ValueError(f"max_vars_bytes must be from 1 to {MAX_VARS_BYTES}")
        if self.max_vars < 1:
            raise ValueError("max_vars must be at least 1")


class Packet(NamedTuple):
    """A whole packet: its modifier1, its vars, and how many bytes it has."""

    modifier1: int
    vars: dict[str, str]
    size_bytes: int


def parse_packet(buffer: memoryview, limits: PacketLimits) -> Packet | None:
    """Parse the packet at the start of the received bytes.

    Args:
        buffer: all bytes received on the connection, which may be less than a packet, or more.
        limits: larger packets are refused.

    Returns:
        The packet; None where more bytes are needed. The vars are text in latin-1, with one code point for
        each byte, as PEP 3333 has them. `uwsgibridge.protocol.repeated_vars` decides about repeated vars.

    Raises:
        ProtocolError: the bytes will never be a packet that the bridge serves; raised as early as possible.
    """
    if accelerator is not None:
        packet = accelerator.parse_packet(buffer, limits.max_vars_bytes, limits.max_vars, Packet)
        if packet is not None:
            return packet
    if len(buffer) < HEADER_BYTES:
        if buffer and buffer[0] not in _ACCEPTED_MODIFIERS:
            _refuse_modifier(buffer, need_more=True)
        return None
    modifier1, vars_bytes, _modifier2 = _unpack_header(buffer)
    if modifier1 not in _ACCEPTED_MODIFIERS:
        _refuse_modifier(buffer, need_more=False)
    if vars_bytes > limits.max_vars_bytes:
        error = TooManyVars(
            f"the packet holds {vars_bytes} bytes of vars, the limit is {limits.max_vars_bytes}",
            option="--max-vars-bytes",
        )
        if HEAD_VAR in buffer.tobytes():  # looks at the bytes that have arrived
            error.method = "HEAD"
        raise error
    end = HEADER_BYTES + vars_bytes
    if len(buffer) < end:
        return None
    variables = _decode_vars(buffer[HEADER_BYTES:end].tobytes(), limits.max_vars)
    return Packet(modifier1, variables, end)


def encode_packet(
    variables: Mapping[str, str] | Iterable[tuple[str, str]],
    *,
    modifier1: int = MODIFIER_REQUEST,
    modifier2: int = 0,
) -> bytes:
    """Encode a packet as a frontend sends it.

    Args:
        variables: a mapping, or pairs where order or repetition matters; text in latin-1.
        modifier1: the command; 0 is a request.
        modifier2: 0 in all known uses.

    Returns:
        Header and vars; a body, if any, has to follow.

    Raises:
        ValueError: a var or the whole is over the 65,535 bytes of the format, or a var is not latin-1.
    """
    if not (0 <= modifier1 <= 255 and 0 <= modifier2 <= 255):
        raise ValueError("a modifier is one byte, from 0 to 255")
    pairs = variables.items() if isinstance(variables, Mapping) else variables
    parts: list[bytes] = []
    for key, value in pairs:
        for text in (key, value):
            data = text.encode("latin-1")
            if len(data) > MAX_VARS_BYTES:
                raise ValueError(f"{key[:40]} is over {MAX_VARS_BYTES} bytes")
            parts += (struct.pack("<H", len(data)), data)
    payload = b"".join(parts)
    if len(payload) > MAX_VARS_BYTES:
        raise ValueError(f"the vars take {len(payload)} bytes, over {MAX_VARS_BYTES}")
    return _header.pack(modifier1, len(payload), modifier2) + payload


def _decode_vars(payload: bytes, max_vars: int) -> dict[str, str]:
    # The payload is decoded as a whole and then sliced, which takes half the time of decoding each var. Nearly all
    # sizes have a high byte of 0: then the low byte is the size, which is quicker than unpacking both.
    text = payload.decode("latin-1")
    end = len(payload)
    variables: dict[str, str] = {}
    position = count = 0
    try:
        while position < end:
            key_start = position + 2
            key_end = key_start + payload[position]
            if payload[position + 1]:
                key_end += payload[position + 1] << 8
            value_start = key_end + 2
            position = value_start + payload[key_end]
            if payload[key_end + 1]:
                position += payload[key_end + 1] << 8
            variables[text[key_start:key_end]] = text[value_start:position]
            count += 1
    except IndexError:
        raise MalformedPacket("the size of a var runs past the end of the packet") from None
    if position != end:
        raise MalformedPacket("the size of a var runs past the end of the packet")
    if "" in variables:
        raise MalformedPacket("a var has an empty name")
    if count > max_vars:
        error = TooManyVars(
            f"the packet holds {count} vars, the limit is {max_vars}", option="--max-vars"
        )
        error.method = variables.get("REQUEST_METHOD", error.method)
        raise error
    if count != len(variables):
        return settle_repeated(_pairs(payload, text))
    return variables


def _pairs(payload: bytes, text: str) -> list[tuple[str, str]]:
    """List the vars of a well-formed payload, including repeated ones."""
    # Each request of a site with a line after `include uwsgi_params;` comes here, so this is as quick as above.
    pairs = []
    position, end = 0, len(payload)
    while position < end:
        key_start = position + 2
        key_end = key_start + payload[position] + (payload[position + 1] << 8)
        value_start = key_end + 2
        position = value_start + payload[key_end] + (payload[key_end + 1] << 8)
        pairs.append((text[key_start:key_end], text[value_start:position]))
    return pairs


def _refuse_modifier(buffer: memoryview, *, need_more: bool) -> None:
    """Raise the error for bytes that are no packet; with `need_more`, only if no further byte can change it."""
    start = buffer[:HEADER_BYTES].tobytes()
    error: ProtocolError
    if _HTTP_METHOD_START.fullmatch(start):
        error = HttpNotUwsgi(
            "HTTP arrived on a uwsgi port: in Nginx, use uwsgi_pass (not proxy_pass) for this address"
        )
        if start == b"HEAD":
            error.method = "HEAD"
    elif _TLS_HANDSHAKE_START.match(start):
        error = TlsNotUwsgi(
            "a TLS handshake arrived on a uwsgi port: in Nginx, use a plain uwsgi_pass address"
        )
    else:
        error = UnsupportedModifier(
            f"modifier1 {start[0]} is a command that is never carried out here; "
            "0 and 30 (requests) and 100 (ping) are served"
        )
    if need_more and (start[0] == 0x16 or start[:1].isupper()):
        return
    raise error
