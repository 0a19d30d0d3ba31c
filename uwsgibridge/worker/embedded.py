"""Serves inside the trio loop of another program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from uwsgibridge.application.application import Application, check_prefixes, describe
from uwsgibridge.config.mounts import parse_prefix
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.errors import single_error
from uwsgibridge.status.sockets import PublishedSockets, open_published
from uwsgibridge.telemetry.announcement import warn_of_open_addresses
from uwsgibridge.telemetry.logs import Logger, make_logger
from uwsgibridge.worker.worker import Worker

if TYPE_CHECKING:
    TaskStatus = trio.TaskStatus[list[str]]


async def serve(
    app: Callable[..., Any],
    *,
    bind: Sequence[str] | None = None,
    mounts: Mapping[str, Callable[..., Any]] | None = None,
    settings: Settings | None = None,
    logger: Logger | None = None,
    task_status: TaskStatus = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve an application to ``uwsgi_pass``, inside a trio program.

    Cancel it to stop: running requests then have ``settings.graceful_timeout_seconds`` to end. An
    ASGI application runs as trio tasks; one that needs asyncio is served by the command line.

    Args:
        app: a WSGI or ASGI application. The callable itself tells its interface, or
            ``settings.interface`` does.
        bind: addresses to listen at, as on the command line; ``settings.bind`` by default.
        mounts: further applications by path prefix, such as ``{"/admin": admin_app}``.
        settings: everything else.
        logger: where log events go; JSON on standard error (text on a terminal) by default.
        task_status: `trio.Nursery.start` gets the list of bound addresses, real ports included,
            once the application has started.

    Raises:
        BindError: an address can't be listened at.
        ApplicationError: the ASGI application's startup failed.
        SettingsError: an address or a prefix is not valid.
        WorkerUnfit: a WSGI request took longer than ``settings.request_timeout_seconds``, and its
            thread does not come back; or something has closed a listening socket.
    """
    settings = dataclasses.replace(settings or Settings(), workers=0)
    if bind is not None:
        settings = dataclasses.replace(settings, bind=tuple(bind))
    prefixed = [("/", app), *(mounts or {}).items()]
    applications = [
        describe(it, settings.interface, prefix=parse_prefix(prefix)) for prefix, it in prefixed
    ]
    check_prefixes(applications)
    logger = logger or make_logger()
    worker = Worker(applications, settings, logger)
    with (
        open_sockets(settings.bind, mode=settings.socket_mode, backlog=settings.backlog) as sockets,
        open_published(settings, logger) as published,
    ):
        addresses = [str(listening.address) for listening in sockets]
        is_ready = trio.Event()

        def ready() -> None:
            warn_of_open_addresses(settings, logger, sockets)
            for address in addresses:
                logger.info("listening", address=address)
            is_ready.set()
            task_status.started(addresses)

        if not settings.publishes_figures:
            await worker.run(sockets, ready=ready)
        else:
            await _run_with_figures(
                worker, applications, settings, logger, sockets, published, is_ready, ready
            )
    raise AssertionError("unreachable: a worker runs until it is cancelled")


async def _run_with_figures(
    worker: Worker,
    applications: Sequence[Application],
    settings: Settings,
    logger: Logger,
    sockets: Sequence[ListeningSocket],
    published: PublishedSockets,
    is_ready: trio.Event,
    ready: Callable[[], None],
) -> None:
    # Imported here, since not all services publish figures.
    from uwsgibridge.status.metrics_file import require_writable
    from uwsgibridge.status.publishing import Publishing
    from uwsgibridge.worker.figures import WorkerFigures

    if settings.metrics_file:
        require_writable(settings)
    # No event tells of the stop: the cancellation ends both.
    figures = WorkerFigures(
        [it.prefix for it in applications],
        settings,
        sockets,
        worker.figures,
        worker.counters.memory,
        is_ready,
        trio.Event(),
    )
    publishing = Publishing(settings, figures.sources, published, logger)
    try:
        with single_error():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publishing.run)
                await worker.run(sockets, ready=ready)
    finally:
        publishing.end()
