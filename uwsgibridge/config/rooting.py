"""Makes paths of options absolute, before an application is imported, which may change the working directory."""

from __future__ import annotations

import dataclasses
import os.path
from pathlib import Path
from typing import Any, Final

from uwsgibridge.config.settings import Settings

# Beside the directories of code, the options whose paths are looked at after the import of the application, by the processes
# that import it.
_FILES: Final = ("log_file", "access_log_file", "metrics_file")
_PATHS_OF_URLS: Final = ("offload", "static")


def rooted(settings: Settings) -> Settings:
    """Give the same settings, whose paths lead from the present working directory whatever becomes of it.

    Args:
        settings: as the service has got them.
    """
    changes: dict[str, Any] = {
        "app_dir": _absolute_directory(settings.app_dir),
        "python_path": tuple(map(_absolute_directory, settings.python_path)),
    }
    for name in _FILES:
        if path := getattr(settings, name):
            changes[name] = _absolute(path)
    for name in _PATHS_OF_URLS:
        pairs = (text.partition("=") for text in getattr(settings, name))
        changes[name] = tuple(f"{url}={_absolute(path)}" for url, _, path in pairs)
    return dataclasses.replace(settings, **changes)


def _absolute(path: str) -> str:
    try:
        return str(Path(path).absolute())
    except FileNotFoundError:  # the working directory is gone; who opens the path says so
        return path


def _absolute_directory(path: str) -> str:
    # What is missing is refused before anything is imported, by the name that the operator has given.
    return _absolute(path) if os.path.isdir(path) else path  # noqa: PTH112 - False, whatever is wrong with the path
