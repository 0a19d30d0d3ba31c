"""What a worker counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestCount:
    """What a thread counts that accepts by itself.

    Attributes:
        requests: as of `Counters`.
    """

    requests: int = 0


@dataclass(slots=True)
class Counters:
    """Counts of events since the worker's start; each event is counted where it happens.

    Threads count what is rare by the methods, under a lock.

    Attributes:
        requests: well-formed requests, including those that no application got (404, 503), of those that the listener's
            thread has accepted.
        refused: requests that were refused, broken off or over a deadline, by reason; an application may
            have seen some of them.
        client_gone: requests whose client went away before the answer's end.
        app_errors: requests in which the application failed.
    """

    requests: int = 0
    client_gone: int = 0
    app_errors: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    _of_threads: list[RequestCount] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def all_requests(self) -> int:
        """Count the requests of all threads that accept."""
        return self.requests + sum(it.requests for it in list(self._of_threads))

    def for_another_thread(self) -> RequestCount:
        """Make what a thread counts by that accepts beside the listener's."""
        made = RequestCount()
        self._of_threads.append(made)
        return made

    def count_refusal(self, reason: str) -> None:
        """Count one refusal under its reason; from any thread."""
        with self._lock:
            self.refused[reason] = self.refused.get(reason, 0) + 1

    def count_client_gone(self) -> None:
        """Count a client that left; from any thread."""
        with self._lock:
            self.client_gone += 1

    def count_app_error(self) -> None:
        """Count a failure of an application; from any thread."""
        with self._lock:
            self.app_errors += 1
