"""Watches workers: kills those that hang or are too large, recycles old ones, and adapts their number."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.connection.socket_files import socket_files
from uwsgibridge.errors import BindError, SettingsError
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.generation import Generation
from uwsgibridge.supervisor.recycling import Candidate, RecyclingPolicy
from uwsgibridge.supervisor.scaling import Load, ScalingPolicy
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.backlog import connections_waiting
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
        settings = fleet.settings
        self._fleet = fleet
        self._log = fleet.log
        self._policy = policy
        self._nursery = nursery
        self._may_reap = may_reap
        self._scaling = (
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

    async def run(self) -> None:
        """Check the workers until cancelled."""
        while True:
            for generation in self._fleet.generations:
                for worker in list(generation.workers.values()):
                    self._look_at(worker)
            self._look_at_template(self._fleet.current)
            self._look_at_sockets()
            self._consider_recycling()
            self._consider_scaling()
            if os.getpid() == 1 and self._may_reap():
                self._reap_orphans()
            with trio.move_on_after(_BEAT_SECONDS):
                await self._fleet.wait_for(self._somebody_has_enough)

    def _somebody_has_enough(self) -> bool:
        return self._may_recycle() and any(
            (it.has_enough or it.unfit) and self._reason_to_recycle(it) is not None
            for it in self._fleet.current.ready
        )

    def _look_at(self, worker: WorkerProcess) -> None:
        if worker.is_being_killed:
            return
        settings = self._fleet.settings
        start_seconds = settings.lifespan_timeout_seconds + END_MARGIN_SECONDS
        reason = self._policy.reason_to_kill(rss_bytes(worker.pid))
        if reason is not None:
            self._kill(worker, "killing worker: it has too much memory", reason=reason)
        elif worker.stopping_seconds > self._patience_seconds(worker):
            self._kill(
                worker,
                "killing worker: it does not end",
                option="--graceful-timeout-seconds",
            )
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

    def _look_at_sockets(self) -> None:
        """Listen anew where the application has shut a socket down, since that holds for all processes."""
        fleet = self._fleet
        if fleet.is_ending():
            return
        for listening in fleet.sockets:
            if listening.listens:
                continue
            address = str(listening.address)
            self._log.error(
                "nobody can connect any more: the listening socket was shut down", address=address
            )
            try:
                is_another = listening.listen_anew(
                    socket_files(fleet.settings), fleet.settings.backlog
                )
            except (BindError, SettingsError, OSError) as error:
                fleet.fail(f"nothing can be accepted at {address} any more: {error}")
                return
            self._log.info("listening", address=address)
            if is_another:
                fleet.ask_for_reload(f"another socket at {address}")

    def _consider_recycling(self) -> None:
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
                # Marked before the task runs: until then, `run` would find the worker due again, and spin.
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
                worker.stop()
                with trio.move_on_after(self._fleet.end_seconds(worker) + END_MARGIN_SECONDS):
                    await self._fleet.wait_for(
                        lambda: generation.workers.get(worker.pid) is not worker
                    )
        finally:
            self._fleet.end_recycling()

    def _consider_scaling(self) -> None:
        if self._scaling is None or self._fleet.is_bringing_up or self._fleet.is_ending():
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
        step = self._scaling.decide(load, monotonic())
        if step is not None:
            self._fleet.want(step.workers, step.reason)

    def _reap_orphans(self) -> None:
        """Reap orphaned processes, which the kernel makes children of process 1."""
        templates = {it.template_pid for it in self._fleet.generations}
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in templates:
                    return  # its `TemplateProcess` reaps it
                os.waitpid(ended.si_pid, 0)
