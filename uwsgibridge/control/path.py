"""Finds the place of a control socket where no option names one, and finds the sockets of running supervisors.

The place is a directory of the user's own: another user who could put a socket there could pose as the
supervisor.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from uwsgibridge.config.address import AddressError, parse_address


def default_control_path(pid: int) -> Path | None:
    """Choose a path for a supervisor's control socket, and make its directory.

    The directory is ``uwsgibridge`` in ``$XDG_RUNTIME_DIR``, or ``uwsgibridge-<uid>`` in the directory
    for temporary files.

    Args:
        pid: of the supervisor.

    Returns:
        The path; None where neither is a real directory of this user alone, or the path would be too long.
    """
    for directory in _directories():
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / f"{pid}.sock"
        if _is_ours_alone(directory) and _fits(path):
            return path
    return None


def directories_passed_over(pid: int = 0) -> list[str]:
    """Say, of each directory that a control socket could be in, why it is not used.

    Args:
        pid: of a supervisor that looks for a place.

    Returns:
        A sentence for each, which names the directory. A missing directory that could be made is not
        among them.
    """
    found = []
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.exists() and not _is_ours(runtime):
        found.append(f"{runtime}: it belongs to {_name_user(runtime.stat().st_uid)}")
    for directory in _directories():
        objection = _objection(directory)
        path = directory / f"{pid}.sock"
        if not objection and not _fits(path):
            objection = f"the path {path} is too long for a unix socket"
        if objection:
            found.append(f"{directory}: {objection}")
    return found


def find_control_sockets() -> list[Path]:
    """List the control sockets of this user that somebody listens on, and remove the others.

    Both directories are searched: a service often has no ``$XDG_RUNTIME_DIR``, while its user's shell has one.
    """
    return [path for path in _sockets() if _remove_unless_answered(path)]


def remove_stale_sockets() -> None:
    """Remove the default control sockets of this user that their supervisors have left behind.

    A socket is stale where the kernel refuses connections to it. The number in its name does not tell that: by
    now it may be another process's, or be that of a process in another container that shares the directory.
    """
    for path in _sockets():
        # The supervisor starts also where a socket can't be removed.
        with contextlib.suppress(OSError):
            if path.stem.isdecimal():
                _remove_unless_answered(path)


def remove_control_directory() -> None:
    """Remove the directory if no socket is left in it."""
    for directory in _directories():
        if _is_ours_alone(directory):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _directories() -> Iterator[Path]:
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    # By the XDG Base Directory Specification, a relative path is ignored. Root may have the variable of a user who
    # has become root (sudo -E), and that user could put a link in the directory.
    if runtime.is_absolute() and _is_ours(runtime):
        yield runtime / "uwsgibridge"
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:  # no directory is writable
        return
    yield temporary / f"uwsgibridge-{os.geteuid()}"


def _sockets() -> Iterator[Path]:
    for directory in _directories():
        if _is_ours_alone(directory):
            yield from sorted(directory.glob("*.sock"))


def _is_ours(directory: Path) -> bool:
    try:
        return directory.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _is_ours_alone(directory: Path) -> bool:
    return os.path.lexists(directory) and not _objection(directory)


def _objection(directory: Path) -> str:
    """Say why a directory is not used; empty for a directory that can be used."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        if directory.parent.is_dir():
            return "" if os.access(directory.parent, os.W_OK) else "it can't be made there"
        return f"there is no {directory.parent}"
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(found.st_mode):
        return "it is no directory"
    if found.st_uid != os.geteuid():
        return f"it belongs to {_name_user(found.st_uid)}, who could pose as the supervisor"
    if found.st_mode & 0o777 != stat.S_IRWXU:
        return (
            f"its mode is {found.st_mode & 0o777:03o}, not 700: others could pose as the supervisor"
        )
    return ""


def _name_user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (user {uid})"
    except KeyError:
        return f"user {uid}"


def _fits(path: Path) -> bool:
    try:
        parse_address(f"unix:{path}")
    except AddressError:
        return False
    return True


def _remove_unless_answered(path: Path) -> bool:
    """Remove a socket that nobody listens on; True where somebody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # somebody listens, and the backlog is full
        except ConnectionRefusedError:
            # A file that is no socket gives this error, too, and must not be removed.
            if path.is_socket():
                path.unlink(missing_ok=True)
            return False
        except OSError:
            return False
    return True
