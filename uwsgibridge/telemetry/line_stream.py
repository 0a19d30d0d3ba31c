"""Writes each log line in one write, so that the lines of several writers are not mixed.

A pipe takes up to ``PIPE_BUF`` bytes (4,096 on Linux) as one piece, whoever else writes to it (pipe(7)). A file
that is opened to append takes any number. Threads of one process never mix their lines, however long these are.
In a pipe, longer lines of several processes stay whole as long as the reader keeps up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from typing import Final, TextIO

from uwsgibridge.telemetry.line_buffer import LineBuffer
from uwsgibridge.telemetry.outlet import Outlet

_STANDARD_ERROR: Final = 2

# The number of a descriptor that is closed. A write to it fails.
_NOWHERE: Final = -1


class LineStream:
    """Writes whole lines and never raises: a full disk or a reader that is gone must not end a request.

    Args:
        stream: where the lines go: to its descriptor, or to the stream itself where it has none. None
            drops them.

    Attributes:
        buffer: keeps the lines that the reader has not taken yet; None where there is no descriptor.
        is_terminal: whether a person reads it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.buffer: LineBuffer | None = None
        self.is_terminal = False
        # The stream may have no descriptor, or be closed.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if stream is not None:
                self.is_terminal = stream.isatty()
                self.buffer = LineBuffer(Outlet(stream.fileno()))

    def write(self, line: str) -> None:
        """Write a line that ends with a line end, or drop it; from any thread."""
        if self._stream is None:
            return
        if self.buffer is None or self._stream.closed:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(line)
                self._stream.flush()
        else:
            self.buffer.write(line.encode(self._encoding, "backslashreplace"))

    @property
    def own_buffer(self) -> LineBuffer | None:
        """The buffer, where lines go there and nowhere else; it then takes ASCII as it is."""
        return None

    def write_ascii(self, line: bytes) -> None:
        """Write a line of ASCII, as `write`."""
        self.write(line.decode("ascii"))


class BufferedLines(LineStream):
    """Writes whole lines to a descriptor of its own; the base of what says which file it leads to.

    Args:
        outlet: where the lines go.
        encoding: of the lines.
    """

    buffer: LineBuffer

    def __init__(self, outlet: Outlet, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self.is_terminal = os.isatty(outlet.descriptor)
        self.buffer = LineBuffer(outlet)

    def write(self, line: str) -> None:
        """Write a line that ends with a line end; keep or drop it otherwise; from any thread."""
        self.buffer.write(line.encode(self._encoding, "backslashreplace"))

    @property
    def own_buffer(self) -> LineBuffer:
        return self.buffer

    def write_ascii(self, line: bytes) -> None:
        self.buffer.write(line)


class StandardError(BufferedLines):
    """Writes to the file that descriptor 2 led to when this process began, or when `follow` was called last.

    The log has a descriptor of its own: an application may close or redirect `sys.stderr` or descriptor 2,
    which must not change where the log goes. Number 2 could then even become a client's connection.

    Attributes:
        descriptor: the log's own descriptor.
    """

    def __init__(self) -> None:
        self.descriptor = _duplicate()
        self._outlet = Outlet(self.descriptor)
        super().__init__(self._outlet, getattr(sys.__stderr__, "encoding", None) or "utf-8")

    def follow(self) -> None:
        """Write to the file that descriptor 2 leads to now. Safe in a signal handler."""
        if self.descriptor == _NOWHERE:
            self.descriptor = self._outlet.descriptor = _duplicate()
        else:
            os.dup2(_STANDARD_ERROR, self.descriptor, inheritable=False)
        self.is_terminal = os.isatty(self.descriptor)
        self.buffer.look_again()

    def use_descriptor_two(self) -> None:
        """Write to descriptor 2 itself, so that a child that closes it keeps no other descriptor of the log open."""
        if self.descriptor not in {_NOWHERE, _STANDARD_ERROR}:
            own, self.descriptor = self.descriptor, _STANDARD_ERROR
            self._outlet.descriptor = _STANDARD_ERROR
            self.buffer.look_again()
            # `faulthandler` writes to the same number, which must not come to stand for another file.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, own, inheritable=False)
            os.close(nothing)


_own: StandardError | None = None


def own_standard_error() -> None:
    """Give the log of this process a descriptor of its own, which leads where descriptor 2 leads now.

    Does nothing where somebody has replaced `sys.stderr` before. Only processes of a server call this.
    """
    global _own  # noqa: PLW0603 - there is one
    if _own is None and sys.stderr is sys.__stderr__:
        _own = StandardError()


def standard_error() -> LineStream:
    """Give the stream that the log goes to; in a program of somebody else's, that is `sys.stderr`."""
    return _own or LineStream(sys.stderr)


def follow_standard_error() -> None:
    """Have the log of this process go where descriptor 2 leads now. Safe in a signal handler."""
    if _own is not None:
        _own.follow()


def log_descriptor() -> int:
    """Give the log's descriptor; its number stays the same when the log goes to another file."""
    return _own.descriptor if _own is not None else _STANDARD_ERROR


def log_to_descriptor_two() -> None:
    """Have the log go to descriptor 2 itself, in a child that the application has forked."""
    if _own is not None:
        _own.use_descriptor_two()


def say(text: str) -> None:
    """Write a sentence for the operator where there is no logger; wait for nobody."""
    if _own is not None and sys.stderr is sys.__stderr__:
        _own.write(f"{text}\n")
    else:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - to the stream of who has replaced sys.stderr


def _duplicate() -> int:
    try:
        return fcntl.fcntl(_STANDARD_ERROR, fcntl.F_DUPFD_CLOEXEC, _STANDARD_ERROR + 1)
    except OSError:  # descriptor 2 is closed
        return _NOWHERE
