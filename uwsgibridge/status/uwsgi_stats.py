"""The server of ``--uwsgi-stats``: whoever connects gets the statistics as JSON, as uWSGI's stats server gives them."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from typing import Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.figures.uwsgi_statistics import uwsgi_statistics
from uwsgibridge.status.sources import Sources
from uwsgibridge.telemetry.logs import Logger

# What uWSGI sends (uwsgi_send_http_stats), without its Access-Control-Allow-Origin: with that, each page that is open in
# the browser of somebody who reaches the address could read the statistics.
_HTTP_HEAD: Final = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n"
)

_MAX_HTTP_REQUEST_BYTES: Final = 65_536


class UwsgiStatsServer:
    """Gives the statistics at a listening socket.

    Args:
        sources: of the figures.
        settings: ``uwsgi_stats_http``, ``status_connections`` and the limits of time count.
        logger: where a failure is logged.
    """

    def __init__(self, sources: Sources, settings: Settings, logger: Logger) -> None:
        self._sources = sources
        self._is_http = settings.uwsgi_stats_http
        self._most = settings.status_connections
        self._request_seconds = settings.packet_timeout_seconds
        self._write_seconds = settings.write_timeout_seconds
        self._log = logger
        self._connections = 0

    async def serve(self, listening: ListeningSocket) -> None:
        """Answer at a socket until cancelled; the socket stays open."""
        _accept_at_once(listening)
        with trio.socket.from_stdlib_socket(listening.socket.dup()) as copy:
            await trio.serve_listeners(self._serve_connection, [trio.SocketListener(copy)])

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.TooSlowError, trio.BrokenResourceError):
            self._connections += 1
            try:
                if self._connections <= self._most:
                    await self._answer(stream)
            finally:
                self._connections -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        head = b""
        if self._is_http:
            with trio.fail_after(self._request_seconds):
                await _receive_request(stream)
            head = _HTTP_HEAD
        try:
            statistics = uwsgi_statistics(await self._sources.snapshot())
        except Exception:  # noqa: BLE001 - a fault in the statistics must not end the service
            self._log.exception("status page failed", path="--uwsgi-stats")
            return
        with trio.fail_after(self._write_seconds):
            await stream.send_all(head + json.dumps(statistics, allow_nan=False).encode() + b"\n")
            await stream.send_eof()


def _accept_at_once(listening: ListeningSocket) -> None:
    """Have the kernel not wait for bytes of a client, which sends none here (TCP_DEFER_ACCEPT, tcp(7))."""
    if sys.platform == "linux" and not listening.is_unix:
        with contextlib.suppress(OSError):
            listening.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)


async def _receive_request(stream: trio.SocketStream) -> None:
    """Read an HTTP request up to the end of its head, which may ask for whatever it likes."""
    received = bytearray()
    while b"\r\n\r\n" not in received and len(received) < _MAX_HTTP_REQUEST_BYTES:
        piece = await stream.receive_some(_MAX_HTTP_REQUEST_BYTES)
        if not piece:
            return
        received += piece
