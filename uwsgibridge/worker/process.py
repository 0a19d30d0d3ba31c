"""Runs a worker as a process: chooses its event loop, and handles its signals."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Final

import trio

from uwsgibridge.application.application import Application
from uwsgibridge.application.forked_child import exit_if_copy, kept_from_copies
from uwsgibridge.application.loading import load_applications, load_hook
from uwsgibridge.config.rooting import rooted
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.failed_start import removing_files_unless_started
from uwsgibridge.connection.socket_files import socket_files
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.errors import single_error
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.status.sockets import PublishedSockets, open_published
from uwsgibridge.system.interpreter import gil_was_brought_back
from uwsgibridge.system.privileges import resolve_user
from uwsgibridge.telemetry.announcement import announce
from uwsgibridge.telemetry.capturing import capturing_logging
from uwsgibridge.telemetry.failure import show_failure
from uwsgibridge.telemetry.log_file import reopen_log_at_signal
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.reporting import application_traceback
from uwsgibridge.telemetry.starter import forget_starter
from uwsgibridge.worker.kinds import import_in_advance
from uwsgibridge.worker.process_end import ProcessEnd, status_after
from uwsgibridge.worker.switch_interval import shorten_switch_interval
from uwsgibridge.worker.unheard_signals import UnheardSignals
from uwsgibridge.worker.uwsgi_hooks import call_atexit, call_post_fork_hook
from uwsgibridge.worker.worker import Companion, Worker

if TYPE_CHECKING:
    from uwsgibridge.status.publishing import Publishing

# A variable of the environment that has the number of a descriptor. At its end of file the process stops as at
# SIGTERM. The starter of the process holds the other end, which the kernel closes however the starter ends.
LIFELINE_VARIABLE: Final = "UWSGIBRIDGE_LIFELINE_FD"

_STOP_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

# When to look once more, after the startup, for signal handlers that the application has set.
_SHARING_SECONDS: Final = 1.0

# How long a worker waits for the signal that follows the supervisor's word. An application may have taken that signal.
_SIGNAL_SECONDS: Final = 1.0


def run_process(
    app_name: str | None,
    settings: Settings,
    logger: Logger,
    *,
    after_bind: Callable[[], None],
) -> None:
    """Serve in the foreground until SIGTERM, SIGINT or SIGHUP, then drain and return.

    A second signal breaks the drain off. SIGQUIT logs the stacks. Must be called in the main thread.

    Args:
        app_name: the application as ``module:attribute``; may be None where mounts are given.
        settings: everything else.
        logger: where log events go.
        after_bind: called when the sockets are open, before the application is imported.

    Raises:
        SettingsError: no application is named, or the loop is not installed.
        BindError: an address can't be listened at.
        ApplicationError: an application can't be imported, or its startup failed.
        StartCommandFailed: a command of ``--on-start`` has failed.
        WorkerUnfit: a thread or a listening socket was lost; the process is to be started again.
    """
    with (
        ProcessEnd(settings, logger) as end,
        open_sockets(
            settings.bind, mode=socket_files(settings), backlog=settings.backlog
        ) as sockets,
        open_published(settings, logger) as published,
        removing_files_unless_started(
            [*sockets, *published.all], resolve_user(settings.user, settings.group)
        ) as started,
        contextlib.ExitStack() as stack,
    ):
        if settings.user or settings.group:
            import_in_advance(settings, None)
        if settings.prometheus_multiproc_dir:
            from uwsgibridge.multiproc.directory import hold_directory  # few have one

            user = resolve_user(settings.user, settings.group)
            stack.enter_context(hold_directory(settings.prometheus_multiproc_dir, user))
        if settings.speaks_tls:
            from uwsgibridge.connection.tls import TlsFiles, prepare_context  # few have any

            prepare_context(settings, TlsFiles.read(settings))
        after_bind()
        reopen_log_at_signal(settings)
        if settings.metrics_file:
            from uwsgibridge.status.metrics_file import require_writable  # few have any

            require_writable(settings)
        if settings.on_start or settings.on_ready:
            # Imported here, since few services have such commands.
            from uwsgibridge.commands.actions import run_at_start_alone
            from uwsgibridge.commands.finding import require_programs

            require_programs(settings)
            if not run_at_start_alone(settings, logger):
                logger.info("stopped")
                return
        given, settings = settings, rooted(settings)
        with capturing_logging(settings, logger):
            applications = load_applications(app_name, settings)
        lifeline = os.environ.get(LIFELINE_VARIABLE, "")

        def ready() -> None:
            started()
            forget_starter()
            announce(app_name, replace(settings, app_dir=given.app_dir), logger, sockets)
            for listening in sockets:
                logger.info("listening", address=str(listening.address))

        _serve(
            _Service(
                applications,
                settings,
                logger,
                sockets,
                ready,
                end,
                int(lifeline) if lifeline.isdecimal() else None,
                published=published,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkerDuty:
    """Tells a worker what it has to do for its supervisor.

    Attributes:
        applications: the applications to serve.
        logger: where log events go.
        ready: called when requests are accepted.
        end: sees to the end of the process.
        lifeline: a descriptor whose end of file stops the worker.
        companion: the worker's end of the link to the supervisor.
        keeps_sockets: whether the listening sockets outlive the supervisor, because somebody else has them.
        is_rehearsal: whether the worker accepts nothing.
    """

    applications: Sequence[Application]
    logger: Logger
    ready: Callable[[], None]
    end: ProcessEnd
    lifeline: int
    companion: Companion
    keeps_sockets: bool
    is_rehearsal: bool


def run_worker(settings: Settings, duty: WorkerDuty) -> None:
    """Run one of several workers, on inherited sockets.

    Args:
        settings: with ``fd://`` addresses.
        duty: what the worker has to do.

    Raises:
        As `run_process`.
    """
    with open_sockets(
        settings.bind, mode=settings.socket_mode, backlog=settings.backlog
    ) as sockets:
        _serve(
            _Service(
                duty.applications,
                settings,
                duty.logger,
                () if duty.is_rehearsal else sockets,
                duty.ready,
                duty.end,
                duty.lifeline,
                duty.companion,
                duty.keeps_sockets,
            )
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Service:
    """Everything that a worker process runs with."""

    applications: Sequence[Application]
    settings: Settings
    logger: Logger
    sockets: Sequence[ListeningSocket]
    ready: Callable[[], None]
    end: ProcessEnd
    lifeline: int | None
    companion: Companion | None = None
    keeps_sockets: bool = False
    # Without a supervisor alone: where the figures of this process are to be had.
    published: PublishedSockets = field(default_factory=PublishedSockets)


def end_seconds(applications: Sequence[Application], settings: Settings) -> float:
    """Tell how long a worker's end may take: for its requests, then for one lifespan shutdown after another, and for spans."""
    return _end_seconds(sum(it.interface == "asgi" for it in applications), settings)


