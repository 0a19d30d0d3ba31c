"""The WSGI host: a pool of threads that call the application (PEP 3333).

The listener hands a connection over through a queue; the thread reads the body from it, writes the
answer to it and ends it, and nothing goes back but the release in the table of what is in flight.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

import trio

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.files import FileWrapper
from uwsgibridge.hosts.streams import Ending, OpenStreams
from uwsgibridge.hosts.wsgi.error_stream import ErrorStream
from uwsgibridge.hosts.wsgi.exchange import ExchangeContext, WsgiExchange
from uwsgibridge.hosts.wsgi.tunnels import WsgiTunnels
from uwsgibridge.protocol.websocket import wants_websocket
from uwsgibridge.telemetry.reporting import Reporter, failure_answer
from uwsgibridge.telemetry.stacks import own_stack

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from uwsgibridge.config.settings import Settings
    from uwsgibridge.connection.lingering import LingeringClose
    from uwsgibridge.hosts.offload import Offload
    from uwsgibridge.link.flights import FlightRecorder


# How soon a deadline is looked at again whose clock stands still.
_STANDING_CLOCK_SECONDS: Final = 0.05


class WsgiHost:
    """Runs a WSGI application in threads.

    Args:
        app: the application.
        settings: the number of threads, and the deadlines.
        reporter: where failures are told.
        flights: where requests are recorded for as long as they are held.
        lingering: ends connections.
        offload: leaves files to Nginx; None where no directory is mapped.
        wake: called when there is room again for a listener that paused.
        unfit: called when the worker is to be replaced; with the reason, and with whether it can serve
            until then.
        is_shared: whether another host has the same application.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        settings: Settings,
        reporter: Reporter,
        flights: FlightRecorder,
        lingering: LingeringClose,
        offload: Offload | None,
        wake: Callable[[], None],
        unfit: Callable[[str, bool], None],
        is_shared: bool = False,
    ) -> None:
        limit = settings.threads + settings.accept_margin
        self.admission: Admission[Connection] = Admission(
            limit, limit - max(1, settings.accept_margin // 2), wake
        )
        errors = ErrorStream(reporter.log)
        self._context = ExchangeContext(
            app=app,
            base_environ={
                "wsgi.version": (1, 0),
                "wsgi.errors": errors,
                "wsgi.file_wrapper": FileWrapper,
                "wsgi.multithread": settings.threads > 1 or is_shared,
                # One supervised worker has a second beside it at a reload, and as soon as it is scaled.
                "wsgi.multiprocess": settings.workers > 0,
                "wsgi.run_once": False,
                # Not in the PEP, but known to the frameworks: the input ends by itself.
                "wsgi.input_terminated": True,
            },
            errors=errors,
            reporter=reporter,
            lingering=lingering,
            offload=offload,
            streams=OpenStreams(),
            release=self._release,
            body_timeout_seconds=settings.body_timeout_seconds,
            write_timeout_seconds=settings.write_timeout_seconds,
            request_timeout_seconds=settings.request_timeout_seconds,
            logs_access=reporter.logs_access,
        )
        self._flights = flights
        self._unfit = unfit
        self._running: dict[threading.Thread, WsgiExchange] = {}
        self._queue: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self.submit: Callable[[Connection], None] = self._queue.put
        self._tunnels: WsgiTunnels | None = None
        if settings.wsgi_websockets:
            self._tunnels = WsgiTunnels(self._context, settings.wsgi_websockets, self.admission)
            self.submit = self._submit_with_tunnels
        self._threads = settings.threads
        self._lost_threads = 0

    @property
    def capacity(self) -> int:
        """Tell how many requests may run at once; a WebSocket brings a thread of its own."""
        return self._threads + self.websockets

    @property
    def websockets(self) -> int:
        """Tell how many WebSockets are open."""
        return len(self._tunnels.connections) if self._tunnels is not None else 0

    def queue_seconds(self, now: float) -> float:
        """Tell how long the oldest request waits for a thread."""
        running = {exchange.connection for exchange in list(self._running.values())}
        if self._tunnels is not None:
            running.update(self._tunnels.connections)
        waiting = [it.accepted_at for it in list(self.admission.in_flight) if it not in running]
        return now - min(waiting, default=now)

    @property
    def lost(self) -> list[Connection]:
        """List what was given up under its thread, which goes on."""
        running = list(self._running.values())
        return [exchange.connection for exchange in running if exchange.given_up]

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the threads, and the watch over their deadlines.

        Args:
            nursery: for that watch.
        """
        for number in range(1, self._threads + 1):
            self._start_thread(f"wsgi-{number}")
        if self._context.request_timeout_seconds:
            nursery.start_soon(self._watch_deadlines)

    def drain(self) -> None:
        """Close WebSockets with 1012; requests end by themselves."""
        if self._tunnels is not None:
            self._tunnels.drain()

    def end_streams(self, ending: Ending) -> None:
        """Have threads close streams after the item that they are at."""
        self._context.streams.end(ending)
        if ending is Ending.ALL and self._tunnels is not None:
            self._tunnels.cut()

    def break_off(self) -> None:
        """Answer 503 for what waits, and in the place of threads that did not end: they can't be stopped."""
        self._refuse_what_waits()
        if self._tunnels is not None:
            self._tunnels.cut()
        for exchange in list(self._running.values()):
            if not exchange.given_up:
                exchange.give_up(503)
                self._release(exchange.connection)

    async def stop(self) -> None:
        """Let the threads end; one that is stuck in the application ends with the process."""
        for _ in range(self._threads + self._lost_threads):
            self._queue.put(None)

    def _submit_with_tunnels(self, connection: Connection) -> None:
        variables = connection.request.vars
        if "HTTP_UPGRADE" in variables and wants_websocket(variables):
            assert self._tunnels is not None
            self._tunnels.submit(connection)
        else:
            self._queue.put(connection)

    def _release(self, connection: Connection) -> None:
        self._flights.end(connection)
        self.admission.release(connection)

    def _refuse_what_waits(self) -> None:
        with contextlib.suppress(queue.Empty):
            while (connection := self._queue.get_nowait()) is not None:
                self._refuse(connection)

    def _refuse(self, connection: Connection) -> None:
        """Answer 503: no thread is left that could run it."""
        answer = failure_answer(connection.request, 503)
        with contextlib.suppress(OSError):  # nobody is there any more
            connection.send(answer)
        self._context.lingering.close(connection)
        self._context.reporter.not_run(connection.request, answer, connection.accepted_at)
        self._release(connection)

    def _start_thread(self, name: str) -> None:
        # A daemon: an application that never returns must not keep the process from exiting.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        take = self._queue.get
        context = self._context
        running, me = self._running, threading.current_thread()
        context.errors.serve_thread()
        while True:
            try:
                while (connection := take()) is not None:
                    running[me] = exchange = WsgiExchange(context, connection)
                    # A new and empty context: nothing that one request sets is seen by the next.
                    contextvars.Context().run(exchange.run)
                    # Else the last request would live until the next one comes.
                    del running[me], exchange, connection
            except BaseException as error:  # noqa: BLE001 - by libraries that interrupt threads from others
                self._recover(running.pop(me, None), error)
            else:
                return

    def _recover(self, exchange: WsgiExchange | None, error: BaseException) -> None:
        """Go on after an exception that came from outside, at any point of our own code."""
        self._context.reporter.thread_interrupted(error)
        if exchange is not None:
            exchange.abandon()
        else:
            # What was just taken out of the queue may be lost: at a drain, that is seen.
            self._unfit("a thread was interrupted", True)

    async def _watch_deadlines(self) -> None:
        limit = self._context.request_timeout_seconds
        while True:
            now = monotonic()
            running = [item for item in list(self._running.items()) if not item[1].given_up]
            for thread, exchange in running:
                if exchange.used_seconds(now) >= limit:
                    self._give_up(thread, exchange, now)
            # What begins after this look is not over its limit before the next one.
            least = limit
            for _, exchange in running:
                if not exchange.given_up:
                    # The clock of one that waits for its client stands still.
                    floor = 0.001 if exchange.body_wait_began is None else _STANDING_CLOCK_SECONDS
                    least = min(least, max(floor, limit - exchange.used_seconds(now)))
            await trio.sleep(least)

    def _give_up(self, thread: threading.Thread, exchange: WsgiExchange, now: float) -> None:
        frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented for this
        stack = own_stack(frame) if frame else ""
        outcome = exchange.give_up(504)
        self._context.reporter.request_overdue(
            exchange.request,
            seconds=exchange.used_seconds(now),
            thread=thread.name,
            stack=stack,
            outcome=outcome,
        )
        self._release(exchange.connection)
        self._lost_threads += 1
        # Where there is one thread alone, its application may rely on that; and all things have an end.
        can_go_on = 1 < self._threads >= self._lost_threads
        if can_go_on:
            self._start_thread(thread.name)
        elif self._lost_threads >= self._threads:
            self.submit = self._refuse
            self._refuse_what_waits()
        reason = "a thread is lost to a request that took too long (--request-timeout-seconds)"
        self._unfit(reason, can_go_on)
