"""Counts what an overload makes the bridge refuse, and logs that once a second."""

from __future__ import annotations

from collections.abc import Mapping

from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.once_a_second import Later, OnceASecond


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
        self._refused = OnceASecond(self._write, later)

    def count(self, reason: str, option: str) -> None:
        """Count a request that was refused.

        Args:
            reason: as the counters have it.
            option: whose limit it was over.
        """
        self._counters.count_refusal(reason)
        self._refused.note(reason, option=option)

    def _write(self, reason: str, count: int, facts: Mapping[str, object]) -> None:
        self._log.warning(
            "overload: requests were answered 503", reason=reason, requests=count, **facts
        )
