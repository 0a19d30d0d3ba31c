"""One generation of workers: those that were forked from one template, as they come and go."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import EXIT_APPLICATION, EXIT_USAGE
from uwsgibridge.link.messages import (
    FORK_DESCRIPTORS,
    Report,
)
from uwsgibridge.supervisor.backoff import Backoff
from uwsgibridge.supervisor.crash_report import describe_end, report_crash
from uwsgibridge.supervisor.recycling import RecyclingPolicy, WorkerLimits
from uwsgibridge.supervisor.tally import Tally
from uwsgibridge.supervisor.template_process import TemplateProcess
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.process_group import signal_group
from uwsgibridge.telemetry.logs import Logger

# For a template to tell with what status a worker has ended, which takes milliseconds.
_REPORT_SECONDS: Final = 1.0

# With these, a worker has said in words why it can't start.
_EXPLAINED: Final = frozenset({EXIT_USAGE, EXIT_APPLICATION})


@dataclass(frozen=True, slots=True)
class GenerationContext:
    """What all generations share.

    Attributes:
        policy: draws the limits of each worker.
        logger: where to say what happens to workers.
        tally: where it is counted.
        changed: called after each change of a worker or of the template.
        nursery: for tasks that listen to workers.
        is_rehearsal: whether workers are to accept nothing.
    """

    policy: RecyclingPolicy
    logger: Logger
    tally: Tally
    changed: Callable[[], None]
    nursery: trio.Nursery
    is_rehearsal: bool = False


class Generation:
    """A template and the account of its workers. Made by `start` or by `adopt`.

    Attributes:
        number: counted from 1.
        workers: by pid.
        failed_status: of the first worker that ended before it was ready, or of the template.
        backoff: how soon workers that have ended are replaced.
    """

    def __init__(self, number: int, template: TemplateProcess, context: GenerationContext) -> None:
        self.number = number
        self.workers: dict[int, WorkerProcess] = {}
        self.failed_status: int | None = None
        self.backoff = Backoff()
        self._template = template
        self._is_stopping = False
        self._has_been_ready = False  # any of its workers
        # ended workers that were removed without a report; a late one is ignored
        self._unreported: set[int] = set()
        # process groups of workers that ended without a report, killed in `end`
        self._left_groups: set[int] = set()
        self._asked_for: deque[WorkerLimits] = deque()
        self._asked_at = monotonic()  # or when the last answer came
        self._left_descriptors: tuple[int, ...] = ()  # of the listening sockets
        self._context = context
        self._log = context.logger
        context.nursery.start_soon(self._listen_to_template)
        context.nursery.start_soon(self._watch_template)

    @staticmethod
    def start(
        number: int,
        app_name: str | None,
        settings: Settings,
        sockets: Sequence[ListeningSocket],
        lifeline: int,
        context: GenerationContext,
    ) -> Generation:
        """Start a template.

        Args:
            number: of the generation.
            app_name: what the template loads.
            settings: of the workers; their addresses become the sockets' descriptors.
            sockets: owned by the supervisor.
            lifeline: read end of a pipe whose other end the supervisor holds.
            context: what all generations share.

        Raises:
            OSError: no process can be started.
        """
        template = TemplateProcess.start(
            app_name, settings, sockets, lifeline, is_rehearsal=context.is_rehearsal
        )
        return Generation(number, template, context)

    @staticmethod
    def adopt(heritage: dict[str, Any], context: GenerationContext) -> Generation:
        """Take over what `bequeath` described, after an exec in place."""
        generation = Generation(heritage["number"], TemplateProcess.adopt(heritage), context)
        generation._asked_for.extend(WorkerLimits(*one) for one in heritage.get("asked_for", ()))
        generation._left_groups.update(heritage.get("left_groups", ()))
        for one in heritage["workers"]:
            generation._add(WorkerProcess.adopt(one, changed=context.changed))
        return generation

    def bequeath(self) -> tuple[dict[str, Any], list[int]]:
        """Describe it for `adopt`, and let go of it.

        Returns:
            The description, as JSON has it, and the descriptors that have to be inherited.
        """
        workers = [worker.bequeath() for worker in self.workers.values()]
        template = self._template.bequeath()
        return {
            "number": self.number,
            **template,
            "asked_for": [dataclasses.astuple(one) for one in self._asked_for],
            "left_groups": sorted(self._left_groups),
            "workers": workers,
        }, [template["control"], *(it for one in workers for it in one["descriptors"])]

    @property
    def template_pid(self) -> int:
        """The process that workers are forked from."""
        return self._template.pid

    @property
    def has_ended(self) -> bool:
        """Whether the template has."""
        return self._template.has_ended

    @property
    def running(self) -> list[WorkerProcess]:
        """The workers that were not asked to end."""
        return [
            it
            for it in self.workers.values()
            # One that has ended is known to have before the template reports it. The report is waited
            # for: `backoff` then knows how soon to try again.
            if not (it.is_stopping or it.is_being_killed)
        ]

    @property
    def ready(self) -> list[WorkerProcess]:
        """Those of them that accept requests."""
        return [it for it in self.running if it.is_ready and not it.has_ended]

    @property
    def expected(self) -> int:
        """How many are running, or were asked for and are not there yet."""
        return len(self.running) + len(self._asked_for)

    @property
    def owing_seconds(self) -> float:
        """How long the template has not answered a request for a worker; 0 where none is open."""
        return monotonic() - self._asked_at if self._asked_for else 0.0

    @property
    def is_over(self) -> bool:
        """Whether there is no worker, and none is to come."""
        return not self.workers and not self._asked_for

    @property
    def has_failed(self) -> bool:
        """Whether the template, or a worker before it was ready, has ended."""
        return self.has_ended or self.failed_status is not None

    def fork(self) -> bool:
        """Ask for one more worker; False where the template has to answer others first."""
        if self._is_stopping:
            return False
        limits = self._context.policy.limits_for_new_worker()
        if not self._template.fork(limits.requests):
            return False
        if not self._asked_for:
            self._asked_at = monotonic()
        self._asked_for.append(limits)
        return True

    async def close_sockets(self) -> None:
        """Have the template close the listening sockets, and fork nobody any more.

        When this returns, the template has closed them, or was sent SIGKILL.
        """
        self._cancel_forks()
        await self._template.close_sockets(self._log)

    async def leave_sockets(self, descriptors: Sequence[int]) -> None:
        """Have the template close some of the listening sockets; workers of it have them no more."""
        self._left_descriptors = tuple(descriptors)
        await self._template.leave_sockets(self._left_descriptors)

    def tell_leave(self, *, begins: bool) -> None:
        """Tell all workers that nobody accepts on those sockets any more; then have them begin."""
        for worker in self.workers.values():
            worker.tell_leave(self._left_descriptors, begins=begins)

    def tell_last(self) -> None:
        """Tell all workers, before they are asked to end, that nobody accepts after them."""
        for worker in self.running:
            worker.tell_last()

    def stop_workers(self) -> None:
        """Ask all workers to drain and end, those that are still to come, too."""
        self._cancel_forks()
        for worker in self.running:
            worker.stop()

    def _cancel_forks(self) -> None:
        self._is_stopping = True
        if self._asked_for and not self.workers:
            # It may be loading the application for a long time yet, and nobody needs it.
            self._template.signal(signal.SIGKILL)

    def hurry_workers(self) -> None:
        """Ask all workers to end at once."""
        for worker in self.workers.values():
            worker.hurry()

    def kill_workers(self) -> None:
        """End all workers that are left."""
        for worker in self.workers.values():
            worker.signal(signal.SIGKILL)

    def stop_one(self) -> None:
        """Ask the oldest worker to end."""
        if self.running:
            max(self.running, key=lambda worker: worker.age_seconds).stop()

    def signal_template(self, number: signal.Signals) -> None:
        """Send a signal to the template."""
        self._template.signal(number)

    async def end(self) -> None:
        """End the template; its workers are to have ended before."""
        await self._template.end()
        while self._left_groups:
            signal_group(self._left_groups.pop(), signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Close the descriptors that this process has of the template and of its workers."""
        self._template.close()
        while self.workers:
            self._close_ended(self.workers.popitem()[1])
        self._asked_for.clear()

    async def _watch_template(self) -> None:
        status = await self._template.wait()
        self._template.receive(self._handle_report)  # its last words
        self._asked_for.clear()
        if status and self.failed_status is None:
            self.failed_status = status
        self._remove_orphans()
        self._context.changed()

    async def _listen_to_template(self) -> None:
        while await self._template.wait_for_report():
            self._template.receive(self._handle_report)
            self._context.changed()

    def _handle_report(self, report: Report, descriptors: list[int]) -> None:
        if report.event == "forked":
            self._add_forked(report.pid, descriptors)
        elif report.event == "exited":
            self._handle_exit_report(report)
        elif report.event == "ready" and report.pid in self.workers:
            self.workers[report.pid].mark_ready(report.end_seconds)
            self._has_been_ready = True

    def _add_forked(self, pid: int, descriptors: list[int]) -> None:
        if len(descriptors) < FORK_DESCRIPTORS:
            self._log.error("killing worker: there are too many open files to accompany it")
            for descriptor in descriptors:
                os.close(descriptor)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # its end comes as that of a fork that failed
            return
        self._add(
            WorkerProcess(pid, self._pop_fork_request(), descriptors, changed=self._context.changed)
        )

    def _pop_fork_request(self) -> WorkerLimits:
        """Take the first of the requests for a worker as answered."""
        self._asked_at = monotonic()
        # A worker that comes after its template has ended is not expected any more.
        return self._asked_for.popleft() if self._asked_for else WorkerLimits(0, 0.0)

    def _handle_exit_report(self, report: Report) -> None:
        worker = self.workers.pop(report.pid, None)
        if report.pid in self._unreported:
            self._unreported.discard(report.pid)
        elif worker is not None:
            self._finish_exit(worker, report.status)
        else:  # before it could say that it is there
            self._pop_fork_request()
            self.failed_status = report.status
            self.backoff.record_failed_start()
            self._log.error("worker ended right after its fork", **describe_end(report.status))

    def _add(self, worker: WorkerProcess) -> None:
        self.workers[worker.pid] = worker
        if self._left_descriptors:  # forked before the template left them
            for begins in (False, True):
                worker.tell_leave(self._left_descriptors, begins=begins)
        if self._is_stopping:
            worker.stop()
        self._context.nursery.start_soon(self._listen_to, worker)

    async def _listen_to(self, worker: WorkerProcess) -> None:
        await worker.listen()
        self._remove_orphans()
        self._context.changed()
        if worker.has_ended and self.workers.get(worker.pid) is worker:
            await trio.sleep(_REPORT_SECONDS)
            self._remove_unreported(worker)

    def _remove_unreported(self, worker: WorkerProcess) -> None:
        """Remove a worker that has ended and whose end the template, which still runs, has not reported in time."""
        if self.workers.get(worker.pid) is worker:
            del self.workers[worker.pid]
            self._unreported.add(worker.pid)
            self._log.error(
                "the template does not tell how a worker ended",
                template=self.template_pid,
                worker=worker.pid,
            )
            self._finish_unreported(worker)
            self._context.changed()

    def _remove_orphans(self) -> None:
        """Remove the workers that have ended after their template did, so that nobody reports their exit status."""
        ended = [it for it in self.workers.values() if it.has_ended] if self.has_ended else []
        for worker in ended:
            self._finish_unreported(self.workers.pop(worker.pid))

    def _finish_unreported(self, worker: WorkerProcess) -> None:
        # What it has started as it loaded the application is in a group with its number, which no template
        # sees to any more. Once such a group is empty, its number may be anybody's.
        if not self._template.preloads and signal_group(worker.pid, signal.SIGTERM):
            self._left_groups.add(worker.pid)
        self._finish_exit(worker, None)

    def _finish_exit(self, worker: WorkerProcess, status: int | None) -> None:
        # One that is asked to end before it listens for signals is ended by the signal itself.
        if not worker.is_stopping or status not in {0, -signal.SIGTERM, None}:
            if not worker.is_ready:
                self.failed_status = status
                self.backoff.record_failed_start()
            elif not worker.is_stopping:
                others = [it.ready_seconds for it in self.ready]
                self.backoff.record_crash(worker.ready_seconds, others, monotonic())
            self._context.tally.crashed += 1
            # At the very first start, the process ends with what that worker has said.
            is_first_start = self.number == 1 and not self._has_been_ready
            if not (is_first_start and status in _EXPLAINED):
                report_crash(self._log, worker, status)
        self._close_ended(worker)

    def _close_ended(self, worker: WorkerProcess) -> None:
        worker.read_last_messages()
        if worker.figures is not None:
            self._context.tally.add(worker.figures)
        worker.close()
