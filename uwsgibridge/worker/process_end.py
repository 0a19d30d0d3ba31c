"""Ends a process in time and with its own status, whatever the application still does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Final, Self

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import EXIT_FAILURE, BridgeError
from uwsgibridge.telemetry.line_buffer import finish_lines
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.stacks import stack_of_thread
from uwsgibridge.worker.holding_threads import threads_holding_exit

# How long hooks, threads and Python itself may take after the worker has ended; a supervisor waits longer.
_END_SECONDS: Final = 4.0

# How long a process waits at its end for somebody to read the log, or what the application prints.
_LAST_OUTPUT_SECONDS: Final = 0.5

# Threads that end within this time are not named in the log.
_THREADS_END_SECONDS: Final = 1.0
_NAMED_THREADS: Final = 10
_SOON_SECONDS: Final = 0.001
_TIMER_NAME: Final = "end of the process"


class ProcessEnd:
    """Sees to it that a process ends in time and with its own status, whatever the application does.

    Python waits for threads that are no daemons, and for what libraries have it wait for.

    This is a context manager, which is entered twice: around everything that the process does, and around what
    it serves, since the end of an event loop waits for threads as well. After its first exit, the rest may take
    what remains of ``settings.graceful_timeout_seconds``, and 4 seconds at least.
    """

    def __init__(self, settings: Settings, logger: Logger) -> None:
        self._graceful_timeout_seconds = settings.graceful_timeout_seconds
        self._log = logger
        self._status = 0
        self._stopping_since: float | None = None
        self._is_over = False
        self._is_at_once = False

    def begin(self, seconds: float) -> None:
        """Record that the process was asked to end.

        Args:
            seconds: how long the worker may take for its end.
        """
        if self._stopping_since is None:
            self._stopping_since = monotonic()
            self._exit_after(seconds + _END_SECONDS)

    def hurry(self) -> None:
        """Wait for nothing any longer."""
        self._graceful_timeout_seconds = 0.0

    def now(self, status: int) -> None:
        """End the process without waiting for anything."""
        self._status = status
        self._is_at_once = True
        self._exit_after(0)
        threading.Event().wait()  # the process exits while this thread waits

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._status = status_after(error)
        if not self._is_over:
            self._is_over = True
            left = 0.0
            if self._stopping_since is not None:
                left = self._stopping_since + self._graceful_timeout_seconds - monotonic()
            seconds = max(left, _END_SECONDS)
            self._exit_after(seconds)
            _call_after(
                _THREADS_END_SECONDS, partial(self._tell_wait, seconds - _THREADS_END_SECONDS)
            )
        flush_output()

    def _exit_after(self, seconds: float) -> None:
        if _call_after(seconds, self._exit):
            _call_after(seconds + _LAST_OUTPUT_SECONDS, self._exit_silently)
        else:
            self._exit_by_alarm(seconds)

    def _exit_by_alarm(self, seconds: float) -> None:
        """Have the main thread exit, whatever it does then; only the main thread may set an alarm."""

        def exit_now(_number: int, _frame: object) -> None:
            self._exit()

        with contextlib.suppress(ValueError):  # this is another thread
            signal.signal(signal.SIGALRM, exit_now)
            # 0 would set no alarm.
            signal.setitimer(signal.ITIMER_REAL, max(seconds, _SOON_SECONDS))

    def _tell_wait(self, seconds: float) -> None:
        if names := _names_of_holding_threads():
            self._log.warning(
                "waiting for the application's threads",
                threads=names,
                seconds=round(seconds, 1),
                hint="end them in the lifespan's shutdown or in --on-worker-exit, or make them daemons",
            )

    def _exit(self) -> None:
        if names := _names_of_holding_threads():
            self._log.warning(
                "exiting without waiting for the application's threads", threads=names
            )
        elif not self._is_at_once:
            # Otherwise the main thread is in `now`, and runs nothing of the application's.
            self._log.warning(
                "exiting without waiting for what the application does at the end",
                stack=stack_of_thread(threading.main_thread().ident),
            )
        flush_output()
        finish_lines()
        self._exit_silently()

    def _exit_silently(self) -> None:
        os._exit(self._status)


def _call_after(seconds: float, function: Callable[[], None]) -> bool:
    """Call a function later, in a thread; False where no thread can be started (ulimit -u, pids_limit)."""
    timer = threading.Timer(seconds, function)
    timer.name = _TIMER_NAME
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:
        return False
    return True


def _names_of_holding_threads() -> list[str]:
    return [it.name for it in threads_holding_exit()][:_NAMED_THREADS]


def flush_output() -> None:
    """Write what was printed; drop it where nobody reads it any more.

    Otherwise Python would try again at its end, fail, and exit with status 120.
    """
    for stream in (sys.stdout, sys.stderr):
        # The application may have closed or replaced the stream; or the stream is None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except OSError:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def status_after(error: BaseException | None) -> int:
    """Tell the exit status of a process that ends by an error, or without one."""
    match error:
        case None | trio.Cancelled():
            return 0
        case BridgeError():
            return error.exit_status
        case _:
            return EXIT_FAILURE
