"""Log lines on their way out: each in one write, so that lines of several writers are not mixed.

A pipe takes up to ``PIPE_BUF`` bytes (4,096 on Linux) as one piece, whoever else writes to it (pipe(7));
a file that is opened to append takes any number. What is longer is whole among the threads of a process,
and in a pipe among processes too as long as its reader keeps up.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final, TextIO

# One for all streams: they lead to the same descriptor. Signal handlers write as well, maybe in the
# middle of a write of the thread that they interrupt.
_lock = threading.RLock()

# Descriptors on which the last line was cut off, so that the next one has to begin with a line end.
_cut: Final[set[int]] = set()


class LineStream:
    """Writes whole lines, and can't fail: a full disk or a reader that has gone must not end a request.

    Args:
        stream: where to; its descriptor is written to, or the stream itself where it has none.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, line: str) -> None:
        """Write a line, its end included; or lose it. From any thread."""
        data = line.encode(self._encoding, "backslashreplace")
        with _lock:
            try:
                descriptor = self._stream.fileno()
            except (AttributeError, OSError, ValueError):  # it has none, or is closed
                with contextlib.suppress(OSError, ValueError):
                    self._stream.write(line)
                    self._stream.flush()
            else:
                _write(descriptor, data)


def _write(descriptor: int, data: bytes) -> None:
    if descriptor in _cut:
        data = b"\n" + data
    rest = data
    try:
        while written := os.write(descriptor, rest):
            rest = rest[written:]
            if not rest:
                _cut.discard(descriptor)
                return
    except OSError:
        if len(rest) < len(data):
            _cut.add(descriptor)


def _renew_lock() -> None:
    """Give a forked process a lock of its own: a thread that it does not have may hold the other."""
    global _lock  # noqa: PLW0603 - what a fork copies is the module's
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
