"""Sends standard error to a file, and to a new file after logrotate has moved the old one away.

The descriptor is redirected, not Python's stream. So the file gets log events, tracebacks, dumps of
`faulthandler`, and what the application or a library in C prints, in the order they were written. Processes
that are started later inherit the file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import LogFileError
from uwsgibridge.system.signals import empty_handler
from uwsgibridge.telemetry.access_file import reopen_access_file
from uwsgibridge.telemetry.appending import open_to_append
from uwsgibridge.telemetry.line_stream import follow_standard_error, say

_Handler: TypeAlias = Callable[[int, FrameType | None], Any]


class _Reopening:
    """Handles SIGUSR1.

    Args:
        steps: what opens the files anew.
        then: the application's own handler, which is called afterwards.
    """

    def __init__(self, steps: list[Callable[[], None]], then: _Handler | None) -> None:
        self._steps = steps
        self.then = then

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for step in self._steps:
            try:
                step()
            except LogFileError as error:
                # The old file stays open.
                say(f"Error: {error}")
        if self.then is not None:
            self.then(number, frame)


def reopen_log_at_signal(settings: Settings) -> None:
    """Open the log file and the access log's file anew at each SIGUSR1; without them, the signal does nothing.

    Call it again when the application was imported, which may have taken the signal. A handler of its own is then called as
    well, after the files are open; it is left alone where there is no file. What `faulthandler.register` has taken is
    taken back: nobody can tell that it was.
    """
    steps: list[Callable[[], None]] = []
    if settings.log_file:
        steps.append(partial(open_log_file, Path(settings.log_file).absolute()))
    if settings.access_log_file:
        steps.append(reopen_access_file)
    present = signal.getsignal(signal.SIGUSR1)
    if isinstance(present, _Reopening):
        present = present.then
    then = present if callable(present) and present is not empty_handler else None
    if steps:
        signal.signal(signal.SIGUSR1, _Reopening(steps, then))
    elif then is None:
        signal.signal(signal.SIGUSR1, empty_handler)


_STANDARD_ERROR: Final = 2


def open_log_file(path: Path, owner: tuple[int, int] | None = None) -> None:
    """Send all that this process writes to standard error to the end of a file.

    Call it before `make_logger`, so that ``auto`` sees the file and not the terminal. Call it again
    when the file was moved away (SIGUSR1), in each process: a descriptor can't be changed from
    outside. No log event is lost or cut in two: other threads may write meanwhile, and the contents of the
    stream's buffer go to the new file. Safe in a signal handler.

    Args:
        path: of the file, absolute because the application may change the working directory. A missing
            file is made.
        owner: user and group that will open the file anew; None for those of this process.

    Raises:
        LogFileError: the file can't be opened. Standard error stays as it was.
    """
    descriptor = open_to_append("--log-file", path, owner)
    os.dup2(descriptor, _STANDARD_ERROR)
    os.close(descriptor)
    follow_standard_error()
