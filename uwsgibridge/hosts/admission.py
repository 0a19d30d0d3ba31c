"""How many requests a host holds at once, and the table of those that it holds.

What is over the limit is not accepted and stays in the kernel's backlog, where another worker can
take it. The hosts' threads release; the listener asks and pauses. Both change a set under the
interpreter's own lock, so a request costs no lock and no wake-up unless the listener has paused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Admission(Generic[T]):
    """The table of what is in flight, and its limit.

    Args:
        limit: how many may be in flight.
        resume_at: at how many in flight a paused listener accepts again; below `limit`, so that one wake-up
            makes room for several.
        wake: called, from any thread, when a level that was asked for is reached.
    """

    __slots__ = ("_wake", "_wake_at", "in_flight", "limit", "resume_at")

    def __init__(self, limit: int, resume_at: int, wake: Callable[[], None]) -> None:
        self.limit = limit
        self.resume_at = resume_at
        self.in_flight: set[T] = set()
        self._wake = wake
        self._wake_at = -1

    def release(self, item: T) -> None:
        """Take a request out of the table; from any thread."""
        self.in_flight.discard(item)
        if len(self.in_flight) <= self._wake_at:
            self._wake_at = -1
            self._wake()

    def wake_at(self, level: int) -> bool:
        """Ask to be woken when no more than `level` are in flight.

        Returns:
            False where that is so already, and nobody will be woken.
        """
        before = self._wake_at
        # The higher level stands: who asked for it has not been woken yet, and asks again then.
        self._wake_at = max(before, level)
        # Only now: a release between a check and the line above would go unnoticed.
        if len(self.in_flight) <= level:
            self._wake_at = before
            return False
        return True
