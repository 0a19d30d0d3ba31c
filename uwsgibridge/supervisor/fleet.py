"""The workers of a supervisor: their generations, their wanted number, and the reloads that were asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final

import trio

from uwsgibridge.config.buckets import parse_buckets
from uwsgibridge.config.settings import MAX_WORKERS, Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.figures.totals import Totals
from uwsgibridge.supervisor.generation import Generation
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.tally import Tally
from uwsgibridge.supervisor.worker_process import STATUS_SECONDS, WorkerProcess
from uwsgibridge.system.systemd import Notifier
from uwsgibridge.telemetry.logs import Logger

# How long a worker's start or end may take beyond its own limits: for a fork, the last cancellation, the exit.
END_MARGIN_SECONDS: Final = 5.0


class Reload:
    """A reload that was asked for; all who ask before it begins get the same object.

    Args:
        reason: of who asked last.

    Attributes:
        reason: as given.
        is_over: whether the reload has ended: the new generation serves, or did not come up.
        has_failed: whether the new generation did not come up.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.is_over = False
        self.has_failed = False


class Fleet:
    """The state that all parts of a supervisor share. Each change wakes those who wait for one.

    Args:
        settings: of the supervisor and its workers.
        logger: where log events go.
        sockets: the listening sockets of all workers.
        notifier: tells systemd.

    Attributes:
        settings, log, sockets, notifier: as given.
        tally: counts since the start, which go on through upgrades.
        started_at: `time.monotonic()` at the start.
        generations: the generations that have not ended, the oldest first.
        current: the generation that serves; the number of its workers is kept at `wanted`.
        least, most: the bounds of `wanted`.
        wanted: how many workers should run.
        replaced_workers: in a reload with `--reload-mode chain`, how many workers of the next generation are
            ready.
        recycled: the worker that is being replaced: its successor comes up, or it drains.
        follows_load: whether the number of workers follows the load.
        failure: why the supervisor stops although nobody asked it to; empty otherwise.
        phase: of the supervisor's life.
        has_served: whether requests were ever accepted; a stop that comes before that has nothing to delay for.
        drain_ends_at: `time.monotonic()` when the drain delay is over; None where none has begun.
        is_bringing_up: whether a generation is coming up, at the start or in a reload.
        due_reload: the reload that was asked for and has not begun.
    """

    def __init__(
        self,
        settings: Settings,
        logger: Logger,
        sockets: Sequence[ListeningSocket],
        notifier: Notifier,
    ) -> None:
        self.settings = settings
        self.log = logger
        self.sockets = sockets
        self.notifier = notifier
        self.tally = Tally(
            counted=Totals(parse_buckets("metrics_buckets", settings.metrics_buckets))
        )
        self.started_at = monotonic()
        self.generations: list[Generation] = []
        self.current: Generation
        self.follows_load = bool(settings.workers_min or settings.workers_max)
        self.least = settings.workers_min or 1
        self.most = MAX_WORKERS
        if self.follows_load:
            self.most = settings.workers_max or max(settings.workers, self.least)
        self.wanted = min(max(settings.workers, self.least), self.most)
        if self.wanted != settings.workers:
            bound = (
                f"below --workers-min {settings.workers_min}"
                if self.wanted > settings.workers
                else f"above --workers-max {settings.workers_max}"
            )
            logger.info(
                "--workers is out of bounds: the nearer bound is used",
                workers=self.wanted,
                reason=f"--workers {settings.workers} is {bound}",
            )
        self.replaced_workers = 0
        self.recycled: WorkerProcess | None = None
        self.failure = ""
        self.phase = Phase.SERVING
        self.has_served = False
        self.drain_ends_at: float | None = None
        self.is_bringing_up = False
        self.due_reload: Reload | None = None
        self._changed = trio.Event()

    # A method: mypy would take a property that was looked at before an `await` for unchanged after it.
    def is_ending(self) -> bool:
        """Whether the supervisor is upgrading or stopping: no worker and no reload is begun any more."""
        return self.phase not in {Phase.SERVING, Phase.DRAIN_DELAY}

    def is_leaving(self) -> bool:
        """Whether a stop or an upgrade was begun, or a stop was asked for, which the drain delay puts off."""
        return self.phase is not Phase.SERVING

    @property
    def is_stopping(self) -> bool:
        """Whether all workers drain for good."""
        return self.phase in {Phase.STOPPING, Phase.HURRYING}

    def enter(self, phase: Phase) -> None:
        """Enter another phase.

        Raises:
            AssertionError: that phase may not follow the present one.
        """
        self.phase = self.phase.follow(phase)
        self.wake_waiters()

    def counted(self) -> Totals:
        """Give what all workers have counted since the start, those that have ended included."""
        whole = self.tally.counted.copy()
        for generation in self.generations:
            for worker in generation.workers.values():
                with worker.counted() as memory:
                    if memory is not None:
                        whole.add_memory(memory, has_ended=False)
        return whole

    @property
    def state(self) -> str:
        """The state of the service, in a word."""
        if self.is_stopping:
            return "stopping"
        if self.phase is Phase.DRAIN_DELAY:
            return "draining"
        if not self.has_served:
            return "starting"
        return "reloading" if self.is_bringing_up else "running"

    @property
    def summary(self) -> str:
        """The status line that systemd shows."""
        # While the commands of `--on-start` run, there is no generation yet.
        number = f", generation {self.current.number}" if self.generations else ""
        return f"{self.wanted} workers{number}"

    def wake_waiters(self) -> None:
        """Wake all who wait for a change."""
        self._changed.set()
        self._changed = trio.Event()

    @property
    def changed(self) -> trio.Event:
        """An event that is set at the next change."""
        return self._changed

    async def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked at each change."""
        while not is_so():
            await self._changed.wait()

    def want(self, workers: int, reason: str) -> None:
        """Change the wanted number of workers."""
        if workers != self.wanted:
            self.wanted = workers
            self.log.info("number of workers changed", workers=workers, reason=reason)
            self.notifier.status(self.summary)
            self.wake_waiters()

    def stop_or_hurry(self, reason: str) -> None:
        """Begin the stop, after the drain delay; where the delay or the stop has begun, cut that short."""
        if self.is_stopping:
            self.log.warning("stopping at once", reason=reason)
            self.enter(Phase.HURRYING)
            for generation in self.generations:
                generation.hurry_workers()
        elif self.phase is Phase.DRAIN_DELAY:
            self.log.warning("drain delay is cut short", reason=reason)
            self.begin_stop(reason)
        elif self.phase is Phase.SERVING and self.has_served and self.settings.drain_delay_seconds:
            self._begin_drain_delay(reason)
        else:
            self.begin_stop(reason)

    def begin_stop(self, reason: str) -> None:
        """Begin the stop at once."""
        self.log.info("stopping: running requests may end", reason=reason)
        self.enter(Phase.STOPPING)

    def _begin_drain_delay(self, reason: str) -> None:
        seconds = self.settings.drain_delay_seconds
        self.log.info(
            "draining: new requests are answered until the delay is over",
            reason=reason,
            option="--drain-delay-seconds",
            seconds=seconds,
        )
        self.drain_ends_at = monotonic() + seconds
        self.enter(Phase.DRAIN_DELAY)

    def fail(self, reason: str) -> None:
        """Stop the supervisor, because it can't serve any more."""
        self.log.error("stopping: running requests may end", reason=reason)
        self.failure = reason
        if not self.is_stopping:
            self.enter(Phase.STOPPING)

    def ask_for_reload(self, reason: str) -> Reload:
        """Ask for a new generation, which comes up after the one that is coming up now.

        Returns:
            The reload, which tells its end.
        """
        if self.due_reload is None:
            self.due_reload = Reload(reason)
        else:
            self.due_reload.reason = reason
        self.wake_waiters()
        return self.due_reload

    async def next_reload(self) -> Reload:
        """Wait until a reload is due and may begin, and give it."""
        await self.wait_for(lambda: self.due_reload is not None and not self.is_ending())
        reload, self.due_reload = self.due_reload, None
        assert reload is not None
        return reload

    def finish_reload(self, reload: Reload, *, has_failed: bool) -> None:
        """Mark a reload as over, and wake those who wait for it."""
        reload.is_over, reload.has_failed = True, has_failed
        self.wake_waiters()

    async def hear_from_workers(self) -> None:
        """Ask all workers for their figures, and wait up to half a second for the answers."""
        async with trio.open_nursery() as nursery:
            for generation in self.generations:
                for worker in generation.ready:
                    nursery.start_soon(worker.heartbeat, STATUS_SECONDS)

    def put_in_service(self, generation: Generation) -> None:
        """Make a generation the current one, whose number of workers is kept up."""
        self.current = generation
        self.wake_waiters()

    @contextlib.contextmanager
    def bringing_up(self) -> Iterator[None]:
        """Mark the time of a block, in which a generation comes up."""
        self.is_bringing_up = True
        try:
            yield
        finally:
            self.is_bringing_up = False
            self.replaced_workers = 0
            self.wake_waiters()

    def set_replaced_workers(self, workers: int) -> None:
        """Record how many workers of the next generation are ready; the current one keeps as many fewer."""
        self.replaced_workers = workers
        self.wake_waiters()

    def begin_recycling(self, worker: WorkerProcess) -> None:
        """Mark a worker as being replaced, so that no other one is, until `end_recycling`."""
        self.recycled = worker
        self.wake_waiters()

    def end_recycling(self) -> None:
        """Mark that no worker is being replaced any more."""
        self.recycled = None
        self.wake_waiters()

    def end_seconds(self, *workers: WorkerProcess) -> float:
        """How long the end of these workers may take at the most."""
        told = max((it.end_seconds for it in workers), default=0.0)
        return max(told, self.settings.graceful_timeout_seconds) + END_MARGIN_SECONDS
