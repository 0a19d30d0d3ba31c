"""The template: a process with one thread and no event loop, which forks workers when it is asked.

``python -m uwsgibridge.supervisor.template FD`` with one end of the supervisor's socket pair. With
``--preload`` it has the application in memory before it forks.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

from uwsgibridge.exit_status import show_failure
from uwsgibridge.process import load_applications, run_worker
from uwsgibridge.serving import Application
from uwsgibridge.supervisor.messages import FORK, MAX_BYTES, STOP, Blueprint, Report


def main(control_descriptor: int) -> int:
    """Serve the supervisor until it says stop, or is gone; a forked worker returns from here, too.

    Returns:
        The exit status of the template, or of the worker that this process has become.
    """
    control = socket.socket(fileno=control_descriptor)
    blueprint = Blueprint.decode(control.recv(MAX_BYTES))
    with show_failure() as outcome:
        applications = None
        if blueprint.settings.preload:
            applications = load_applications(blueprint.app_name, blueprint.settings)
        if _fork_on_demand(control, blueprint.lifeline):
            _work(control, blueprint, applications)
    return outcome.status


def _fork_on_demand(control: socket.socket, lifeline: int) -> bool:
    """Fork at each request; True in a new worker, False in the template at its end."""
    wakeup, written = socket.socketpair()
    wakeup.setblocking(False)
    written.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the supervisor says STOP
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
                return False
            if control.fileno() in ready:
                message = control.recv(MAX_BYTES)
                if message == STOP:
                    return False
                if message == FORK and _fork(control):
                    signal.set_wakeup_fd(-1)
                    return True


def _fork(control: socket.socket) -> bool:
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return True
    control.send(Report("forked", pid).encode())
    return False


def _reap(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with contextlib.suppress(OSError):  # the supervisor is gone
                control.send(Report("exited", pid, os.waitstatus_to_exitcode(status)).encode())


def _work(
    control: socket.socket, blueprint: Blueprint, applications: list[Application] | None
) -> None:
    def ready() -> None:
        with contextlib.suppress(OSError):
            control.send(Report("ready", os.getpid()).encode())

    run_worker(
        blueprint.app_name,
        blueprint.settings,
        applications=applications,
        ready=ready,
        lifeline=blueprint.lifeline,
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
