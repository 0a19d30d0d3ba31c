"""Notices that an event loop is blocked, because an application computes or waits without awaiting.

Nothing in a blocked loop can tell that, so a thread looks. A blocked loop answers no ping either, so that a
health check fails, as it should.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Final

from uwsgibridge.loop.interface import Loop, Task
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.stacks import stack_of_thread

# The loop sets its beat this often within the time after which it counts as blocked.
_BEATS: Final = 4


class LoopWatchdog:
    """Logs each block of a loop once, with the stack of the loop's thread, and its length when it ends.

    Args:
        loop: the loop to watch; `start` and `stop` belong to its thread.
        seconds: how long the loop may be blocked before that is logged.
        logger: where log events go.
    """

    def __init__(self, loop: Loop, seconds: float, logger: Logger) -> None:
        self._loop = loop
        self._seconds = seconds
        self._log = logger
        self._last_beat = monotonic()
        self._stopped = threading.Event()
        self._thread_of_loop = threading.get_ident()
        self._timer: Task | None = None

    def start(self) -> None:
        """Start the watching thread."""
        self._beat()
        threading.Thread(target=self._watch, name="loop-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Have the watching thread end."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._last_beat = monotonic()
        self._timer = self._loop.call_later(self._seconds / _BEATS, self._beat)

    def _watch(self) -> None:
        blocked_since: float | None = None
        while not self._stopped.wait(self._seconds / _BEATS):
            last_beat = self._last_beat
            if blocked_since is None:
                if monotonic() - last_beat > self._seconds:
                    blocked_since = last_beat
                    self._report_block()
            elif last_beat != blocked_since:
                self._log.warning(
                    "event loop goes on", blocked_seconds=round(last_beat - blocked_since, 3)
                )
                blocked_since = None

    def _report_block(self) -> None:
        self._log.warning(
            "event loop is blocked: the application computes or waits without awaiting",
            option="--loop-block-warning-seconds",
            stack=stack_of_thread(self._thread_of_loop),
        )