def most_end_seconds(settings: Settings) -> float:
    """Tell how long a worker's end may take at the most, for who does not know its applications."""
    return _end_seconds(1 + len(settings.mount), settings)


def _end_seconds(lifespans: int, settings: Settings) -> float:
    shutdown_seconds = (
        lifespans * settings.lifespan_timeout_seconds if settings.lifespan != "off" else 0.0
    )
    spans_seconds = settings.otel_flush_seconds if settings.otel else 0.0
    return settings.graceful_timeout_seconds + shutdown_seconds + spans_seconds


def _serve(service: _Service) -> None:
    with kept_from_copies(lambda: [it.socket for it in (*service.sockets, *service.published.all)]):
        _serve_between_hooks(service)


def _serve_between_hooks(service: _Service) -> None:
    settings = service.settings
    on_fork, on_worker_exit = (
        load_hook(name, app_dir=settings.app_dir, python_path=settings.python_path)
        for name in (settings.on_fork, settings.on_worker_exit)
    )

    def on_exit() -> None:
        call_atexit(settings, service.logger)
        on_worker_exit()

    on_fork()
    call_post_fork_hook(settings, service.logger)
    exit_if_copy()
    reopen_log_at_signal(settings)  # again: the application may have taken the signal
    if gil_was_brought_back():
        service.logger.warning(
            "an extension module has brought the GIL back: threads do not run at the same time",
            hint="Python's own warning names the module; with PYTHON_GIL=0, Python runs it without the GIL all the same",
        )
    if any(it.interface == "wsgi" for it in service.applications):
        shorten_switch_interval(settings.switch_interval_seconds)

    def exit_now() -> None:
        status = status_after(sys.exception())  # of the error that ends the worker
        with show_failure() as outcome:
            on_exit()
        service.end.now(outcome.status or status)

    # Imported objects are never garbage. Full collections are quick when they leave these out.
    gc.collect()
    gc.freeze()
    try:
        if _needs_asyncio(service.applications, settings):
            _run_as_guest(service, exit_now)
        else:
            worker = Worker(
                service.applications,
                settings,
                service.logger,
                companion=service.companion,
                exit_now=exit_now,
            )
            try:
                trio.run(_run_until_signal, worker, service, "trio")
            finally:
                if worker.has_unended_requests:
                    exit_now()
    finally:
        on_exit()


