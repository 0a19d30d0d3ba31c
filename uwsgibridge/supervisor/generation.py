"""One generation of workers: a template process, and the workers that were forked from it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.listener.sockets import ListeningSocket
from uwsgibridge.supervisor.messages import (
    FORK_DESCRIPTORS,
    MAX_BYTES,
    STOP,
    Blueprint,
    Fork,
    Report,
)
from uwsgibridge.supervisor.recycling import RecyclingPolicy, WorkerLimits
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.telemetry.logs import Logger

# Of the template, after its last worker.
_TEMPLATE_END_SECONDS: Final = 5.0

# Of the requests that a worker held when it crashed.
_NAMED_FLIGHTS: Final = 10


@dataclass(slots=True)
class Tally:
    """What the supervisor counts over all generations.

    Attributes:
        crashed: workers that ended without being asked to.
        recycled: workers that had had their time.
        requests: of workers that have ended.
    """

    crashed: int = 0
    recycled: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class GenerationContext:
    """What all generations share.

    Attributes:
        policy: draws the limits of each worker.
        logger: where to say what happens to workers.
        tally: where it is counted.
        changed: called after each change of the account.
        nursery: for tasks that listen to workers.
    """

    policy: RecyclingPolicy
    logger: Logger
    tally: Tally
    changed: Callable[[], None]
    nursery: trio.Nursery


class Generation:
    """A template and the account of its workers. Made by `start` or by `adopt`.

    Attributes:
        number: counted from 1.
        workers: by pid.
        forked: how many there have been.
        has_ended: whether the template has.
        failed_status: of the first worker that ended before it was ready, or of the template.
    """

    def __init__(
        self,
        number: int,
        template_pid: int,
        wait: Callable[[], int],
        control: socket.socket,
        context: GenerationContext,
    ) -> None:
        self.number = number
        self.workers: dict[int, WorkerProcess] = {}
        self.forked = 0
        self.has_ended = False
        self.failed_status: int | None = None
        self.template_pid = template_pid
        self._asked_for: deque[WorkerLimits] = deque()
        self._wait = wait
        self._control = control
        self._control.setblocking(False)
        self._context = context
        self._log = context.logger
        context.nursery.start_soon(self._listen)
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
        """
        descriptors = [listening.socket.fileno() for listening in sockets]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            template = subprocess.Popen(  # noqa: S603 - our own module
                (sys.executable, "-m", "uwsgibridge.supervisor.template", str(theirs.fileno())),
                pass_fds=[*descriptors, theirs.fileno(), lifeline],
                # Ctrl-C is for the supervisor, which tells the workers.
                start_new_session=True,
            )
        inherited = tuple(f"fd://{descriptor}" for descriptor in descriptors)
        blueprint = Blueprint(app_name, replace(settings, bind=inherited), lifeline)
        ours.send(blueprint.encode())
        return Generation(number, template.pid, template.wait, ours, context)

    @staticmethod
    def adopt(heritage: dict[str, Any], context: GenerationContext) -> Generation:
        """Take over what `bequeath` described, after an exec in place."""
        pid: int = heritage["template"]

        def wait() -> int:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        control = socket.socket(fileno=heritage["control"])
        generation = Generation(heritage["number"], pid, wait, control, context)
        for one in heritage["workers"]:
            generation._add(
                WorkerProcess(
                    one["pid"],
                    WorkerLimits(*one["limits"]),
                    one["descriptors"],
                    changed=context.changed,
                    age_seconds=one["age_seconds"],
                    is_ready=one["is_ready"],
                    is_stopping=one["is_stopping"],
                )
            )
        return generation

    def bequeath(self) -> tuple[dict[str, Any], list[int]]:
        """Describe it for `adopt`.

        Returns:
            The description, as JSON has it, and the descriptors that have to be inherited.
        """
        workers = [
            {
                "pid": worker.pid,
                "limits": dataclasses.astuple(worker.limits),
                "descriptors": worker.descriptors,
                "age_seconds": worker.age_seconds,
                "is_ready": worker.is_ready,
                "is_stopping": worker.is_stopping,
            }
            for worker in self.workers.values()
        ]
        control = self._control.fileno()
        descriptors = [control, *(it for one in self.workers.values() for it in one.descriptors)]
        return {
            "number": self.number,
            "template": self.template_pid,
            "control": control,
            "workers": workers,
        }, descriptors

    @property
    def running(self) -> list[WorkerProcess]:
        """The workers that were not asked to end."""
        return [it for it in self.workers.values() if not it.is_stopping and not it.is_doomed]

    @property
    def ready(self) -> list[WorkerProcess]:
        """Those of them that accept requests."""
        return [it for it in self.running if it.is_ready]

    @property
    def has_failed(self) -> bool:
        """Whether the template, or a worker before it was ready, has ended."""
        return self.has_ended or self.failed_status is not None

    async def fork(self) -> None:
        """Ask for one more worker."""
        limits = self._context.policy.limits_for_new_worker()
        with contextlib.suppress(OSError):  # a template that has ended is noticed elsewhere
            await trio.lowlevel.wait_writable(self._control)
            self._control.send(Fork(limits.requests).encode())
            self._asked_for.append(limits)

    def stop_workers(self) -> None:
        """Ask all workers to drain and end; a second time, to end at once."""
        for worker in self.workers.values():
            worker.stop()

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
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.template_pid, number)

    async def end(self) -> None:
        """End the template; its workers are to have ended before."""
        with contextlib.suppress(OSError):
            self._control.send(STOP)
        with trio.move_on_after(_TEMPLATE_END_SECONDS):
            await self._until_ended()
        if not self.has_ended:
            self.signal_template(signal.SIGKILL)
            await self._until_ended()
        self.let_go()

    def let_go(self) -> None:
        """Close all that this process has of it."""
        if self._control.fileno() >= 0:
            trio.lowlevel.notify_closing(self._control)
            self._control.close()
        for worker in self.workers.values():
            worker.close()

    async def _until_ended(self) -> None:
        while not self.has_ended:
            await self._ended.wait()

    async def _watch_template(self) -> None:
        self._ended = trio.Event()
        status = await trio.to_thread.run_sync(self._wait, abandon_on_cancel=True)
        self.has_ended = True
        if status and self.failed_status is None:
            self.failed_status = status
        self._ended.set()
        self._context.changed()

    async def _listen(self) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(self._control)
                data, descriptors, _, _ = socket.recv_fds(
                    self._control, MAX_BYTES, FORK_DESCRIPTORS
                )
            except BlockingIOError:
                continue
            except (trio.ClosedResourceError, OSError):
                return
            self._take(Report.decode(data), descriptors)
            self._context.changed()

    def _take(self, report: Report, descriptors: list[int]) -> None:
        if report.event == "forked":
            # The template does what it is asked in the order in which it is asked.
            limits = self._asked_for.popleft()
            self._add(WorkerProcess(report.pid, limits, descriptors, changed=self._context.changed))
        elif report.pid not in self.workers:
            pass
        elif report.event == "ready":
            self.workers[report.pid].is_ready = True
        elif report.event == "exited":
            self._note_exit(self.workers.pop(report.pid), report.status)

    def _add(self, worker: WorkerProcess) -> None:
        self.workers[worker.pid] = worker
        self.forked += 1
        self._context.nursery.start_soon(worker.listen)

    def _note_exit(self, worker: WorkerProcess, status: int) -> None:
        tally = self._context.tally
        if worker.figures is not None:
            tally.requests += worker.figures.requests
        # One that is asked to end before it listens for signals is ended by the signal itself.
        if not worker.is_stopping or status not in {0, -signal.SIGTERM}:
            if not worker.is_ready:
                self.failed_status = status
            tally.crashed += 1
            self._report_crash(worker, status)
        worker.close()

    def _report_crash(self, worker: WorkerProcess, status: int) -> None:
        how: dict[str, Any] = (
            {"signal": signal.Signals(-status).name} if status < 0 else {"exit_status": status}
        )
        held = worker.held()
        if held.requests:
            how["held"] = [f"{it.method} {it.path}" for it in held.requests[:_NAMED_FLIGHTS]]
        if len(held.requests) > _NAMED_FLIGHTS:
            how["held_more"] = len(held.requests) - _NAMED_FLIGHTS
        if held.connections:
            how["held_connections"] = held.connections  # accepted, without a request as yet
        self._log.error(
            "worker ended",
            worker=worker.pid,
            was_ready=worker.is_ready,
            age_seconds=round(worker.age_seconds, 3),
            **how,
        )
