"""The template: a process with one thread and no event loop, which forks workers on demand.

The first one is forked (`uwsgibridge.worker.spare_template`). Later ones are started as
``python -m uwsgibridge.worker.template FD``; FD is one end of a socket pair with the supervisor.
With ``--preload``, the template imports the application before it forks.
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
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Final

from uwsgibridge.application.application import Application
from uwsgibridge.application.forked_child import kept_from_copies
from uwsgibridge.application.loading import load_applications
from uwsgibridge.config.address import DescriptorAddress, parse_address
from uwsgibridge.config.rooting import rooted
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import EXIT_FAILURE, SettingsError
from uwsgibridge.figures.memory import FiguresMemory
from uwsgibridge.figures.planning import plan_figures, planned_prefixes
from uwsgibridge.link.flights import FIGURES_OFFSET, FlightRecorder, make_flight_file
from uwsgibridge.link.messages import (
    CLOSE,
    DUMP_SIGNAL,
    MAX_BYTES,
    STOP,
    Blueprint,
    Fork,
    Leave,
    Report,
    ReportEvent,
)
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.system.forking import fork_process
from uwsgibridge.system.interpreter import end_interpreter
from uwsgibridge.system.oom import raise_oom_score
from uwsgibridge.system.process_group import group_of_its_own
from uwsgibridge.system.process_title import set_title
from uwsgibridge.system.signal_stack import enlarge_signal_stack
from uwsgibridge.system.signals import SERVER_SIGNALS, empty_handler
from uwsgibridge.telemetry.capturing import capture_logging, capturing_logging
from uwsgibridge.telemetry.failure import show_failure
from uwsgibridge.telemetry.line_buffer import keep_to_one_thread
from uwsgibridge.telemetry.line_stream import log_descriptor, own_standard_error, say
from uwsgibridge.telemetry.log_file import reopen_log_at_signal
from uwsgibridge.telemetry.service_log import make_service_logger
from uwsgibridge.worker.kinds import import_in_advance
from uwsgibridge.worker.process import WorkerDuty, end_seconds, most_end_seconds, run_worker
from uwsgibridge.worker.process_end import ProcessEnd, flush_output
from uwsgibridge.worker.started_at_import import (
    end_group_at_exit,
    end_in_order_at_exit,
    end_multiprocessing_later,
    forget_processes_of_template,
    stop_group,
    warn_of_threads,
)
from uwsgibridge.worker.supervisor_link import WorkerLink
from uwsgibridge.worker.uwsgi_hooks import become_worker, has_schedule

# How long a worker may take beyond what the options give it, and how long the kernel may take for one that is killed.
_END_MARGIN_SECONDS: Final = 5.0


def main(control_descriptor: int) -> int:
    """Fork workers until the supervisor says stop, or is gone; a forked worker returns from here, too.

    Returns:
        The exit status of the template, or of the worker that this process has become.
    """
    with socket.socket(fileno=control_descriptor) as control, show_failure() as outcome:
        message = control.recv(MAX_BYTES)
        # The settings may have relative paths, and check them. Each template changes to the directory by itself, since a
        # link in its path may lead elsewhere than at the supervisor's start.
        _change_directory(Blueprint.directory_of(message))
        outcome.status = run(control, Blueprint.decode(message))
    return outcome.status


def _change_directory(directory: str) -> None:
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            raise SettingsError(f"--chdir {directory}: {error.strerror}") from None


def run(control: socket.socket, blueprint: Blueprint) -> int:
    """Do what `main` does, for a supervisor that has said what is to run.

    Args:
        control: one end of the supervisor's socket pair.
        blueprint: what the workers run.

    Returns:
        The exit status of the template, or of the worker that this process has become.
    """
    with show_failure() as outcome:
        settings = rooted(blueprint.settings)
        blueprint = replace(blueprint, settings=settings)
        if blueprint.arguments:
            sys.argv[:] = blueprint.arguments
        _keep_from_programs(control, blueprint)
        keep_to_one_thread(True)
        own_standard_error()
        set_title(settings.title, "template")
        if blueprint.tls is not None:
            _prepare_tls(settings, blueprint.tls)
        raise_oom_score(settings.worker_oom_score)
        if settings.tracemalloc:
            import tracemalloc  # imported here: few services trace their memory

            # Before the application is imported. Workers inherit it.
            tracemalloc.start(settings.tracemalloc)
        _install_empty_handlers()
        # A forked worker has this handler until it registers its own. The supervisor may ask for the worker's
        # stacks before that, and the default action of the signal would end the worker.
        signal.signal(DUMP_SIGNAL, empty_handler)
        end_in_order_at_exit()
        reopen_log_at_signal(settings)
        # The supervisor had these signals blocked when it started this process.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVER_SIGNALS)
        if settings.prometheus_multiproc_dir:
            from uwsgibridge.multiproc.reading import repeat_failed_scrapes  # few have one

            repeat_failed_scrapes(str(Path(settings.prometheus_multiproc_dir).absolute()))
        applications = None
        if settings.preload:
            # Before the application, which may have another structlog on its import path.
            logger = make_service_logger(settings)
            # Each worker has a group of its own. So the processes in this group were started by the import.
            end_group_at_exit(os.getpgrp())
            with (
                kept_from_copies(lambda: [control, blueprint.lifeline, *_listening(blueprint)]),
                capturing_logging(settings, logger),
            ):
                applications = load_applications(blueprint.app_name, settings)
            warn_of_threads(logger)
        import_in_advance(settings, applications, blueprint.app_name)
        if applications is not None:
            gc.collect()
        # The garbage collector does not write to frozen objects, so their memory stays shared with workers.
        gc.freeze()
        place = _fork_on_demand(control, blueprint)
        if place is not None:
            _work(control, blueprint, applications, place)
    end_multiprocessing_later()
    flush_output()
    return outcome.status


def _prepare_tls(settings: Settings, memory: int) -> None:
    """Make the context of TLS before workers are forked, which then know each other's sessions."""
    # Imported here, since few services speak TLS.
    from uwsgibridge.connection.tls import TlsFiles, prepare_context
    from uwsgibridge.system import held_secret

    files = TlsFiles.decode(held_secret.read(memory))
    os.close(memory)  # no worker needs it, nor a program that one starts
    prepare_context(settings, files)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """What a new worker has got from its supervisor.

    Attributes:
        channel: the worker's end of the link.
        flights: records of requests, which the supervisor reads when the worker has crashed.
        figures: what the worker counts in, which the supervisor reads.
        dumped_to: the stack pipe; its end of file tells the supervisor that the worker has ended.
        max_requests: after how many requests the worker asks to be replaced.
        number: of the worker among those of its generation, from 1 on.
        listening: the descriptors that the worker accepts on.
    """

    channel: socket.socket
    flights: FlightRecorder
    figures: FiguresMemory
    dumped_to: int
    max_requests: int
    number: int
    listening: tuple[int, ...] = ()


