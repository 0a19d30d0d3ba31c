"""Decides how many workers there should be, between ``--workers-min`` and ``--workers-max``.

The number grows quickly and shrinks slowly. Each step has to be due at every look for a while. The number grows
where requests wait, and shrinks where half of the remaining places would be enough. These conditions are far apart,
so that the number settles under a constant load.
"""

from __future__ import annotations

import math

from uwsgibridge.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load at one look of the supervisor.

    A worker that is being replaced counts until its successor is ready. From then on the successor counts. So
    recycling does not change these numbers.

    Attributes:
        workers: how many workers are ready.
        starting: how many more workers are being started, or have ended and are not replaced yet.
        waiting: how many connections wait in the backlogs, as far as they can be counted.
        queue_seconds: how long a request waits in a worker: the longest time that a worker has told.
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
        workers: how many workers are wanted from now on.
        reason: a phrase for the log.
    """

    workers: int
    reason: str


class ScalingPolicy:
    """Decides on the number of workers at each look; the caller gives the time.

    - There is pressure where connections wait in the backlog, or a request has waited longer than
      `queue_seconds`. Pressure at all looks of `grow_after_seconds` adds workers: so many that the waiting
      connections have places, at least one, and at most as many as there are. So a long backlog needs a few
      steps (2, 4, 8), and one step doubles the number at the most.
    - The pool is idle where there is no pressure and, with one worker less, at most half of the places would be
      in use. An idle pool at all looks of `idle_seconds` loses one worker.
    - While workers are being started, nothing is decided, because their effect is not known yet. Each change of
      the number of workers, by a step or otherwise, begins both periods anew.

    Args:
        minimum: the fewest workers, at least 1.
        maximum: the most workers, at least `minimum`.
        queue_seconds: a longer wait of a request is pressure.
        grow_after_seconds: how long pressure has to last before workers are added.
        idle_seconds: how long the pool has to be idle before a worker is removed.
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
        self._most_in_flight = 0  # the highest number at the looks since the pool is idle

    def decide(self, load: Load, now: float) -> Step | None:
        """Decide by the load at this look.

        Args:
            load: of this moment.
            now: in seconds, of a clock that never goes back.

        Returns:
            The step to take; None for no change.
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
