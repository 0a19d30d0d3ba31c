"""Replaces workers that are due, one at a time: a new worker comes first, then the old one drains."""

from __future__ import annotations

from time import monotonic

import trio

from uwsgibridge.figures.families import RESTART
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.generation import Generation
from uwsgibridge.supervisor.recycling import Candidate, RecyclingPolicy
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.process_figures import rss_bytes


class Recycler:
    """Finds the workers that are due, and replaces them.

    Args:
        fleet: the workers.
        policy: tells when a worker is due, and which of several comes first.
        nursery: runs the replacement, which takes longer than a look.
    """

    def __init__(self, fleet: Fleet, policy: RecyclingPolicy, nursery: trio.Nursery) -> None:
        self._fleet = fleet
        self._log = fleet.log
        self._policy = policy
        self._nursery = nursery

    def somebody_has_enough(self) -> bool:
        """Whether a worker has said that it is to be replaced, and may be replaced now."""
        return self._may_recycle() and any(
            (it.has_enough or it.unfit) and self._reason_to_recycle(it) is not None
            for it in self._fleet.current.ready
        )

    def consider(self) -> None:
        """Begin to replace the worker that is due the longest, unless another one is being replaced."""
        now = monotonic()
        candidates = []
        for worker in self._fleet.current.running:
            if worker.is_ready and self._reason_to_recycle(worker) is not None:
                worker.due_since = worker.due_since or now
                candidates.append(Candidate(worker.pid, worker.due_since))
            else:
                worker.due_since = None
        if self._may_recycle():
            chosen = self._policy.choose(candidates)
            if chosen is not None:
                current = self._fleet.current
                worker = current.workers[chosen]
                # Marked before the task runs: until then, the next look would find the worker due again, and spin.
                self._fleet.begin_recycling(worker)
                self._nursery.start_soon(self._recycle, current, worker)

    def _may_recycle(self) -> bool:
        fleet = self._fleet
        return fleet.recycled is None and not fleet.is_bringing_up and not fleet.is_ending()

    def _reason_to_recycle(self, worker: WorkerProcess) -> str | None:
        if worker.unfit:
            return worker.unfit
        told = worker.figures.requests if worker.figures is not None else 0
        return self._policy.reason_to_recycle(
            worker.limits,
            requests=max(told, worker.limits.requests) if worker.has_enough else told,
            age_seconds=worker.age_seconds,
            rss_bytes=rss_bytes(worker.pid) if self._policy.max_rss_bytes else None,
        )

    async def _recycle(self, generation: Generation, worker: WorkerProcess) -> None:
        """Replace a worker: a new worker comes first, then the old one drains."""
        reason = self._reason_to_recycle(worker)
        self._log.info("recycling worker", worker=worker.pid, reason=reason)

        def is_moot() -> bool:
            return (
                generation is not self._fleet.current
                or self._fleet.is_bringing_up
                or self._fleet.is_ending()
                or generation.workers.get(worker.pid) is not worker
            )

        try:
            limit = self._fleet.settings.lifespan_timeout_seconds + END_MARGIN_SECONDS
            with trio.move_on_after(limit) as waiting:
                await self._fleet.wait_for(
                    lambda: len(generation.ready) > self._fleet.wanted or is_moot()
                )
            if waiting.cancelled_caught:
                self._log.error(
                    "recycling failed: no new worker is ready in time, the old one goes on",
                    worker=worker.pid,
                )
            elif not is_moot():
                self._fleet.tally.recycled += 1
                self._fleet.tally.counted.count(RESTART + "recycled")
                worker.stop()
                with trio.move_on_after(self._fleet.end_seconds(worker) + END_MARGIN_SECONDS):
                    await self._fleet.wait_for(
                        lambda: generation.workers.get(worker.pid) is not worker
                    )
        finally:
            self._fleet.end_recycling()
