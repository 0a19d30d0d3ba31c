"""The pid file, which has the number of the process to signal, and is locked while that process runs.

The number alone does not tell whether that process runs: after a crash or a boot, another process may have it.
The lock (flock(2)) tells it: the kernel removes the lock when the process ends, however that happens.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from uwsgibridge.errors import BridgeError, PidFileError, WorkerUnfit
from uwsgibridge.system.reasons import why_not_made
from uwsgibridge.system.safe_path import Place, UnsafePathError, open_place

_MAX_BYTES: Final = 32

# The variable that gives the descriptor to a program which takes this process over by exec. So the lock is
# never released.
_DESCRIPTOR_VARIABLE: Final = "UWSGIBRIDGE_PID_FILE_FD"

# How often to try: others may remove or make the file meanwhile.
_ATTEMPTS: Final = 20

# Errors of a file system without locks. EBADF: NFS locks only files that are open for writing.
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})

_held: set[int] = set()


class PidFile:
    """Keeps a locked file with the number of this process while the context lasts.

    All may read the file (0644), and it is complete from the first moment. At the end it is removed, if it is still
    this one. The file belongs to the user who makes it: root may signal the process whose number it reads there,
    so the user of ``--user`` must not write it. A process that can't remove the file, since it has dropped its
    privileges, empties it.

    Other servers do not lock theirs. Where a file had the number of a running process, and the start fails, that number
    is put back: somebody has tried this server beside another one.

    Args:
        path: of the pid file.

    Raises:
        PidFileError: on entering, where another running process has the file, it has other contents, it
            can't be written, or another user could replace what root has written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._descriptor = -1
        self._pid = -1
        self._found = b""  # the number of a running process, which this one has replaced

    def __enter__(self) -> None:
        try:
            with open_place(self._path) as place:
                taken_over = self._adopt_inherited(place)
                self._descriptor = self._acquire(place) if taken_over is None else taken_over
        except UnsafePathError as error:
            raise PidFileError(f"--pid-file {self._path}: {error}") from None
        except OSError as error:
            why = why_not_made(error, self._path.parent, "create or replace it", self._path.name)
            raise PidFileError(f"--pid-file {self._path}: {why}") from None
        except ValueError:
            raise PidFileError(
                f"--pid-file {str(self._path)!r} is no path that a file can have"
            ) from None
        self._pid = os.getpid()
        _held.add(self._descriptor)

    def __exit__(
        self,
        _kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        _traceback: TracebackType | None = None,
    ) -> None:
        if self._pid != os.getpid():  # a forked child, which has closed the file already
            return
        has_not_started = isinstance(error, BridgeError) and not isinstance(error, WorkerUnfit)
        with contextlib.suppress(OSError, UnsafePathError, PidFileError):
            if self._found and has_not_started:
                self._put_back()
            else:
                self._remove()
        _held.discard(self._descriptor)
        os.close(self._descriptor)

    def _put_back(self) -> None:
        if _read(self._descriptor) == b"%d" % self._pid:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%b\n" % self._found, 0)

    def _remove(self) -> None:
        if _read(self._descriptor) != b"%d" % self._pid:
            return
        with open_place(self._path) as place:
            if _is_at(self._descriptor, place):
                try:
                    os.unlink(place.name, dir_fd=place.directory)
                except OSError:
                    os.ftruncate(self._descriptor, 0)

    def _adopt_inherited(self, place: Place) -> int | None:
        """Give the descriptor that the program before this one has handed on, if it is that of this file."""
        text = os.environ.pop(_DESCRIPTOR_VARIABLE, "")
        if not text.isdecimal():
            return None
        descriptor = int(text)
        os.set_inheritable(descriptor, False)
        if not _is_at(descriptor, place):
            os.close(descriptor)
            return None
        if _read(descriptor) != b"%d" % os.getpid():
            # The program that was to take over has ended in order, and has emptied the file.
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return descriptor

    def _acquire(self, place: Place) -> int:
        if place.exposed is not None:
            raise PidFileError(
                f"--pid-file {self._path}: {place.exposed}, and with it which process root signals; put it "
                "in a directory that only root can write, such as /run"
            )
        for _ in range(_ATTEMPTS):
            with self._stale(place) as stale:
                if stale is not None and _read(stale) == b"%d" % os.getpid():
                    # A program before this one in the same process has written the file, maybe with
                    # privileges that this one has not.
                    return os.dup(stale)
                found = b"" if stale is None else _read(stale)
                with contextlib.suppress(FileExistsError):
                    made = _make(place, replace=stale is not None)
                    if int(found or b"0") and _is_alive(int(found)):
                        self._found = found
                    return made
        raise PidFileError(f"--pid-file {self._path}: others make and remove it all the time")

    @contextlib.contextmanager
    def _stale(self, place: Place) -> Iterator[int | None]:
        """Lock the present file, so that no other process that starts now replaces it."""
        descriptor = self._open(place)
        while descriptor is not None:
            try:
                self._lock(descriptor)
                if _is_at(descriptor, place):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            descriptor = self._open(place)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _open(self, place: Place) -> int | None:
        flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            try:
                descriptor = os.open(place.name, flags | os.O_RDWR, dir_fd=place.directory)
            except OSError as error:
                if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
                    raise
                descriptor = os.open(place.name, flags | os.O_RDONLY, dir_fd=place.directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
                raise self._no_file() from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._no_file()
        return descriptor

    def _no_file(self) -> PidFileError:
        return PidFileError(f"--pid-file {self._path}: it is no ordinary file; name another")

    def _lock(self, descriptor: int) -> None:
        content = _read(descriptor)
        if content and not content.isdigit():
            raise PidFileError(
                f"--pid-file {self._path}: the file holds no process number; remove it, or name another"
            )
        pid = int(content or b"0")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = f"process {pid} of that file is running" if pid else "another start has it"
            raise PidFileError(
                f"--pid-file {self._path}: {who}; stop it, or name another file"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if pid not in {0, os.getpid()} and _is_alive(pid):
                raise PidFileError(
                    f"--pid-file {self._path}: process {pid} of that file is running; stop it, or remove "
                    "the file if it is about something else (this file system knows no locks)"
                ) from None


def hand_on() -> dict[str, str]:
    """Have the program that takes this process over by exec inherit the pid file and its lock.

    Returns:
        Variables for the environment of that program.
    """
    for descriptor in _held:
        os.set_inheritable(descriptor, True)
    return {_DESCRIPTOR_VARIABLE: str(max(_held))} if _held else {}


def keep() -> None:
    """Undo `hand_on` after an exec that failed."""
    for descriptor in _held:
        os.set_inheritable(descriptor, False)


def _make(place: Place, *, replace: bool) -> int:
    """Make the file under a temporary name, complete and locked, and then rename it.

    Raises:
        FileExistsError: somebody else has just made the file; not raised with `replace`.
    """
    import secrets  # imported here: few services have a pid file

    temporary = f".{place.name[:200]}.{secrets.token_hex(4)}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=place.directory)
    names = (temporary, place.name)
    try:
        try:
            os.write(descriptor, b"%d\n" % os.getpid())
            os.fchmod(descriptor, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            if replace or not _link(*names, place):
                os.rename(*names, src_dir_fd=place.directory, dst_dir_fd=place.directory)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=place.directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _link(temporary: str, name: str, place: Place) -> bool:
    """Link a file to its name if no file has that; False where the file system has no links."""
    try:
        os.link(temporary, name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        return False
    return True


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, _MAX_BYTES, 0).strip()


def _is_at(descriptor: int, place: Place) -> bool:
    try:
        named = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _close_inherited_locks() -> None:
    """Close the locks in a forked child, which shares them and may outlive this process."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)
