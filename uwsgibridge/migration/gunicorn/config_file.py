"""Executes a configuration file of gunicorn, which is a Python module."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import stat
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, Final

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.environment_reads import variables_of
from uwsgibridge.migration.gunicorn.file_error import FileError
from uwsgibridge.migration.gunicorn.paths import absolute

# The name of the module while gunicorn executes it. Objects that the file makes may be pickled by that name.
_MODULE: Final = "__config__"
_PACKAGE: Final = "gunicorn"
_COMPILED: Final = ".pyc"
_MOST_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class ExecutedFile:
    """What a configuration file has left.

    Attributes:
        source: its path as it was named; ``python:NAME`` for a module.
        names: all names of the module, with their values.
        lines: for each name that the file binds by itself, the last line that does.
        read: names that the file's own code reads.
        variables: for each name that the file binds by itself, the variables of the environment that its code reads for it.
        environment: variables of the environment that it has changed; None for one that it has removed.
        python_path: directories that it has put on ``sys.path``.
    """

    source: str
    names: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    read: frozenset[str] = frozenset()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()


class _Loader(SourceFileLoader):
    """A loader that compiles the file each time, and writes nothing beside it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def execute_file(location: str, start: str) -> ExecutedFile:
    """Execute a file in this process, as gunicorn does.

    Args:
        location: a path, which may have ``file:`` before it; or ``python:`` and the name of a module.
        start: the directory that a relative path begins at; an absolute path.

    Returns:
        What the file has left.

    Raises:
        ConfigurationError: there is no such file, it can't be read, or its code fails.
    """
    kind, colon, rest = location.partition(":")
    is_module = bool(colon) and kind == "python"
    source = location if is_module else (rest if colon and kind == "file" else location)
    path = "" if is_module else absolute(source, start)
    if not is_module:
        _check(path, source)
    environment, python_path = dict(os.environ), list(sys.path)
    try:
        module = importlib.import_module(rest) if is_module else _execute(path)
    except (Exception, SystemExit) as error:
        raise _failure(error, path or rest, source) from error
    tree = _parse(module)
    return ExecutedFile(
        source,
        vars(module),
        dict(_bindings(tree)),
        _names_read(tree),
        variables_of(tree),
        _changes(environment, os.environ),
        tuple(one for one in sys.path if one not in python_path),
    )


def _check(path: str, source: str) -> None:
    try:
        found = Path(path).stat()
        if stat.S_ISREG(found.st_mode):
            Path(path).open("rb").close()
    except FileNotFoundError:
        raise ConfigurationError(f"{source}: there is no such file; -c names it") from None
    except OSError as error:
        raise ConfigurationError(f"{source}: {error.strerror}") from None
    except ValueError:  # a NUL byte
        raise ConfigurationError(f"{source!r} is no path that a file can have") from None
    # A pipe would be waited for. A device such as /dev/null can be read.
    if stat.S_ISDIR(found.st_mode) or stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(f"{source}: it is no file, and so no configuration of gunicorn")
    if found.st_size > _MOST_BYTES:
        raise ConfigurationError(
            f"{source}: it has over {_MOST_BYTES} bytes, and can't be a configuration of gunicorn"
        )


def _execute(path: str) -> ModuleType:
    if Path(path).suffix == _COMPILED:
        spec = importlib.util.spec_from_file_location(_MODULE, path)
    else:
        spec = importlib.util.spec_from_file_location(_MODULE, path, loader=_Loader(_MODULE, path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    spec.loader.exec_module(module)
    return module


def _failure(error: BaseException, path: str, source: str) -> FileError:
    line = 0
    beginning: TracebackType | None = None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            beginning = beginning or step
            line = step.tb_lineno
        step = step.tb_next
    if isinstance(error, SyntaxError) and error.filename == path:
        line = error.lineno or 0
    if beginning is None:
        shown = traceback.format_exception_only(error)
    else:
        shown = traceback.format_exception(error.with_traceback(beginning))
    place = f"{source}:{line}" if line else source
    if isinstance(error, SystemExit):
        reason = "it ends the process (sys.exit)"
    else:
        reason = f"its code fails: {type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == _PACKAGE:
        reason += "; the package gunicorn may be installed beside this server, and then the file can use it"
    return FileError(f"{place}: {reason}", "".join(shown))


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    changed: dict[str, str | None] = {
        name: value for name, value in after.items() if before.get(name) != value
    }
    return changed | {name: None for name in before if name not in after}


def _parse(module: ModuleType) -> ast.Module:
    """Give the code of a module; of one without a file to read, no code."""
    path = getattr(module, "__file__", None)
    if path and not path.endswith(_COMPILED):
        # The file may have changed since it was executed.
        with contextlib.suppress(OSError, SyntaxError, ValueError), Path(path).open("rb") as file:
            return ast.parse(file.read(_MOST_BYTES))
    return ast.Module([], [])


def _names_read(tree: ast.Module) -> frozenset[str]:
    return frozenset(
        one.id
        for one in ast.walk(tree)
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)
    )


def _bindings(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each name that a module binds, and the line, in their order; not what functions and classes bind."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name, child.lineno
        elif isinstance(child, ast.Import | ast.ImportFrom):
            for alias in child.names:
                yield (alias.asname or alias.name.partition(".")[0]), child.lineno
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id, child.lineno
        elif not isinstance(
            child, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        ):
            yield from _bindings(child)
