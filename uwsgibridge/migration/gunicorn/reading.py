"""Reads all that configures gunicorn, in its order: environment, file, GUNICORN_CMD_ARGS, command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.command_line import parse_arguments
from uwsgibridge.migration.gunicorn.config_file import ExecutedFile, execute_file
from uwsgibridge.migration.gunicorn.given import Given, Reading
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS, KnownSetting
from uwsgibridge.migration.gunicorn.values import UnfitValueError, convert
from uwsgibridge.migration.plan import Place
from uwsgibridge.migration.prometheus import MULTIPROC_VARIABLE

DEFAULT_FILE: Final = "gunicorn.conf.py"
COMMAND_LINE: Final = "the command line"
_ARGUMENTS_VARIABLE: Final = "GUNICORN_CMD_ARGS"

# Libraries that put green threads in the place of the standard library's, each with what tells that they have done so.
_PATCHERS: Final = {
    "gevent": ("gevent.monkey", "saved"),
    "eventlet": ("eventlet.patcher", "already_patched"),
}


def read_configuration(arguments: Sequence[str], environ: Mapping[str, str], start: str) -> Reading:
    """Read what configures gunicorn; the configuration file is executed in this process.

    Args:
        arguments: of gunicorn, without its name.
        environ: the variables of the environment.
        start: the directory that the process was started in, an absolute path. The file can import from there.

    Returns:
        What was read.

    Raises:
        ConfigurationError: gunicorn would not start; the message names the place.
    """
    names, from_arguments = parse_arguments(arguments, COMMAND_LINE)
    variable = environ.get(_ARGUMENTS_VARIABLE, "")
    try:
        words = shlex.split(variable)
    except ValueError as error:
        raise ConfigurationError(f"{_ARGUMENTS_VARIABLE} in the environment: {error}") from None
    _, from_variable = parse_arguments(words, _ARGUMENTS_VARIABLE)
    given = list(_defaults_of(environ))
    unknown: tuple[Given, ...] = ()
    executed = None
    # gunicorn looks for the file before it changes to --chdir.
    location = from_arguments.get("config") or from_variable.get("config")
    if not location and Path(start, DEFAULT_FILE).exists():
        location = DEFAULT_FILE
    if location:
        if start not in sys.path:
            sys.path.insert(0, start)
        executed = execute_file(location.strip(), start)
        given += _of_file(executed)
        unknown = tuple(_unknown(executed))
    given += _of_arguments(from_variable, _ARGUMENTS_VARIABLE)
    given += _of_arguments(from_arguments, COMMAND_LINE)
    return Reading(
        Given("APP", names[0], Place(COMMAND_LINE)) if names else None,
        tuple(given),
        unknown,
        {} if executed is None else executed.environment,
        () if executed is None else executed.python_path,
        next(_patchers(), None),
        _variable("SCRIPT_NAME", environ, executed),
        start,
        _variable(MULTIPROC_VARIABLE, environ, executed),
    )


def _variable(name: str, environ: Mapping[str, str], executed: ExecutedFile | None) -> str:
    changes = {} if executed is None else executed.environment
    return changes.get(name, environ.get(name)) or ""


def _defaults_of(environ: Mapping[str, str]) -> Iterator[Given]:
    """Yield the defaults that variables of the environment set."""
    workers = environ.get("WEB_CONCURRENCY")
    if workers is not None:
        place = Place("WEB_CONCURRENCY")
        try:
            count = int(workers)
        except ValueError:
            raise ConfigurationError(
                f"WEB_CONCURRENCY={workers} in the environment: it has to be a whole number of workers"
            ) from None
        yield _given(SETTINGS["workers"], count, place)
    port = environ.get("PORT")
    if port is not None:
        yield _given(SETTINGS["bind"], [f"0.0.0.0:{port}"], Place("PORT"))


def _of_file(executed: ExecutedFile) -> Iterator[Given]:
    # In the order of the lines; what the file imports with * has no line.
    found = [name for name in executed.names if name in SETTINGS]
    for name in sorted(found, key=lambda it: executed.lines.get(it, 0)):
        place = Place(executed.source, executed.lines.get(name, 0))
        given = _given(SETTINGS[name], executed.names[name], place)
        yield replace(given, variables=executed.variables.get(name, ()))


def _unknown(executed: ExecutedFile) -> Iterator[Given]:
    for name, line in executed.lines.items():
        is_unknown = name not in SETTINGS and name in executed.names
        if is_unknown and name not in executed.read and not name.startswith("_"):
            yield Given(name, executed.names[name], Place(executed.source, line))


def _of_arguments(found: Mapping[str, Any], source: str) -> Iterator[Given]:
    for name, value in found.items():
        yield _given(SETTINGS[name], value, Place(source))


def _given(known: KnownSetting, value: Any, place: Place) -> Given:
    try:
        return Given(known.name, convert(known.kind, value, known.arities), place)
    except UnfitValueError as error:
        shown = " ".join(str(value).split())
        raise ConfigurationError(
            f"{place}: {known.name} = {shown}: gunicorn does not start with this: {error}"
        ) from None


def _patchers() -> Iterator[str]:
    for library, (module, attribute) in _PATCHERS.items():
        if getattr(sys.modules.get(module), attribute, None):
            yield library