def _keep_from_programs(control: socket.socket, blueprint: Blueprint) -> None:
    """Keep the descriptors of the supervisor from programs that the application starts.

    Such a program would hold the listening sockets open after the end of all workers.
    """
    for descriptor in (control.fileno(), blueprint.lifeline, *_listening(blueprint)):
        os.set_inheritable(descriptor, False)


def _listening(blueprint: Blueprint) -> list[int]:
    addresses = [parse_address(it) for it in blueprint.settings.bind]
    return [it.fd for it in addresses if isinstance(it, DescriptorAddress)]


def _install_empty_handlers() -> None:
    """Do nothing at signals that a terminal, systemd or an operator sends to all processes: the supervisor acts."""
    for number in SERVER_SIGNALS - {signal.SIGUSR1}:
        signal.signal(number, empty_handler)


def _fork_on_demand(control: socket.socket, blueprint: Blueprint) -> _Place | None:
    """Fork a worker each time that the supervisor asks.

    Returns:
        In a new worker, what it has got; in the template, None at its end.
    """
    lifeline, listening = blueprint.lifeline, _listening(blueprint)
    wakeup, written = socket.socketpair()
    wakeup.setblocking(False)
    written.setblocking(False)
    signal.signal(signal.SIGCHLD, empty_handler)
    # Again: the application may have set handlers of its own.
    _install_empty_handlers()
    reopen_log_at_signal(blueprint.settings)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    workers: set[int] = set()
    poll = select.poll()
    for descriptor in (control.fileno(), lifeline, wakeup.fileno()):
        poll.register(descriptor, select.POLLIN)
    with wakeup, written, contextlib.ExitStack() as stack:
        stack.callback(signal.set_wakeup_fd, -1)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if wakeup.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    _report_signals(control, wakeup.recv(4096))
                _reap(control, workers, loads_by_itself=not blueprint.settings.preload)
            if lifeline in ready:
                _close_sockets(control, listening)
                _see_to_the_end(control, wakeup, workers, blueprint.settings)
                return None
            if control.fileno() in ready:
                message = control.recv(MAX_BYTES)
                if message == STOP:
                    return None
                if message == CLOSE:
                    _close_sockets(control, listening)
                    continue
                leave = Leave.decode(message)
                if leave is not None:
                    _leave_sockets(control, listening, leave)
                    continue
                fork = Fork.decode(message)
                worker = _fork(control, blueprint, fork, workers) if fork is not None else None
                if worker is not None:
                    return replace(worker, listening=tuple(listening))


