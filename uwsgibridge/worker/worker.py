"""A worker's life: it starts hosts, opens the listener, serves requests, and drains at the end."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import trio

from uwsgibridge.application.application import Application
from uwsgibridge.application.forked_child import kept_from_copies
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.hangup import HangupWatcher
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import WorkerUnfit, single_error
from uwsgibridge.figures.memory import FiguresMemory
from uwsgibridge.figures.planning import plan_figures
from uwsgibridge.hosts.host import Host
from uwsgibridge.hosts.streams import Ending
from uwsgibridge.link.figures import Figures
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.loop.interface import Loop, Task
from uwsgibridge.loop.trio_loop import TrioLoop
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.stacks import await_stack, stacks_of_threads
from uwsgibridge.worker.assembly import Calls, assemble
from uwsgibridge.worker.holding_threads import threads_holding_exit

if TYPE_CHECKING:
    from uwsgibridge.worker.requests_underway import Placed
    from uwsgibridge.worker.slow_requests import SlowRequests

    TaskStatus = trio.TaskStatus[list[str]]


# How long packets may be on their way when the listener closes. They take microseconds, unless a peer is silent.
_LAST_PACKETS_SECONDS: Final = 1.0

# How long the supervisor may take to announce the kind of a stop, which takes it milliseconds.
_WORD_SECONDS: Final = 1.0

# How often a worker without a supervisor looks at its listening sockets.
_LOOK_SECONDS: Final = 1.0

# How long cancelled tasks have to end. They end at once, unless the application refuses.
_BREAK_OFF_SECONDS: Final = 1.0


class Companion:
    """Accompanies a worker on its loop; this is the companion of a worker without a supervisor.

    It only looks from time to time whether the worker still listens. Loops are not told when the application
    closes a listening socket (epoll(7), "Questions and answers").

    Attributes:
        flights: records the requests that the worker holds.
        figures: what the worker counts in; None for memory of its own.
        max_requests: after how many requests `enough` is called; 0 is never.
    """

    max_requests = 0

    def __init__(
        self, flights: FlightRecorder | None = None, figures: FiguresMemory | None = None
    ) -> None:
        self.flights = flights or FlightRecorder()
        self.figures = figures
        self._next_look: Task | None = None
        self._due_at = 0.0

    def attach(self, worker: Worker, loop: Loop) -> None:
        """Begin to accompany a worker, which begins to serve."""

        def look() -> None:
            worker.check_sockets()
            memory = worker.counters.memory
            memory.observe_lag(monotonic() - self._due_at)
            memory.sample_gil_wait()
            look_later()

        def look_later() -> None:
            self._due_at = monotonic() + _LOOK_SECONDS
            self._next_look = loop.call_later(_LOOK_SECONDS, look)

        look_later()

    def catch_up(self) -> None:
        """Read and answer the supervisor's messages that have arrived, before the worker drains."""

    def detach(self) -> None:
        """End the company of a worker that has drained."""
        if self._next_look is not None:
            self._next_look.cancel()

    def enough(self) -> None:
        """Learn that `max_requests` requests have arrived."""

    def unfit(self, reason: str) -> bool:  # noqa: ARG002 - subclasses use it
        """Ask for the worker to be replaced, which serves on until then; False where nobody can do so."""
        return False


