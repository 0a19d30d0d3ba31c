"""Counts what an overload makes the bridge refuse, and logs that once a second: a line for each would be part of the overload."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import Logger

# How long refusals are counted for one line of the log. The first one after a quiet time is logged at once.
LOG_SECONDS: Final = 1.0


class Later(Protocol):
    """Has a function called after a time, from any thread."""

    def __call__(self, seconds: float, function: Callable[[], object], /) -> object: ...


class OverloadLog:
    """Counts and logs refusals for one worker; from any thread.

    Args:
        logger: where log events go.
        counters: the worker's.
        later: has a function called in so many seconds.
    """

    def __init__(self, logger: Logger, counters: Counters, later: Later) -> None:
        self._log = logger
        self._counters = counters
        self._later = later
        self._lock = threading.Lock()
        # By reason, for the present second: the option, and how many were refused since the last line. Without an
        # entry, nothing was refused for a second.
        self._refused: dict[str, tuple[str, int]] = {}

    def count(self, reason: str, option: str) -> None:
        """Count a request that was refused.

        Args:
            reason: as the counters have it.
            option: whose limit it was over.
        """
        self._counters.count_refusal(reason)
        with self._lock:
            found = self._refused.get(reason)
            self._refused[reason] = (option, 0 if found is None else found[1] + 1)
        if found is None:
            self._write(reason, option, 1)
            self._later(LOG_SECONDS, lambda: self._end_second(reason))

    def _end_second(self, reason: str) -> None:
        with self._lock:
            option, count = self._refused.pop(reason)
            if count:
                self._refused[reason] = (option, 0)
        if count:
            self._write(reason, option, count)
            self._later(LOG_SECONDS, lambda: self._end_second(reason))

    def _write(self, reason: str, option: str, count: int) -> None:
        self._log.warning(
            "overload: requests were answered 503", reason=reason, requests=count, option=option
        )
