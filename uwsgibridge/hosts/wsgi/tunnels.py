"""The WebSockets of a WSGI host, with a thread for each, and a limit of their own.

A WebSocket would keep a thread of the pool for hours. Each WebSocket also adds a place to the table of requests in
flight, so that open WebSockets keep no request waiting.
"""

from __future__ import annotations

import contextvars
import threading
from dataclasses import replace

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.exchange import answer_instead
from uwsgibridge.hosts.wsgi.context import ExchangeContext
from uwsgibridge.hosts.wsgi.refusals import OPTION, NoThread, TooManyWebSockets
from uwsgibridge.hosts.wsgi.thread import ApplicationThread
from uwsgibridge.hosts.wsgi.websocket import WsgiWebSocket
from uwsgibridge.protocol.errors import ProtocolError


class WsgiTunnels:
    """The open WebSockets of one host.

    Args:
        context: shared by the requests of the host.
        most: how many WebSockets may be open at a time.
        admission: the host's.
    """

    def __init__(
        self, context: ExchangeContext, most: int, admission: Admission[Connection]
    ) -> None:
        self._release_request = context.release
        self._context = replace(context, release=self._release)
        self._most = most
        self._admission = admission
        self._open: dict[Connection, WsgiWebSocket] = {}
        self._threads: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()  # guards the number of places, which several threads change
        self._count = 0
        self._is_draining = False

    @property
    def threads(self) -> dict[Connection, threading.Thread]:
        """Give the thread of each open WebSocket."""
        return dict(self._threads)

    @property
    def connections(self) -> list[Connection]:
        """List the connections of the open WebSockets."""
        return list(self._open)

    def submit(self, connection: Connection) -> None:
        """Run the application for a handshake, in a thread of its own."""
        if len(self._open) >= self._most:
            count = len(self._open)
            text = f"there are {count} WebSockets of this WSGI application, and no more may be ({OPTION})"
            self._refuse(connection, TooManyWebSockets(text, option=OPTION))
            return
        exchange = WsgiWebSocket(self._context, connection)
        with self._lock:
            self._open[connection] = exchange
            self._admission.limit += 1
            self._admission.resume_at += 1
        self._count += 1
        if self._is_draining:
            exchange.restart()
        # A new and empty context, as each request has.
        run = contextvars.Context().run
        name = f"wsgi-websocket-{self._count}"
        thread = ApplicationThread(target=run, args=(exchange.run,), name=name)
        self._threads[connection] = thread
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            text = f"the system gives no thread for a WebSocket of this WSGI application: {error}"
            self._refuse(connection, NoThread(text))

    def drain(self) -> None:
        """Close the WebSockets with 1012, including those that begin later."""
        self._is_draining = True
        for exchange in list(self._open.values()):
            exchange.restart()

    def cut(self) -> None:
        """End the connections of WebSockets that are still open."""
        for exchange in list(self._open.values()):
            exchange.cut()

    def _refuse(self, connection: Connection, error: ProtocolError) -> None:
        context = self._context
        answer_instead(context, connection, context.reporter.refused(connection.request, error))

    def _release(self, connection: Connection) -> None:
        self._threads.pop(connection, None)
        with self._lock:
            if self._open.pop(connection, None) is not None:
                self._admission.limit -= 1
                self._admission.resume_at -= 1
        self._release_request(connection)
