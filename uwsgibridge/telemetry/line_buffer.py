"""Log lines are written at once where their reader keeps up; otherwise they are kept, or dropped and counted.

Lines that the reader does not take at once are kept, up to a number of bytes. A thread writes them, and ends
when the reader has taken them. Lines over that number of bytes are dropped and counted. So a reader that
stands still (a stopped pager, a log collector that hangs, Ctrl-S) stops neither an event loop nor the end of a
process. Lines that can't be written at all, because the disk is full, are dropped and counted as well.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from uwsgibridge.quick_dataclass import dataclass

# The default of `--log-buffer-bytes`: some thousand lines.
DEFAULT_BUFFER_BYTES: Final = 1024 * 1024

# How long a process that ends waits for readers that are slow.
_LAST_LINES_SECONDS: Final = 0.5

_buffers: Final[weakref.WeakSet[LineBuffer]] = weakref.WeakSet()
_threads_are_allowed = True


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines that are missing.

    Attributes:
        lines: how many lines were dropped.
        seconds: how long their reader took nothing, or too little; or how long ago the first of them could not be written.
        reason: of the last failed write, such as a full disk; empty where the reader was slow.
    """

    lines: int
    seconds: float
    reason: str = ""


class LineOutlet(Protocol):
    """What takes lines without ever waiting for its reader; see `Outlet`."""

    def send(self, data: bytes | memoryview) -> int:
        """Write what can be written now, and give the number of bytes; raises OSError where the reader is gone."""

    def wait(self, seconds: float | None) -> bool:
        """Wait until a write is worth another try; False where the time was over first."""

    def look_again(self) -> None:
        """Choose the way to write again."""


