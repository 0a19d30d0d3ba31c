"""uWSGI's command line, which is that of getopt_long(3)."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.plan import Place
from uwsgibridge.migration.uwsgi.option_names import (
    FLAGS,
    MAY_TAKE_A_VALUE,
    OPTION_NAMES,
    SHORT,
    TAKING_A_VALUE,
)

COMMAND_LINE: Final = Place("the command line")
_MOST_SHOWN: Final = 6


class Argument(NamedTuple):
    """One option of the command line, or a file.

    Attributes:
        name: of the option, written out; None for a file.
        value: None for an option that has none.
    """

    name: str | None
    value: str | None


def read_arguments(arguments: Sequence[str], custom: Mapping[str, bool]) -> Iterator[Argument]:
    """Read options in their order, then files, wherever those stand.

    Args:
        arguments: without the program's name.
        custom: names that ``declare-option`` has made, and whether they take a value. It may grow meanwhile.

    Raises:
        ConfigurationError: uWSGI has no such option, or a value is missing or too many.
    """
    files: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            files += waiting
        elif argument.startswith("--"):
            yield _long(argument, waiting, custom)
        elif argument.startswith("-") and argument != "-":
            yield from _cluster(argument, waiting)
        else:
            files.append(argument)
    # uWSGI takes what begins with a bracket for the title of its process.
    yield from (Argument(None, it) for it in files if not it.startswith("["))


def _long(argument: str, waiting: Iterator[str], custom: Mapping[str, bool]) -> Argument:
    written, equals, value = argument[2:].partition("=")
    name = _whole_name(written, custom)
    if name in FLAGS or custom.get(name) is False:
        if equals:
            raise ConfigurationError(
                f"{COMMAND_LINE}: --{name} is a flag, and uWSGI takes no value for it here; leave ={value} out"
            )
        return Argument(name, None)
    if equals:
        return Argument(name, value)
    if name in TAKING_A_VALUE or name in custom:
        return Argument(name, _next(f"--{name}", waiting))
    return Argument(name, None)


def _whole_name(written: str, custom: Container[str]) -> str:
    """Complete a name that is written in part."""
    if written in OPTION_NAMES or written in custom:
        return written
    if not written:
        raise ConfigurationError(f"{COMMAND_LINE}: an option's name is missing behind --")
    found = sorted(it for it in OPTION_NAMES if it.startswith(written))
    if len(found) == 1:
        return found[0]
    if found:
        rest = ", ..." if len(found) > _MOST_SHOWN else ""
        names = ", ".join(f"--{it}" for it in found[:_MOST_SHOWN])
        raise ConfigurationError(
            f"{COMMAND_LINE}: --{written} is the beginning of {names}{rest}; write it out"
        )
    from difflib import get_close_matches

    close = get_close_matches(written.lower().replace("_", "-"), OPTION_NAMES, n=1)
    hint = f"; did you mean --{close[0]}?" if close else ""
    raise ConfigurationError(f"{COMMAND_LINE}: uWSGI has no option --{written}{hint}")


def _cluster(argument: str, waiting: Iterator[str]) -> Iterator[Argument]:
    """Read options of one letter; the last one may have a value behind it."""
    for index, letter in enumerate(argument[1:], 2):
        name = SHORT.get(letter)
        if name is None:
            raise ConfigurationError(
                f"{COMMAND_LINE}: uWSGI has no option -{letter}, which {argument!r} has"
            )
        if name in FLAGS:
            yield Argument(name, None)
            continue
        rest = argument[index:]
        if rest or name in MAY_TAKE_A_VALUE:
            yield Argument(name, rest or None)
        else:
            yield Argument(name, _next(f"-{letter}", waiting))
        return


def _next(option: str, waiting: Iterator[str]) -> str:
    value = next(waiting, None)
    if value is None:
        raise ConfigurationError(f"{COMMAND_LINE}: {option} needs a value")
    return value
