"""Sends standard error to a file, and to a new file after logrotate has moved the old one away.

The descriptor is redirected, not Python's stream. So the file gets log events, tracebacks, dumps of
`faulthandler`, and what the application or a library in C prints, in the order they were written. Processes
that are started later inherit the file.
"""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import Final

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import LogFileError
from uwsgibridge.system.reasons import why_not_made
from uwsgibridge.system.safe_path import (
    Place,
    UnsafePathError,
    acting_as,
    name_user,
    open_place,
)
from uwsgibridge.system.signals import empty_handler
from uwsgibridge.telemetry.line_stream import follow_standard_error, say


def reopen_log_at_signal(settings: Settings) -> None:
    """Open the log file anew at each SIGUSR1; without a log file, the signal does nothing."""
    path = Path(settings.log_file).absolute()

    def reopen(_number: int, _frame: object) -> None:
        try:
            open_log_file(path)
        except LogFileError as error:
            # Standard error still leads to the old file.
            say(f"Error: {error}")

    signal.signal(signal.SIGUSR1, reopen if settings.log_file else empty_handler)


_STANDARD_ERROR: Final = 2

# The group may read, so that log collectors can; the umask may take that away.
_MODE: Final = 0o640

# Without O_NONBLOCK, opening a FIFO that nobody reads would wait for a reader.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC


def open_log_file(path: Path, owner: tuple[int, int] | None = None) -> None:
    """Send all that this process writes to standard error to the end of a file.

    Call it before `make_logger`, so that ``auto`` sees the file and not the terminal. Call it again
    when the file was moved away (SIGUSR1), in each process: a descriptor can't be changed from
    outside. No log event is lost or cut in two: other threads may write meanwhile, and the contents of the
    stream's buffer go to the new file. Safe in a signal handler.

    Root opens the file with the owner's rights if these suffice. Otherwise root makes the file and gives it to
    the owner, but only in a directory that nobody else can write: elsewhere the owner could have put a link to
    another file there.

    Args:
        path: of the file, absolute because the application may change the working directory. A missing
            file is made.
        owner: user and group that will open the file anew; None for those of this process.

    Raises:
        LogFileError: the file can't be opened. Standard error stays as it was.
    """
    try:
        descriptor = _open(path, owner)
    except UnsafePathError as error:
        raise LogFileError(f"--log-file {path}: {error}") from None
    except OSError as error:
        why = why_not_made(error, _directory_behind(path), "open or create it")
        raise LogFileError(f"--log-file {path}: {why}") from None
    os.set_blocking(descriptor, True)
    os.dup2(descriptor, _STANDARD_ERROR)
    os.close(descriptor)
    follow_standard_error()


def _directory_behind(path: Path) -> Path:
    """Give the directory that the file would be in, with links followed."""
    try:
        return path.resolve().parent
    except (OSError, RuntimeError):  # links in a circle, or links that somebody is just changing
        return path.parent


def _open(path: Path, owner: tuple[int, int] | None) -> int:
    if os.geteuid() != 0:
        return os.open(path, _FLAGS, _MODE)
    if owner is not None and owner[0] != 0:
        try:
            with acting_as(*owner):
                return os.open(path, _FLAGS, _MODE)
        except PermissionError:
            pass
    with open_place(path) as place:
        return _open_as_root(place, owner)


def _open_as_root(place: Place, owner: tuple[int, int] | None) -> int:
    is_alone = place.is_roots_alone or place.is_kernels
    if owner is not None and owner[0] != 0 and not is_alone:
        name = name_user(owner[0])
        exposed = place.exposed or f"everybody can make files in {place.path}"
        raise UnsafePathError(
            f"{name} may not open it, and root does not since {exposed}: give the file to {name} "
            "(chown), or put it in a directory that only root can write"
        )
    flags = _FLAGS if place.is_kernels else _FLAGS | os.O_NOFOLLOW
    descriptor = os.open(place.name, flags, _MODE, dir_fd=place.directory)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            if found.st_nlink > 1 and not is_alone:
                raise UnsafePathError(
                    "the file has a second name (a hard link), which another user may have given it: "
                    f"remove it, since {place.exposed or f'everybody can make files in {place.path}'}"
                )
            if owner is not None and is_alone:
                os.fchown(descriptor, *owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
