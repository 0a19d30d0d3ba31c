"""A descriptor that log lines are written to, without ever waiting for its reader.

Standard error is shared with other processes: the shell, another writer to the same pipe, processes that the
application starts. O_NONBLOCK is a flag of the open file, which all of them share (open(2)). So it is never set
on standard error: the other processes would meet EAGAIN where they do not expect it.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable
from typing import Final, TypeAlias

from uwsgibridge.fast import accelerator

Send: TypeAlias = Callable[[bytes | memoryview], int]

# A write of up to this size goes into a pipe as one piece or not at all (pipe(7)).
_ATOMIC_BYTES: Final = select.PIPE_BUF

# Errors for a flag that the kernel does not know, or does not know for this kind of file.
_NO_SUCH_FLAG: Final = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ESPIPE}


class Outlet:
    """Writes what can be written at once.

    The outlet uses the first of these ways that the system has:

    - for a regular file or /dev/null, a plain write, which waits for no reader;
    - ``RWF_NOWAIT`` (pwritev2(2)), a flag of one write; for sockets, and for pipes since Linux 6.4;
    - the same pipe opened once more through /proc, or the same terminal by its name, with O_NONBLOCK on that
      open file alone;
    - poll(2) before each write, to look whether a piece fits. Another process may fill the pipe between
      poll and write, and then the write waits. This is for systems without /proc, and on Linux before 6.4
      for a pipe of root's in a process that has dropped its privileges.

    Args:
        descriptor: where to write; the caller closes it.

    Attributes:
        descriptor: as it was given.
        at_once: a descriptor that the accelerator may write to in the place of `send`, or -1.
        is_nonblocking: whether `at_once` never waits by itself; else ``RWF_NOWAIT`` is to be used.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._own = -1
        self.at_once = -1
        self.is_nonblocking = False
        self._send: Send = self._choose()

    def send(self, data: bytes | memoryview) -> int:
        """Write what can be written now.

        Returns:
            How many bytes were taken; 0 where the reader does not keep up.

        Raises:
            OSError: the reader is gone for good, or the disk is full.
        """
        return self._send(data)

    def wait(self, seconds: float | None) -> bool:
        """Wait until a write would succeed or fail at once; False where the time was over first."""
        return _poll(self.descriptor, None if seconds is None else seconds * 1000)

    def look_again(self) -> None:
        """Choose the way to write again, because the descriptor leads to another file now."""
        self.close()
        self._send = self._choose()

    def close(self) -> None:
        """Close the open file that the outlet has made for itself, if any."""
        if self._own >= 0:
            os.close(self._own)
            self._own = self.at_once = -1

    def _choose(self) -> Send:
        self.at_once = -1
        try:
            mode = os.fstat(self.descriptor).st_mode
        except OSError:  # the descriptor is closed: a write will say so
            return self._plain
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(self.descriptor)):
            return self._plain
        if not hasattr(os, "RWF_NOWAIT"):
            return self._choose_older()
        self.at_once, self.is_nonblocking = self.descriptor, False
        return self._not_waiting

    def _choose_older(self) -> Send:
        self.at_once = self._own = _open_once_more(self.descriptor)
        self.is_nonblocking = True
        return self._polled if self._own < 0 else self._by_own

    def _plain(self, data: bytes | memoryview) -> int:
        return os.write(self.descriptor, data)

    def _not_waiting(self, data: bytes | memoryview) -> int:
        try:
            return _write_at_once(self.descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _NO_SUCH_FLAG:
                raise
        self._send = self._choose_older()
        return self._send(data)

    def _by_own(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._own, data)
        except BlockingIOError:
            return 0

    def _polled(self, data: bytes | memoryview) -> int:
        if not _poll(self.descriptor, 0):
            return 0
        return os.write(self.descriptor, data[:_ATOMIC_BYTES])


def _pwritev(descriptor: int, data: bytes | memoryview) -> int:
    # -1 stands for the file's own position; a pipe has none.
    return os.pwritev(descriptor, (data,), -1, os.RWF_NOWAIT)


_write_at_once: Final = _pwritev if accelerator is None else accelerator.write_at_once


def _open_once_more(descriptor: int) -> int:
    """Open the same pipe or terminal for writing, as an open file of its own; -1 where that is impossible."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    for name in (f"/proc/self/fd/{descriptor}", *_names_of_terminal(descriptor)):
        try:
            opened = os.open(name, flags)
        except OSError:
            continue
        if os.path.sameopenfile(opened, descriptor):
            return opened
        os.close(opened)
    return -1


def _names_of_terminal(descriptor: int) -> list[str]:
    try:
        return [os.ttyname(descriptor)]
    except OSError:  # the descriptor is no terminal
        return []


def _poll(descriptor: int, milliseconds: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(milliseconds))
