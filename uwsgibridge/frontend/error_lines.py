"""Passes Nginx's errors on to a person, without those that a restart of the bridge causes.

A bridge that is stopped breaks off open streams. Nginx logs an error for each, which would have a person who has
just saved a file look for a fault.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

import trio

# Lines of answers that had begun and were broken off. The actions are those of nginx's ngx_http_upstream.c; the
# messages come from there and from ngx_recv.c, ngx_readv_chain.c and ngx_send.c. 104 is ECONNRESET of Linux, 54
# that of BSD and macOS, 32 is EPIPE. Lines of answers that had not begun are kept: those clients get 502.
_BROKEN_OFF: Final = re.compile(
    r"\[error\] .*(?:failed \((?:104|54|32): [^)]*\)|upstream prematurely closed connection) "
    r"while (?:reading upstream|proxying upgraded connection), "
)

_PIECE_BYTES: Final = 65_536


class ErrorLines:
    """Passes on what is written to a descriptor, line by line.

    Args:
        write: takes a line with its line end.

    Attributes:
        descriptor: Nginx writes to it; closed by `close`.
        breaks_off: whether answers are being broken off at this moment, so that their lines are left out.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._reader, self.descriptor = os.pipe()
        self.breaks_off = False

    def close(self) -> None:
        """Close the descriptor in this process, when Nginx has inherited it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    async def relay(self) -> None:
        """Pass lines on until all processes have closed the descriptor; call it once."""
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
