"""Errors that end a process for a foreseen reason, each with the exit status of that process.

::

    BridgeError             1
    +-- SettingsError       2, and a ValueError
    +-- ApplicationError    3
    +-- BindError           1
    +-- PidFileError        1
    +-- LogFileError        1
    +-- WorkerUnfit         1
    +-- StartCommandFailed  4
    +-- StartFailed         the status of the process that did not come up
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_APPLICATION: Final = 3
EXIT_COMMAND: Final = 4


class BridgeError(Exception):
    """Ends a bridge, or keeps it from starting, for a foreseen reason.

    Attributes:
        exit_status: of a process that ends because of it.
    """

    exit_status = EXIT_FAILURE


class SettingsError(BridgeError, ValueError):
    """A value is refused; the message names the option and what it takes."""

    exit_status = EXIT_USAGE


class ApplicationError(BridgeError):
    """The application can't be loaded or started.

    Attributes:
        traceback_text: the application's own traceback; empty where the message says everything.
    """

    exit_status = EXIT_APPLICATION

    def __init__(self, message: str, *, traceback_text: str = "") -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class BindError(BridgeError):
    """An address can't be listened at; the message says why, and what would help."""


class PidFileError(BridgeError):
    """The pid file can't be made or locked; the message says why, and what would help."""


class LogFileError(BridgeError):
    """The log file can't be opened; the message names ``--log-file``."""


class WorkerUnfit(BridgeError):
    """The worker has lost a thread or a socket and has drained; its process has to be started again."""


class StartCommandFailed(BridgeError):
    """A command of ``--on-start`` has failed; the message has the last lines that it wrote."""

    exit_status = EXIT_COMMAND


class StartFailed(BridgeError):
    """The first workers did not come up. Those that could have logged why.

    Args:
        ended_with: the status of the process that failed, negative for a signal.

    Attributes:
        ended_with: as given.
    """

    def __init__(self, ended_with: int) -> None:
        super().__init__("the first workers did not come up")
        self.ended_with = ended_with
        self.exit_status = ended_with if ended_with > 0 else EXIT_FAILURE


@contextlib.contextmanager
def single_error() -> Iterator[None]:
    """Raise a single error without the groups that nurseries wrap around it; several errors stay a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup):
            raise
        raise error from error.__cause__
