"""How many workers there should be, between ``--workers-min`` and ``--workers-max``.

Quick to grow and slow to shrink, and each only after it has been due at every look for a while. What
makes a pool grow (requests that wait) and what lets it shrink (half of the places that remain would
do) are far apart, so under a constant load it settles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the supervisor sees at one look.

    A worker that is replaced counts until its successor is ready, and the successor from then on:
    recycling does not change these numbers.

    Attributes:
        workers: how many are ready.
        starting: how many more are to come: being started, or dead and not yet started again.
        waiting: connections in the accept queues, those that can be counted.
        queue_seconds: the longest time in the queue that a worker told in its last heartbeat.
        in_flight: requests in the ready workers.
        capacity: requests that the ready workers can run at once.
    """

    workers: int
    starting: int = 0
    waiting: int = 0
    queue_seconds: float = 0.0
    in_flight: int = 0
    capacity: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A change of the number of workers.

    Attributes:
        workers: the number that is wanted from now on.
        reason: a phrase for the log.
    """

    workers: int
    reason: str


class ScalingPolicy:
    """Decides on the number of workers, look by look; it has no clock of its own.

    - There is pressure when connections wait in the backlog, or a request waited longer than
      `queue_seconds`. Pressure at all looks of `grow_after_seconds` adds workers: as many as have
      places for the connections that wait, at least one, and at most as many as there are. A long
      backlog is so met in a few steps (2, 4, 8), and no single look can do more than double.
    - The pool is idle when there is no pressure and, with one worker less, at most half of the places
      would be in use. Idle at all looks of `idle_seconds` takes one worker away.
    - While workers are on their way nothing is decided: what they will change is not known yet. Each
      change of their number, by a step or otherwise, begins both periods anew.

    Args:
        minimum: the fewest workers, at least 1.
        maximum: the most workers, at least `minimum`.
        queue_seconds: how long a request may wait before that is pressure.
        grow_after_seconds: how long pressure has to last.
        idle_seconds: how long the pool has to be idle.
    """

    def __init__(
        self,
        minimum: int,
        maximum: int,
        *,
        queue_seconds: float,
        grow_after_seconds: float,
        idle_seconds: float,
    ) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._queue_seconds = queue_seconds
        self._grow_after_seconds = grow_after_seconds
        self._idle_seconds = idle_seconds
        self._workers = 0  # at the last look
        self._pressed_since: float | None = None
        self._idle_since: float | None = None
        self._most_in_flight = 0  # of the looks since it is idle

    def decide(self, load: Load, now: float) -> Step | None:
        """Decide by the load at this look.

        Args:
            load: as it is now.
            now: in seconds, of a clock that never goes back.

        Returns:
            The step to take, or None to leave things as they are.
        """
        if load.starting or load.workers != self._workers:
            self._begin_anew()
        self._workers = load.workers
        if load.starting or not load.workers:
            return None
        pressure = self._pressure(load)
        if pressure:
            self._idle_since = None
            if self._pressed_since is None:
                self._pressed_since = now
            return self._grow(load, pressure, now - self._pressed_since)
        self._pressed_since = None
        if not _would_fit_into_one_less(load):
            self._idle_since = None
            return None
        if self._idle_since is None:
            self._idle_since = now
            self._most_in_flight = 0
        self._most_in_flight = max(self._most_in_flight, load.in_flight)
        return self._shrink(load, now - self._idle_since)

    def _begin_anew(self) -> None:
        self._pressed_since = None
        self._idle_since = None

    def _pressure(self, load: Load) -> str:
        if load.waiting == 1:
            return "1 connection waits in the backlog"
        if load.waiting:
            return f"{load.waiting:,} connections wait in the backlog"
        if load.queue_seconds > self._queue_seconds:
            return f"requests wait {load.queue_seconds:.2f} s"
        return ""

    def _grow(self, load: Load, pressure: str, seconds: float) -> Step | None:
        if seconds < self._grow_after_seconds or load.workers >= self._maximum:
            return None
        places_each = max(load.capacity / load.workers, 1)
        more = min(max(math.ceil(load.waiting / places_each), 1), load.workers)
        return self._step(load.workers + more, pressure)

    def _shrink(self, load: Load, seconds: float) -> Step | None:
        if seconds < self._idle_seconds or load.workers <= self._minimum:
            return None
        return self._step(
            load.workers - 1,
            f"idle: at most {self._most_in_flight:,} of {load.capacity:,} places in use "
            f"for {seconds:.0f} s",
        )

    def _step(self, workers: int, reason: str) -> Step:
        self._begin_anew()
        return Step(min(max(workers, self._minimum), self._maximum), reason)


def _would_fit_into_one_less(load: Load) -> bool:
    remaining = load.capacity * (load.workers - 1) / load.workers
    return load.in_flight <= remaining / 2