def _see_to_the_end(
    control: socket.socket, wakeup: socket.socket, workers: set[int], settings: Settings
) -> None:
    """Kill the workers that do not end by themselves, in the place of a supervisor that is gone.

    They have noticed it, and drain. But an application that keeps its worker for ever, in its import or by blocking the
    event loop, would keep the addresses, too.
    """
    seconds = most_end_seconds(settings) + _END_MARGIN_SECONDS
    _wait_for_end(control, wakeup, workers, seconds, settings)
    for pid in workers:
        say(
            f"Error: the supervisor is gone, and worker {pid} has not ended in {seconds:g} s: it is killed"
        )
        os.kill(pid, signal.SIGKILL)
    _wait_for_end(control, wakeup, workers, _END_MARGIN_SECONDS, settings)


def _wait_for_end(
    control: socket.socket,
    wakeup: socket.socket,
    workers: set[int],
    seconds: float,
    settings: Settings,
) -> None:
    end = monotonic() + seconds
    while workers and (left := end - monotonic()) > 0:
        if select.select([wakeup], [], [], left)[0]:
            wakeup.recv(4096)
        _reap(control, workers, loads_by_itself=not settings.preload)


def _report_signals(control: socket.socket, numbers: bytes) -> None:
    """Tell the supervisor of signals that are for it: to an application, this process is the parent of its server."""
    for number in SERVER_SIGNALS.intersection(numbers) - {signal.SIGUSR1}:
        with contextlib.suppress(OSError):  # the supervisor is gone
            control.send(Report(ReportEvent.SIGNALLED, 0, number=number).encode())


def _close_sockets(control: socket.socket, listening: list[int]) -> None:
    """Close the listening sockets at a stop, so that no connection waits in their backlog."""
    while listening:
        with contextlib.suppress(OSError):  # the application has closed the socket
            os.close(listening.pop())
    with contextlib.suppress(OSError):  # the supervisor is gone
        control.send(Report(ReportEvent.CLOSED, 0).encode())


def _leave_sockets(control: socket.socket, listening: list[int], leave: Leave) -> None:
    """Close some of the listening sockets; workers that are forked later get the others."""
    for descriptor in set(leave.descriptors) & set(listening):
        listening.remove(descriptor)
        with contextlib.suppress(OSError):  # the application has closed the socket
            os.close(descriptor)
    with contextlib.suppress(OSError):  # the supervisor is gone
        control.send(Report(ReportEvent.LEFT, 0).encode())


def _fork(
    control: socket.socket, blueprint: Blueprint, fork: Fork, workers: set[int]
) -> _Place | None:
    """Fork a worker.

    Returns:
        In the worker, what it has got; in the template, None.
    """
    # The thread of this watchdog, which a preloaded application may have started, is not in the worker. As Python ends
    # there, faulthandler would wait for it for ever.
    faulthandler.cancel_dump_traceback_later()
    # Signals wait until the worker has its own handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
    try:
        pid = fork_process()
    except OSError as error:  # too many processes, or too little memory
        say(f"Error: no worker can be forked: {error.strerror}")
        _report_exit(control, 0, EXIT_FAILURE)
        pid = -1
    if pid == 0:
        return _introduce(control, blueprint, fork)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVER_SIGNALS)
    if pid > 0:
        workers.add(pid)
    return None


