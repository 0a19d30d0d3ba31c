"""What a supervisor counts over all workers, those included that have ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts since the start, which go on through upgrades.

    Attributes:
        crashed: workers that ended without being asked to.
        recycled: workers that had had their time.
        requests: of workers that have ended.
    """

    crashed: int = 0
    recycled: int = 0
    requests: int = 0
