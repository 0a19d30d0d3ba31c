"""Where this process was started, and with which environment: what options have changed since can be put back.

An upgrade in place runs the command line of this process a second time. That has to find what the first run found: relative
paths that stand in it, the file of options, and variables as they were.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

# The directory that this process was started in; None as long as it is still there.
_start: str | None = None

# What each changed variable was before, and what it was set to; None is a variable that is not set.
_changed: dict[str, tuple[str | None, str | None]] = {}


def change_directory(directory: str) -> str:
    """Change to a directory, and remember the one before.

    Returns:
        The directory as an absolute path. A link in it is not resolved, so that a process which changes to the path later
        follows the link anew.

    Raises:
        OSError: the directory can't be entered.
    """
    global _start  # noqa: PLW0603 - what a process is
    before = os.getcwd()  # noqa: PTH109 - its text goes on
    os.chdir(directory)
    if _start is None:
        _start = before
    path = os.path.join(before, directory)  # noqa: PTH118 - keeps ".."
    plain = os.path.normpath(path)
    # What stands before ".." may be a link, and then the plain path may lead elsewhere.
    with contextlib.suppress(OSError):
        if Path(plain).samefile("."):
            return plain
    return path


def change_environment(changes: Mapping[str, str | None]) -> None:
    """Set variables of the environment, and remember what they were.

    Args:
        changes: the value of each variable; None removes the variable.
    """
    for name, value in changes.items():
        before = _changed[name][0] if name in _changed else os.environ.get(name)
        _changed[name] = (before, value)
        _set(os.environ, name, value)
    if "TZ" in changes:
        time.tzset()  # the C library reads the variable only then


def changed_variables() -> frozenset[str]:
    """Name the variables that `change_environment` has set or removed."""
    return frozenset(_changed)


def original_environment() -> dict[str, str]:
    """Give the environment without what `change_environment` did; what others have changed stays changed."""
    environment = dict(os.environ)
    for name, (before, after) in _changed.items():
        if environment.get(name) == after:
            _set(environment, name, before)
    return environment


def original_directory() -> str | None:
    """Give the directory that this process was started in; None where it is still there."""
    return _start


@contextlib.contextmanager
def in_original_directory() -> Iterator[None]:
    """Be in the directory that this process was started in, and come back.

    Raises:
        OSError: the directory can't be entered: it is gone, or this user may not.
    """
    if _start is None:
        yield
        return
    # To come back needs no permission to read the directory, but macOS has no O_PATH.
    here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        os.chdir(_start)
        try:
            yield
        finally:
            os.fchdir(here)
    finally:
        os.close(here)


def _set(environment: MutableMapping[str, str], name: str, value: str | None) -> None:
    if value is None:
        environment.pop(name, None)
    else:
        environment[name] = value
