"""A client's frames as bytes (RFC 6455, section 5.2), and a server's taken apart."""

from __future__ import annotations

import struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """Write a frame; its masking key is zero, so that the payload can be read in it."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 65_536 else 127
    extended = {126: struct.pack("!H", size & 0xFFFF), 127: struct.pack("!Q", size)}.get(short, b"")
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | short]) + extended
    return head + (bytes(4) if masked else b"") + payload


def close_payload(code: int, reason: str = "") -> bytes:
    """Write what a close frame says."""
    return struct.pack("!H", code) + reason.encode()


def split_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Take a server's frames apart: the first byte, and the payload."""
    frames = []
    while data:
        first, size = data[0], data[1]
        start = 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        frames.append((first, data[start : start + size]))
        data = data[start + size :]
    return frames
