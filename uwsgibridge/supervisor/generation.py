"""One generation of workers: a template process, and the workers that were forked from it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.listener.sockets import ListeningSocket
from uwsgibridge.supervisor.messages import FORK, MAX_BYTES, STOP, Blueprint, Report
from uwsgibridge.telemetry.logs import Logger

# Of the template, after its last worker.
_TEMPLATE_END_SECONDS: Final = 5.0


@dataclass(slots=True)
class WorkerProcess:
    """What the supervisor knows of a worker.

    Attributes:
        started_at: of trio's clock.
        is_ready: whether it accepts requests.
        is_stopping: whether it was asked to end.
    """

    started_at: float
    is_ready: bool = False
    is_stopping: bool = False


class Generation:
    """Starts a template and keeps account of its workers.

    Args:
        app_name: what the template loads.
        settings: of the workers; their addresses become the sockets' descriptors.
        sockets: owned by the supervisor.
        lifeline: read end of a pipe whose other end the supervisor holds.
        logger: where to say what happens to workers.
        changed: called after each change of the account.
    """

    def __init__(
        self,
        app_name: str | None,
        settings: Settings,
        sockets: Sequence[ListeningSocket],
        *,
        lifeline: int,
        logger: Logger,
        changed: Callable[[], None],
    ) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.last_status: int | None = None
        self._log = logger
        self._changed = changed
        descriptors = [listening.socket.fileno() for listening in sockets]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            self._template = subprocess.Popen(  # noqa: S603 - our own module
                (sys.executable, "-m", "uwsgibridge.supervisor.template", str(theirs.fileno())),
                pass_fds=[*descriptors, theirs.fileno(), lifeline],
                # Ctrl-C is for the supervisor, which tells the workers.
                start_new_session=True,
            )
        self._control = trio.socket.from_stdlib_socket(ours)
        inherited = tuple(f"fd://{descriptor}" for descriptor in descriptors)
        blueprint = Blueprint(app_name, replace(settings, bind=inherited), lifeline)
        ours.send(blueprint.encode())

    @property
    def ready_count(self) -> int:
        """How many workers accept requests and were not asked to end."""
        return sum(it.is_ready and not it.is_stopping for it in self.workers.values())

    @property
    def is_alive(self) -> bool:
        """Whether the template still runs."""
        return self._template.poll() is None

    async def fork(self) -> None:
        """Ask for one more worker."""
        with contextlib.suppress(OSError):  # a template that has ended is noticed by `watch`
            await self._control.send(FORK)

    async def listen(self) -> None:
        """Take the reports of template and workers, until `end`."""
        while True:
            try:
                report = Report.decode(await self._control.recv(MAX_BYTES))
            except trio.ClosedResourceError:
                return
            match report.event:
                case "forked":
                    self.workers[report.pid] = WorkerProcess(trio.current_time())
                case "ready" if report.pid in self.workers:
                    self.workers[report.pid].is_ready = True
                case "exited":
                    self._note_exit(report)
            self._changed()

    async def wait_for_template(self) -> int:
        """Wait until the template has ended; its exit status."""
        return await trio.to_thread.run_sync(self._template.wait, abandon_on_cancel=True)

    def signal_workers(self, number: signal.Signals) -> None:
        """Send a signal to each worker; SIGTERM asks it to end."""
        for pid, worker in self.workers.items():
            if number == signal.SIGTERM:
                worker.is_stopping = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop_one(self) -> None:
        """Ask the oldest worker to end."""
        running = [pid for pid, worker in self.workers.items() if not worker.is_stopping]
        if running:
            oldest = min(running, key=lambda pid: self.workers[pid].started_at)
            self.workers[oldest].is_stopping = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(oldest, signal.SIGTERM)

    async def end(self) -> None:
        """End the template; its workers are to have ended before."""
        with contextlib.suppress(OSError):
            await self._control.send(STOP)
        with trio.move_on_after(_TEMPLATE_END_SECONDS):
            await self.wait_for_template()
        if self.is_alive:
            self._template.kill()
            self._template.wait()
        self._control.close()

    def _note_exit(self, report: Report) -> None:
        worker = self.workers.pop(report.pid, None)
        self.last_status = report.status
        # One that is asked to end before it listens for signals is ended by the signal itself.
        if worker is None or (worker.is_stopping and report.status in {0, -signal.SIGTERM}):
            return
        how = (
            {"signal": signal.Signals(-report.status).name}
            if report.status < 0
            else {"exit_status": report.status}
        )
        self._log.error("worker ended", worker=report.pid, was_ready=worker.is_ready, **how)
