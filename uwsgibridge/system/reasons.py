"""Says why a file or a socket can't be made, or a program not be run: the system's words, and more where these do not help."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from uwsgibridge.system.safe_path import name_user


def why_not_made(error: OSError, directory: Path, action: str, name: str = "") -> str:
    """Say why a file could not be made in a directory, as the end of a sentence.

    Args:
        error: the system's error.
        directory: as the operator has named it.
        action: what was tried, such as ``create a socket``.
        name: of the file in the directory, where a link of that name is followed.
    """
    if error.errno == errno.ENOENT:
        directory = _missing_behind(directory, name)
    match error.errno:
        case errno.ENOENT if directory.is_dir():  # /proc has this error for each new file
            return f"nothing can be made in {directory}"
        case errno.ENOENT:
            return f"there is no directory {directory}; create it first"
        case errno.EISDIR:
            return "it is a directory"
        case errno.ENXIO:
            return "it is a FIFO that nobody reads, or a socket"
        case errno.ENOTDIR:
            return f"{directory} is no directory"
        case errno.EPERM if os.geteuid() == 0:  # what permissions say does not concern root
            return (
                f"root may not {action} in {directory}: {error.strerror}; a container needs the capability CHOWN to give "
                "a file to --user"
            )
        case errno.EACCES | errno.EPERM:
            return (
                f"no permission to {action} in {directory} as {name_user(os.geteuid())}; give it to that user, or take "
                "another directory"
            )
        case errno.EROFS:
            return f"{directory} is on a read-only file system"
        case _:
            return error.strerror or str(error)


def _missing_behind(directory: Path, name: str) -> Path:
    """Give the directory that is missing where a link leads into it; else the one that the operator has named."""
    for path in (directory, directory / name):
        if path.is_symlink() and not path.exists():
            with contextlib.suppress(OSError, RuntimeError):  # links in a circle
                target = path.resolve()
                return target if path == directory else target.parent
    return directory


def why_not_run(program: str) -> str:
    """Say why this user may not run the Python of the service, as a sentence without its end.

    Args:
        program: as it was started; it may be a link, as in a virtual environment.
    """
    leads_to = Path(os.path.realpath(program))
    closed = next(
        (it for it in reversed(leads_to.parents) if not os.access(it, os.X_OK, effective_ids=True)),
        None,
    )
    why = f": {closed} is closed to it" if closed else ""
    return (
        f"the user of the service may not run {leads_to}{why}; have Python, its packages and the application where "
        "that user may read them"
    )
