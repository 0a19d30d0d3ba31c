"""What a process says when it ends for a reason that was foreseen, and its exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from uwsgibridge.config.settings import SettingsError
from uwsgibridge.hosts.loading import ApplicationError
from uwsgibridge.listener.sockets import BindError
from uwsgibridge.system.pid_file import PidFileError
from uwsgibridge.telemetry.line_stream import say
from uwsgibridge.telemetry.log_file import LogFileError

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


class Outcome:
    """The exit status that a run has come to."""

    status = 0


@contextlib.contextmanager
def show_failure() -> Iterator[Outcome]:
    """Say on standard error why a run ended, and keep the exit status that fits.

    Wrong usage or configuration is 2; an application that can't be loaded is 3, shown with its own
    traceback and none of ours; anything else that is foreseen is 1.
    """
    outcome = Outcome()
    try:
        yield outcome
    except SettingsError as error:
        _say(str(error))
        outcome.status = EXIT_USAGE
    except ApplicationError as error:
        if error.traceback_text:
            say(error.traceback_text)
        _say(str(error))
        outcome.status = EXIT_APPLICATION
    except WorkerUnfit as error:
        _say(f"stopped: {error}")
        outcome.status = EXIT_FAILURE
    except (BindError, PidFileError, LogFileError) as error:
        _say(str(error))
        outcome.status = EXIT_FAILURE
    except StartFailed as error:
        outcome.status = error.status if error.status > 0 else EXIT_FAILURE


def _say(message: str) -> None:
    say(f"Error: {message}")
