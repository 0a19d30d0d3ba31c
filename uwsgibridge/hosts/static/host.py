"""The host of ``--static``: gets the requests whose paths may name a file, from all frontends of a worker."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.exchange import answer_instead
from uwsgibridge.hosts.static.exchange import StaticContext, StaticExchange
from uwsgibridge.hosts.static.finding import StaticFiles
from uwsgibridge.hosts.streams import Ending
from uwsgibridge.protocol.handshake import wants_websocket
from uwsgibridge.protocol.request import Request

if TYPE_CHECKING:
    from uwsgibridge.hosts.context import HostContext
    from uwsgibridge.hosts.underway import Underway


class StaticHost:
    """Answers with files, and passes on the requests for which there is none.

    Args:
        files: finds the files.
        context: what the host gets from its worker.
        pass_on: called on the loop with a connection for whose request there is no file.

    Attributes:
        prefixes: the URLs, without a slash at their end.
        given_up: nothing: no request is given up here.
        websockets: none.
        borrower: None: the loop accepts.
    """

    runs_on_loop = False
    given_up: tuple[Connection, ...] = ()
    websockets = 0
    borrower = None

    def __init__(
        self, files: StaticFiles, context: HostContext, pass_on: Callable[[Connection], None]
    ) -> None:
        settings = context.settings
        self.label = context.recorders.label
        limit = settings.max_concurrency
        self.admission: Admission[Connection] = Admission(
            limit, limit - limit // 16 - 1, context.wake
        )
        self.prefixes = files.prefixes
        self._files = files
        self._flights = context.flights
        self._threads = settings.static_threads
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._exchanges: dict[Connection, StaticExchange] = {}
        self._is_broken_off = False
        self._pass_on = pass_on
        self._loop = context.loop
        self._context = StaticContext(
            files=files,
            offload=context.offload,
            reporter=context.reporter,
            recorders=context.recorders,
            lingering=context.lingering,
            settings=settings,
            loop=context.loop,
            put=self._queue.put,
            pass_on=self._pass_on_soon,
            release=self._release,
        )

    def wants(self, request: Request) -> bool:
        """Whether a request may be for a file; where there is none, an application gets it later."""
        variables = request.vars
        return (
            variables["REQUEST_METHOD"] in {"GET", "HEAD"}
            and self._files.covers(variables["PATH_INFO"])
            and not ("HTTP_UPGRADE" in variables and wants_websocket(variables))
        )

    @property
    def capacity(self) -> int:
        """Tell how many requests may run at once; those that wait for their clients need no thread."""
        return self._threads

    @property
    def busy(self) -> int:
        """Tell how many requests a thread has taken."""
        return sum(it.has_begun for it in list(self._exchanges.values()))

    def queue_seconds(self, now: float) -> float:
        """Tell how long the oldest request waits for a thread."""
        waiting = (it for it in list(self._exchanges.values()) if not it.has_begun)
        return max((now - it.connection.accepted_at for it in waiting), default=0.0)

    def underway(self) -> list[Underway]:
        """List the requests in flight; a file is read by several threads, one after the other."""
        # Imported here: most workers are never asked for it.
        from uwsgibridge.hosts.underway import Phase, Underway

        return [
            Underway(it.connection, Phase.SENDING if it.has_begun else Phase.QUEUED)
            for it in list(self._exchanges.values())
        ]

    def submit(self, connection: Connection) -> None:
        """Take over a connection with its request."""
        exchange = StaticExchange(self._context, connection)
        self._exchanges[connection] = exchange
        self._queue.put(exchange.begin)

    async def start(self, nursery: trio.Nursery) -> None:  # noqa: ARG002 - this host has no tasks of its own there
        """Start the threads."""
        for number in range(1, self._threads + 1):
            # A daemon: a disk that does not answer must not keep the process from exiting.
            threading.Thread(target=self._work, name=f"static-{number}", daemon=True).start()

    def drain(self) -> None:
        """Do nothing: each answer ends by itself."""

    def end_streams(self, ending: Ending) -> None:
        """Do nothing: no answer is a stream."""

    def break_off(self) -> None:
        """Break off the answers that are being sent; requests that no thread has looked at get 503."""
        self._is_broken_off = True
        for exchange in list(self._exchanges.values()):
            exchange.is_cut = True
            self._loop.notify_closing(exchange.connection)

    async def stop(self) -> None:
        """Let the threads end."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        while (step := self._queue.get()) is not None:
            try:
                step()
            except BaseException as error:  # noqa: BLE001 - other threads may raise anything here
                self._context.reporter.thread_interrupted(error)

    def _release(self, connection: Connection) -> None:
        self._exchanges.pop(connection, None)
        self._flights.end(connection)
        self.admission.release(connection)

    def _pass_on_soon(self, connection: Connection) -> None:
        self._loop.run_threadsafe(partial(self._pass_on_now, connection))

    def _pass_on_now(self, connection: Connection) -> None:
        if self._is_broken_off:
            context = self._context
            answer_instead(context, connection, context.reporter.not_run(connection.request))
            return
        self._exchanges.pop(connection, None)
        # First, so that the request is in one of the tables at any time.
        self._pass_on(connection)
        self.admission.release(connection)
