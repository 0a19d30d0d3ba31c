"""A worker as a process of its own: which event loop runs it, and what signals do to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from uwsgibridge.config.settings import Settings, SettingsError, parse_mount
from uwsgibridge.hosts.loading import load_application
from uwsgibridge.listener.sockets import ListeningSocket, open_sockets
from uwsgibridge.serving import Application, Worker, check_prefixes, describe, single_error
from uwsgibridge.telemetry.logs import Logger, make_logger

if TYPE_CHECKING:
    import outcome

# Names a descriptor in the environment: at its end of file the process stops as at a SIGTERM. Whoever
# started it holds the other end, and the kernel closes that however the starter ends.
LIFELINE_VARIABLE: Final = "UWSGIBRIDGE_LIFELINE_FD"


def run_process(app_name: str | None, settings: Settings, logger: Logger) -> None:
    """Serve in the foreground until SIGTERM or SIGINT, then drain and return.

    A second signal breaks the drain off. Must be called in the main thread.

    Args:
        app_name: the application as ``module:attribute``; may be None where mounts are given.
        settings: everything else.
        logger: where log events go.

    Raises:
        SettingsError: nothing to serve, or a loop that is not installed.
        BindError: an address can't be listened at.
        ApplicationError: an application can't be imported, or its startup failed.
        WorkerUnfit: a thread was lost; the process is to be started again.
    """
    raise_descriptor_limit()
    with open_sockets(
        settings.bind, mode=settings.socket_mode, backlog=settings.backlog
    ) as sockets:
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


def run_worker(
    app_name: str | None,
    settings: Settings,
    *,
    applications: list[Application] | None,
    ready: Callable[[], None],
    lifeline: int,
) -> None:
    """Be one of several workers, on inherited sockets.

    Args:
        app_name: as for `run_process`.
        settings: with ``fd://`` addresses.
        applications: where they were loaded before the fork.
        ready: called when requests are accepted.
        lifeline: a descriptor whose end of file stops the worker.

    Raises:
        As `run_process`.
    """
    logger = make_logger(settings.log_format, settings.log_level).bind(worker=os.getpid())
    if applications is None:
        applications = load_applications(app_name, settings)
    with open_sockets(
        settings.bind, mode=settings.socket_mode, backlog=settings.backlog
    ) as sockets:
        _serve(_Service(applications, settings, logger, sockets, ready, lifeline))


@dataclass(frozen=True, slots=True)
class _Service:
    """What a worker process runs."""

    applications: Sequence[Application]
    settings: Settings
    logger: Logger
    sockets: Sequence[ListeningSocket]
    ready: Callable[[], None]
    lifeline: int | None


def _serve(service: _Service) -> None:
    # What was imported stays: without it, each full collection is quick.
    gc.collect()
    gc.freeze()
    if _needs_asyncio(service.applications, service.settings):
        _run_as_guest(service)
    else:
        worker = Worker(service.applications, service.settings, service.logger, exit_now=_exit_now)
        trio.run(_run_until_signal, worker, service)


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

    async def stop_on_signal(
        scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                if scope.cancel_called:
                    logger.warning("stopping at once", signal=name)
                    worker.hurry()
                else:
                    logger.info("stopping: running requests may end", signal=name)
                    scope.cancel()

    with single_error():
        async with trio.open_nursery() as nursery:
            serving = trio.CancelScope()
            await nursery.start(stop_on_signal, serving)
            if service.lifeline is not None:
                nursery.start_soon(_stop_without_starter, service.lifeline, serving, logger)
            with serving:
                await worker.run(service.sockets, ready=service.ready)
            nursery.cancel_scope.cancel()
    logger.info("stopped")


async def _stop_without_starter(lifeline: int, scope: trio.CancelScope, logger: Logger) -> None:
    await trio.lowlevel.wait_readable(lifeline)
    logger.info("stopping: the process that started this one is gone")
    scope.cancel()


def _exit_now() -> None:
    # Leaving in the ordinary way would wait for the application's threads, which may never end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _needs_asyncio(applications: Sequence[Application], settings: Settings) -> bool:
    return settings.loop != "trio" and any(it.interface == "asgi" for it in applications)


def _run_as_guest(service: _Service) -> None:
    """Run asyncio or uvloop in this thread, with trio as its guest."""
    factory, has_wakeup_descriptor = _choose_loop(service.settings.loop)
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        worker = Worker(
            service.applications,
            service.settings,
            service.logger,
            asyncio_loop=loop,
            exit_now=_exit_now,
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


def raise_descriptor_limit() -> None:
    """Raise the soft limit on open files to the hard one."""
    # The soft limit (1,024 on many systems) is a courtesy to select(2), which nobody here uses.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1_048_576
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
