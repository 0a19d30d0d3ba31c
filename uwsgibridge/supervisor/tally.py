"""The counts of a supervisor over all workers, including those that have ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts since the start, which go on through upgrades.

    Attributes:
        crashed: workers that ended without being asked to.
        recycled: workers that were replaced at a limit.
        requests: requests of workers that have ended.
    """

    crashed: int = 0
    recycled: int = 0
    requests: int = 0
