"""What a worker counts."""

from __future__ import annotations

from uwsgibridge.figures.families import APP_ERROR, CLIENT_GONE, REFUSAL, SLOW
from uwsgibridge.figures.layout import Layout
from uwsgibridge.figures.memory import FiguresMemory


class RequestCount:
    """What a thread counts that accepts by itself.

    Args:
        cell: where it counts: requests, and those that were refused unread.

    Attributes:
        cell: the accelerator counts in it, too.
    """

    def __init__(self, cell: memoryview) -> None:
        self.cell = cell

    @property
    def requests(self) -> int:
        """As of `Counters`, of this thread alone."""
        return int(self.cell[0])

    def count_request(self) -> int:
        """Count a request; give the count."""
        self.cell[0] += 1
        return int(self.cell[0])

    def count_unread(self) -> None:
        """Count a request that is answered, although it was not read to the end of its packet."""
        self.cell[1] += 1


class Counters:
    """Counts of events since the worker's start; each event is counted where it happens.

    Args:
        memory: where everything is counted; by default, in memory of this process alone.

    Attributes:
        memory: it has the times of requests as well.
        own: the count of well-formed requests, including those that no application got (404, 503), of those that the
            listener's thread has accepted.
    """

    def __init__(self, memory: FiguresMemory | None = None) -> None:
        self.memory = memory or FiguresMemory(Layout.plan(("",), (1.0,), 1))
        self.own = RequestCount(self.memory.make_arrival_cell())
        self._of_threads: list[RequestCount] = []

    @property
    def all_requests(self) -> int:
        """Count the requests of all threads that accept."""
        return self.own.requests + sum(it.requests for it in list(self._of_threads))

    @property
    def requests(self) -> int:
        """Count the requests of the listener's thread."""
        return self.own.requests

    @property
    def client_gone(self) -> int:
        """How many clients went away before the answer's end."""
        return self.memory.named.value(CLIENT_GONE)

    @property
    def app_errors(self) -> int:
        """In how many requests the application failed."""
        return self.memory.named.value(APP_ERROR)

    @property
    def slow_requests(self) -> int:
        """How many requests ran for longer than `--slow-request-seconds`."""
        return self.memory.named.value(SLOW)

    @property
    def refused(self) -> dict[str, int]:
        """How many requests were refused, broken off or over a deadline, by reason; some have reached an application."""
        named = self.memory.named
        return {
            name.removeprefix(REFUSAL): named.value(name)
            for name in named.names()
            if name.startswith(REFUSAL)
        }

    def for_another_thread(self) -> RequestCount:
        """Make what a thread counts by that accepts beside the listener's."""
        made = RequestCount(self.memory.make_arrival_cell())
        self._of_threads.append(made)
        return made

    def count_refusal(self, reason: str) -> None:
        """Count one refusal under its reason; from any thread."""
        self.memory.named.count(REFUSAL + reason)

    def count_client_gone(self) -> None:
        """Count a client that left; from any thread."""
        self.memory.named.count(CLIENT_GONE)

    def count_app_error(self) -> None:
        """Count a failure of an application; from any thread."""
        self.memory.named.count(APP_ERROR)

    def count_slow_request(self) -> None:
        """Count a request that runs for long; from any thread."""
        self.memory.named.count(SLOW)
