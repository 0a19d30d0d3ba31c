"""The error of a stack that a test starts."""

from __future__ import annotations

from typing import Final

# How many lines of the log a message has; `StackError.log` has all of them.
_LINES: Final = 20
_LINE_CHARACTERS: Final = 400


class StackError(Exception):
    """A part of a stack did not do what the test waits for; the message has the end of the part's log.

    Attributes:
        exit_status: of the bridge where it has ended, negative for a signal; else None.
        log: what the part had written to standard error.
    """

    def __init__(self, message: str, *, log: str = "", exit_status: int | None = None) -> None:
        last = [line[:_LINE_CHARACTERS] for line in log.splitlines()[-_LINES:]]
        super().__init__("\n".join([message, *last]))
        self.exit_status = exit_status
        self.log = log
