"""The figures of a supervisor: the state of its fleet, for whatever publishes it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from uwsgibridge import fast
from uwsgibridge._version import __version__
from uwsgibridge.figures.families import counted_families
from uwsgibridge.figures.family import Family
from uwsgibridge.figures.snapshot import Backlog, Snapshot, WorkerSnapshot, mounts_of
from uwsgibridge.figures.state_families import state_families
from uwsgibridge.figures.totals import Totals
from uwsgibridge.link.figures import Figures
from uwsgibridge.status.sources import Sources
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.generation import Generation
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.backlog import connections_waiting
from uwsgibridge.system.process_figures import (
    cpu_seconds,
    open_files,
    pss_bytes,
    rss_bytes,
    size_bytes,
)


class FleetFigures:
    """Gives the figures of a fleet.

    Args:
        app_name: the application at the root; None where there are mounts alone.
        fleet: the workers.
    """

    def __init__(self, app_name: str | None, fleet: Fleet) -> None:
        self._fleet = fleet
        self._mounts = mounts_of(app_name, fleet.settings.mount)
        # Looked at once: otherwise the times would change with each adjustment of the clock.
        self._started_at = _when(monotonic() - fleet.started_at)
        self._workers_started_at: dict[int, float] = {}  # by pid

    @property
    def sources(self) -> Sources:
        """The figures, for whatever publishes them."""
        return Sources(self.collect, self.snapshot, self.glance)

    async def collect(self) -> Sequence[Family]:
        """Give all figures, with what each worker tells within half a second."""
        await self._fleet.hear_from_workers()
        return [*state_families(self.glance()), *counted_families(self._fleet.counted())]

    async def snapshot(self) -> Snapshot:
        """Give the state of the fleet, with what each worker tells within half a second."""
        await self._fleet.hear_from_workers()
        snapshot = self.glance()
        return replace(snapshot, workers=[self._with_counts(it) for it in snapshot.workers])

    def glance(self) -> Snapshot:
        """Give the state of the fleet as far as it is known."""
        fleet = self._fleet
        found = [(it, worker) for it in fleet.generations for worker in it.workers.values()]
        alive = {worker.pid for _, worker in found}
        self._workers_started_at = {
            pid: at for pid, at in self._workers_started_at.items() if pid in alive
        }
        return Snapshot(
            version=__version__,
            accelerator=fast.accelerator_state,
            pid=os.getpid(),
            started_at=self._started_at,
            state=self._state(),
            mounts=self._mounts,
            workers_wanted=fleet.wanted,
            workers=[self._describe(generation, worker) for generation, worker in found],
            backlogs=[
                Backlog(address=str(it.address), waiting=connections_waiting(it.socket))
                for it in fleet.sockets
            ],
            backlog_most=fleet.settings.backlog,
        )

    def _state(self) -> str:
        fleet = self._fleet
        if fleet.is_bringing_up and not any(it.ready for it in fleet.generations):
            return "stopping" if fleet.is_stopping else "starting"
        return fleet.state

    def _describe(self, generation: Generation, worker: WorkerProcess) -> WorkerSnapshot:
        started_at = self._workers_started_at.setdefault(worker.pid, _when(worker.age_seconds))
        figures = worker.figures or Figures()
        number = generation.number_of(worker)
        return WorkerSnapshot(
            number=number,
            pid=worker.pid,
            state=worker.state,
            started_at=started_at,
            # Each generation before has had a worker of this number.
            starts=generation.number - 1 + generation.starts_of(number),
            requests=figures.requests,
            app_errors=figures.app_errors,
            client_gone=figures.client_gone,
            refused=figures.refused,
            in_flight=figures.in_flight,
            capacity=figures.capacity,
            websockets=figures.websockets,
            mounts=figures.mounts,
            rss_bytes=rss_bytes(worker.pid),
            pss_bytes=pss_bytes(worker.pid),
            open_files=open_files(worker.pid),
            size_bytes=size_bytes(worker.pid),
            cpu_seconds=cpu_seconds(worker.pid),
        )

    def _with_counts(self, snapshot: WorkerSnapshot) -> WorkerSnapshot:
        """Add what the worker has counted in its memory."""
        for generation in self._fleet.generations:
            worker = generation.workers.get(snapshot.pid)
            if worker is not None:
                with worker.counted() as memory:
                    if memory is not None:
                        return snapshot.with_counts(Totals.of_memory(memory))
        return snapshot


def _when(seconds_ago: float) -> float:
    return round(time.time() - seconds_ago, 3)