class LineBuffer:
    """Writes whole lines to an outlet, and can't fail. All methods are for any thread.

    Args:
        outlet: where the lines go.

    Attributes:
        buffer_bytes: how many bytes are kept for the reader at the most; one line is kept in any case.
        tell_gap: called once when lines are taken again, where lines were dropped before.
    """

    def __init__(self, outlet: LineOutlet) -> None:
        self.outlet = outlet
        self.buffer_bytes = DEFAULT_BUFFER_BYTES
        self.tell_gap: Callable[[Gap], None] | None = None
        # Whether the end of the last line was lost, so that the next one has to begin with a line end.
        self._is_cut = False
        self.begin_process()
        _buffers.add(self)

    def begin_process(self) -> None:
        """Begin a forked process with an empty buffer, because its parent writes the kept lines."""
        # The old lock may be held by a thread that the fork did not copy. The lock is reentrant, because a
        # signal handler may write a line while the thread that it interrupts writes one.
        self._lock = threading.RLock()
        self._pushing = False
        self._pending: deque[bytes | memoryview] = deque()
        self._pending_bytes = 0
        self._dropped = 0
        self._failure = ""
        self._behind_since: float | None = None
        # A token of the thread that writes the kept lines; None where no thread does.
        self._flusher: object | None = None

    def write(self, line: bytes) -> None:
        """Write a line that ends with a line end; keep or drop it otherwise. Safe in a signal handler."""
        with self._lock:
            if self._pending or self._pushing or self._is_cut or self._dropped:
                gap = self._write_behind(line)
            else:
                # The usual case, which comes with each request: the line is written without the list of kept lines.
                self._pushing = True
                try:
                    taken = self.outlet.send(line)
                    if taken < len(line):
                        # Before the lines that a signal handler has written meanwhile.
                        self._pending.appendleft(memoryview(line)[taken:] if taken else line)
                        self._pending_bytes += len(line) - taken
                except OSError as error:
                    self._lose(1, error)
                finally:
                    self._pushing = False
                if not self._pending:
                    return
                gap = self._push()
        self._tell(gap)

    def keep_rest(self, rest: bytes) -> None:
        """Keep the rest of a line that somebody has begun to write to the descriptor of an idle outlet."""
        with self._lock:
            self._pending.appendleft(memoryview(rest))
            self._pending_bytes += len(rest)
            gap = None if self._pushing else self._push()
        self._tell(gap)

    def _write_behind(self, line: bytes) -> Gap | None:
        """Write a line after the kept lines and the line that is being written; call it with the lock."""
        gap = None
        if self._pending and self._flusher is None and not self._pushing:
            gap = self._push()
        if self._pending and self._pending_bytes + len(line) > self.buffer_bytes:
            self._dropped += 1
        else:
            self._pending.append(line)
            self._pending_bytes += len(line)
        # In a signal handler: the interrupted thread is writing, and writes this line afterwards.
        return gap if self._pushing else self._push() or gap

    def finish(self, seconds: float) -> None:
        """Write the kept lines, as far as the reader takes them in so many seconds."""
        deadline = monotonic() + seconds
        while self._pending:
            with self._lock:
                gap = self._push()
            self._tell(gap)
            left = deadline - monotonic()
            if left <= 0 or not self.outlet.wait(left):
                return
        with self._lock:
            gap = None if self._pending or self._pushing else self._close_gap()
        # Nothing of this process comes after this.
        self._tell(gap)

    def look_again(self) -> None:
        """Choose the way of writing again, because the outlet's descriptor leads to another file now."""
        with self._lock:
            self.outlet.look_again()
            # The flusher thread waits for the old file, and ends when that file is read or closed.
            self._flusher = None
            gap = None if self._pushing else self._push()
        self._tell(gap)

    def _push(self) -> Gap | None:
        """Write what can be written now; call it with the lock.

        Returns:
            The gap, where all kept lines have been written and some were dropped before.
        """
        self._pushing = True
        try:
            while self._pending:
                line = self._pending[0]
                taken = self.outlet.send(b"\n" + line if self._is_cut else line)
                if self._is_cut and taken:
                    self._is_cut = False
                    taken -= 1
                    if not taken:
                        continue
                self._pending_bytes -= taken
                if taken < len(line):
                    if taken:
                        self._pending[0] = memoryview(line)[taken:]
                        continue
                    self._fall_behind()
                    return None
                self._pending.popleft()
        except OSError as error:
            self._is_cut |= isinstance(self._pending[0], memoryview)
            self._lose(len(self._pending), error)
            self._pending.clear()
            self._pending_bytes = 0
            return None
        finally:
            self._pushing = False
        return self._close_gap()

    def _close_gap(self) -> Gap | None:
        """Begin to count anew; give what was counted, where lines were dropped."""
        if self._behind_since is None:
            return None
        gap = Gap(self._dropped, monotonic() - self._behind_since, self._failure)
        self._behind_since = None
        self._dropped = 0
        self._failure = ""
        return gap if gap.lines else None

    def _lose(self, lines: int, error: OSError) -> None:
        """Count lines that could not be written: the reader is gone, or the disk is full."""
        self._dropped += lines
        self._failure = error.strerror or str(error)
        if self._behind_since is None:
            self._behind_since = monotonic()

    def _fall_behind(self) -> None:
        if self._behind_since is None:
            self._behind_since = monotonic()
        if self._flusher is None and _threads_are_allowed:
            self._flusher = token = object()
            try:
                # Not `threading.Thread`: the application must neither find this thread nor wait for it.
                _thread.start_new_thread(self._flush, (token,))
            except RuntimeError:  # no thread can be started: the next line tries again
                self._flusher = None

    def _flush(self, token: object) -> None:
        """Write the kept lines; this is the whole run of the thread."""
        # Signals are for the threads that wait for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        gap = None
        while self._flusher is token:
            self.outlet.wait(None)
            with self._lock:
                if self._flusher is token:
                    gap = self._push()
                    if not self._pending:
                        self._flusher = None
        self._tell(gap)

    def _tell(self, gap: Gap | None) -> None:
        # Without the lock, because this writes a line.
        if gap is None or self.tell_gap is None:
            return
        told_at = monotonic()
        self.tell_gap(gap)
        with self._lock:
            if self._failure:
                # There was room for a line, but not for the one that tells of the gap.
                self._dropped += gap.lines - 1
                self._behind_since = told_at - gap.seconds


def keep_to_one_thread(only: bool) -> None:
    """Have this process, which forks, start no thread for kept lines; each line then tries to write them."""
    global _threads_are_allowed  # noqa: PLW0603 - what a process is
    _threads_are_allowed = not only


def finish_lines() -> None:
    """Write the kept lines, for as long as the end of a process may wait for readers."""
    deadline = monotonic() + _LAST_LINES_SECONDS
    for buffer in list(_buffers):
        buffer.finish(deadline - monotonic())


def _begin_process() -> None:
    for buffer in _buffers:
        buffer.begin_process()


os.register_at_fork(after_in_child=_begin_process)
atexit.register(finish_lines)
