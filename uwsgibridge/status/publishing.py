"""Runs each way of publishing figures that the options ask for."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.status.metrics_file import MetricsFile
from uwsgibridge.status.pages import machine_pages
from uwsgibridge.status.routes import Handler, Routes
from uwsgibridge.status.server import StatusServer
from uwsgibridge.status.sockets import PublishedSockets
from uwsgibridge.status.sources import Sources
from uwsgibridge.status.statsd import StatsdSender
from uwsgibridge.status.uwsgi_stats import UwsgiStatsServer
from uwsgibridge.telemetry.logs import Logger


class Publishing:
    """Publishes the figures of one service.

    Args:
        settings: of the service; those of the section Figures count.
        sources: of the figures.
        sockets: at which they are to be had.
        logger: where log events go.
        pages: further pages of the status application, by path.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sources,
        sockets: PublishedSockets,
        logger: Logger,
        pages: Mapping[str, Handler] | None = None,
    ) -> None:
        self._sockets = sockets
        self._log = logger
        routes = Routes({**machine_pages(sources, settings.metrics_names), **(pages or {})})
        self._status = StatusServer(routes, settings, logger)
        self._statistics = UwsgiStatsServer(sources, settings, logger)
        self._file = MetricsFile(sources, settings, logger) if settings.metrics_file else None
        self._statsd = StatsdSender(sources, settings, logger) if settings.statsd_host else None

    async def run(self) -> None:
        """Publish until cancelled."""
        async with trio.open_nursery() as nursery:
            for option, server in (
                ("status_bind", self._status),
                ("uwsgi_stats", self._statistics),
            ):
                for listening in self._sockets.of(option):
                    nursery.start_soon(self._serve, server, listening)
                    self._log.info(
                        "figures are published",
                        at=str(listening.address),
                        option="--" + option.replace("_", "-"),
                    )
            if self._file is not None:
                nursery.start_soon(self._file.run)
            if self._statsd is not None:
                nursery.start_soon(self._statsd.run)

    async def _serve(
        self, server: StatusServer | UwsgiStatsServer, listening: ListeningSocket
    ) -> None:
        try:
            await server.serve(listening)
        except OSError as error:  # somebody has shut the socket down; the service itself goes on
            self._log.error(
                "figures are not published any more",
                at=str(listening.address),
                reason=error.strerror or str(error),
            )

    def end(self) -> None:
        """Take away what would be mistaken for figures of a service that runs; for a stop, not for an upgrade."""
        if self._file is not None:
            self._file.remove()
