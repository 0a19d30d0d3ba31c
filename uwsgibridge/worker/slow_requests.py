"""Tells of requests that run for long while they still run: each once, with where it stands.

A request pays nothing for it: a timer of the loop looks at the tables of the hosts. A blocked loop has no timers, so a
thread looks in its place, where Python lets one look at what another thread does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.underway import Phase, Underway
from uwsgibridge.loop.interface import Loop, Task
from uwsgibridge.system.interpreter import runs_without_gil
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.stacks import is_running, stack_of_thread
from uwsgibridge.worker.requests_underway import Placed, short_path, stack_of

# How soon to look again at the earliest, by the part of the limit, and in seconds: many requests that come to their
# limit one after the other must not make a look each.
_LEAST_PART: Final = 0.1
_LEAST_SECONDS: Final = 0.05

# How late a look may be before the loop counts as blocked.
_LATE_SECONDS: Final = 0.25

# Of these, nobody waits for the application: it has not begun, or the client has an answer, and the log tells why.
_NOT_RUNNING: Final = (Phase.QUEUED, Phase.GIVEN_UP)


class SlowRequests:
    """Watches the requests of a worker.

    Args:
        loop: the worker's; `start` and `stop` belong to its thread.
        seconds: how long a request may run before it is told of.
        underway: lists the requests in flight; from any thread where there is the GIL.
        counters: of the worker.
        logger: where log events go.
        has_tasks: whether applications run on the loop, and may block it.
    """

    def __init__(
        self,
        loop: Loop,
        seconds: float,
        underway: Callable[[], Sequence[Placed]],
        counters: Counters,
        logger: Logger,
        *,
        has_tasks: bool,
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._least = max(_LEAST_SECONDS, seconds * _LEAST_PART)
        self._underway = underway
        self._counters = counters
        self._log = logger
        self._has_thread = has_tasks and not runs_without_gil()
        self._told: set[Connection] = set()
        self._looking = threading.Lock()
        self._due_at = 0.0
        self._timer: Task | None = None
        self._stopped = threading.Event()
        self._thread_of_loop = threading.get_ident()

    def start(self) -> None:
        """Begin to watch."""
        self._look_later(self._seconds)
        if self._has_thread:
            # A daemon: the end of a worker waits for no look.
            threading.Thread(target=self._watch_loop, name="slow-requests", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self, seconds: float) -> None:
        self._due_at = monotonic() + seconds
        self._timer = self._loop.call_later(seconds, self._look_on_loop)

    def _look_on_loop(self) -> None:
        self._look_later(self._look(is_blocked=False))

    def _watch_loop(self) -> None:
        wait = self._seconds
        while not self._stopped.wait(wait):
            late = monotonic() - self._due_at
            wait = max(self._least, _LATE_SECONDS - late)
            if late >= _LATE_SECONDS:
                wait = self._look(is_blocked=True)

    def _look(self, *, is_blocked: bool) -> float:
        """Tell of the requests that are slow by now; give how soon the next one may be."""
        with self._looking:
            now = monotonic()
            placed = self._underway()
            self._told &= {it.underway.connection for it in placed}
            # Requests that begin after this look can't be slow before the next one.
            least = self._seconds
            for it in placed:
                seconds = _running_seconds(it.underway, now)
                if seconds is None or it.underway.connection in self._told:
                    continue
                if seconds >= self._seconds:
                    self._told.add(it.underway.connection)
                    self._tell(it, seconds, is_blocked=is_blocked)
                else:
                    least = min(least, self._seconds - seconds)
            return max(self._least, least)

    def _tell(self, placed: Placed, seconds: float, *, is_blocked: bool) -> None:
        underway = placed.underway
        self._counters.count_slow_request()
        if is_blocked and _runs_on_loop(underway):
            stack = stack_of_thread(self._thread_of_loop)
        else:
            stack = stack_of(underway)
        request = underway.connection.request
        self._log.warning(
            "request is slow, and still runs",
            **({"app": placed.application} if placed.application is not None else {}),
            method=request.method,
            path=short_path(request),
            seconds=round(seconds, 3),
            phase=str(underway.phase),
            thread=underway.thread.name if underway.thread is not None else "event loop",
            option="--slow-request-seconds",
            stack=stack,
        )


def _runs_on_loop(underway: Underway) -> bool:
    """Whether it is this request that the loop runs at this moment.

    From Python 3.12 on, asyncio runs the first step of a task before anybody has the task.
    """
    return underway.thread is None and (underway.task is None or is_running(underway.task))


def _running_seconds(underway: Underway, now: float) -> float | None:
    """Tell how long a request has run; None for one that does not run, or is meant to last."""
    if underway.began_at is None or underway.is_open_ended or underway.phase in _NOT_RUNNING:
        return None
    # A background task keeps nobody waiting. A thread that works after its answer keeps the next request waiting.
    if underway.phase is Phase.AFTER_ANSWER and underway.thread is None:
        return None
    return now - underway.began_at
