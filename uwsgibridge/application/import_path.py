"""Where an application is imported from: ``--python-path``, ``--app-dir`` and ``--virtualenv``."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from uwsgibridge.errors import ApplicationError
from uwsgibridge.system.virtualenv import find_virtualenv


def put_first(app_dir: str, python_path: Sequence[str] = ()) -> str:
    """Have the import path begin with directories.

    Args:
        app_dir: comes after the others.
        python_path: come first, in their order, as uWSGI has it.

    Returns:
        ``app_dir`` as an absolute path.

    Raises:
        ApplicationError: there is no such directory.
    """
    wanted = [
        *(_absolute("--python-path", it) for it in python_path),
        _absolute("--app-dir", app_dir),
    ]
    if sys.path[: len(wanted)] != wanted:
        sys.path[:0] = wanted
    return wanted[-1]


def join_virtualenv(directory: str) -> None:
    """Have this process import from another environment before its own, as far as it has not imported already.

    The packages come behind the standard library, as in the environment itself. Its ``.pth`` files are read. `sys.prefix`,
    `sys.executable` and ``VIRTUAL_ENV`` are those of the environment, for tools that look for their files there and for programs
    that are started.

    Raises:
        SettingsError: there is no such environment, or it is one of another Python.
    """
    environment = find_virtualenv(directory)
    if Path(sys.prefix).resolve() == environment.directory.resolve():
        return  # this is its Python
    before = list(sys.path)
    for place in environment.packages:
        site.addsitedir(str(place))
    added = [it for it in sys.path if it not in before]
    own = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("purelib")]
    at = next((number for number, it in enumerate(before) if it in own), len(before))
    sys.path[:] = [*before[:at], *added, *before[at:]]
    sys.prefix = sys.exec_prefix = os.environ["VIRTUAL_ENV"] = str(environment.directory)
    if environment.python is not None:
        sys.executable = str(environment.python)


def _absolute(option: str, directory: str) -> str:
    try:
        # It may be a file: Python imports from zip archives, too.
        resolved = Path(directory).resolve()
        is_there = resolved.exists()
    except OSError as error:  # the user may not look there, or the name is too long
        raise ApplicationError(f"{option} {directory}: {error.strerror}") from None
    if not is_there:
        raise ApplicationError(f"{option} {directory}: there is no directory {resolved}")
    return str(resolved)
