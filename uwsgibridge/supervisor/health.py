"""Checks the workers again and again: kills those that hang or are too large, and has the others looked after."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final

import trio

from uwsgibridge.commands.pids import PIDS_OF_PROGRAMS
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.generation import Generation
from uwsgibridge.supervisor.lost_files import LostFiles
from uwsgibridge.supervisor.orphans import reap_orphans
from uwsgibridge.supervisor.recycler import Recycler
from uwsgibridge.supervisor.recycling import RecyclingPolicy
from uwsgibridge.supervisor.relistening import listen_where_shut_down
from uwsgibridge.supervisor.scaler import Scaler
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.process_figures import rss_bytes

# How often the workers are checked: by a question to each, its memory, and the backlog.
_BEAT_SECONDS: Final = 1.0

# How long a template may take to fork, which takes milliseconds. Until a hanging template is noticed, ended workers
# are not replaced.
_FORK_SECONDS: Final = 5.0


class HealthChecks:
    """Checks all workers again and again, and acts on what it finds.

    Args:
        fleet: the workers.
        policy: tells when a worker is replaced, and when it is killed.
        nursery: runs what takes longer than a check.
        may_reap: tells whether any ended child may be reaped; it may not while a rehearsal waits for its own
            process.
    """

    def __init__(
        self,
        fleet: Fleet,
        policy: RecyclingPolicy,
        nursery: trio.Nursery,
        may_reap: Callable[[], bool],
    ) -> None:
        self._fleet = fleet
        self._log = fleet.log
        self._policy = policy
        self._nursery = nursery
        self._may_reap = may_reap
        self._recycler = Recycler(fleet, policy, nursery)
        self._scaler = Scaler(fleet)
        self._lost_files = LostFiles(fleet)

    async def run(self) -> None:
        """Check the workers until cancelled."""
        while True:
            for generation in self._fleet.generations:
                for worker in list(generation.workers.values()):
                    self._look_at(worker)
            self._look_at_template(self._fleet.current)
            listen_where_shut_down(self._fleet)
            self._lost_files.look()
            self._recycler.consider()
            self._scaler.consider()
            if os.getpid() == 1 and self._may_reap():
                templates = {it.template_pid for it in self._fleet.generations}
                reap_orphans(templates | PIDS_OF_PROGRAMS)
            with trio.move_on_after(_BEAT_SECONDS):
                await self._fleet.wait_for(self._recycler.somebody_has_enough)

    def _look_at(self, worker: WorkerProcess) -> None:
        if worker.is_being_killed:
            return
        settings = self._fleet.settings
        start_seconds = settings.lifespan_timeout_seconds + END_MARGIN_SECONDS
        reason = self._policy.reason_to_kill(rss_bytes(worker.pid))
        if reason is not None:
            self._kill(worker, "killing worker: it has too much memory", reason=reason)
        elif worker.stopping_seconds > self._patience_seconds(worker):
            worker.is_being_killed = True
            self._nursery.start_soon(self._kill_lingering, worker)
        elif not worker.is_ready and worker.age_seconds > start_seconds:
            self._kill(
                worker,
                "killing worker: it is not ready in time",
                option="--lifespan-timeout-seconds",
            )
        elif (
            worker.is_ready
            and not worker.is_stopping
            and 0 < settings.heartbeat_timeout_seconds < worker.silent_seconds
        ):
            worker.is_being_killed = True
            self._nursery.start_soon(self._kill_stuck, worker)
        elif worker.is_ready:
            worker.ask()

    def _patience_seconds(self, worker: WorkerProcess) -> float:
        """How long a worker may take to end. A worker with a blocked event loop gets no time for a shutdown."""
        stands_still = worker.silent_seconds > END_MARGIN_SECONDS
        return self._fleet.end_seconds() if stands_still else self._fleet.end_seconds(worker)

    def _kill(self, worker: WorkerProcess, event: str, **why: Any) -> None:
        self._log.error(event, worker=worker.pid, **why)
        worker.is_being_killed = True
        worker.signal(signal.SIGKILL)

    async def _kill_lingering(self, worker: WorkerProcess) -> None:
        stack = await worker.dump()
        if worker.has_ended:
            return
        self._kill(
            worker,
            "killing worker: it does not end",
            option="--graceful-timeout-seconds",
            stack=stack,
        )

    async def _kill_stuck(self, worker: WorkerProcess) -> None:
        seconds = worker.silent_seconds
        stack = await worker.dump()
        if not worker.silent_seconds:
            worker.is_being_killed = False  # this process, or the machine, had stood still
            return
        self._kill(
            worker,
            "killing worker: it does not answer",
            seconds=round(seconds, 1),
            option="--heartbeat-timeout-seconds",
            stack=stack,
        )

    def _look_at_template(self, generation: Generation) -> None:
        if generation.owing_seconds > _FORK_SECONDS:
            self._log.error("killing template: it does not fork", template=generation.template_pid)
            generation.signal_template(signal.SIGKILL)
