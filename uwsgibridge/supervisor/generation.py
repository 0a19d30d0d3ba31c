"""One generation: a template and the workers that were forked from it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import EXIT_APPLICATION, EXIT_FAILURE, EXIT_USAGE
from uwsgibridge.figures.families import RESTART
from uwsgibridge.link.messages import (
    FORK_DESCRIPTORS,
    Report,
    ReportEvent,
)
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.supervisor.backoff import Backoff
from uwsgibridge.supervisor.crash_report import describe_end, report_crash
from uwsgibridge.supervisor.recycling import RecyclingPolicy, WorkerLimits
from uwsgibridge.supervisor.spare_template import SpareTemplate
from uwsgibridge.supervisor.tally import Tally
from uwsgibridge.supervisor.template_process import TemplateProcess
from uwsgibridge.supervisor.worker_numbers import WorkerNumbers
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.process_group import signal_group
from uwsgibridge.telemetry.logs import Logger

# How long a template may take to report the exit status of a worker, which takes milliseconds.
_REPORT_SECONDS: Final = 1.0

# With these exit statuses, a worker has written why it can't start.
_EXPLAINED: Final = frozenset({EXIT_USAGE, EXIT_APPLICATION})


@dataclass(frozen=True, slots=True, eq=False)
class GenerationContext:
    """The context that all generations of a supervisor share.

    Attributes:
        policy: draws the limits of each worker.
        logger: where log events go.
        tally: counts what happens to workers.
        changed: called after each change of a worker or of the template.
        nursery: for tasks that listen to workers.
        is_rehearsal: whether workers are to accept nothing.
        spare: runs as the first template.
        signalled: called with each signal that a template got in the supervisor's place.
    """

    policy: RecyclingPolicy
    logger: Logger
    tally: Tally
    changed: Callable[[], None]
    nursery: trio.Nursery
    is_rehearsal: bool = False
    spare: SpareTemplate | None = None
    signalled: Callable[[int], None] = lambda _number: None


class Generation:
    """A template and its workers. `start` or `adopt` makes a generation.

    Attributes:
        number: counted from 1.
        workers: the workers by pid.
        failed_status: the exit status of the first worker that ended before it was ready, or of the template;
            `EXIT_FAILURE` where that is not known, or 0. None where nothing has failed.
        backoff: decides how soon ended workers are replaced.
        has_schedule: whether the application has registered timers or crons of uWSGI.
    """

    def __init__(self, number: int, template: TemplateProcess, context: GenerationContext) -> None:
        self.number = number
        self.workers: dict[int, WorkerProcess] = {}
        self.failed_status: int | None = None
        self.backoff = Backoff()
        self.has_schedule = False
        self._template = template
        self._is_stopping = False
        self._has_been_ready = False  # whether any worker of this generation has been
        # pids of ended workers that were removed without a report; a late report is ignored
        self._unreported: set[int] = set()
        # process groups of workers that ended without a report, killed in `end`
        self._unreported_groups: set[int] = set()
        self._asked_for: deque[WorkerLimits] = deque()
        self._numbers = WorkerNumbers()
        # When the oldest open request for a worker was sent, or the last answer came.
        self._asked_at = monotonic()
        self._left_descriptors: tuple[int, ...] = ()  # of listening sockets that are being left
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
            app_name,
            settings,
            sockets,
            lifeline,
            is_rehearsal=context.is_rehearsal,
            spare=context.spare,
        )
        return Generation(number, template, context)

    @staticmethod
    def adopt(heritage: dict[str, Any], context: GenerationContext) -> Generation:
        """Take over a generation that `bequeath` has described, after an exec."""
        generation = Generation(heritage["number"], TemplateProcess.adopt(heritage), context)
        generation._asked_for.extend(WorkerLimits(*one) for one in heritage.get("asked_for", ()))
        generation._unreported_groups.update(heritage.get("left_groups", ()))
        for one in heritage["workers"]:
            generation._add(
                WorkerProcess.adopt(
                    one, changed=context.changed, answered=context.tally.counted.observe_lag
                )
            )
        generation._numbers.adopt(heritage.get("numbers", {}))
        generation.has_schedule = bool(heritage.get("has_schedule"))
        # No upgrade begins while a generation comes up.
        generation._has_been_ready = True
        return generation

    def bequeath(self) -> tuple[dict[str, Any], list[int]]:
        """Describe the generation for `adopt`, and forget it.

        Returns:
            The description, as JSON values, and the descriptors that have to be inherited.
        """
        workers = [worker.bequeath() for worker in self.workers.values()]
        numbers = self._numbers.bequeath()
        template = self._template.bequeath()
        return {
            "number": self.number,
            **template,
            "asked_for": [dataclasses.astuple(one) for one in self._asked_for],
            # The key keeps this name: older programs read it, and write it.
            "left_groups": sorted(self._unreported_groups),
            "workers": workers,
            "numbers": numbers,
            "has_schedule": self.has_schedule,
        }, [template["control"], *(it for one in workers for it in one["descriptors"])]

    @property
    def template_pid(self) -> int:
        """The process id of the template."""
        return self._template.pid

    @property
    def template_has_ended(self) -> bool:
        """Whether the template has ended."""
        return self._template.has_ended

    def number_of(self, worker: WorkerProcess) -> int:
        """Give the number of a worker, from 1 on; 0 of one that an older supervisor has started."""
        return self._numbers.of(worker.pid)

    def starts_of(self, number: int) -> int:
        """Give how many workers of this generation have had a number."""
        return self._numbers.starts_of(number)

    @property
    def running(self) -> list[WorkerProcess]:
        """The workers that were not asked to end; also those whose end is not reported yet."""
        return [
            it
            for it in self.workers.values()
            # A worker that has ended still counts until its template has reported that: only then, `backoff`
            # knows how soon to replace it.
            if not (it.is_stopping or it.is_being_killed)
        ]

    @property
    def ready(self) -> list[WorkerProcess]:
        """The running workers that accept requests."""
        return [it for it in self.running if it.is_ready and not it.has_ended]

    @property
    def expected(self) -> int:
        """How many workers are running, or were asked for and are not forked yet."""
        return len(self.running) + len(self._asked_for)

    @property
    def owing_seconds(self) -> float:
        """How long the template has not answered a request for a worker; 0 where no request is open."""
        return monotonic() - self._asked_at if self._asked_for else 0.0

    @property
    def is_over(self) -> bool:
        """Whether there is no worker, and none was asked for."""
        return not self.workers and not self._asked_for

    @property
    def has_failed(self) -> bool:
        """Whether the template has ended, or a worker before it was ready."""
        return self.template_has_ended or self.failed_status is not None

    def fork(self, instead_of: WorkerProcess | None = None) -> bool:
        """Ask for one more worker; False where the template has too many open requests.

        Args:
            instead_of: a worker that the new one is to replace, whose number the new one gets.
        """
        if self._is_stopping:
            return False
        limits = self._context.policy.limits_for_new_worker()
        number = self._numbers.choose(instead_of.pid if instead_of is not None else None)
        if not self._template.fork(limits.requests, number):
            return False
        self._numbers.ask_for(number)
        if not self._asked_for:
            self._asked_at = monotonic()
        self._asked_for.append(limits)
        return True

    async def close_sockets(self) -> None:
        """Have the template close the listening sockets, and fork no worker any more.

        At the return, the template has closed the sockets, or was sent SIGKILL.
        """
        self._stop_forking()
        await self._template.close_sockets(self._log)

    async def leave_sockets(self, descriptors: Sequence[int]) -> None:
        """Have the template close some of the listening sockets, so that its later workers do not get them."""
        self._left_descriptors = tuple(descriptors)
        await self._template.leave_sockets(self._left_descriptors)

    def announce_leave(self) -> None:
        """Announce to all workers that all workers are about to leave these sockets."""
        for worker in self.workers.values():
            worker.announce_leave(self._left_descriptors)

    def begin_leave(self) -> None:
        """Have all workers leave these sockets now."""
        for worker in self.workers.values():
            worker.begin_leave(self._left_descriptors)

    def tell_last(self) -> None:
        """Tell all workers, before they are asked to end, that all workers end."""
        for worker in self.running:
            worker.tell_last()

    def stop_workers(self) -> None:
        """Ask all workers to drain and end, including those that are not forked yet."""
        self._stop_forking()
        for worker in self.running:
            worker.stop()

    def _stop_forking(self) -> None:
        self._is_stopping = True
        if self._asked_for and not self.workers:
            # The template may load the application for a long time, and nobody needs its workers any more.
            self._template.signal(signal.SIGKILL)

    def hurry_workers(self) -> None:
        """Ask all workers to end at once."""
        for worker in self.workers.values():
            worker.hurry()

    def kill_workers(self) -> None:
        """Kill all workers that are left."""
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
        """End the template, when its workers have ended."""
        await self._template.end()
        while self._unreported_groups:
            signal_group(self._unreported_groups.pop(), signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Close the descriptors that this process has of the template and of its workers."""
        self._template.close()
        while self.workers:
            self._close_ended(self.workers.popitem()[1])
        self._asked_for.clear()

    async def _watch_template(self) -> None:
        status = await self._template.wait()
        self._template.receive(self._handle_report)  # the reports that it sent before its end
        self._asked_for.clear()
        if status:
            self._note_failure(status)
        self._remove_orphans()
        self._context.changed()

    async def _listen_to_template(self) -> None:
        while await self._template.wait_for_report():
            self._template.receive(self._handle_report)
            self._context.changed()

    def _handle_report(self, report: Report, descriptors: list[int]) -> None:
        if report.event is ReportEvent.FORKED:
            self._add_forked(report.pid, descriptors, report.number)
        elif report.event is ReportEvent.EXITED:
            self._handle_exit_report(report)
        elif report.event is ReportEvent.READY and report.pid in self.workers:
            self.workers[report.pid].mark_ready(report.end_seconds)
            self.has_schedule |= report.has_schedule
            self._has_been_ready = True
        elif report.event is ReportEvent.SIGNALLED:
            self._context.signalled(report.number)

    def _add_forked(self, pid: int, descriptors: list[int], number: int) -> None:
        if len(descriptors) < FORK_DESCRIPTORS:
            self._log.error(
                "killing worker: there are too many open files to accompany it",
                hint="raise the limit on open files (ulimit -n)",
            )
            for descriptor in descriptors:
                os.close(descriptor)
            with contextlib.suppress(ProcessLookupError):
                # The template will report this end, which counts as that of a failed fork.
                os.kill(pid, signal.SIGKILL)
            return
        self._numbers.give(number, pid)
        self._add(
            WorkerProcess(
                pid,
                self._pop_fork_request(),
                descriptors,
                changed=self._context.changed,
                answered=self._context.tally.counted.observe_lag,
            )
        )

    def _pop_fork_request(self) -> WorkerLimits:
        """Count the oldest request for a worker as answered."""
        self._asked_at = monotonic()
        # A worker that reports after the end of its template is not expected any more.
        return self._asked_for.popleft() if self._asked_for else WorkerLimits(0, 0.0)

    def _handle_exit_report(self, report: Report) -> None:
        worker = self.workers.pop(report.pid, None)
        if report.pid in self._unreported:
            self._unreported.discard(report.pid)
        elif worker is not None:
            self._finish_exit(worker, report.status)
        else:  # the worker ended before it could report itself
            self._pop_fork_request()
            self._numbers.forget_oldest()
            self._note_failure(report.status)
            self.backoff.record_failed_start()
            self._log.error("worker ended right after its fork", **describe_end(report.status))

    def _add(self, worker: WorkerProcess) -> None:
        self.workers[worker.pid] = worker
        if self._left_descriptors:  # the worker was forked before the template left them
            worker.announce_leave(self._left_descriptors)
            worker.begin_leave(self._left_descriptors)
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
        """Remove a worker whose end the running template has not reported in time."""
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
        """Remove workers that ended after their template, so that nobody reports their exit status."""
        ended = (
            [it for it in self.workers.values() if it.has_ended] if self.template_has_ended else []
        )
        for worker in ended:
            self._finish_unreported(self.workers.pop(worker.pid))

    def _finish_unreported(self, worker: WorkerProcess) -> None:
        # Processes that the worker has started as it loaded the application are in a group with its number. No template
        # ends that group any more. When the group is empty, another process may get its number.
        if not self._template.preloads and signal_group(worker.pid, signal.SIGTERM):
            self._unreported_groups.add(worker.pid)
        self._finish_exit(worker, None)

    def _finish_exit(self, worker: WorkerProcess, status: int | None) -> None:
        # A worker that is asked to end before it has its handlers is ended by the signal itself.
        if not worker.is_stopping or status not in {0, -signal.SIGTERM, None}:
            if not worker.is_ready:
                self._note_failure(status)
                self.backoff.record_failed_start()
            elif not worker.is_stopping:
                others = [it.ready_seconds for it in self.ready]
                self.backoff.record_crash(worker.ready_seconds, others, monotonic())
            # The new code does not load: it was never in service, and the start or the reload is what has failed.
            has_not_loaded = not self._has_been_ready and status in _EXPLAINED
            if not has_not_loaded:
                self._context.tally.crashed += 1
                self._context.tally.counted.count(
                    RESTART + ("killed" if worker.is_being_killed else "crashed")
                )
            # At the very first start, the supervisor ends with the error that the worker has written.
            if not (has_not_loaded and self.number == 1):
                report_crash(self._log, worker, status)
        self._close_ended(worker)

    def _note_failure(self, status: int | None) -> None:
        """Keep the status of the first failure, which the later ones may have come from."""
        if self.failed_status is None:
            self.failed_status = status or EXIT_FAILURE

    def _close_ended(self, worker: WorkerProcess) -> None:
        self._numbers.free(worker.pid)
        worker.read_last_messages()
        with worker.counted() as memory:
            self._context.tally.add_ended(worker.figures, memory)
        worker.close()