async def _run_until_signal(worker: Worker, service: _Service, loop_name: str) -> None:
    logger = service.logger
    handled = {*_STOP_SIGNALS}
    if service.companion is None:
        # With a supervisor, that takes SIGQUIT, and asks its workers for their stacks.
        handled.add(signal.SIGQUIT)
    serving = trio.CancelScope()
    stopping = trio.Event()
    is_ready = trio.Event()

    drain_seconds = end_seconds(service.applications, service.settings)
    unheard = UnheardSignals(
        service.end, logger, drain_seconds=drain_seconds, hurries=service.companion is None
    )

    def is_in_a_hurry(number: int) -> bool:
        if service.companion is None:
            return serving.cancel_called
        # systemd sends SIGTERM to all processes, so a worker may get it from systemd and from its supervisor.
        return number == signal.SIGINT

    def drain(**why: str) -> None:
        logger.info("stopping: running requests may end", **why)
        service.end.begin(drain_seconds)
        serving.cancel()

    async def stop_on_signal(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*handled) as signals:
            if any(it.interface == "asgi" for it in service.applications):
                unheard.watch(set(handled) & _STOP_SIGNALS)
            task_status.started()
            async for number in signals:
                unheard.hear()
                name = signal.Signals(number).name
                if number == signal.SIGQUIT:
                    logger.info("stacks", stack=worker.stacks())
                    continue
                if number == signal.SIGHUP and service.companion is not None:
                    continue  # a terminal sends SIGHUP to all processes: the supervisor reloads
                stopping.set()
                if is_in_a_hurry(number):
                    logger.warning("stopping at once", signal=name)
                    service.end.begin(drain_seconds)
                    service.end.hurry()
                    worker.hurry()
                    serving.cancel()
                elif not serving.cancel_called:
                    drain(signal=name)

    async def stop_without_signal() -> None:
        """Drain where the signal that follows the supervisor's word does not arrive."""
        await worker.drain_wanted.wait()
        with trio.move_on_after(_SIGNAL_SECONDS):
            await stopping.wait()
        if not stopping.is_set():
            stopping.set()
            drain(reason="no SIGTERM has come: the application may have taken it")

    async def share_later() -> None:
        """Share signals with tasks as well that the application has started in its startup."""
        await trio.sleep(_SHARING_SECONDS)
        unheard.share()

    def ready() -> None:
        logger.info(
            "worker started",
            pid=os.getpid(),
            apps=[_name_application(it) for it in service.applications],
            loop=loop_name,
        )
        unheard.share()
        nursery.start_soon(share_later)
        service.ready()
        is_ready.set()
        if service.settings.on_ready and service.companion is None:  # else the supervisor does it
            # Imported here, since few services have such commands.
            from uwsgibridge.commands.actions import run_when_ready

            nursery.start_soon(run_when_ready, service.settings, logger, stopping.wait)

    with single_error():
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal)
            if service.companion is not None:
                nursery.start_soon(stop_without_signal)
            if service.lifeline is not None:
                nursery.start_soon(_stop_without_starter, worker, service, serving)
            publishing = _make_publishing(worker, service, is_ready, stopping)
            if publishing is not None:
                nursery.start_soon(publishing.run)
            with service.end, serving:
                await worker.run(service.sockets, ready=ready)
            nursery.cancel_scope.cancel()
    if publishing is not None:
        publishing.end()
    logger.info("stopped")


