"""What a process writes to standard error when it ends for a foreseen reason."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from uwsgibridge.errors import (
    EXIT_APPLICATION,
    EXIT_FAILURE,
    EXIT_USAGE,
    ApplicationError,
    BridgeError,
    StartFailed,
    WorkerUnfit,
)
from uwsgibridge.telemetry.line_stream import say


class Outcome:
    """The exit status of a run, once the run is over."""

    status = 0


@contextlib.contextmanager
def show_failure() -> Iterator[Outcome]:
    """Say on standard error why a run ended, and keep the exit status that fits.

    Yields:
        An object that has the status once the run is over: 0, or `BridgeError.exit_status`.
    """
    outcome = Outcome()
    try:
        yield outcome
    except BridgeError as error:
        _explain(error)
        outcome.status = error.exit_status


def _explain(error: BridgeError) -> None:
    match error:
        case ApplicationError():
            if error.traceback_text:
                say(error.traceback_text)
            _say(str(error))
        case WorkerUnfit():
            _say(f"stopped: {error}")
        case StartFailed():
            if error.ended_with not in {EXIT_FAILURE, EXIT_USAGE, EXIT_APPLICATION}:
                _say(f"the process {_describe_end(error.ended_with)}")
        case _:
            _say(str(error))


def _describe_end(status: int) -> str:
    """Say how a process ended that could not say why."""
    if status >= 0:
        return f"ended with status {status} while it loaded the application: something there calls os._exit()"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # most real-time signals have no name in Python
        name = f"signal {-status}"
    return (
        f"was ended by {name} while it loaded the application: import that with python -X faulthandler to see "
        "where"
    )


def _say(message: str) -> None:
    say(f"Error: {message}")
