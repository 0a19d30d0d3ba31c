"""Opens files of logs to append to them, also as root, for another user."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from uwsgibridge.errors import LogFileError
from uwsgibridge.system.reasons import why_not_made
from uwsgibridge.system.safe_path import (
    Place,
    UnsafePathError,
    acting_as,
    name_user,
    open_place,
)

# The group may read, so that log collectors can; the umask may take that away.
_MODE: Final = 0o640

# Without O_NONBLOCK, opening a FIFO that nobody reads would wait for a reader.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC


def open_to_append(option: str, path: Path, owner: tuple[int, int] | None = None) -> int:
    """Open a file to append to it; make it where it is missing. Safe in a signal handler.

    Root opens the file with the owner's rights if these suffice. Otherwise root makes the file and gives it to
    the owner, but only in a directory that nobody else can write: elsewhere the owner could have put a link to
    another file there.

    Args:
        option: names the file; for the message of an error.
        path: of the file, absolute.
        owner: user and group that will open the file anew; None for those of this process.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        LogFileError: the file can't be opened.
    """
    try:
        descriptor = _open(path, owner)
    except UnsafePathError as error:
        raise LogFileError(f"{option} {path}: {error}") from None
    except OSError as error:
        why = why_not_made(error, _directory_behind(path), "open or create it")
        raise LogFileError(f"{option} {path}: {why}") from None
    os.set_blocking(descriptor, True)
    return descriptor


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
