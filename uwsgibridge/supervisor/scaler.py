"""Adapts the number of workers to the load, where the options ask for that."""

from __future__ import annotations

from time import monotonic

from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.scaling import Load, ScalingPolicy
from uwsgibridge.system.backlog import connections_waiting


class Scaler:
    """Tells the policy the load, and the fleet what the policy decides.

    Args:
        fleet: the workers.
    """

    def __init__(self, fleet: Fleet) -> None:
        settings = fleet.settings
        self._fleet = fleet
        self._policy = (
            ScalingPolicy(
                fleet.least,
                fleet.most,
                queue_seconds=settings.scale_queue_seconds,
                grow_after_seconds=settings.scale_up_seconds,
                idle_seconds=settings.scale_idle_seconds,
            )
            if fleet.follows_load
            else None
        )

    def consider(self) -> None:
        """Ask the fleet for another number of workers, if the load has asked for that long enough."""
        if self._policy is None or self._fleet.is_bringing_up or self._fleet.is_ending():
            return
        ready = self._fleet.current.ready
        figures = [it.figures for it in ready if it.figures is not None]
        # A worker that is being replaced and its successor count once.
        count = min(len(ready), self._fleet.wanted)
        load = Load(
            workers=count,
            starting=self._fleet.wanted - count,
            waiting=sum(connections_waiting(it.socket) or 0 for it in self._fleet.sockets),
            queue_seconds=max((it.queue_seconds for it in ready), default=0.0),
            in_flight=sum(it.in_flight for it in figures),
            capacity=sum(it.capacity for it in figures),
        )
        step = self._policy.decide(load, monotonic())
        if step is not None:
            self._fleet.want(step.workers, step.reason)
