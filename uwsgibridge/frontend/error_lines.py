"""Nginx's errors on their way to a person, without those that a restart behind Nginx causes.

A bridge that is stopped breaks off the streams that are open. Nginx has a line for each, of level error,
and the person who has just saved a file looks for a fault.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

import trio

# An answer that had begun was broken off. The actions are those of nginx's ngx_http_upstream.c; the messages
# come from there and from ngx_recv.c, ngx_readv_chain.c and ngx_send.c. 104 is ECONNRESET of Linux, 54 that
# of BSD and macOS, 32 EPIPE. One that had not begun is another matter: its client gets 502.
_BROKEN_OFF: Final = re.compile(
    r"\[error\] .*(?:failed \((?:104|54|32): [^)]*\)|upstream prematurely closed connection) "
    r"while (?:reading upstream|proxying upgraded connection), "
)

_PIECE_BYTES: Final = 65_536


class ErrorLines:
    """Hands on what is written to a descriptor, line by line.

    Args:
        write: takes a line, its end included.

    Attributes:
        descriptor: for Nginx to write to, until `close`.
        breaks_off: whether answers are being broken off at the moment: lines that say so are left out.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._reader, self.descriptor = os.pipe()
        self.breaks_off = False

    def close(self) -> None:
        """Close the descriptor here, where Nginx has one of its own."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    async def relay(self) -> None:
        """Hand lines on until all have closed the descriptor; to be run once."""
        rest = b""
        async with trio.lowlevel.FdStream(self._reader) as stream:
            while piece := await stream.receive_some(_PIECE_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._hand_on(line)
        if rest:
            self._hand_on(rest)

    def _hand_on(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        if not (self.breaks_off and _BROKEN_OFF.search(text)):
            self._write(f"{text}\n")
