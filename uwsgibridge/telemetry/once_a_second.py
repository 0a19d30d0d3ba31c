"""Logs what may come very often once a second, with its number: a line for each would be part of the trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

# How long events are counted for one line of the log. The first one after a quiet time is logged at once.
LOG_SECONDS: Final = 1.0


class Later(Protocol):
    """Has a function called after a time, from any thread."""

    def __call__(self, seconds: float, function: Callable[[], object], /) -> object: ...


class OnceASecond:
    """Counts events by their reasons, and has each reason written once a second; from any thread.

    Args:
        write: called with a reason, with how many events there were since it was last called for that reason, and with the
            facts of the last one.
        later: has a function called in so many seconds.
    """

    def __init__(
        self, write: Callable[[str, int, Mapping[str, object]], object], later: Later
    ) -> None:
        self._write = write
        self._later = later
        self._lock = threading.Lock()
        # By reason, for the present second: how many there were since the last line, and the facts of the last one.
        # Without an entry, there was none for a second.
        self._noted: dict[str, tuple[int, Mapping[str, object]]] = {}

    def note(self, reason: str, /, **facts: object) -> None:
        """Note an event."""
        with self._lock:
            found = self._noted.get(reason)
            self._noted[reason] = (0 if found is None else found[0] + 1, facts)
        if found is None:
            self._write(reason, 1, facts)
            self._later(LOG_SECONDS, lambda: self._end_second(reason))

    def _end_second(self, reason: str) -> None:
        with self._lock:
            count, facts = self._noted.pop(reason)
            if count:
                self._noted[reason] = (0, facts)
        if count:
            self._write(reason, count, facts)
            self._later(LOG_SECONDS, lambda: self._end_second(reason))
