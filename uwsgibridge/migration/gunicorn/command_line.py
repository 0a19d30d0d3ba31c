"""Reads gunicorn's command line, with its abbreviations and short flags."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.known_settings import SETTINGS, Flag, KnownSetting
from uwsgibridge.migration.gunicorn.values import Kind

_OCTAL: Final = re.compile(r"0\d+")
_NAMES: Final = "APP_MODULE"

_ACTIONS: Final[dict[Flag, dict[str, Any]]] = {
    Flag.VALUE: {"action": "store"},
    Flag.EACH: {"action": "append"},
    Flag.ON: {"action": "store_true"},
    Flag.OFF: {"action": "store_const", "const": False},
    Flag.MAYBE: {"action": "store", "nargs": "?", "const": "auto"},
}


class _WrongArgumentsError(Exception):
    """The parser does not take the arguments; the message says why."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong, and prints nothing."""

    def error(self, message: str) -> NoReturn:
        raise _WrongArgumentsError(message)


def parse_arguments(arguments: Sequence[str], source: str) -> tuple[list[str], dict[str, Any]]:
    """Read arguments in gunicorn's form.

    Args:
        arguments: without the program's name.
        source: words for where they stand, for an error.

    Returns:
        What is no flag, such as the application's name; and the settings that are given, by their names in a file.

    Raises:
        ConfigurationError: gunicorn does not start with these arguments.
    """
    if not arguments:
        return [], {}
    try:
        found = vars(_parser().parse_args(list(arguments)))
    except _WrongArgumentsError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    if found.pop("help", False) or found.pop("version", False):
        raise ConfigurationError(
            f"{source}: help is what uwsgibridge run-gunicorn --help prints, and uwsgibridge --version tells the "
            "version"
        )
    names = found.pop(_NAMES)
    return names, {name: value for name, value in found.items() if value is not None}


@functools.cache
def _parser() -> _Parser:
    parser = _Parser(prog="gunicorn", add_help=False)
    # They are no settings. They stand here since abbreviations have to be as unclear here as they are there.
    parser.add_argument("-h", "--help", action="store_true", dest="help", default=argparse.SUPPRESS)
    parser.add_argument(
        "-v", "--version", action="store_true", dest="version", default=argparse.SUPPRESS
    )
    parser.add_argument(_NAMES, nargs="*")
    for known in SETTINGS.values():
        if known.flags:
            _add(parser, known)
    return parser


def _add(parser: argparse.ArgumentParser, known: KnownSetting) -> None:
    options = dict(_ACTIONS[known.flag])
    if known.flag is Flag.VALUE:
        options["type"] = {Kind.WHOLE: int, Kind.OCTAL: _octal}.get(known.kind, str)
    parser.add_argument(*known.flags, dest=known.name, default=None, **options)


def _octal(text: str) -> int:
    """Read a number whose digits are octal where the first one is 0."""
    return int(text, 8) if _OCTAL.fullmatch(text) else int(text, 0)


_octal.__name__ = "number"  # argparse names it in its message