def _make_publishing(
    worker: Worker, service: _Service, is_ready: trio.Event, stopping: trio.Event
) -> Publishing | None:
    """Make what publishes the figures of a process without a supervisor, where an option asks for it."""
    if service.companion is not None or not service.settings.publishes_figures:
        return None
    # Imported here, since not all services publish figures.
    from uwsgibridge.status.publishing import Publishing
    from uwsgibridge.worker.figures import WorkerFigures

    figures = WorkerFigures(
        [it.prefix for it in service.applications],
        service.settings,
        service.sockets,
        worker.figures,
        worker.counters.memory,
        is_ready,
        stopping,
    )
    return Publishing(service.settings, figures.sources, service.published, service.logger)


def _name_application(application: Application) -> str:
    place = f" at {application.prefix}" if application.prefix else ""
    return f"{application.name} ({application.interface}){place}"


async def _stop_without_starter(worker: Worker, service: _Service, scope: trio.CancelScope) -> None:
    assert service.lifeline is not None
    await trio.lowlevel.wait_readable(service.lifeline)
    service.logger.info("stopping: the process that started this one is gone")
    service.end.begin(end_seconds(service.applications, service.settings))
    # All processes that share the listening sockets stop as well.
    worker.set_stop_kind(is_last=not service.keeps_sockets)
    scope.cancel()


def _needs_asyncio(applications: Sequence[Application], settings: Settings) -> bool:
    return settings.loop != "trio" and any(it.interface == "asgi" for it in applications)


def _run_as_guest(service: _Service, exit_now: Callable[[], None]) -> None:
    """Run asyncio or uvloop in this thread, with trio as its guest."""
    # Imported here: a worker of WSGI applications alone does without them.
    import asyncio

    from uwsgibridge.loop.asyncio_loop import AsyncioLoop
    from uwsgibridge.loop.choosing import choose_loop, without_sigint_handling

    def warn(reason: str) -> None:
        service.logger.warning(
            "uvloop is installed and can't be imported: asyncio is used",
            reason=reason,
            option="--loop",
        )

    factory, has_wakeup_descriptor = choose_loop(service.settings.loop, warn)
    with _closing_without_thread(), asyncio.Runner(loop_factory=factory) as runner:
        host_loop = runner.get_loop()
        loop = AsyncioLoop(host_loop)
        worker = Worker(
            service.applications,
            service.settings,
            service.logger,
            host_loop=loop,
            companion=service.companion,
        )

        def ended_early(error: BaseException) -> None:
            service.logger.error(
                "the application has ended the event loop, and so this worker",
                traceback=application_traceback(error),
            )
            worker.break_off()

        try:
            with without_sigint_handling():
                loop.run_guest(
                    _run_until_signal,
                    worker,
                    service,
                    type(host_loop).__module__.partition(".")[0],
                    has_wakeup_descriptor=has_wakeup_descriptor,
                    ended_early=ended_early,
                )
        finally:
            # Only here, outside of the turns of both loops: the hook may run a loop of its own.
            if worker.has_unended_requests:
                exit_now()


@contextlib.contextmanager
def _closing_without_thread() -> Iterator[None]:
    """Close a loop that needs a thread to wait for its executor, also where no thread can be started.

    `Runner.close` closes the loop all the same, and Python waits for the executor's threads (`ProcessEnd`).
    """
    try:
        yield
    except RuntimeError as error:
        # CPython raises a plain RuntimeError for that (thread_PyThread_start_new_thread).
        if str(error) != "can't start new thread":
            raise
