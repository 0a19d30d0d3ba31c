"""The directory of ``--prometheus-multiproc-dir``: made or emptied at a start, and held by one server alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from uwsgibridge.errors import SettingsError
from uwsgibridge.multiproc.names import BARRIER, OWNER, is_ours, read_name
from uwsgibridge.system.reasons import why_not_made
from uwsgibridge.system.safe_path import UnsafePathError, acting_as, open_place

_OPTION: Final = "--prometheus-multiproc-dir"

# Applications write there what they have counted, and name no mode: others have no business there.
_MODE: Final = 0o700

# ext4 has this one at the top of each file system.
_OF_THE_SYSTEM: Final = frozenset({"lost+found"})


@contextlib.contextmanager
def hold_directory(
    path: str, user: tuple[int, int] | None, *, is_upgrade: bool = False
) -> Iterator[int]:
    """Hold the directory while the context lasts; at a start, empty it.

    A directory that is not there is made, for `user` alone (0700). All that is done in it is done with the rights of that user.

    Args:
        path: of the directory.
        user: user and group that the server becomes; None where that is nobody else.
        is_upgrade: whether the processes that write there go on: then nothing is removed.

    Yields:
        A descriptor of the directory.

    Raises:
        SettingsError: the directory can't be had, belongs to another server, or has something else in it.
    """
    with contextlib.ExitStack() as stack:
        directory, owner = _take(path, user, is_upgrade=is_upgrade)
        stack.callback(os.close, directory)
        stack.callback(os.close, owner)
        yield directory


def make_directory(path: str) -> None:
    """Make the directory where it is missing, and leave it as it is where it is not.

    Raises:
        SettingsError: it can't be had.
    """
    with _told_by_option(path):
        os.close(_open(path, None))


@contextlib.contextmanager
def _told_by_option(path: str) -> Iterator[None]:
    try:
        yield
    except UnsafePathError as error:
        raise SettingsError(f"{_OPTION} {path}: {error}") from None
    except OSError as error:
        place = Path(path) if Path(path).is_dir() else Path(path).parent
        reason = why_not_made(error, place, "create or remove files")
        raise SettingsError(f"{_OPTION} {path}: {reason}") from None


def _take(path: str, user: tuple[int, int] | None, *, is_upgrade: bool) -> tuple[int, int]:
    with (
        _told_by_option(path),
        contextlib.ExitStack() as stack,
        contextlib.ExitStack() as descriptors,
    ):
        directory = _open(path, user)
        descriptors.callback(os.close, directory)
        if user is not None and os.geteuid() == 0:
            stack.enter_context(acting_as(*user))
        owner = _own(directory, path)
        descriptors.callback(os.close, owner)
        if not is_upgrade:
            _empty(directory, path)
        descriptors.pop_all()
        return directory, owner


def _open(path: str, user: tuple[int, int] | None) -> int:
    """Open the directory, which is made where it is missing.

    Raises:
        SettingsError: it is a link, or others can write in it.
        OSError, UnsafePathError: it can't be reached or made.
    """
    path = path.rstrip("/") or "/"
    if Path(path).is_symlink():
        raise SettingsError(f"{_OPTION} {path} is a link: name the directory that it leads to")
    with open_place(path) as place:
        with contextlib.suppress(FileExistsError), contextlib.ExitStack() as stack:
            if user is not None and os.geteuid() == 0 and not place.is_roots_alone:
                stack.enter_context(acting_as(*user))
                user = None
            os.mkdir(place.name, _MODE, dir_fd=place.directory)
            if user is not None:
                os.chown(place.name, *user, dir_fd=place.directory, follow_symlinks=False)
        directory = os.open(
            place.name,
            os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
            dir_fd=place.directory,
        )
    if os.fstat(directory).st_mode & stat.S_IWOTH:
        os.close(directory)
        raise SettingsError(
            f"{_OPTION} {path}: everybody can write there, and so change figures and files of the application: take "
            "a directory of the application's own"
        )
    return directory


def _own(directory: int, path: str) -> int:
    """Lock the directory's file for owners, until the descriptor is closed.

    A lock of this kind (fcntl(2)) ends with this process: one that workers inherit would outlive the supervisor.
    """
    owner = os.open(
        OWNER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
    )
    try:
        fcntl.lockf(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(owner)
        raise SettingsError(
            f"{_OPTION} {path}: another server uses it: each needs a directory of its own"
        ) from None
    except OSError:
        pass  # a file system without locks
    return owner


def _empty(directory: int, path: str) -> None:
    """Remove the files of an earlier run.

    Raises:
        SettingsError: there is something that prometheus_client has not made; then nothing is removed.
    """
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name == OWNER or entry.name in _OF_THE_SYSTEM:
                continue
            is_file = entry.is_file(follow_symlinks=False) or entry.name == BARRIER
            if is_file and (read_name(entry.name) is not None or is_ours(entry.name)):
                found.append(entry.name)
            elif entry.is_symlink():
                raise SettingsError(
                    f"{_OPTION} {path}: {entry.name} is a link, which prometheus_client has not made: remove it, or name "
                    "another directory"
                )
            elif not entry.name.startswith("."):
                raise SettingsError(
                    f"{_OPTION} {path}: {entry.name} is no file of prometheus_client, and the directory is emptied at each "
                    "start: name a directory for these files alone"
                )
    for name in found:
        os.unlink(name, dir_fd=directory)
