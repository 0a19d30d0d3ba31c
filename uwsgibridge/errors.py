"""What ends a process for a reason that was foreseen, and its exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final


class SettingsError(ValueError):
    """A value is refused; the message names the option and what it takes."""


@contextlib.contextmanager
def single_error() -> Iterator[None]:
    """Raise the one error out of the groups that nurseries wrap around it; several stay a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup):
            raise
        raise error from error.__cause__


EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_APPLICATION: Final = 3


class WorkerUnfit(Exception):
    """A thread or a socket is lost, so the worker has drained; its process is to be started again."""


class StartFailed(Exception):
    """The first workers did not come up, and have said why.

    Attributes:
        status: the exit status of the one that failed.
    """

    def __init__(self, status: int) -> None:
        super().__init__("the first workers did not come up")
        self.status = status


class ApplicationError(Exception):
    """The application can't be loaded or started.

    Attributes:
        traceback_text: the application's own traceback, or empty where the sentence says it all.
    """

    def __init__(self, message: str, *, traceback_text: str = "") -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class BindError(Exception):
    """An address can't be listened at; the message says why, and what would help."""


class PidFileError(Exception):
    """The pid file can't be ours; the message says why, and what would help."""


class LogFileError(Exception):
    """The log file can't be opened; the message names ``--log-file``."""
