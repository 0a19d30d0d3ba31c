"""Reads a file of variables for ``--env-file``, in the form that Docker and systemd both read alike.

Docker's ``--env-file`` takes a value as it stands; systemd's ``EnvironmentFile=`` removes quotes and backslashes, and spaces at both
ends. What the two read differently is refused: the same file would give a service another password in a container than outside.
The rules are those of `parseKeyValueFile` of Docker's command line (opts/file.go) and of `parse_env_file_internal` of systemd
(src/basic/env-file.c).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from uwsgibridge.config.reading import read_start
from uwsgibridge.errors import SettingsError

# Docker takes names with dots and dashes as well, which systemd drops.
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"

# Docker refuses a longer line, and Linux a longer variable (MAX_ARG_STRLEN).
_MAX_LINE: Final = 65_535

_MAX_BYTES: Final = 1_048_576

_MARK: Final = "\ufeff"


def read_env_file(path: str) -> dict[str, str]:
    """Read a file of lines ``NAME=VALUE``.

    Returns:
        The value of each variable; of a name that comes twice, the last one.

    Raises:
        SettingsError: it can't be read, or Docker and systemd would read it differently. The message names the line, and never
            what stands there, which may be a secret.
    """
    try:
        content = read_start(path, _MAX_BYTES + 1, is_read_again=True)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"--env-file {path}: {reason}") from None
    if len(content) > _MAX_BYTES:
        raise SettingsError(
            f"--env-file {path}: it has over {_MAX_BYTES} bytes, and can't be a file of variables"
        )
    return dict(_lines(path, content))


def _lines(path: str, content: bytes) -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(content.split(b"\n"), 1):
        try:
            variable = _parse(raw.removesuffix(b"\r").decode())
        except UnicodeDecodeError:
            raise SettingsError(f"--env-file {path}, line {number}: it is not UTF-8") from None
        except ValueError as error:
            raise SettingsError(f"--env-file {path}, line {number}: {error}") from None
        if variable is not None:
            yield variable


def _parse(line: str) -> tuple[str, str] | None:
    """Read one line; None for one that is empty or a comment.

    Raises:
        ValueError: the two read it differently.
    """
    if len(line) > _MAX_LINE:
        raise ValueError(f"it has over {_MAX_LINE} characters")
    if line.startswith(_MARK):
        raise ValueError("it begins with a byte order mark: save the file as UTF-8 without one")
    if any((it < " " and it != "\t") or it == "\x7f" for it in line):
        raise ValueError("it has a control character")
    line = line.lstrip(" \t")
    if not line:
        return None
    if line.startswith("#"):
        if line.endswith("\\"):
            raise ValueError(
                "a comment that ends in a backslash swallows the next line in systemd before version 254: leave the "
                "backslash out"
            )
        return None
    if line.startswith(";"):
        raise ValueError(
            "it is a comment for systemd, and a variable for Docker: begin a comment with #"
        )
    name, equals, value = line.partition("=")
    if name.startswith(("export ", "export\t")):
        raise ValueError('this is no shell script: leave "export" out')
    if not equals:
        raise ValueError("it is not of the form NAME=VALUE")
    if not re.fullmatch(_NAME, name):
        raise ValueError(
            "what stands before = is no name of a variable: letters, digits and _, without spaces around ="
        )
    _check_value(name, value)
    return name, value


def _check_value(name: str, value: str) -> None:
    instead = f"leave them out, or write --env {name}=... in its place"
    if value != value.strip(" \t"):
        raise ValueError(
            f"systemd removes the spaces around the value of {name}, and Docker keeps them: {instead}"
        )
    if value.startswith(("'", '"')):
        raise ValueError(
            f"systemd removes the quotes around the value of {name}, and Docker keeps them: {instead}"
        )
    if "\\" in value:
        raise ValueError(
            f"systemd removes backslashes from the value of {name}, and Docker keeps them: {instead}"
        )


def environment_changes(
    files: tuple[str, ...], items: tuple[str, ...]
) -> dict[str, tuple[str, str | None]]:
    """Give what ``--env-file`` and ``--env`` make of the environment.

    Args:
        files: read one after the other; of a variable that two of them have, the last one counts.
        items: ``NAME=VALUE``, or ``NAME`` for a variable that is removed; they go before all files.

    Returns:
        For each variable, the option that it comes from in words, and its value; None removes it.

    Raises:
        SettingsError: a file can't be read.
    """
    changes: dict[str, tuple[str, str | None]] = {}
    for path in files:
        for name, value in read_env_file(path).items():
            changes[name] = (f"--env-file {path}", value)
    for item in items:
        name, equals, value = item.partition("=")
        changes[name] = ("--env", value if equals else None)
    return changes


def check_variable(option: str, text: str) -> None:
    """Check a value of ``--env``.

    Raises:
        SettingsError: it names no variable, or no process can have it. The message does not repeat a value, which may be a secret.
    """
    name = text.partition("=")[0]
    if not name:
        raise SettingsError(f"{option} names no variable: write NAME=VALUE, or NAME to remove it")
    if "\0" in text:
        raise SettingsError(f"{option} {name!r} has a null character")
    if len(os.fsencode(text)) > _MAX_LINE:
        raise SettingsError(f"{option} {name} has over {_MAX_LINE} bytes")
