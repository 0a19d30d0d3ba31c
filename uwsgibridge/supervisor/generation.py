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
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import EXIT_APPLICATION, EXIT_USAGE
from uwsgibridge.link.messages import (
    CLOSE,
    FORK_DESCRIPTORS,
    MAX_BYTES,
    STOP,
    Blueprint,
    Fork,
    Leave,
    Report,
)
from uwsgibridge.supervisor.backoff import Backoff
from uwsgibridge.supervisor.recycling import RecyclingPolicy, WorkerLimits
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.process_group import signal_group
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.telemetry.logs import Logger

# How long a template may take to end after its last worker, and again after SIGKILL.
_TEMPLATE_END_SECONDS: Final = 5.0

# For a template to tell with what status a worker has ended, which takes milliseconds.
_REPORT_SECONDS: Final = 1.0

# For a template to close its sockets, which takes microseconds.
_CLOSE_SECONDS: Final = 3.0

# How many of the requests that a crashed worker held are named in the log.
_NAMED_FLIGHTS: Final = 10

# With these, a worker has said in words why it can't start.
_EXPLAINED: Final = frozenset({EXIT_USAGE, EXIT_APPLICATION})

# Else `exec` would hand a worker's descriptors on to any program. Linux; elsewhere `Popen` closes them.
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


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
        has_ended: whether the template has.
        failed_status: of the first worker that ended before it was ready, or of the template.
        backoff: how soon workers that have ended are replaced.
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
        self.has_ended = False
        self.failed_status: int | None = None
        self.backoff = Backoff()
        self.template_pid = template_pid
        self._is_stopping = False
        self._preloads = False  # the template has the application
        self._has_been_ready = False  # any of its workers
        # ended workers that were removed without a report; a late one is ignored
        self._unreported: set[int] = set()
        # process groups of workers that ended without a report, killed in `end`
        self._left_groups: set[int] = set()
        self._asked_for: deque[WorkerLimits] = deque()
        self._asked_at = monotonic()  # or when the last answer came
        self._wait = wait
        self._ended = trio.Event()
        self._closed = trio.Event()  # the template's listening sockets
        self._left = trio.Event()  # some of them
        self._left_descriptors: tuple[int, ...] = ()
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

        Raises:
            OSError: no process can be started.
        """
        descriptors = [listening.socket.fileno() for listening in sockets]
        inherited = tuple(f"fd://{descriptor}" for descriptor in descriptors)
        blueprint = Blueprint(
            app_name,
            replace(settings, bind=inherited),
            lifeline,
            tuple(sys.argv),
            any(it.is_inherited for it in sockets),
            context.is_rehearsal,
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            ours.send(blueprint.encode())
            # The template inherits it, so that a signal waits until it has its handlers.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
            try:
                template = subprocess.Popen(  # noqa: S603 - our own module
                    (*_python(), "-m", "uwsgibridge.worker.template", str(theirs.fileno())),
                    pass_fds=[*descriptors, theirs.fileno(), lifeline],
                    # Ctrl-C is for the supervisor, which tells the workers.
                    start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            on_failure.pop_all()
        generation = Generation(number, template.pid, template.wait, ours, context)
        generation._preloads = settings.preload
        return generation

    @staticmethod
    def adopt(heritage: dict[str, Any], context: GenerationContext) -> Generation:
        """Take over what `bequeath` described, after an exec in place."""
        pid: int = heritage["template"]

        def wait() -> int:
            try:
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            except ChildProcessError:  # it had ended before it was handed on
                return 0

        control = socket.socket(fileno=heritage["control"])
        generation = Generation(heritage["number"], pid, wait, control, context)
        generation._preloads = heritage.get("preloads", False)
        generation._asked_for.extend(WorkerLimits(*one) for one in heritage.get("asked_for", ()))
        generation._left_groups.update(heritage.get("left_groups", ()))
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
                    end_seconds=one.get("end_seconds", 0.0),
                )
            )
        return generation

    def bequeath(self) -> tuple[dict[str, Any], list[int]]:
        """Describe it for `adopt`, and let go of it.

        Returns:
            The description, as JSON has it, and the descriptors that have to be inherited.
        """
        workers: list[dict[str, Any]] = [
            {
                "pid": worker.pid,
                "limits": dataclasses.astuple(worker.limits),
                "descriptors": worker.detach(),
                "age_seconds": worker.age_seconds,
                "is_ready": worker.is_ready,
                "is_stopping": worker.is_stopping,
                "end_seconds": worker.end_seconds,
            }
            for worker in self.workers.values()
        ]
        control = self._control.detach()
        return {
            "number": self.number,
            "template": self.template_pid,
            "control": control,
            "preloads": self._preloads,
            "asked_for": [dataclasses.astuple(one) for one in self._asked_for],
            "left_groups": sorted(self._left_groups),
            "workers": workers,
        }, [control, *(it for one in workers for it in one["descriptors"])]

    @property
    def running(self) -> list[WorkerProcess]:
        """The workers that were not asked to end."""
        return [
            it
            for it in self.workers.values()
            # One that has ended is known to have before the template reports it. The report is waited
            # for: `backoff` then knows how soon to try again.
            if not (it.is_stopping or it.is_doomed)
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
        try:
            self._control.send(Fork(limits.requests).encode())
        except OSError:  # a template that has ended is noticed elsewhere
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
        with contextlib.suppress(OSError):
            self._control.send(CLOSE)
        with trio.move_on_after(_CLOSE_SECONDS) as waiting:
            await self._closed.wait()
        if waiting.cancelled_caught:
            self._log.error(
                "killing template: it does not close its sockets", template=self.template_pid
            )
            self.signal_template(signal.SIGKILL)
            with trio.move_on_after(_CLOSE_SECONDS):
                await self._ended.wait()

    async def leave_sockets(self, descriptors: Sequence[int]) -> None:
        """Have the template close some of the listening sockets; workers of it have them no more.

        A template that does not say so may be of an older version.
        """
        self._left_descriptors = tuple(descriptors)
        self._left = trio.Event()
        with contextlib.suppress(OSError):
            self._control.send(Leave(self._left_descriptors).encode())
            with trio.move_on_after(_CLOSE_SECONDS):
                await self._left.wait()

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
            self.signal_template(signal.SIGKILL)

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
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.template_pid, number)

    async def end(self) -> None:
        """End the template; its workers are to have ended before."""
        with contextlib.suppress(OSError):
            self._control.send(STOP)
        for _ in range(2):
            with trio.move_on_after(_TEMPLATE_END_SECONDS):
                await self._ended.wait()
            self.signal_template(signal.SIGKILL)
        if self._preloads:
            # What the application has started as it was loaded: a template that was killed has not seen
            # to it. It leads the group that workers have left.
            signal_group(self.template_pid, signal.SIGKILL)
        while self._left_groups:
            signal_group(self._left_groups.pop(), signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Close the descriptors that this process has of the template and of its workers."""
        if self._control.fileno() >= 0:
            trio.lowlevel.notify_closing(self._control)
            self._control.close()
        while self.workers:
            self._close_ended(self.workers.popitem()[1])
        self._asked_for.clear()

    async def _watch_template(self) -> None:
        def wait() -> int:
            # Signals are for the main thread, which has them wait while the process is handed on.
            signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
            return self._wait()

        try:
            process = os.pidfd_open(self.template_pid)
        except ProcessLookupError:
            status = self._wait()
        except (OSError, AttributeError):  # too many open files, a sandbox, or no Linux
            # A limiter of its own: any number of templates may drain, and each holds a thread.
            status = await trio.to_thread.run_sync(
                wait, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        else:
            # No thread: there may be none to be had when a reload needs it.
            try:
                await trio.lowlevel.wait_readable(process)
            finally:
                os.close(process)
            status = self._wait()
        self._receive()  # its last words
        self._asked_for.clear()
        self.has_ended = True
        if status and self.failed_status is None:
            self.failed_status = status
        self._remove_orphans()
        self._ended.set()
        self._closed.set()
        self._left.set()
        self._context.changed()

    async def _listen(self) -> None:
        while self._control.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(self._control)
            except trio.ClosedResourceError:
                return
            self._receive()
            self._context.changed()

    def _receive(self) -> None:
        with contextlib.suppress(OSError):  # BlockingIOError: that was all
            while True:
                data, descriptors, _, _ = socket.recv_fds(
                    self._control, MAX_BYTES, FORK_DESCRIPTORS, _CLOSE_ON_EXEC
                )
                self._handle_report(Report.decode(data), descriptors)

    def _handle_report(self, report: Report | None, descriptors: list[int]) -> None:
        if report is not None and report.event == "forked":
            self._add_forked(report.pid, descriptors)
        elif report is None or report.event not in {"ready", "exited", "closed", "left"}:
            pass
        elif report.event == "left":
            self._left.set()
        elif report.event == "closed":
            self._closed.set()
        elif report.event == "exited":
            self._handle_exit_report(report)
        elif report.pid in self.workers:
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
            self._log.error("worker ended right after its fork", **_describe_end(report.status))

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
        if not self._preloads and signal_group(worker.pid, signal.SIGTERM):
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
                self._report_crash(worker, status)
        self._close_ended(worker)

    def _close_ended(self, worker: WorkerProcess) -> None:
        worker.read_last_messages()
        if worker.figures is not None:
            self._context.tally.requests += worker.figures.requests
        worker.close()

    def _report_crash(self, worker: WorkerProcess, status: int | None) -> None:
        how = _describe_end(status)
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


def _describe_end(status: int | None) -> dict[str, Any]:
    if status is None or status >= 0:
        return {"exit_status": status}
    try:
        return {"signal": signal.Signals(-status).name}
    except ValueError:  # most real-time signals have no name
        return {"signal": -status}


def _python() -> list[str]:
    """Tell how to start Python as this process was started."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - multiprocessing takes them from there, too
    # Else `-m` would put the current directory first on the import path: what an application calls its
    # modules (random.py) would then stand in the place of the standard library's.
    has_current_directory = sys.modules["__main__"].__spec__ is not None  # by `-m` itself
    return [sys.executable, *flags, *(() if has_current_directory else ("-P",))]