class Worker:
    """Serves applications on listening sockets until it is cancelled.

    Args:
        applications: what is served, one for each prefix.
        settings: everything else.
        logger: where log events go.
        host_loop: the loop that runs this thread, where trio is its guest; without one the ASGI
            applications run as trio tasks.
        companion: accompanies the worker.
        exit_now: called at the very end where trio tasks go on although they were broken off, so that `run`
            can't end; it must not return.

    Attributes:
        is_last: whether nobody accepts on the inherited sockets after this worker.
        has_unended_requests: whether requests were broken off, and their tasks or threads go on; final when
            `run` has ended. Python, or the end of an event loop, would wait for them.
        knows_stop_kind: whether the supervisor has announced the kind of the stop, so that `is_last` is final.
    """

    def __init__(
        self,
        applications: Sequence[Application],
        settings: Settings,
        logger: Logger,
        *,
        host_loop: Loop | None = None,
        companion: Companion | None = None,
        exit_now: Callable[[], None] | None = None,
    ) -> None:
        self.is_last = False
        self.knows_stop_kind = companion is None
        self._exit_now = exit_now
        self._companion = companion or Companion()
        self.counters = Counters(
            self._companion.figures
            or FiguresMemory(plan_figures((it.prefix for it in applications), settings))
        )
        self._applications = applications
        self._settings = settings
        self._log = logger
        self._host_loop = host_loop
        self._hosts: list[Host] = []
        # Set when the supervisor has told the worker to drain; a signal follows.
        self.drain_wanted = trio.Event()
        self._changed = trio.Event()
        self._unfit = trio.Event()
        self._unfit_reason = ""
        self._broke_off = False
        self.has_unended_requests = False
        self._hurry = trio.CancelScope()

    async def run(
        self,
        sockets: Sequence[ListeningSocket],
        *,
        ready: Callable[[], None],
    ) -> None:
        """Serve until cancelled, then drain.

        Args:
            sockets: where to accept; the caller closes those that are still open.
            ready: called once the applications have started and requests are accepted.

        Raises:
            ApplicationError: an application's startup failed.
            WorkerUnfit: a thread or a listening socket was lost; raised after the drain.
        """
        with single_error():
            async with trio.open_nursery() as nursery:
                # Requests run in a nursery that outlives the cancellation, so that they can drain.
                tasks = await nursery.start(_run_shielded_nursery)
                try:
                    await self._serve(tasks, sockets, ready)
                finally:
                    tasks.cancel_scope.cancel()

    def hurry(self) -> None:
        """Cut a drain short; running requests are broken off at once."""
        self._hurry.cancel()
        self._changed.set()

    def break_off(self) -> None:
        """Accept no more and break off what runs: the application has ended the event loop, and the worker with it."""
        self._listener.accept_no_more()
        for host in self._hosts:
            host.break_off()

    def figures(self) -> Figures:
        """Give the figures of this moment."""
        now = monotonic()
        self.counters.memory.note_cpu_time()
        return Figures(
            requests=self.counters.all_requests,
            in_flight=sum(len(host.admission.in_flight) for host in self._hosts),
            capacity=sum(host.capacity for host in self._hosts),
            websockets=sum(host.websockets for host in self._hosts),
            queue_seconds=max((host.queue_seconds(now) for host in self._hosts), default=0.0),
            mounts={
                host.label: {
                    "in_flight": len(host.admission.in_flight),
                    "busy": host.busy,
                    "places": host.capacity,
                    "websockets": host.websockets,
                }
                for host in self._hosts
            },
            app_errors=self.counters.app_errors,
            client_gone=self.counters.client_gone,
            slow_requests=self.counters.slow_requests,
            # A copy in one step: threads that run the application count, too.
            refused=dict(self.counters.refused),
        )

    def check_sockets(self) -> None:
        """Look whether the worker can still accept connections; where it can't, have it replaced."""
        self._listener.check_sockets()

    def mark_leaving(self, descriptors: Collection[int]) -> None:
        """Mark that all workers are about to leave some of the inherited sockets.

        Args:
            descriptors: of the sockets.
        """
        self._listener.mark_leaving(descriptors)

    def leave_sockets(self) -> None:
        """Leave the sockets that `mark_leaving` has named."""
        self._listener.leave_sockets()

    def stacks(self) -> str:
        """Tell which requests are in flight and where each waits, and where each thread is."""
        parts = []
        for host in self._hosts:
            for connection in [*host.admission.in_flight, *host.given_up]:
                variables = connection.request.vars
                waits = await_stack(getattr(connection, "task", None))
                about = f"Request {variables['REQUEST_METHOD']} {variables['PATH_INFO']}"
                parts.append(f"{about}:\n{waits}" if waits else about)
        return "\n".join([*parts, *stacks_of_threads()])

    def probe(self, token: str, *, ends: bool = False) -> dict[str, object]:
        """Answer requests with a token in the place of the applications, as `Listener.probe` does; called on the loop."""
        from uwsgibridge.worker.probing import ProbeRefused  # imported here: few workers are probed

        try:
            return {"arrived": self._listener.probe(token, ends=ends)}
        except ProbeRefused as error:
            return {"error": str(error)}

    def underway(self) -> list[Placed]:
        """List the requests in flight, and those that were given up; called on the loop."""
        # Imported here: most workers are never asked for it.
        from uwsgibridge.worker.requests_underway import Placed

        # The host of `--static` comes first, and belongs to no application.
        mounted = self._hosts[len(self._hosts) - len(self._applications) :]
        files = self._hosts[: len(self._hosts) - len(mounted)]
        return [
            *(Placed(it, None, "") for host in files for it in host.underway()),
            *(
                Placed(it, application.name, application.prefix)
                for application, host in zip(self._applications, mounted, strict=True)
                for it in host.underway()
            ),
        ]

    async def _serve(
        self, tasks: trio.Nursery, sockets: Sequence[ListeningSocket], ready: Callable[[], None]
    ) -> None:
        loop = self._host_loop or TrioLoop(tasks, self._report_left_open)
        self.counters.memory.watch_collections()
        hangups = HangupWatcher(loop)
        try:
            parts = assemble(
                self._applications,
                self._settings,
                self._log,
                loop=loop,
                hangups=hangups,
                counters=self.counters,
                flights=self._companion.flights,
                max_requests=self._companion.max_requests,
                calls=Calls(
                    idle=self._wake_waiters,
                    wake=self._wake,
                    unfit=self._ask_to_be_replaced,
                    lost=self._handle_lost_socket,
                    enough=self._companion.enough,
                ),
            )
            self._hosts, self._listener = parts.hosts, parts.listener
            self._lingering = parts.lingering
            self._loop = loop
            started: list[Host] = []
            slow: SlowRequests | None = None
            serves = False
            with kept_from_copies(lambda: self._owned(sockets)):
                try:
                    for host in self._hosts:
                        await host.start(tasks)
                        started.append(host)
                    if parts.watchdog is not None:
                        parts.watchdog.start()
                    slow = self._watch_slow_requests(loop)
                    for listening in sockets:
                        self._listener.listen(listening)
                    self._listener.lend()
                    self._companion.attach(self, loop)
                    ready()
                    serves = True
                    await self._unfit.wait()
                    self._log.error("stopping to be started again", reason=self._unfit_reason)
                    raise WorkerUnfit(self._unfit_reason)
                finally:
                    if parts.watchdog is not None:
                        parts.watchdog.stop()
                    if slow is not None:
                        slow.stop()
                    with trio.CancelScope(shield=True):
                        self._companion.catch_up()
                        if serves and not self._unfit.is_set():
                            await self._wait_for_stop_kind()
                        await self._listener.refuse_new(is_last=self.is_last)
                        self._listener.close(is_last=self.is_last)
                        await self._drain()
                        for host in reversed(started):
                            await host.stop()
                        if parts.finish is not None:
                            with contextlib.suppress(
                                RuntimeError
                            ):  # the system has no more threads
                                await trio.to_thread.run_sync(parts.finish)
                        self._companion.detach()
                        self._exit_if_requests_remain()
        finally:
            hangups.close()

    def _watch_slow_requests(self, loop: Loop) -> SlowRequests | None:
        seconds = self._settings.slow_request_seconds
        if not seconds:
            return None
        # Imported here, for those alone who set the option.
        from uwsgibridge.worker.slow_requests import SlowRequests

        has_tasks = any(host.runs_on_loop for host in self._hosts)
        watch = SlowRequests(
            loop, seconds, self.underway, self.counters, self._log, has_tasks=has_tasks
        )
        watch.start()
        return watch

    def _report_left_open(self) -> None:
        self._log.error(
            "application left a nursery or a cancel scope open: what runs in it is cancelled",
            hint="close async generators in the task that runs them, by contextlib.aclosing",
        )

    def _exit_if_requests_remain(self) -> None:
        """Record whether requests go on though they were ended; exit at once where they keep trio's loop alive."""
        remain = self._tasks_remain() or (
            self._broke_off and any(host.admission.in_flight for host in self._hosts)
        )
        self.has_unended_requests = remain or (self._broke_off and bool(threads_holding_exit()))
        if remain and self._host_loop is None and self._exit_now is not None:
            self._exit_now()  # a trio task that does not end keeps trio's loop from ending

    def _owned(self, sockets: Sequence[ListeningSocket]) -> Iterator[socket.socket | Connection]:
        """List the open sockets and connections, which no forked child may keep."""
        yield from (listening.socket for listening in sockets)
        for host in self._hosts:
            yield from list(host.admission.in_flight)
        yield from self._listener.connections
        yield from self._lingering.connections

    def _tasks_remain(self) -> bool:
        # The end of a loop waits for tasks that go on although they were cancelled.
        return any(host.given_up for host in self._hosts if host.runs_on_loop)

    async def _wait_for_stop_kind(self) -> None:
        """Serve on until the supervisor has announced the kind of this stop, or a second has passed.

        By default, systemd sends a stop's signal to all processes at once (systemd.kill(5)). A worker that
        closed its sockets before it knew that all workers end would leave the connections in their backlogs to
        nobody.
        """
        with trio.move_on_after(_WORD_SECONDS):
            await self._wait_until(lambda: self.knows_stop_kind or self._hurry.cancel_called)

    def set_stop_kind(self, *, is_last: bool) -> None:
        """Record what kind of stop the supervisor has announced."""
        self.is_last |= is_last
        self.knows_stop_kind = True
        self._changed.set()

    def _wake_waiters(self) -> None:
        self._changed.set()

    def _ask_to_be_replaced(self, reason: str, can_go_on: bool) -> None:
        """Have this worker replaced, or end it where it can't go on; from any thread."""

        def decide() -> None:
            if not (can_go_on and self._companion.unfit(reason)):
                self._unfit_reason = reason
                self._unfit.set()

        self._loop.run_threadsafe(decide)

    def _handle_lost_socket(self, listening: ListeningSocket, reason: str) -> None:
        """Have this worker replaced, which can't accept on a socket any more, unless it is leaving that socket."""
        self._companion.catch_up()
        # The first worker that stops, or leaves a socket, refuses new connections for all: nothing is lost then.
        if not (self.is_last or self._listener.is_leaving(listening)):
            self._ask_to_be_replaced(f"{reason}; has the application closed it?", can_go_on=False)

    def _wake(self) -> None:
        """Have the listener and the drain look again; from any thread."""
        self._loop.run_threadsafe(self._look_again)

    def _look_again(self) -> None:
        self._listener.go_on()
        self._changed.set()

    async def _wait_until(self, is_done: Callable[[], bool]) -> None:
        while True:
            self._changed = trio.Event()
            if is_done():
                return
            await self._changed.wait()

    def _is_idle(self) -> bool:
        # All hosts are asked, since each busy one has to wake the drain.
        busy = [host.admission.wake_at(0) for host in self._hosts]
        return not any(busy) and self._listener.is_idle and self._lingering.is_idle

    async def _drain(self) -> None:
        seconds = self._settings.graceful_timeout_seconds
        self._hurry.deadline = trio.current_time() + seconds
        for host in self._hosts:
            host.drain()
        # Applications have the other half of the time for the end of their streams.
        streams_seconds = min(self._settings.stream_drain_seconds, seconds / 2)
        calls = [
            self._loop.call_later(after, partial(self._end_streams, ending))
            for after, ending in ((0, Ending.EVENTS), (streams_seconds, Ending.ALL))
        ]
        with self._hurry:
            with trio.move_on_after(_LAST_PACKETS_SECONDS):
                await self._wait_until(lambda: self._listener.is_idle)
            self._listener.close_waiting()
            await self._wait_until(self._is_idle)
        for call in calls:
            call.cancel()
        self._listener.close_waiting()
        left = sum(len(host.admission.in_flight) for host in self._hosts)
        if left:
            self._broke_off = True
            for host in self._hosts:
                host.break_off()
            self._log.error(
                "requests were broken off: they did not end in time",
                requests=left,
                option="--graceful-timeout-seconds",
            )
            with trio.move_on_after(_BREAK_OFF_SECONDS):
                await self._wait_until(self._is_idle)

    def _end_streams(self, ending: Ending) -> None:
        for host in self._hosts:
            host.end_streams(ending)


async def _run_shielded_nursery(
    task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as tasks:
            task_status.started(tasks)
            await trio.sleep_forever()
