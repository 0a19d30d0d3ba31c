"""The template: a process with one thread and no event loop, which forks workers when it is asked.

``python -m uwsgibridge.supervisor.template FD`` with one end of the supervisor's socket pair. With
``--preload`` it has the application in memory before it forks.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass

from uwsgibridge.exit_status import show_failure
from uwsgibridge.identity import raise_oom_score, set_title
from uwsgibridge.process import WorkerDuty, load_applications, reopen_log_at_signal, run_worker
from uwsgibridge.serving import Application
from uwsgibridge.supervisor.link import WorkerLink
from uwsgibridge.supervisor.messages import MAX_BYTES, STOP, Blueprint, Fork, Report
from uwsgibridge.telemetry.flights import FlightRecorder, make_flight_file


def main(control_descriptor: int) -> int:
    """Serve the supervisor until it says stop, or is gone; a forked worker returns from here, too.

    Returns:
        The exit status of the template, or of the worker that this process has become.
    """
    control = socket.socket(fileno=control_descriptor)
    blueprint = Blueprint.decode(control.recv(MAX_BYTES))
    settings = blueprint.settings
    set_title(settings.title, "template")
    raise_oom_score(settings.worker_oom_score)
    reopen_log_at_signal(settings)
    with show_failure() as outcome:
        applications = None
        if settings.preload:
            applications = load_applications(blueprint.app_name, settings)
            # What is frozen is not written to by collections, so its pages stay shared.
            gc.collect()
            gc.freeze()
        link = _fork_on_demand(control, blueprint.lifeline)
        if link is not None:
            _work(control, blueprint, applications, link)
    return outcome.status


@dataclass(frozen=True, slots=True)
class _ForkedWorker:
    """What a new worker has of its own."""

    link: WorkerLink
    dumps: int


def _fork_on_demand(control: socket.socket, lifeline: int) -> _ForkedWorker | None:
    """Fork at each request; a value in a new worker, None in the template at its end."""
    wakeup, written = socket.socketpair()
    wakeup.setblocking(False)
    written.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # The supervisor says STOP; what a terminal or an operator sends to all is for the supervisor.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    poll = select.poll()
    for descriptor in (control.fileno(), lifeline, wakeup.fileno()):
        poll.register(descriptor, select.POLLIN)
    with wakeup, written:
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if wakeup.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    wakeup.recv(4096)
                _reap(control)
            if lifeline in ready:
                return None
            if control.fileno() in ready:
                message = control.recv(MAX_BYTES)
                if message == STOP:
                    return None
                fork = Fork.decode(message)
                worker = _fork(control, fork) if fork is not None else None
                if worker is not None:
                    signal.set_wakeup_fd(-1)
                    return worker


def _fork(control: socket.socket, fork: Fork) -> _ForkedWorker | None:
    """Fork; a value in the worker, None in the template."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    flights = make_flight_file()
    dumps, dumped_to = os.pipe()
    pid = os.fork()
    if pid == 0:
        theirs.close()
        os.close(dumps)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        recorder = FlightRecorder(flights)
        os.close(flights)
        return _ForkedWorker(WorkerLink(ours, recorder, fork.max_requests), dumped_to)
    report = Report("forked", pid).encode()
    with ours, theirs:
        socket.send_fds(control, [report], [theirs.fileno(), flights, dumps])
    for descriptor in (flights, dumps, dumped_to):
        os.close(descriptor)
    return None


def _reap(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with contextlib.suppress(OSError):  # the supervisor is gone
                control.send(Report("exited", pid, os.waitstatus_to_exitcode(status)).encode())


def _work(
    control: socket.socket,
    blueprint: Blueprint,
    applications: list[Application] | None,
    worker: _ForkedWorker,
) -> None:
    def ready() -> None:
        with contextlib.suppress(OSError):
            control.send(Report("ready", os.getpid()).encode())

    settings = blueprint.settings
    set_title(settings.title, "worker")
    reopen_log_at_signal(settings)
    # A crash of the interpreter tells its stack in the log; a stuck worker tells its own to the supervisor.
    faulthandler.enable()
    faulthandler.register(signal.SIGQUIT, file=worker.dumps, all_threads=True)
    run_worker(
        blueprint.app_name,
        settings,
        WorkerDuty(
            applications=applications,
            ready=ready,
            lifeline=blueprint.lifeline,
            companion=worker.link,
        ),
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
