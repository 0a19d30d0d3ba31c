"""Runs timers and crons that an application has registered by the module ``uwsgi``, one after another.

A supervisor starts it as ``python -m uwsgibridge.worker.timers``, and has it replaced at a reload: first the old one
ends, with the function that it runs, then the new one starts. So no function ever runs twice at a time.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, Self

from uwsgibridge.application.loading import load_applications
from uwsgibridge.link.messages import Blueprint
from uwsgibridge.system.interpreter import end_interpreter
from uwsgibridge.system.process_title import set_title
from uwsgibridge.telemetry.failure import show_failure
from uwsgibridge.telemetry.line_stream import say
from uwsgibridge.telemetry.stacks import own_traceback
from uwsgibridge.uwsgi_module.installing import (
    Installed,
    become_timers,
    call_atexit,
    call_post_fork_hook,
)
from uwsgibridge.uwsgi_module.schedule import MOST_MINUTES_LATE, SECONDS_PER_MINUTE

_BLUEPRINT_VARIABLE: Final = "UWSGIBRIDGE_TIMERS"


def main() -> int:
    """Load the application, and run what it has registered until SIGTERM.

    Returns:
        The exit status.
    """
    blueprint = Blueprint.decode(os.environ.pop(_BLUEPRINT_VARIABLE).encode())
    with Stop() as stop, show_failure() as outcome:
        sys.argv[:] = blueprint.arguments
        set_title(blueprint.settings.title, "timers")
        load_applications(blueprint.app_name, blueprint.settings)
        installed = become_timers()
        _run_safely("post_fork_hook", call_post_fork_hook)
        run(installed, stop)
        _run_safely("atexit", call_atexit)
    return outcome.status


class Stop:
    """Becomes true at SIGTERM, which ends a wait, and no function that runs. A context manager that ends that.

    Attributes:
        is_asked_for: whether SIGTERM has come.
    """

    def __init__(self) -> None:
        self.is_asked_for = False
        self._wakeup, self._written = socket.socketpair()
        self._wakeup.setblocking(False)
        self._written.setblocking(False)
        self._before = signal.signal(signal.SIGTERM, self._ask_for)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)
        self._wakeup.close()
        self._written.close()

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds, or until SIGTERM."""
        select.select([self._wakeup], [], [], max(0.0, seconds))

    def _ask_for(self, *_: object) -> None:
        self.is_asked_for = True
        self._written.send(b"\0")


def run(installed: Installed, stop: Stop) -> None:
    """Run what is due, until the stop."""
    schedule, shared = installed.schedule, installed.shared
    schedule.start(time.monotonic())
    now_minute = int(time.time() // SECONDS_PER_MINUTE)
    # What was due between the end of the process before and the start of this one is due now.
    last_minute = shared.read_minute() or now_minute
    while not stop.is_asked_for:
        due = schedule.due_timers(time.monotonic())
        now_minute = int(time.time() // SECONDS_PER_MINUTE)
        if now_minute != last_minute:
            first = max(last_minute + 1, now_minute - MOST_MINUTES_LATE)
            due += schedule.due_crons(range(first, now_minute + 1))
            last_minute = now_minute
            shared.write_minute(now_minute)
        for number in due:
            if not stop.is_asked_for:
                _run_function(installed, number)
        if not due:
            stop.wait(_seconds_to_next(installed, last_minute))


def _seconds_to_next(installed: Installed, last_minute: int) -> float:
    seconds = (last_minute + 1) * SECONDS_PER_MINUTE - time.time()
    timer_at = installed.schedule.next_timer_at()
    if timer_at is not None:
        seconds = min(seconds, timer_at - time.monotonic())
    # The clock may be set meanwhile.
    return min(seconds, SECONDS_PER_MINUTE)


def _run_function(installed: Installed, number: int) -> None:
    function = installed.schedule.functions.get(number)
    if function is None:
        say(
            f"Error: signal {number} is due, and has no function: call uwsgi.register_signal before"
        )
        return
    _run_safely(getattr(function, "__qualname__", repr(function)), lambda: function(number))


def _run_safely(name: str, function: Callable[[], object]) -> None:
    try:
        function()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the next one is run all the same
        say(own_traceback(error))
        say(f"Error: {name} failed")


if __name__ == "__main__":
    end_interpreter(main())
