"""A worker as a process of its own: which event loop runs it, and what signals do to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from uwsgibridge.config.settings import Settings, SettingsError, parse_mount
from uwsgibridge.error_groups import single_error
from uwsgibridge.hosts.loading import load_application, load_hook
from uwsgibridge.listener.sockets import ListeningSocket, open_sockets
from uwsgibridge.serving import (
    Application,
    Companion,
    Worker,
    check_prefixes,
    describe,
)
from uwsgibridge.telemetry.log_file import LogFileError, open_log_file
from uwsgibridge.telemetry.logs import Logger, make_logger

if TYPE_CHECKING:
    import outcome

# Names a descriptor in the environment: at its end of file the process stops as at a SIGTERM. Whoever
# started it holds the other end, and the kernel closes that however the starter ends.
LIFELINE_VARIABLE: Final = "UWSGIBRIDGE_LIFELINE_FD"


def run_process(
    app_name: str | None,
    settings: Settings,
    logger: Logger,
    *,
    bound: Callable[[Sequence[ListeningSocket]], None],
) -> None:
    """Serve in the foreground until SIGTERM, SIGINT or SIGHUP, then drain and return.

    A second signal breaks the drain off. SIGQUIT logs the stacks. Must be called in the main thread.

    Args:
        app_name: the application as ``module:attribute``; may be None where mounts are given.
        settings: everything else.
        logger: where log events go.
        bound: called with the sockets before anything of the application is.

    Raises:
        SettingsError: nothing to serve, or a loop that is not installed.
        BindError: an address can't be listened at.
        ApplicationError: an application can't be imported, or its startup failed.
        WorkerUnfit: a thread was lost; the process is to be started again.
    """
    with open_sockets(
        settings.bind, mode=settings.socket_mode, backlog=settings.backlog
    ) as sockets:
        bound(sockets)
        reopen_log_at_signal(settings)
        applications = load_applications(app_name, settings)
        lifeline = os.environ.get(LIFELINE_VARIABLE, "")

        def ready() -> None:
            for listening in sockets:
                logger.info("listening", address=str(listening.address))

        _serve(
            _Service(
                applications,
                settings,
                logger,
                sockets,
                ready,
                int(lifeline) if lifeline.isdecimal() else None,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDuty:
    """What the supervisor wants of a worker.

    Attributes:
        applications: what it serves.
        ready: called when requests are accepted.
        lifeline: a descriptor whose end of file stops the worker.
        companion: what accompanies it.
    """

    applications: Sequence[Application]
    ready: Callable[[], None]
    lifeline: int
    companion: Companion


def run_worker(settings: Settings, duty: WorkerDuty) -> None:
    """Be one of several workers, on inherited sockets.

    Args:
        settings: with ``fd://`` addresses.
        duty: the rest.

    Raises:
        As `run_process`.
    """
    logger = make_logger(settings.log_format, settings.log_level).bind(worker=os.getpid())
    with open_sockets(
        settings.bind, mode=settings.socket_mode, backlog=settings.backlog
    ) as sockets:
        service = _Service(
            duty.applications, settings, logger, sockets, duty.ready, duty.lifeline, duty.companion
        )
        _serve(service)


@dataclass(frozen=True, slots=True)
class _Service:
    """What a worker process runs."""

    applications: Sequence[Application]
    settings: Settings
    logger: Logger
    sockets: Sequence[ListeningSocket]
    ready: Callable[[], None]
    lifeline: int | None
    companion: Companion | None = None


def _serve(service: _Service) -> None:
    settings = service.settings
    on_fork, on_exit = (
        load_hook(name, app_dir=settings.app_dir)
        for name in (settings.on_fork, settings.on_worker_exit)
    )
    on_fork()

    def exit_now() -> None:
        try:
            on_exit()
        finally:
            _exit_now()

    # What was imported stays: without it, each full collection is quick.
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
            trio.run(_run_until_signal, worker, service)
    finally:
        on_exit()


def reopen_log_at_signal(settings: Settings) -> None:
    """Open the log file anew at SIGUSR1, or ignore that signal where there is none."""
    path = Path(settings.log_file).absolute()

    def reopen(_number: int, _frame: object) -> None:
        try:
            open_log_file(path)
        except LogFileError as error:
            # Standard error still is the old file, which is better than none.
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - no logger is at hand

    signal.signal(signal.SIGUSR1, reopen if settings.log_file else signal.SIG_IGN)


def load_applications(app_name: str | None, settings: Settings) -> list[Application]:
    """Import the application and those that are mounted beside it.

    Raises:
        SettingsError: there is none, or two have the same prefix.
        ApplicationError: one can't be imported.
    """
    names = [("", app_name)] if app_name else []
    names += [parse_mount(mount) for mount in settings.mount]
    if not names:
        raise SettingsError("name an application to serve: uwsgibridge serve module:attribute")
    applications = [
        describe(
            load_application(name, app_dir=settings.app_dir, factory=settings.factory),
            settings.interface,
            name=name,
            prefix=prefix,
        )
        for prefix, name in names
    ]
    check_prefixes(applications)
    return applications


async def _run_until_signal(worker: Worker, service: _Service) -> None:
    logger = service.logger
    handled = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    if service.companion is None:
        handled.append(signal.SIGQUIT)  # a supervisor asks its workers itself
    serving = trio.CancelScope()

    def is_in_a_hurry(number: int) -> bool:
        if service.companion is None:
            return serving.cancel_called
        # A second SIGTERM may be systemd's, which tells all processes beside what the supervisor says.
        return number == signal.SIGINT

    async def stop_on_signal(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*handled) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                if number == signal.SIGQUIT:
                    logger.info("stacks", stack=worker.stacks())
                elif number == signal.SIGHUP and service.companion is not None:
                    pass  # a terminal's, sent to all: the supervisor reloads, or ends
                elif is_in_a_hurry(number):
                    logger.warning("stopping at once", signal=name)
                    worker.hurry()
                    serving.cancel()
                elif not serving.cancel_called:
                    logger.info("stopping: running requests may end", signal=name)
                    serving.cancel()

    with single_error():
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal)
            if service.lifeline is not None:
                nursery.start_soon(_stop_without_starter, worker, service, serving)
            with serving:
                await worker.run(service.sockets, ready=service.ready)
            nursery.cancel_scope.cancel()
    logger.info("stopped")


async def _stop_without_starter(worker: Worker, service: _Service, scope: trio.CancelScope) -> None:
    assert service.lifeline is not None
    await trio.lowlevel.wait_readable(service.lifeline)
    service.logger.info("stopping: the process that started this one is gone")
    worker.is_last = True  # whoever shares the listening sockets stops as well
    scope.cancel()


def _exit_now() -> None:
    # Leaving in the ordinary way would wait for the application's threads, which may never end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _needs_asyncio(applications: Sequence[Application], settings: Settings) -> bool:
    return settings.loop != "trio" and any(it.interface == "asgi" for it in applications)


def _run_as_guest(service: _Service, exit_now: Callable[[], None]) -> None:
    """Run asyncio or uvloop in this thread, with trio as its guest."""
    factory, has_wakeup_descriptor = _choose_loop(service.settings.loop)
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        worker = Worker(
            service.applications,
            service.settings,
            service.logger,
            asyncio_loop=loop,
            companion=service.companion,
            exit_now=exit_now,
        )

        async def host() -> None:
            done: asyncio.Future[outcome.Outcome[None]] = loop.create_future()
            trio.lowlevel.start_guest_run(
                _run_until_signal,
                worker,
                service,
                run_sync_soon_threadsafe=loop.call_soon_threadsafe,
                run_sync_soon_not_threadsafe=loop.call_soon,
                done_callback=done.set_result,
                host_uses_signal_set_wakeup_fd=has_wakeup_descriptor,
            )
            (await done).unwrap()

        # Runner.run() would take SIGINT for itself; the guest has it.
        with _without_sigint_handling():
            runner.run(host())


@contextlib.contextmanager
def _without_sigint_handling() -> Any:
    # asyncio.Runner installs a handler only where the default one is in place (CPython, runners.py).
    previous = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _choose_loop(name: str) -> tuple[Any, bool]:
    """Give the loop's factory, and whether it sets the wake-up descriptor for signals itself."""
    if name in {"auto", "uvloop"}:
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise SettingsError(
                    "--loop uvloop: it is not installed; pip install 'uwsgibridge[uvloop]'"
                ) from None
        else:
            return uvloop.new_event_loop, True
    return asyncio.new_event_loop, False
