"""Parses what ``--on-start``, ``--on-ready`` and ``--sidecar`` take: a command, or a file to touch.

A command line is split as a shell splits it, and no shell runs it. What only a shell would understand is refused,
because a program would get it as an argument.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import field
from pathlib import PurePath
from typing import Final, TypeAlias

from uwsgibridge.errors import SettingsError
from uwsgibridge.quick_dataclass import dataclass

# Pieces of a shell's words: quoted once, quoted twice, escaped, spaces, and all else.
_PIECES: Final = re.compile(
    r"""(?P<literal>'[^']*')|(?P<quoted>"(?:\\.|[^"\\])*")|(?P<escaped>\\.)|(?P<spaces>\s+)|(?P<plain>[^\s'"\\]+)""",
    re.DOTALL,
)

# Words that end, join or redirect a command where they are not quoted.
_OPERATOR: Final = re.compile(r"\|\|?|&&?|;|\d?>>?(?:&\d|\S+)?|<")

# What a shell replaces by something else, also between double quotes.
_EXPANSION: Final = re.compile(r"\$[A-Za-z_{(]\w*|`")

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)

# A shell gives such a command line to a program as it stands.
_PLAIN: Final = re.compile(r"[\w@%+=:,./ \t-]+", re.ASCII)

# Commands of a shell that are no programs, or do something to the shell itself (POSIX, 2.14 and "cd").
_BUILTINS: Final = frozenset(
    {
        *(".", ":", "break", "cd", "command", "continue", "eval", "exec", "exit", "export", "readonly"),
        *("return", "set", "shift", "source", "times", "trap", "ulimit", "umask", "unset", "wait"),
        *("if", "for", "while", "until", "case"),
    }
)  # fmt: skip

_EXEC: Final = "exec:"
_TOUCH: Final = "touch:"


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments.

    Attributes:
        option: the option that names it, as on the command line.
        text: the command line, as it was given.
        arguments: the program and its arguments.
        variables: of its environment, beside those of this process.
    """

    option: str
    text: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The base name of the program, without `env` and its variables in front."""
        words = list(self.arguments)
        if PurePath(words[0]).name == "env":
            words = [it for it in words[1:] if not _ASSIGNMENT.fullmatch(it)] or words
        return PurePath(words[0]).name or words[0]


@dataclass(frozen=True, slots=True)
class Touch:
    """A file whose time is set, and which is made where it is missing.

    Attributes:
        option: the option that names it, as on the command line.
        path: of the file.
    """

    option: str
    path: str


Action: TypeAlias = Command | Touch


def parse_action(option: str, text: str) -> Action:
    """Parse ``exec:COMMAND`` or ``touch:FILE``.

    Args:
        option: as on the command line.
        text: its value.

    Raises:
        SettingsError: the text is neither.
    """
    if text.startswith(_EXEC):
        return parse_command(option, text.removeprefix(_EXEC))
    path = text.removeprefix(_TOUCH)
    if path == text or not path or "\0" in path:
        raise SettingsError(f"{option} {text!r} is not exec:COMMAND or touch:FILE")
    return Touch(option, path)


def parse_command(option: str, text: str) -> Command:
    """Split a command line as a shell does.

    Args:
        option: as on the command line.
        text: its value.

    Raises:
        SettingsError: nothing is named, or a shell would be needed.
    """
    text = text.strip()
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise SettingsError(f"{option} {text!r}: {str(error).lower()}") from None
    if not arguments or not arguments[0]:
        raise SettingsError(f"{option} {text!r} names no command")
    if "\0" in text:
        raise SettingsError(f"{option} {text!r}: a command can't have a NUL character")
    if _ASSIGNMENT.fullmatch(arguments[0]):
        raise SettingsError(
            f"{option} {text!r}: no shell runs it, and {arguments[0]!r} is no program; write env before it"
        )
    foreign = _find_shell_syntax(text)
    if foreign is not None:
        raise SettingsError(
            f"{option} {text!r}: no shell runs it, and {foreign!r} is for one; write sh -c '...' around it, or "
            "quote that by ' where it is an argument"
        )
    return Command(option, text, arguments)


def in_a_shell(text: str) -> str:
    """Give the command line that does what a shell does with another one; that is the same where it is plain.

    Servers that have a shell run their commands are read so.

    Args:
        text: a command line for a shell.
    """
    words = text.split()
    if _PLAIN.fullmatch(text) and words and words[0] not in _BUILTINS and "=" not in words[0]:
        return text
    return shlex.join(["sh", "-c", text])


def _find_shell_syntax(text: str) -> str | None:
    """Find the first thing in a command line that only a shell understands."""
    word, is_quoted = "", False
    for piece in [*_PIECES.finditer(text), None]:
        kind = "spaces" if piece is None else piece.lastgroup
        if kind == "spaces":
            if not is_quoted and _OPERATOR.fullmatch(word):
                return word
            word, is_quoted = "", False
        elif piece is not None:
            expansion = _EXPANSION.search(piece[0]) if kind in {"plain", "quoted"} else None
            if expansion is not None:
                return expansion[0]
            word += piece[0]
            is_quoted |= kind != "plain"
    return None
