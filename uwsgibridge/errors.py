"""What ends a process for a reason that was foreseen, and the exit status that it ends with.

::

    BridgeError             1
    +-- SettingsError       2, and a ValueError
    +-- ApplicationError    3
    +-- BindError           1
    +-- PidFileError        1
    +-- LogFileError        1
    +-- WorkerUnfit         1
    +-- StartFailed         that of the process that did not come up
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_APPLICATION: Final = 3


class BridgeError(Exception):
    """What ends a bridge, or keeps it from starting, for a reason that was foreseen.

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
        traceback_text: the application's own traceback, or empty where the sentence says it all.
    """

    exit_status = EXIT_APPLICATION

    def __init__(self, message: str, *, traceback_text: str = "") -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class BindError(BridgeError):
    """An address can't be listened at; the message says why, and what would help."""


class PidFileError(BridgeError):
    """The pid file can't be ours; the message says why, and what would help."""


class LogFileError(BridgeError):
    """The log file can't be opened; the message names ``--log-file``."""


class WorkerUnfit(BridgeError):
    """A thread or a socket is lost, so the worker has drained; its process is to be started again."""


class StartFailed(BridgeError):
    """The first workers did not come up, and have said why where they could.

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
