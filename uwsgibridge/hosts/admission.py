"""Limits how many requests a host holds at once, and keeps the table of these requests.

Connections over the limit are not accepted. They stay in the kernel's backlog, where another worker can accept
them. Hosts release requests, from any thread; the listener looks at the table and pauses. Both change a set under
the interpreter's own lock. So a request costs no other lock, and no wake-up unless the listener has paused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Admission(Generic[T]):
    """The table of requests in flight, and its limit.

    Args:
        limit: how many requests may be in flight.
        resume_at: with how many requests in flight a paused listener accepts again. It is below `limit`, so
            that one wake-up makes room for several.
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
        """Ask to be woken when no more than `level` requests are in flight.

        Returns:
            False where that is so already; then nobody is woken.
        """
        before = self._wake_at
        # The higher level counts: who asked for it has not been woken yet, and will then ask again.
        self._wake_at = max(before, level)
        # The check comes last: a release between an earlier check and the line above would go unnoticed.
        if len(self.in_flight) <= level:
            self._wake_at = before
            return False
        return True
