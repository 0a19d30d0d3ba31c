"""Lines that are written at once where their reader keeps up, and kept, or dropped, where it does not.

What a reader does not take at once is kept, up to a number of bytes, and written by a thread that lives
until it has been taken. What is over that is dropped and counted. So a reader that stands still (a
stopped pager, a log collector that hangs, Ctrl-S) stops neither an event loop nor the end of a process.
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
from dataclasses import dataclass
from time import monotonic
from typing import Final

from uwsgibridge.telemetry.outlet import Outlet

# What `--log-buffer-bytes` is by default: some thousand lines.
DEFAULT_BUFFER_BYTES: Final = 1024 * 1024

# How long a process that ends goes on for readers that are slow.
_LAST_LINES_SECONDS: Final = 0.5

_buffers: Final[weakref.WeakSet[LineBuffer]] = weakref.WeakSet()
_threads_are_allowed = True


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines that are missing.

    Attributes:
        lines: how many.
        seconds: for how long their reader took nothing, or too little.
    """

    lines: int
    seconds: float


class LineBuffer:
    """Writes whole lines to an outlet, and can't fail. All methods are for any thread.

    Args:
        outlet: where to.

    Attributes:
        buffer_bytes: so much is kept of what the reader has not taken yet, and always one line.
        tell_gap: called when the reader is back, once, where lines were dropped meanwhile.
    """

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.buffer_bytes = DEFAULT_BUFFER_BYTES
        self.tell_gap: Callable[[Gap], None] | None = None
        # Whether the end of the last line was lost, so that the next one has to begin with a line end.
        self._is_cut = False
        self.begin_process()
        _buffers.add(self)

    def begin_process(self) -> None:
        """Begin a forked process with an empty buffer: what was kept is its parent's to write."""
        # A new lock: the old one may be held by a thread that the fork did not copy. Reentrant: signal
        # handlers write as well, maybe in the middle of a write of the thread that they interrupt.
        self._lock = threading.RLock()
        self._pushing = False
        self._pending: deque[bytes | memoryview] = deque()
        self._pending_bytes = 0
        self._dropped = 0
        self._behind_since: float | None = None
        # The thread that writes what is kept, by a token of its own; None where there is none.
        self._flusher: object | None = None

    def write(self, line: bytes) -> None:
        """Write a line, its end included; keep it, or lose it. Also from a signal handler."""
        with self._lock:
            if self._pending or self._pushing or self._is_cut:
                gap = self._write_behind(line)
            else:
                # The usual case, and one for each request: nothing has to be put down and picked up again.
                self._pushing = True
                try:
                    taken = self.outlet.send(line)
                    if taken < len(line):
                        # In front of what a signal handler left meanwhile.
                        self._pending.appendleft(memoryview(line)[taken:] if taken else line)
                        self._pending_bytes += len(line) - taken
                except OSError:  # a reader that has gone, a disk that is full
                    pass
                finally:
                    self._pushing = False
                if not self._pending:
                    return
                gap = self._push()
        self._tell(gap)

    def _write_behind(self, line: bytes) -> Gap | None:
        """Write a line behind what is kept, or is being written; with the lock."""
        gap = None
        if self._pending and self._flusher is None and not self._pushing:
            gap = self._push()
        if self._pending and self._pending_bytes + len(line) > self.buffer_bytes:
            self._dropped += 1
        else:
            self._pending.append(line)
            self._pending_bytes += len(line)
        # A signal handler whose thread is in the middle of a line leaves its own to that thread.
        return gap if self._pushing else self._push() or gap

    def finish(self, seconds: float) -> None:
        """Write what is kept, as far as the reader takes it in so many seconds."""
        deadline = monotonic() + seconds
        while self._pending:
            with self._lock:
                gap = self._push()
            self._tell(gap)
            left = deadline - monotonic()
            if left <= 0 or not self.outlet.wait(left):
                return

    def look_again(self) -> None:
        """Take note that the outlet's descriptor has become another file."""
        with self._lock:
            self.outlet.look_again()
            # The flusher thread waits for the old file, and ends when that file is read or closed.
            self._flusher = None
            gap = None if self._pushing else self._push()
        self._tell(gap)

    def _push(self) -> Gap | None:
        """Write what can be written now; with the lock. A gap where all was, and some is missing."""
        self._pushing = True
        try:
            while self._pending:
                line = self._pending[0]
                taken = self.outlet.send(b"\n" + line if self._is_cut else line)
                if self._is_cut and taken:
                    self._is_cut = False
                    taken -= 1
                self._pending_bytes -= taken
                if taken < len(line):
                    if taken:
                        self._pending[0] = memoryview(line)[taken:]
                        continue
                    self._fall_behind()
                    return None
                self._pending.popleft()
        except OSError:
            # A reader that has gone, a disk that is full.
            self._is_cut = isinstance(self._pending[0], memoryview)
            self._pending.clear()
            self._pending_bytes = 0
        finally:
            self._pushing = False
        if self._behind_since is None:
            return None
        gap = Gap(self._dropped, monotonic() - self._behind_since)
        self._behind_since = None
        self._dropped = 0
        return gap if gap.lines else None

    def _fall_behind(self) -> None:
        if self._behind_since is None:
            self._behind_since = monotonic()
        if self._flusher is None and _threads_are_allowed:
            self._flusher = token = object()
            try:
                # Not `threading.Thread`: nothing of the application's is to find it, or to wait for it.
                _thread.start_new_thread(self._flush, (token,))
            except RuntimeError:  # there is none to be had: the next line tries again
                self._flusher = None

    def _flush(self, token: object) -> None:
        """Be the thread that writes what is kept."""
        # Signals are for those who wait for them.
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
        # Without the lock: it is a line, too.
        if gap is not None and self.tell_gap is not None:
            self.tell_gap(gap)


def keep_to_one_thread(only: bool) -> None:
    """Have this process start no thread for what is kept, for it forks; each line then tries anew."""
    global _threads_are_allowed  # noqa: PLW0603 - what a process is
    _threads_are_allowed = not only


def finish_lines() -> None:
    """Write what is kept, for as long as the end of a process may wait for readers."""
    deadline = monotonic() + _LAST_LINES_SECONDS
    for buffer in list(_buffers):
        buffer.finish(deadline - monotonic())


def _begin_process() -> None:
    for buffer in _buffers:
        buffer.begin_process()


os.register_at_fork(after_in_child=_begin_process)
atexit.register(finish_lines)
