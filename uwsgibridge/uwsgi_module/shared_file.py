"""A small file that all processes of one supervisor share: locks between processes, and the time of the last cron.

A lock is one byte of the file, locked as fcntl(2) does it for a process ("Advisory record locking"): the kernel frees
it when the process ends, however that happens. A child does not inherit it. The file's content is the number of the last
minute whose crons have run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

# The first bytes are the content, and locks come behind it.
_MINUTE: Final = struct.Struct("<q")
_FIRST_LOCK: Final = 64

# Locked by all who have the file open, together: a file without them is nobody's.
_IN_USE: Final = 32

SUFFIX: Final = ".shared"

# How soon to try again to get a lock that another thread or process has: first, and at the most.
_FIRST_WAIT_SECONDS: Final = 0.001
_MOST_WAIT_SECONDS: Final = 0.005


class SharedFile:
    """The file, as one process has it open. It is opened once, since to close it would free this process's locks.

    Args:
        path: of the file, which is made where it is missing; empty where there is no place for it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._opening = threading.Lock()
        # A lock of fcntl belongs to a process, so that the threads of one need another one among themselves.
        self._threads: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._held: set[int] = set()

    def open(self) -> None:
        """Open the file, and make it where it is missing, before it is needed. Raises as `lock`."""
        self._open()

    def close(self) -> None:
        """Close the file, and free all locks of this process."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def forget_locks(self) -> None:
        """Forget, in a child, the locks that the parent holds."""
        self._opening = threading.Lock()
        self._threads = defaultdict(threading.Lock)
        self._held = set()
        if self._descriptor >= 0:
            _mark_as_used(self._descriptor)

    def lock(self, number: int, look: Callable[[], object] = lambda: None) -> None:
        """Lock, and wait until that is possible.

        A thread that has the lock, and locks again, waits for ever, as with uWSGI.

        Args:
            number: of the lock.
            look: called again and again during the wait; what it raises ends that.

        Raises:
            RuntimeError: there is no file.
        """
        wait_seconds = _FIRST_WAIT_SECONDS
        while not self.try_lock(number):
            look()
            time.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _MOST_WAIT_SECONDS)

    def try_lock(self, number: int) -> bool:
        """Lock, where that is possible at once; False where it is not. Raises as `lock`."""
        descriptor = self._open()
        mine = self._threads[number]
        if not mine.acquire(blocking=False):
            return False
        is_locked = False
        try:
            is_locked = _lock_at(descriptor, number)
        finally:
            if not is_locked:
                mine.release()
        if is_locked:
            self._held.add(number)
        return is_locked

    def unlock(self, number: int) -> None:
        """Unlock, from any thread of the process; nothing happens where this process has no lock."""
        descriptor = self._open()
        with contextlib.suppress(KeyError):
            self._held.remove(number)
            _unlock_at(descriptor, number)
            self._threads[number].release()

    def is_locked(self, number: int) -> bool:
        """Whether any process has the lock."""
        if not self.try_lock(number):
            return True
        self.unlock(number)
        return False

    def read_minute(self) -> int | None:
        """Give the last minute whose crons have run; None where none have."""
        with contextlib.suppress(OSError, RuntimeError, struct.error):
            minute: int = _MINUTE.unpack(os.pread(self._open(), _MINUTE.size, 0))[0]
            return minute
        return None

    def write_minute(self, minute: int) -> None:
        """Note the last minute whose crons have run; without the file, nothing is noted."""
        with contextlib.suppress(OSError, RuntimeError):
            os.pwrite(self._open(), _MINUTE.pack(minute), 0)

    def _open(self) -> int:
        if self._descriptor < 0:
            with self._opening:
                if self._descriptor < 0:
                    self._descriptor = self._open_first()
        return self._descriptor

    def _open_first(self) -> int:
        if not self._path:
            raise RuntimeError(
                "there is no place for locks between processes: the server needs a directory of its own user; set "
                "XDG_RUNTIME_DIR or TMPDIR"
            )
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            while True:
                descriptor = os.open(self._path, flags, 0o600)
                _mark_as_used(descriptor)
                if os.fstat(descriptor).st_nlink:
                    return descriptor
                os.close(descriptor)  # somebody has removed it between the two
        except OSError as error:
            raise RuntimeError(
                f"the file for locks between processes can't be opened: {self._path}: {error.strerror}"
            ) from error


def remove_unused(directory: Path) -> None:
    """Remove the files in a directory that nobody has open: those of supervisors that were killed."""
    for path in directory.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _IN_USE)
                path.unlink()
            finally:
                os.close(descriptor)


def _mark_as_used(descriptor: int) -> None:
    # Who looks whether it is used holds the lock no longer than it takes to remove the file.
    fcntl.lockf(descriptor, fcntl.LOCK_SH, 1, _IN_USE)


def _lock_at(descriptor: int, number: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FIRST_LOCK + number)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return False
        raise
    return True


def _unlock_at(descriptor: int, number: int) -> None:
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _FIRST_LOCK + number)
