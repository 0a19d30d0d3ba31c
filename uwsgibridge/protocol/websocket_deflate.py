"""Permessage-deflate (RFC 7692): agrees to an offer, and compresses and inflates messages.

There is no context takeover in either direction: a window exists only while a message is under way. A client's
message is inflated in pieces, so that the caller can stop at a limit.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from uwsgibridge.protocol.websocket_frames import BrokenRule

NAME: Final = "permessage-deflate"

CLOSE_INVALID_DATA: Final = 1007

# How many bytes one step inflates at the most. A limit is exceeded by no more than this.
INFLATED_PIECE_BYTES: Final = 65_536

_MAX_WINDOW_BITS: Final = 15

# A parameter of section 7.1. zlib can't make a window of 8 bits.
_PARAMETER: Final = re.compile(
    r"(?:server|client)_no_context_takeover"
    r"|(?P<server>server_max_window_bits)\s*=\s*(?P<server_bits>9|1[0-5])"
    r"|(?P<client>client_max_window_bits)(?:\s*=\s*(?P<client_bits>9|1[0-5]))?"
)

# The sender removes these bytes from the end of each message (section 7.2.1).
_TAIL: Final = b"\x00\x00\xff\xff"

# After a last block, only the empty block may come that the tail belongs to (section 7.2.3.4).
_EMPTY_BLOCK: Final = b"\x00"


@dataclass(frozen=True, slots=True)
class Deflate:
    """The parameters that were agreed to.

    Attributes:
        answer: the value of the answer's Sec-WebSocket-Extensions.
        client_window_bits: the window for messages of the client.
        server_window_bits: the window for messages to the client.
    """

    answer: bytes
    client_window_bits: int
    server_window_bits: int

    def compress(self, payload: bytes) -> bytes:
        """Compress a whole message, independently of others."""
        compressor = zlib.compressobj(wbits=-self.server_window_bits)
        squeezed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return squeezed[: -len(_TAIL)]


class Inflation:
    """Inflates one message of the client."""

    __slots__ = ("_decompressor", "_rest")

    def __init__(self, deflate: Deflate) -> None:
        self._decompressor = zlib.decompressobj(wbits=-deflate.client_window_bits)
        self._rest: bytes | None = None  # bytes that came after a last block

    def pieces(self, data: bytes, *, last: bool) -> Iterator[bytes]:
        """Inflate the next part of the message.

        Args:
            data: the part.
            last: whether the message ends with this part.

        Returns:
            Pieces of at most `INFLATED_PIECE_BYTES`, each of which is inflated when it is asked for.

        Raises:
            BrokenRule: the part is no deflated data.
        """
        decompressor = self._decompressor
        if last:
            data += _TAIL
        if self._rest is None:
            try:
                while True:
                    piece = decompressor.decompress(data, INFLATED_PIECE_BYTES)
                    yield piece
                    if decompressor.eof:
                        break
                    data = decompressor.unconsumed_tail
                    if not data and len(piece) < INFLATED_PIECE_BYTES:
                        return
            except zlib.error:
                raise BrokenRule(CLOSE_INVALID_DATA, "a message is not deflated data") from None
            self._rest, data = b"", decompressor.unused_data
        # zlib would keep all bytes after a last block. Only the block that the tail belongs to may come there.
        self._rest += data
        if self._rest != _TAIL and not (_EMPTY_BLOCK + _TAIL).startswith(self._rest):
            raise BrokenRule(CLOSE_INVALID_DATA, "more follows the last block of deflated data")


def agree(offers: Iterable[str]) -> Deflate | None:
    """Choose the first offer that can be met; other offers have to be declined (RFC 7692, section 7.1).

    Args:
        offers: the elements of the client's Sec-WebSocket-Extensions.
    """
    for offer in offers:
        name, *parameters = (part.strip() for part in offer.split(";"))
        names = [parameter.partition("=")[0].strip() for parameter in parameters]
        found = [_PARAMETER.fullmatch(parameter) for parameter in parameters]
        if name != NAME or len(set(names)) != len(names) or None in found:
            continue
        answer = [NAME, "client_no_context_takeover", "server_no_context_takeover"]
        client_bits = server_bits = _MAX_WINDOW_BITS
        for match in found:
            assert match is not None
            if match["client"]:
                client_bits = int(match["client_bits"] or _MAX_WINDOW_BITS)
                answer.append(f"client_max_window_bits={client_bits}")
            elif match["server"]:
                server_bits = int(match["server_bits"])
                answer.append(f"server_max_window_bits={server_bits}")
        return Deflate("; ".join(answer).encode(), client_bits, server_bits)
    return None
