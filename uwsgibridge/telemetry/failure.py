"""What a process says on standard error when it ends for a reason that was foreseen."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from uwsgibridge.errors import (
    EXIT_APPLICATION,
    EXIT_FAILURE,
    EXIT_USAGE,
    ApplicationError,
    BindError,
    LogFileError,
    PidFileError,
    SettingsError,
    StartFailed,
    WorkerUnfit,
)
from uwsgibridge.telemetry.line_stream import say


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
        if error.status not in {EXIT_FAILURE, EXIT_USAGE, EXIT_APPLICATION}:
            _say(f"the process {_describe_end(error.status)}")
        outcome.status = error.status if error.status > 0 else EXIT_FAILURE


def _describe_end(status: int) -> str:
    """Say how a process ended that had no time to say why."""
    if status >= 0:
        return f"ended with status {status} while it loaded the application: something there calls os._exit()"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # most real-time signals have no name
        name = f"signal {-status}"
    return (
        f"was ended by {name} while it loaded the application: import that with python -X faulthandler to see "
        "where"
    )


def _say(message: str) -> None:
    say(f"Error: {message}")
