"""The WSGI host: a pool of threads that call the application (PEP 3333).

The listener puts a connection into a queue. A thread takes it, reads the body from it, writes the answer to it and
ends it. Nothing goes back to the listener, except that the request leaves the table of requests in flight.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import trio

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.exchange import answer_instead
from uwsgibridge.hosts.files import FileWrapper
from uwsgibridge.hosts.streams import Ending, OpenStreams
from uwsgibridge.hosts.turn import Turn
from uwsgibridge.hosts.wsgi.context import ExchangeContext
from uwsgibridge.hosts.wsgi.error_stream import ErrorStream
from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
from uwsgibridge.hosts.wsgi.interruption import Interruption, RequestInterrupted
from uwsgibridge.hosts.wsgi.running import Running, RunningRequests
from uwsgibridge.hosts.wsgi.serving import make_queue, make_thread
from uwsgibridge.hosts.wsgi.thread import ApplicationThread
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.handshake import wants_websocket
from uwsgibridge.telemetry.stacks import stack_of_thread

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from uwsgibridge.hosts.context import HostContext
    from uwsgibridge.hosts.underway import Underway
    from uwsgibridge.hosts.wsgi.own_limits import OwnLimits
    from uwsgibridge.hosts.wsgi.tunnels import WsgiTunnels


# How soon to look again at a deadline whose clock stands still.
_STANDING_CLOCK_SECONDS: Final = 0.05

# How soon to look again at a thread that can't be interrupted where it is now.
_INTERRUPT_RETRY_SECONDS: Final = 0.01


class WsgiHost:
    """Runs a WSGI application in threads.

    Args:
        app: the application.
        context: what the host gets from its worker.
        is_shared: whether another host has the same application.
    """

    runs_on_loop = False

    def __init__(
        self,
        app: WSGIApplication,
        context: HostContext,
        *,
        is_shared: bool = False,
    ) -> None:
        settings, reporter = context.settings, context.reporter
        self.label = context.recorders.label
        limit = settings.threads + settings.accept_margin
        self.admission: Admission[Connection] = Admission(
            limit, limit - max(1, settings.accept_margin // 2), context.wake
        )
        errors = ErrorStream(reporter.log)
        self._context = ExchangeContext(
            app=app,
            base_environ={
                "wsgi.version": (1, 0),
                "wsgi.errors": errors,
                "wsgi.file_wrapper": FileWrapper,
                "wsgi.multithread": settings.threads > 1 or is_shared,
                # Even a single supervised worker has another one beside it at a reload, or when it is scaled.
                "wsgi.multiprocess": settings.workers > 0,
                "wsgi.run_once": False,
                # Frameworks know this key, which is not in the PEP: the input ends by itself.
                "wsgi.input_terminated": True,
            },
            errors=errors,
            reporter=reporter,
            lingering=context.lingering,
            offload=context.offload,
            streams=OpenStreams(),
            recorders=context.recorders,
            release=self._release,
            settings=settings,
            logs_access=reporter.logs_access,
            begin=context.begin,
        )
        self._turn = Turn(settings, context.overload, self._context)
        self._flights = context.flights
        self._unfit = context.unfit
        self._running = RunningRequests()
        # The requests that were given up and whose thread has not come back.
        self._given_up: dict[WsgiExchange, threading.Thread] = {}
        self._queue = make_queue()
        self.submit: Callable[[Connection], None] = self._queue.put
        self._tunnels: WsgiTunnels | None = None
        if settings.wsgi_websockets:
            # Imported here: the protocol of WebSockets is for those alone who set the option.
            from uwsgibridge.hosts.wsgi.tunnels import WsgiTunnels

            self._tunnels = WsgiTunnels(self._context, settings.wsgi_websockets, self.admission)
            self.submit = self._submit_with_tunnels
        self._threads = settings.threads
        self._interrupt_seconds = settings.request_interrupt_seconds
        self._own_limits: OwnLimits | None = None
        if settings.uwsgi_module:
            # Imported here: only then, an application can set limits of its own.
            from uwsgibridge.hosts.wsgi.own_limits import OwnLimits

            self._own_limits = OwnLimits(self._running, context.loop, self._give_up)
        self._lost_threads = 0

    @property
    def capacity(self) -> int:
        """Tell how many requests may run at once. A WebSocket has a thread of its own."""
        return self._threads + self.websockets

    @property
    def busy(self) -> int:
        """Tell how many requests run now, WebSockets included."""
        return len(self._running) + self.websockets

    @property
    def websockets(self) -> int:
        """Tell how many WebSockets are open."""
        return len(self._tunnels.connections) if self._tunnels is not None else 0

    @property
    def own_limits(self) -> OwnLimits | None:
        """Give what knows requests by their threads; None where no application asks for that."""
        return self._own_limits

    @property
    def borrower(self) -> Any:
        """Give what the listening socket may be lent to; None where the loop has to accept: see `worker.lending`."""
        return self._queue if self._tunnels is None and hasattr(self._queue, "lend") else None

    @property
    def sharing_queue(self) -> Any:
        """Give the queue whose threads may accept beside each other; None where the loop has to: see `worker.sharing`."""
        return self._queue if self._tunnels is None and hasattr(self._queue, "share") else None

    @property
    def most_threads(self) -> int:
        """Tell how many threads there may be at a time, with those that are lost."""
        return 2 * self._threads

    def queue_seconds(self, now: float) -> float:
        """Tell how long the oldest request waits for a thread."""
        running = {exchange.connection for exchange in self._running}
        if self._tunnels is not None:
            running.update(self._tunnels.connections)
        waiting = [it.accepted_at for it in list(self.admission.in_flight) if it not in running]
        return now - min(waiting, default=now)

    @property
    def given_up(self) -> list[Connection]:
        """List the requests that were given up and whose threads still run."""
        return [exchange.connection for exchange in list(self._given_up)]

    def underway(self) -> list[Underway]:
        """List the requests in flight, each with its thread; from any thread."""
        # Imported here: most workers are never asked for it.
        from uwsgibridge.hosts.wsgi.underway import list_underway

        return list_underway(
            self.admission.in_flight,
            self._running,
            self._given_up,
            self._tunnels.threads if self._tunnels is not None else {},
        )

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the threads, and the watch over their deadlines.

        Args:
            nursery: runs that watch, and tasks that interrupt threads.
        """
        for number in range(1, self._threads + 1):
            self._start_thread(f"wsgi-{number}")
        if self._context.settings.request_timeout_seconds:
            nursery.start_soon(self._watch_deadlines, nursery)
        if self._own_limits is not None:
            nursery.start_soon(self._own_limits.watch, nursery)

    def drain(self) -> None:
        """Close WebSockets with 1012; requests end by themselves."""
        if self._tunnels is not None:
            self._tunnels.drain()

    def end_streams(self, ending: Ending) -> None:
        """Have threads end their streams after the present item."""
        self._context.streams.end(ending)
        if ending is Ending.ALL and self._tunnels is not None:
            self._tunnels.cut()

    def break_off(self) -> None:
        """Answer 503 to requests that wait, and to those that still run; their threads can't be stopped."""
        self._refuse_what_waits()
        if self._tunnels is not None:
            self._tunnels.cut()
        for exchange in self._running:
            if self._claim(exchange) is not None:
                exchange.give_up(answers.stopping)
                self._release(exchange.connection)

    async def stop(self) -> None:
        """Let the threads end; a thread that is stuck in the application ends with the process."""
        for _ in range(self._threads + self._lost_threads):
            self._queue.put(None)

    def _submit_with_tunnels(self, connection: Connection) -> None:
        variables = connection.request.vars
        if "HTTP_UPGRADE" in variables and wants_websocket(variables):
            assert self._tunnels is not None
            if not self._turn.refuses(connection):
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
        """Answer 503, because no thread is left to run the request."""
        context = self._context
        answer_instead(context, connection, context.reporter.not_run(connection.request))

    def _start_thread(self, name: str) -> None:
        running: Running = {}
        thread = ApplicationThread(target=self._work, args=(running,), name=name)
        self._running.add_table(running)
        thread.start()

    def _work(self, running: Running) -> None:
        context = self._context
        thread = make_thread(
            self._queue,
            context,
            running,
            partial(self._conclude, running),
            self._turn,
            admission=self.admission,
            flights=self._flights,
        )
        serve = thread.serve
        failure: BaseException | None = None
        context.errors.serve_thread()
        while True:
            # The outer `try` catches an exception in the inner handler, or at the loop's jump back.
            try:
                while True:
                    try:
                        if failure is not None:
                            self._recover(running, thread.exchange, failure)
                            thread.exchange = failure = None
                        # With the accelerator, the application is called from here.
                        if not serve():
                            return
                    except BaseException as error:  # noqa: BLE001 - other threads may raise anything here
                        failure = error
            except BaseException as error:  # noqa: BLE001 - other threads may raise anything here
                failure = error

    def _conclude(self, running: Running, exchange: WsgiExchange) -> None:
        """End what the host has of an exchange that has run."""
        # First it can't be given up any more; its place comes last, since a drain waits for no request without one.
        if running.pop(exchange, None) is None:
            self._finish(exchange)
        elif self._context.logs_access:
            exchange.log_access()
        self._release(exchange.connection)

    def _recover(
        self, running: Running, exchange: WsgiExchange | None, error: BaseException
    ) -> None:
        """Go on after an exception from outside, which may have come at any point of the bridge's code."""
        was_running = is_given_up = False
        if exchange is not None:
            was_running = running.pop(exchange, None) is not None
            is_given_up = exchange.interruption is not None
            self._finish(exchange)  # first, so that no exception arrives later in this method
        if not (is_given_up and isinstance(error, RequestInterrupted)):
            self._context.reporter.thread_interrupted(error)
        if exchange is not None:
            exchange.end_interrupted()
        if exchange is None or not (was_running or is_given_up):
            # A connection that was just taken out of the queue may be lost; a drain would notice that.
            self._unfit("a thread was interrupted", True)

    def _claim(self, exchange: WsgiExchange) -> Interruption | None:
        """Take a request out of `_running`, so that its thread has to `_finish` it.

        Returns:
            The interruption of its thread; None where the thread was faster, and has ended the request.
        """
        thread = self._running.thread_of(exchange)
        if thread is None:
            return None
        # Set before the request is removed: its thread looks at this as soon as it is.
        exchange.interruption = interruption = Interruption(thread, CALLERS)
        self._given_up[exchange] = thread
        if not self._running.take(exchange):
            exchange.interruption = None
            self._given_up.pop(exchange, None)
            return None
        return interruption

    def _finish(self, exchange: WsgiExchange) -> None:
        """Finish, in its thread, a request that was given up meanwhile."""
        self._given_up.pop(exchange, None)
        if (interruption := exchange.interruption) is not None:
            interruption.finish()

    async def _watch_deadlines(self, nursery: trio.Nursery) -> None:
        limit = self._context.settings.request_timeout_seconds
        while True:
            now = monotonic()
            running = self._running.items()
            for exchange, thread in running:
                if exchange.used_seconds(now) >= limit:
                    self._give_up(thread, exchange, now, nursery)
            # Requests that begin after this look can't be over their limit before the next one.
            least = limit
            for exchange, _ in running:
                if not exchange.given_up:
                    # The clock of a request that waits for its client stands still.
                    floor = 0.001 if exchange.body_wait_began is None else _STANDING_CLOCK_SECONDS
                    least = min(least, max(floor, limit - exchange.used_seconds(now)))
            await trio.sleep(least)

    def _give_up(
        self, thread: threading.Thread, exchange: WsgiExchange, now: float, nursery: trio.Nursery
    ) -> None:
        stack, waits_to_write = stack_of_thread(thread.ident), exchange.waits_to_write
        interruption = self._claim(exchange)
        if interruption is None:
            return
        outcome = exchange.give_up(answers.overdue)
        self._context.reporter.request_overdue(
            exchange.request,
            seconds=exchange.used_seconds(now),
            thread=thread.name,
            stack=stack,
            outcome=outcome,
            waits_to_write=waits_to_write,
        )
        self._release(exchange.connection)
        if self._interrupt_seconds:
            nursery.start_soon(self._interrupt, thread, exchange, interruption)
        else:
            self._lose(thread)

    async def _interrupt(
        self, thread: threading.Thread, exchange: WsgiExchange, interruption: Interruption
    ) -> None:
        """Interrupt the thread of a request that was given up; a thread that does not come back is lost."""
        began = monotonic()
        with trio.move_on_after(self._interrupt_seconds):
            while interruption.finished_at is None:
                interruption.attempt()
                await trio.sleep(_INTERRUPT_RETRY_SECONDS)
        if interruption.finished_at is None:
            self._lose(thread)
        else:
            self._context.reporter.thread_freed(
                exchange.request,
                seconds=max(0.0, interruption.finished_at - began),
                thread=thread.name,
            )

    def _lose(self, thread: threading.Thread) -> None:
        """Replace a thread that does not come back, or have the worker replaced."""
        self._lost_threads += 1
        # With one thread, the application may rely on being called by one alone. With more, the number of lost threads
        # has a limit.
        can_go_on = self._threads > 1 and self._lost_threads <= self._threads
        if can_go_on:
            self._start_thread(thread.name)
        elif self._lost_threads >= self._threads:
            self.submit = self._refuse
            self._refuse_what_waits()
        reason = "a thread is lost to a request that took too long (--request-timeout-seconds)"
        self._unfit(reason, can_go_on)


# The bridge's functions that call the application. A thread is interrupted only where the application's frames lie
# directly above one of these.
CALLERS: Final = frozenset(
    it.__code__
    for it in (
        WsgiExchange._call_application,  # noqa: SLF001 - of this host
        WsgiExchange._answer_with,  # noqa: SLF001
        WsgiExchange._send_items,  # noqa: SLF001
        WsgiHost._work,  # noqa: SLF001
    )
)
