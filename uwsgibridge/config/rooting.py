"""Makes paths of options absolute, before an application is imported, which may change the working directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

from uwsgibridge.config.settings import Settings

# Options whose paths are looked at after the import of the application, by the processes that import it.
_PATHS: Final = ("app_dir", "log_file", "access_log_file", "metrics_file")
_LISTS_OF_PATHS: Final = ("python_path",)
_PATHS_OF_URLS: Final = ("offload", "static")


def rooted(settings: Settings) -> Settings:
    """Give the same settings, whose paths lead from the present working directory whatever becomes of it.

    Args:
        settings: as the service has got them.
    """
    changes: dict[str, Any] = {}
    for name in _PATHS:
        if path := getattr(settings, name):
            changes[name] = _absolute(path)
    for name in _LISTS_OF_PATHS:
        changes[name] = tuple(map(_absolute, getattr(settings, name)))
    for name in _PATHS_OF_URLS:
        pairs = (text.partition("=") for text in getattr(settings, name))
        changes[name] = tuple(f"{url}={_absolute(path)}" for url, _, path in pairs)
    return dataclasses.replace(settings, **changes)


def _absolute(path: str) -> str:
    try:
        return str(Path(path).absolute())
    except FileNotFoundError:  # the working directory is gone; who opens the path says so
        return path
