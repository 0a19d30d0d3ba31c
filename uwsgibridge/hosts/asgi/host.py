"""The ASGI host: calls the application on the worker's event loop (ASGI 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.asgi.exchange import AsgiApplication, AsgiContext, Stop
from uwsgibridge.hosts.asgi.http import HttpExchange
from uwsgibridge.hosts.asgi.http_plan import Places, make_plan
from uwsgibridge.hosts.asgi.websocket import WebSocketExchange
from uwsgibridge.hosts.exchange import answer_instead
from uwsgibridge.hosts.streams import Ending, OpenStreams
from uwsgibridge.hosts.turn import Turn
from uwsgibridge.protocol.handshake import HandshakeRefused, wants_websocket

if TYPE_CHECKING:
    from uwsgibridge.hosts.asgi.lifespan import Lifespan
    from uwsgibridge.hosts.context import HostContext
    from uwsgibridge.hosts.underway import Underway


class AsgiHost:
    """Runs an ASGI application.

    Args:
        app: the application.
        context: what the host gets from its worker.
        lifespan: runs startup and shutdown; has the state for each request.

    Attributes:
        given_up: requests that were ended, and whose tasks go on although they were cancelled. A stop does not
            wait for them.
    """

    runs_on_loop = True

    def __init__(self, app: AsgiApplication, context: HostContext, lifespan: Lifespan) -> None:
        settings = context.settings
        self.label = context.recorders.label
        limit = settings.max_concurrency
        self.admission: Admission[Connection] = Admission(
            limit, limit - limit // 16 - 1, context.wake
        )
        self._flights = context.flights
        self._lifespan = lifespan
        self._loop = context.loop
        self._context = AsgiContext(
            app=app,
            state=lifespan.state,
            loop=context.loop,
            hangups=context.hangups,
            reporter=context.reporter,
            lingering=context.lingering,
            offload=context.offload,
            streams=OpenStreams(),
            recorders=context.recorders,
            recorder=context.recorders.make(),
            release=self._release,
            lose=self._lose,
            settings=settings,
            begin=context.begin,
        )
        self._turn = Turn(settings, context.overload, self._context)
        self.submit: Callable[[Connection], None] = self._submit
        if self._turn.max_queue_seconds:
            self.submit = self._submit_in_time
        self._has_deadline = settings.request_timeout_seconds > 0
        self._websockets: dict[Connection, WebSocketExchange] = {}
        self.given_up: set[Connection] = set()
        places = Places(self.admission, self.given_up, self._websockets, context.flights.free_slots)
        self._context.plan = make_plan(self._context, places)
        self._unfit = context.unfit

    @property
    def capacity(self) -> int:
        """Tell how many tasks may run at once."""
        return self.admission.limit

    @property
    def busy(self) -> int:
        """Tell how many tasks run now."""
        return len(self.admission.in_flight)

    @property
    def websockets(self) -> int:
        """Tell how many WebSockets are open."""
        return len(self._websockets)

    @property
    def borrower(self) -> None:
        """Give None: the loop accepts, which runs the application, too."""

    def queue_seconds(self, now: float) -> float:  # noqa: ARG002 - the interface has it
        """Give 0, because each accepted request runs at once."""
        return 0.0

    def underway(self) -> list[Underway]:
        """List the requests in flight, each with its task; from any thread where there is the GIL, else from the loop's."""
        # Imported here: most workers are never asked for it.
        from uwsgibridge.hosts.asgi.underway import list_underway

        return list_underway(self.admission.in_flight, self.given_up, self._websockets)

    async def start(self, nursery: trio.Nursery) -> None:  # noqa: ARG002 - this host has no tasks of its own there
        """Wait for the application's startup."""
        await self._lifespan.startup()

    def drain(self) -> None:
        """Close the WebSockets with 1012, since they do not end by themselves."""
        self._context.stop = Stop.DRAIN
        for exchange in list(self._websockets.values()):
            exchange.restart()

    def end_streams(self, ending: Ending) -> None:
        """Tell applications by ``http.disconnect`` that their streams end."""
        self._context.streams.end(ending)

    def break_off(self) -> None:
        """Cancel the tasks in flight; requests whose answer has not begun get 503."""
        self._context.stop = Stop.BREAK_OFF
        self._lifespan.expect_end()
        for connection in [*self.admission.in_flight, *self.given_up]:
            connection.task.cancel()
        for exchange in list(self._websockets.values()):
            exchange.break_off()

    async def stop(self) -> None:
        """Wait for the application's shutdown."""
        await self._lifespan.shutdown()

    def _submit_in_time(self, connection: Connection) -> None:
        """Start a task for the request, which ends where the request has waited for too long."""
        variables = connection.request.vars
        if "HTTP_UPGRADE" not in variables or not wants_websocket(variables):
            connection.task = self._loop.spawn(self._run_in_time, connection)
        elif not self._turn.refuses(connection):
            self._submit_websocket(connection)

    async def _run_in_time(self, connection: Connection) -> None:
        if not self._turn.refuses(connection):
            exchange = HttpExchange(self._context, connection)
            if self._has_deadline:
                exchange.begin_deadline()
            await exchange.run()

    def _submit(self, connection: Connection) -> None:
        """Start a task for the request."""
        if "HTTP_UPGRADE" in connection.request.vars and wants_websocket(connection.request.vars):
            self._submit_websocket(connection)
        else:
            exchange = HttpExchange(self._context, connection)
            if self._has_deadline:
                exchange.begin_deadline()
            connection.task = self._loop.spawn(exchange.run)

    def _submit_websocket(self, connection: Connection) -> None:
        try:
            exchange = WebSocketExchange(self._context, connection)
        except HandshakeRefused as error:
            answer = self._context.reporter.refused(connection.request, error)
            answer_instead(self._context, connection, answer)
            return
        self._websockets[connection] = exchange
        connection.task = self._loop.spawn(exchange.run)

    def _lose(self, connection: Connection) -> None:
        self._release(connection)
        self.given_up.add(connection)
        if len(self.given_up) == self.capacity:
            # A lost task costs only memory, but there has to be a limit.
            self._unfit(
                f"{len(self.given_up)} requests go on although their tasks were cancelled", True
            )

    def _release(self, connection: Connection) -> None:
        self.given_up.discard(connection)
        self._websockets.pop(connection, None)
        self._flights.end(connection)
        self.admission.release(connection)
