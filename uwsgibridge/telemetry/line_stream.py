"""Log lines on their way out: each in one write, so that lines of several writers are not mixed.

A pipe takes up to ``PIPE_BUF`` bytes (4,096 on Linux) as one piece, whoever else writes to it (pipe(7));
a file that is opened to append takes any number. What is longer is whole among the threads of a process,
and in a pipe among processes too as long as its reader keeps up.
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

# Stands for a descriptor that is closed: a write to it fails, and nothing else does.
_NOWHERE: Final = -1


class LineStream:
    """Writes whole lines, and can't fail: a full disk or a reader that has gone must not end a request.

    Args:
        stream: where to; its descriptor is written to, or the stream itself where it has none. None is
            nowhere.

    Attributes:
        buffer: holds what the reader has not taken yet; None where there is no descriptor.
        is_terminal: whether a person reads it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.buffer: LineBuffer | None = None
        self.is_terminal = False
        with contextlib.suppress(AttributeError, OSError, ValueError):  # it has none, or is closed
            if stream is not None:
                self.is_terminal = stream.isatty()
                self.buffer = LineBuffer(Outlet(stream.fileno()))

    def write(self, line: str) -> None:
        """Write a line, its end included; or lose it. From any thread."""
        if self._stream is None:
            return
        if self.buffer is None or self._stream.closed:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(line)
                self._stream.flush()
        else:
            self.buffer.write(line.encode(self._encoding, "backslashreplace"))


class StandardError(LineStream):
    """Writes to where descriptor 2 led when this process began, or `follow` was called.

    By a descriptor of its own: an application that closes or redirects `sys.stderr`, or descriptor 2, has
    its reasons, but the log is not among them; and number 2 could then become a client's connection.

    Attributes:
        descriptor: that one.
    """

    buffer: LineBuffer

    def __init__(self) -> None:
        self._encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
        self.descriptor = _duplicate()
        self.is_terminal = os.isatty(self.descriptor)
        self.buffer = LineBuffer(Outlet(self.descriptor))

    def write(self, line: str) -> None:
        """Write a line, its end included; keep it, or lose it. From any thread."""
        self.buffer.write(line.encode(self._encoding, "backslashreplace"))

    def follow(self) -> None:
        """Go where descriptor 2 leads now. Safe in a signal handler."""
        if self.descriptor == _NOWHERE:
            self.descriptor = self.buffer.outlet.descriptor = _duplicate()
        else:
            os.dup2(_STANDARD_ERROR, self.descriptor, inheritable=False)
        self.is_terminal = os.isatty(self.descriptor)
        self.buffer.look_again()

    def use_descriptor_two(self) -> None:
        """Write to descriptor 2 itself, so that a child that closes it keeps no other descriptor of the log open."""
        if self.descriptor not in {_NOWHERE, _STANDARD_ERROR}:
            own, self.descriptor = self.descriptor, _STANDARD_ERROR
            self.buffer.outlet.descriptor = _STANDARD_ERROR
            self.buffer.look_again()
            # Its number is faulthandler's, too: it is not to become something else.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, own, inheritable=False)
            os.close(nothing)


_own: StandardError | None = None


def own_standard_error() -> None:
    """Have the log of this process go to where descriptor 2 leads now; for a process that is a server's.

    Not so where somebody has put another stream in the place of standard error before.
    """
    global _own  # noqa: PLW0603 - there is one
    if _own is None and sys.stderr is sys.__stderr__:
        _own = StandardError()


def standard_error() -> LineStream:
    """Give what the log goes to: of this process, or `sys.stderr` where the program is somebody else's."""
    return _own or LineStream(sys.stderr)


def follow_standard_error() -> None:
    """Have the log of this process go to where descriptor 2 leads now. Safe in a signal handler."""
    if _own is not None:
        _own.follow()


def log_descriptor() -> int:
    """Give the descriptor that the log of this process goes to; it stays the same whatever it leads to."""
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
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - somebody has taken its place


def _duplicate() -> int:
    try:
        return fcntl.fcntl(_STANDARD_ERROR, fcntl.F_DUPFD_CLOEXEC, _STANDARD_ERROR + 1)
    except OSError:  # it is closed
        return _NOWHERE
