"""What can go wrong with a stack that a test starts."""

from __future__ import annotations


class StackError(Exception):
    """A part of a stack did not do what the test waits for; the message ends with its log.

    Attributes:
        exit_status: of the bridge where it has ended, negative for a signal; else None.
        log: what it had written to standard error.
    """

    def __init__(self, message: str, *, log: str = "", exit_status: int | None = None) -> None:
        super().__init__(f"{message}\n{log}" if log else message)
        self.exit_status = exit_status
        self.log = log
