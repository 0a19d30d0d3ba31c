"""WebSocket frames (RFC 6455, section 5): reads those of a client as they arrive, and writes those of a server.

A frame's payload is passed on in the pieces in which it arrives, so that this module holds one piece at the most. The
caller can apply a limit, and the rules of UTF-8, before a frame has ended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Final, NamedTuple

MAX_CONTROL_BYTES: Final = 125
_UNMASKED: Final = bytes(4)

_FIN: Final = 0x80
_RSV1: Final = 0x40
_RSV2_AND_3: Final = 0x30
_MASKED: Final = 0x80


class Opcode(IntEnum):
    """The opcode of a frame (RFC 6455, section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


CLOSE_PROTOCOL_ERROR: Final = 1002

_OPCODES: Final = {int(opcode): opcode for opcode in Opcode}


class BrokenRule(Exception):
    """The client breaks a rule.

    Args:
        code: of the close frame.
        reason: of the close frame; says what the rule is.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Piece(NamedTuple):
    """A part of a frame's payload; a control frame always comes as one piece.

    Attributes:
        opcode: of the frame.
        payload: bytes, unmasked; empty for an empty frame.
        starts: whether this is the first piece of the frame.
        ends: whether this is the last piece of the frame.
        fin: whether the frame is the last one of its message.
        compressed: whether the frame has RSV1 (RFC 7692, section 6).
    """

    opcode: Opcode
    payload: bytes
    starts: bool
    ends: bool
    fin: bool
    compressed: bool


class FrameReader:
    """Reads a client's frames.

    Args:
        may_compress: whether permessage-deflate was agreed to, so that RSV1 may be set.
    """

    __slots__ = (
        "_at", "_data", "_fin", "_left", "_mask", "_may_compress", "_opcode", "_rsv1", "_starts",
        "_unmask",
    )  # fmt: skip

    def __init__(self, *, may_compress: bool) -> None:
        self._may_compress = may_compress
        self._unmask = _unmasking()
        self._data = b""  # bytes that have arrived
        self._at = 0  # how many bytes of `_data` have been read
        self._opcode: Opcode | None = None  # of the frame that is being read
        self._fin = self._rsv1 = self._starts = False
        self._mask = _UNMASKED
        self._left = 0  # bytes of the frame's payload that have not arrived

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        rest = self._data[self._at :]
        self._data = rest + data if rest else data
        self._at = 0

    def next(self) -> Piece | None:
        """Give the next piece; None where more has to arrive.

        Raises:
            BrokenRule: the frame is not allowed. Bytes after it have no meaning.
        """
        opcode = self._opcode
        if opcode is None:
            opcode = self._begin()
            if opcode is None:
                return None
        at = self._at
        size = len(self._data) - at
        left = self._left
        if size < left:
            # A control frame becomes one piece: its payload has at most 125 bytes.
            if opcode >= Opcode.CLOSE or not size:
                return None
            ends = False
        else:
            size = left
            ends = True
        end = at + size
        payload = b""
        if size:
            mask = self._mask
            payload = self._unmask(self._data[at:end], mask)
            if not ends and size % 4:
                self._mask = mask[size % 4 :] + mask[: size % 4]
        self._left = left - size
        if end == len(self._data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        piece = Piece(opcode, payload, self._starts, ends, self._fin, self._rsv1)
        self._starts = False
        if ends:
            self._opcode = None
        return piece

    def _begin(self) -> Opcode | None:
        """Read a frame's head; None where more of the head has to arrive."""
        data, at = self._data, self._at
        have = len(data) - at
        if have < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode = _OPCODES.get(first & 0x0F)
        if opcode is None:
            raise _broken(f"opcode {first & 0x0F} is reserved")
        if first & _RSV2_AND_3:
            raise _broken("a reserved bit is set")
        if first & _RSV1 and (
            not self._may_compress or opcode >= Opcode.CLOSE or not opcode  # RFC 7692, section 6
        ):
            raise _broken("a reserved bit is set")
        if not second & _MASKED:
            raise _broken("a client's frame is not masked")
        size = second & 0x7F
        if opcode >= Opcode.CLOSE:
            if not first & _FIN:
                raise _broken("a control frame is fragmented")
            if size > MAX_CONTROL_BYTES:
                raise _broken("a control frame is over 125 bytes")
        mask_at = 2
        if size >= 126:
            mask_at = 4 if size == 126 else 10
            if have < mask_at:
                return None
            size = int.from_bytes(data[at + 2 : at + mask_at], "big")
            if size < (126 if mask_at == 4 else 65_536) or size >> 63:
                raise _broken("a length is not in its shortest form")
        if have < mask_at + 4:
            return None
        self._at = at + mask_at + 4
        self._mask = data[at + mask_at : self._at]
        self._opcode = opcode
        self._fin = first & _FIN > 0
        self._rsv1 = first & _RSV1 > 0
        self._starts = True
        self._left = size
        return opcode


def encode_frame(opcode: Opcode, payload: bytes, *, compressed: bool = False) -> bytes:
    """Write a message, or a control frame, as one frame of a server, which has no mask."""
    first = _FIN | (_RSV1 if compressed else 0) | opcode
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


class SentFrames:
    """Reads along what a server writes to a WebSocket: the head of its 101, and then frames."""

    __slots__ = ("_head", "_is_closed", "_left", "_start")

    def __init__(self) -> None:
        self._head: bytes | None = b""  # the last bytes of the head; None after the head
        self._start = b""  # the beginning of a frame whose length is not known yet
        self._left = 0  # bytes of the frame's payload
        self._is_closed = False  # a close frame was written

    @property
    def may_close(self) -> bool:
        """Whether a close frame may come next: it is the first one, and no frame is under way."""
        return self._head is None and not (self._left or self._start or self._is_closed)

    def feed(self, data: memoryview) -> None:
        """Add bytes that were written."""
        if self._head is not None:
            seen = self._head + bytes(data)
            end = seen.find(b"\r\n\r\n")
            if end < 0:
                self._head = seen[-3:]
                return
            data = data[end + 4 - len(self._head) :]
            self._head = None
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
            else:
                data = self._parse_head(data)

    def _parse_head(self, data: memoryview) -> memoryview:
        start = self._start + bytes(data[:10])
        size = start[1] & 0x7F if len(start) > 1 else 0
        end = {126: 4, 127: 10}.get(size, 2)
        if len(start) < end:
            self._start = start
            return data[:0]
        taken = end - len(self._start)
        self._start = b""
        self._left = size if end == 2 else int.from_bytes(start[2:end], "big")
        self._is_closed = self._is_closed or start[0] & 0x0F == Opcode.CLOSE
        return data[taken:]


def _broken(reason: str) -> BrokenRule:
    return BrokenRule(CLOSE_PROTOCOL_ERROR, reason)


@cache
def _xor_table(key: int) -> bytes:
    """Make the table for `bytes.translate` that masks with one byte. All 256 would take as long as 50 modules to import."""
    return bytes(byte ^ key for byte in range(256))


def _unmask_in_python(data: bytes, mask: bytes) -> bytes:
    """Remove a client's mask (section 5.3), with one step for each byte of the mask."""
    unmasked = bytearray(data)
    for lane, key in enumerate(mask):
        unmasked[lane::4] = unmasked[lane::4].translate(_xor_table(key))
    return bytes(unmasked)


@cache
def _unmasking() -> Callable[[bytes, bytes], bytes]:
    """Choose the function that removes a client's mask.

    This happens at the first WebSocket and not at the start, since most workers have none.
    """
    try:
        # The function in C takes 1.3 us instead of 70 us for 64 KiB.
        from websockets.speedups import apply_mask
    except ImportError:  # this build of websockets has no C part
        return _unmask_in_python
    return apply_mask