def _introduce(control: socket.socket, blueprint: Blueprint, fork: Fork) -> _Place:
    """Tell the supervisor that this process is a new worker."""
    # The worker tells it, and not the template: so the supervisor knows also where the template ends.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    prefixes = planned_prefixes(blueprint.app_name, blueprint.settings)
    layout = plan_figures(prefixes, blueprint.settings)
    flights = make_flight_file(layout.size_bytes)
    dumps, dumped_to = os.pipe()
    with theirs, contextlib.suppress(ConnectionError):  # the supervisor is gone: see `_work`
        report = Report(ReportEvent.FORKED, os.getpid(), number=fork.number).encode()
        socket.send_fds(control, [report], [theirs.fileno(), flights, dumps])
    recorder = FlightRecorder(flights)
    figures = FiguresMemory(layout, flights, FIGURES_OFFSET)
    os.close(flights)
    os.close(dumps)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # SIGINT means to break requests off: before the worker serves, and after its drain, there are none.
    signal.signal(signal.SIGINT, empty_handler)
    # faulthandler restores this handler as the interpreter ends. The default action would look like a crash.
    signal.signal(DUMP_SIGNAL, signal.SIG_IGN)
    # At a crash of the interpreter, the log gets the stacks; a stuck worker writes its stacks to the supervisor.
    # The log is named by its descriptor: the application may have closed `sys.stderr` by now.
    faulthandler.enable(file=log_descriptor())
    faulthandler.register(DUMP_SIGNAL, file=dumped_to, all_threads=True)
    enlarge_signal_stack()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVER_SIGNALS)
    return _Place(ours, recorder, figures, dumped_to, fork.max_requests, fork.number)


def _reap(control: socket.socket, workers: set[int], *, loads_by_itself: bool) -> None:
    # Each worker is asked for by its number: other children belong to the application.
    for pid in list(workers):
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # the application has reaped the worker
            ended, status = pid, 0
        if ended:
            workers.discard(pid)
            if loads_by_itself:
                stop_group(pid)  # the processes that the worker has started: see `_work`
            _report_exit(control, pid, os.waitstatus_to_exitcode(status))


def _report_exit(control: socket.socket, pid: int, status: int) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone
        control.send(Report(ReportEvent.EXITED, pid, status).encode())


def _work(
    control: socket.socket,
    blueprint: Blueprint,
    applications: list[Application] | None,
    place: _Place,
) -> None:
    settings = replace(blueprint.settings, bind=tuple(f"fd://{it}" for it in place.listening))
    blueprint = replace(blueprint, settings=settings)
    forget_processes_of_template()
    set_title(settings.title, "worker")
    reopen_log_at_signal(settings)
    keep_to_one_thread(False)
    logger = make_service_logger(settings, {"worker": os.getpid()})
    with (
        ProcessEnd(settings, logger) as end,
        kept_from_copies(lambda: (control, place.channel, place.dumped_to)),
    ):
        become_worker(settings, place.number)
        if applications is None:
            with (
                group_of_its_own(),
                kept_from_copies(lambda: [blueprint.lifeline, *_listening(blueprint)]),
                capturing_logging(settings, logger),
            ):
                applications = load_applications(blueprint.app_name, settings)
            end_group_at_exit(os.getpid())
        else:
            capture_logging(settings, logger)
            with contextlib.suppress(OSError):
                # Processes that are started from now on are the worker's, not the import's.
                os.setpgid(0, 0)
        seconds = end_seconds(applications, settings)

        def ready() -> None:
            report = Report(
                ReportEvent.READY,
                os.getpid(),
                end_seconds=seconds,
                has_schedule=has_schedule(settings),
            )
            try:
                control.send(report.encode())
            except OSError:
                # The supervisor is gone, or has closed this generation before it knew of this worker.
                signal.raise_signal(signal.SIGTERM)

        try:
            run_worker(
                settings,
                WorkerDuty(
                    applications=applications,
                    logger=logger,
                    ready=ready,
                    end=end,
                    lifeline=blueprint.lifeline,
                    companion=WorkerLink(
                        place.channel, place.flights, place.max_requests, place.figures
                    ),
                    keeps_sockets=blueprint.keeps_sockets,
                    is_rehearsal=blueprint.is_rehearsal,
                ),
            )
        finally:
            # A signal's default action would look like a crash, while Python waits for the application's threads.
            _install_empty_handlers()
            reopen_log_at_signal(settings)


if __name__ == "__main__":
    end_interpreter(main(int(sys.argv[1])))
