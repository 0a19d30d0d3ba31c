"""The numbers of a generation's workers, from 1 on, which applications know as ``uwsgi.worker_id()``.

A number is in use by one worker alone, but for the time in which its successor runs beside it: else the work that an
application gives to worker 1 would be nobody's after the first one was recycled.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from itertools import count
from typing import Any


class WorkerNumbers:
    """Gives numbers to workers in the order in which they are asked for, which is that of their forks."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}  # by pid
        self._asked_for: deque[int] = deque()
        self._starts: Counter[int] = Counter()

    def choose(self, predecessor: int | None = None) -> int:
        """Choose the number of the next worker.

        Args:
            predecessor: pid of the worker that it is to replace, if any.

        Returns:
            The number of the predecessor, unless its successor has it already; else the least one that is free.
        """
        used = [*self._of.values(), *self._asked_for]
        number = self._of.get(predecessor) if predecessor is not None else None
        if number is not None and used.count(number) == 1:
            return number
        return next(it for it in count(1) if it not in used)

    def ask_for(self, number: int) -> None:
        """Note that a worker with this number was asked for."""
        self._asked_for.append(number)

    def give(self, number: int, pid: int) -> None:
        """Note that a worker that was asked for has come up."""
        if number in self._asked_for:
            self._asked_for.remove(number)
        self._of[pid] = number
        self._starts[number] += 1

    def forget_oldest(self) -> None:
        """Note that a worker has ended before it could tell its number."""
        if self._asked_for:
            self._asked_for.popleft()

    def free(self, pid: int) -> None:
        """Note that a worker has ended."""
        self._of.pop(pid, None)

    def of(self, pid: int) -> int:
        """Give the number of a worker; 0 where it is not known."""
        return self._of.get(pid, 0)

    def starts_of(self, number: int) -> int:
        """Give how many workers of this generation have had a number."""
        return self._starts[number]

    def bequeath(self) -> dict[str, Any]:
        """Describe the numbers for `adopt`, as JSON values."""
        return {
            "of": {str(pid): number for pid, number in self._of.items()},
            "asked_for": list(self._asked_for),
            "starts": {str(number): starts for number, starts in self._starts.items()},
        }

    def adopt(self, heritage: Mapping[str, Any]) -> None:
        """Take over what `bequeath` has described; an older program has described nothing."""
        self._of.update({int(pid): number for pid, number in heritage.get("of", {}).items()})
        self._asked_for.extend(heritage.get("asked_for", ()))
        self._starts.update({int(it): count for it, count in heritage.get("starts", {}).items()})
