"""What can go wrong with a stack that a test starts."""

from __future__ import annotations

from typing import Final

# Enough to see in a message what happened last; `StackError.log` has all of it.
_LINES: Final = 20
_LINE_CHARACTERS: Final = 400


class StackError(Exception):
    """A part of a stack did not do what the test waits for; the message has the end of its log.

    Attributes:
        exit_status: of the bridge where it has ended, negative for a signal; else None.
        log: what it had written to standard error.
    """

    def __init__(self, message: str, *, log: str = "", exit_status: int | None = None) -> None:
        last = [line[:_LINE_CHARACTERS] for line in log.splitlines()[-_LINES:]]
        super().__init__("\n".join([message, *last]))
        self.exit_status = exit_status
        self.log = log
