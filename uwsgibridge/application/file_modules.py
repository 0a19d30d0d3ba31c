"""Loads a Python file as a module, wherever it stands: ``uwsgibridge serve path/app.py``.

The module has the name that uWSGI gives it, and is in `sys.modules` under that name, so that what it defines can be pickled. Its
directory is not put on the import path; ``--app-dir`` is, as for modules.

A process that `multiprocessing` spawns has to find such a module by its name alone. It imports the main module of its parent again, as
``__mp_main__``. So this module becomes the main module of a process that has loaded a file, and finds the files in the spawned one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from uwsgibridge.errors import ApplicationError

# Tells processes that multiprocessing spawns where such modules are: JSON of names and paths.
_VARIABLE: Final = "UWSGIBRIDGE_FILE_MODULES"

_PREFIX: Final = "uwsgi_file_"


def module_name_of(path: str) -> str:
    """Give the name that uWSGI gives to the module of ``wsgi-file = path``."""
    return _PREFIX + re.sub(r"[./]", "_", path).removesuffix("_py")


def load_file(path: str) -> ModuleType:
    """Load a Python file, or give its module where it is loaded already.

    Args:
        path: as the command line has it.

    Raises:
        ApplicationError: there is no such file, or its name is that of another one.
        Exception: whatever the file raises.
    """
    name, file = module_name_of(path), Path(path).absolute()
    loaded = sys.modules.get(name)
    if loaded is not None:
        if loaded.__file__ == str(file):
            return loaded
        raise ApplicationError(
            f"{path} gets the name {name}, which {loaded.__file__} has already: rename one of them"
        )
    try:
        with file.open("rb"):
            pass
    except FileNotFoundError:
        raise ApplicationError(f"there is no file {path} in {Path.cwd()}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ApplicationError(f"{path}: {reason}") from None
    module = importlib.util.module_from_spec(_spec(name, str(file)))
    sys.modules[name] = module
    _tell_spawned_processes(name, str(file))
    try:
        assert module.__spec__ is not None
        assert module.__spec__.loader is not None
        module.__spec__.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules.get(name, module)  # the file may have put another object there


def lies_beside(path: str, module: str | None) -> bool:
    """Whether a module lies in the directory of a file, and that directory is not on the import path."""
    directory = Path(path).absolute().parent
    top = (module or "").partition(".")[0]
    if not top or str(directory) in sys.path:
        return False
    return (directory / f"{top}.py").is_file() or (directory / top).is_dir()


def find_modules_of_parent() -> None:
    """Have this process find the modules that its parent has loaded from files, where it imports them by name."""
    paths = json.loads(os.environ.get(_VARIABLE, "{}"))
    if paths:
        sys.meta_path.append(_Finder(paths))


class _Finder:
    """Finds the modules of files by their names."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = paths

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return _spec(name, self._paths[name]) if name in self._paths else None


class _Loader(SourceFileLoader):
    """Keeps no bytecode of a file that is not called ``.py``: it would be that of another file, whose name ends so."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if path.endswith(".py"):
            return super().get_code(fullname)
        return self.source_to_code(self.get_data(path), path)


def _spec(name: str, path: str) -> ModuleSpec:
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, path))
    assert spec is not None
    return spec


def _tell_spawned_processes(name: str, path: str) -> None:
    paths = json.loads(os.environ.get(_VARIABLE, "{}"))
    os.environ[_VARIABLE] = json.dumps({**paths, name: path})
    sys.modules["__main__"] = sys.modules[__name__]


if __name__ == "__mp_main__":
    find_modules_of_parent()
