"""What each format gives."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from uwsgibridge.migration.plan import Verdict

# What is to be said of a line: the verdict, why, and the name that --ignore takes.
Note: TypeAlias = tuple[Verdict, str, str]


class Entry(NamedTuple):
    """One name of a file with its value.

    Attributes:
        name: of the option.
        value: as uWSGI gets it; empty where there is none.
        line: its number in the file, 0 where it is not known.
        is_bare: whether nothing but the name was written.
        notes: what the format has to say of it.
    """

    name: str
    value: str
    line: int
    is_bare: bool = False
    notes: tuple[Note, ...] = ()


class FormatError(Exception):
    """A text is not of its format; the message is a clause.

    Args:
        line: its number in the file, 0 where it is not known.
        message: what is wrong, and what would mend it.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
