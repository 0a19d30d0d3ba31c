"""What the text of a value means to uWSGI: booleans, numbers, paths and addresses.

Each rule was seen with uWSGI 2.0.31; most are not what the text looks like.
"""

from __future__ import annotations

import os.path
import re
from typing import Final

# uWSGI compares the whole value, and so "false # no" is true.
_FALSE: Final = frozenset({"false", "off", "no", "0"})
# atoi(3): spaces, a sign, and as many digits as there are.
_ATOI: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
# Without a sign, or with one: atoi(3) reads "--5" as 0.
_PLAIN_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]+\s*")
_COMMENT: Final = re.compile(r"\s[#;]")
_MOST_DIGITS: Final = 18

# What a TCP address ends with: a port, and whatever else stands there.
_TCP: Final = re.compile(r"(?P<host>[^/]*):(?P<port>[0-9]+)(?P<rest>.*)", re.DOTALL)


class MeaninglessError(ValueError):
    """A value that uWSGI takes for something that nobody meant; the message is a clause."""


def is_true(value: str | None) -> bool:
    """Tell whether a flag is on: all but ``false``, ``off``, ``no`` and ``0`` is, nothing at all as well."""
    return value is None or value.lower() not in _FALSE


def number(value: str | None) -> int:
    """Read a number as atoi(3) does: what comes behind the digits does not count, and no digits are 0."""
    match = _ATOI.match(value or "")
    if match is None:
        return 0
    digits = match[1]
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def has_comment(value: str | None) -> bool:
    """Whether the value has what its author took for a comment; uWSGI has none behind a value."""
    return value is not None and _COMMENT.search(value) is not None


def is_plain_number(value: str | None) -> bool:
    """Whether a value is digits and nothing else, so that a reader and uWSGI mean the same by it."""
    return value is not None and _PLAIN_NUMBER.fullmatch(value) is not None


def path(value: str, directory: str) -> str:
    """Make a path absolute.

    Args:
        value: as it was written.
        directory: that uWSGI is in when it uses the path.
    """
    return os.path.normpath(os.path.join(directory, value))  # noqa: PTH118 - no system call


def address(value: str, directory: str) -> str:
    """Give the form that ``--bind`` has for what ``socket`` names.

    Args:
        value: of ``socket``.
        directory: that relative paths of sockets begin at.

    Raises:
        MeaninglessError: uWSGI listens where nobody expects it to.
    """
    if "$(" in value:
        raise MeaninglessError(
            f"{value!r} names a variable that is not set; uWSGI would listen on a port by chance"
        )
    if value.startswith("fd://"):
        return value
    if value.startswith("unix:"):
        raise MeaninglessError(
            f"uWSGI does not know unix:, and would listen on a TCP port by chance; write socket = "
            f"{value.removeprefix('unix:')}"
        )
    if value.startswith(("@", "\\0")):
        raise MeaninglessError(
            "an abstract socket belongs to a network namespace and has no permissions; name a file"
        )
    if not value:
        raise MeaninglessError("no address stands there")
    match = _TCP.fullmatch(value)
    if match is None and ":" in value:
        raise MeaninglessError(
            "uWSGI takes what has a colon for a TCP address, and would listen on a port by chance; write HOST:PORT, or a "
            "path without a colon"
        )
    if match is None:
        if value.isdecimal():
            raise MeaninglessError(
                f"uWSGI would make a unix socket that is named {value}; for a port write 127.0.0.1:{value}"
            )
        if has_comment(value):
            raise MeaninglessError(
                "uWSGI has no comments behind values, and would make a file of that whole name"
            )
        return f"unix:{path(value, directory)}"
    if "," in value:
        raise MeaninglessError(
            "uWSGI takes one address for each socket line, and would listen on another; write two lines"
        )
    rest = match["rest"]
    if rest and not _COMMENT.match(rest):
        raise MeaninglessError(f"{rest!r} behind the port means nothing")
    host = match["host"]
    if "*" in host and host != "*":
        raise MeaninglessError(
            f"uWSGI looks for an address of this machine that begins with {host.partition('*')[0]}; write the address, or "
            f":{match['port']} for all"
        )
    return f"{'' if host == '*' else host}:{match['port']}"
