"""How a worker does, as it tells its supervisor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """A worker at one moment.

    Attributes:
        requests: that have arrived since its start.
        in_flight: that it holds now.
        capacity: that it can run at once.
        websockets: of those that it holds now.
        queue_seconds: how long the one has waited that waits the longest for a place to run.
    """

    requests: int = 0
    in_flight: int = 0
    capacity: int = 0
    websockets: int = 0
    queue_seconds: float = 0.0
