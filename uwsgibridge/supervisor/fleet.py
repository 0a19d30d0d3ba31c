"""The workers that a supervisor has: their generations, how many there are to be, what is asked of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final

import trio

from uwsgibridge.config.settings import MAX_WORKERS, Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.supervisor.generation import Generation
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.tally import Tally
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.systemd import Notifier
from uwsgibridge.telemetry.logs import Logger

# Beyond what a worker's start or end may take: a fork, the last cancellation, the exit.
END_MARGIN_SECONDS: Final = 5.0


class Reload:
    """A new generation that is asked for; several who ask before it begins get the same one.

    Args:
        reason: of the last one who asked.

    Attributes:
        reason: as given.
        is_over: whether the new generation serves, or did not come up.
        has_failed: whether it did not.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.is_over = False
        self.has_failed = False


class Fleet:
    """What all parts of a supervisor know and decide by. Each change wakes those that wait for one.

    Args:
        settings: of the supervisor and its workers.
        logger: where decisions are told.
        sockets: that all workers accept on.
        notifier: tells systemd.

    Attributes:
        settings, log, sockets, notifier: as given.
        tally: what has happened since the start; counted on through upgrades.
        started_at: `time.monotonic()` then.
        generations: all that have not ended, the oldest first.
        current: the generation that serves; the number of its workers is kept at `wanted`.
        least, most: the bounds of `wanted`.
        wanted: how many workers are to run.
        taken_over: in a reload with `--reload-mode chain`, how many workers of the next generation are
            ready.
        recycled: the worker that a successor is being brought up for, or that drains beside it.
        follows_load: whether the number of workers is to follow the load.
        failure: why the supervisor stops although nobody asked it to; empty otherwise.
        phase: what the supervisor is about.
        is_bringing_up: whether a generation comes up, at the start or in a reload.
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
        self.tally = Tally()
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
        self.taken_over = 0
        self.recycled: WorkerProcess | None = None
        self.failure = ""
        self.phase = Phase.SERVING
        self.is_bringing_up = False
        self.due_reload: Reload | None = None
        self._changed = trio.Event()

    def is_ending(self) -> bool:
        """Whether the supervisor is upgrading or stopping: no worker, reload or upgrade is begun any more."""
        return self.phase is not Phase.SERVING

    @property
    def is_stopping(self) -> bool:
        """Whether all workers drain for good."""
        return self.phase in {Phase.STOPPING, Phase.HURRYING}

    def enter(self, phase: Phase) -> None:
        """Go on to another phase.

        Raises:
            AssertionError: it may not follow the one that is.
        """
        self.phase = self.phase.follow(phase)
        self.wake_waiters()

    @property
    def state(self) -> str:
        """What it does, in a word."""
        if self.is_stopping:
            return "stopping"
        return "reloading" if self.is_bringing_up else "running"

    @property
    def summary(self) -> str:
        """What systemd shows of it."""
        return f"{self.wanted} workers, generation {self.current.number}"

    def wake_waiters(self) -> None:
        """Wake all that wait."""
        self._changed.set()
        self._changed = trio.Event()

    @property
    def changed(self) -> trio.Event:
        """Set at the next change."""
        return self._changed

    async def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait for a change after which something is so."""
        while not is_so():
            await self._changed.wait()

    def want(self, workers: int, reason: str) -> None:
        """Change the number of workers."""
        if workers != self.wanted:
            self.wanted = workers
            self.log.info("number of workers changed", workers=workers, reason=reason)
            self.notifier.status(self.summary)
            self.wake_waiters()

    def fail(self, reason: str) -> None:
        """Stop, since what serves can't do so any more."""
        self.log.error("stopping: running requests may end", reason=reason)
        self.failure = reason
        if not self.is_stopping:
            self.enter(Phase.STOPPING)

    def ask_for_reload(self, reason: str) -> Reload:
        """Have a new generation brought up, after the one that comes up now.

        Returns:
            What comes of it.
        """
        if self.due_reload is None:
            self.due_reload = Reload(reason)
        else:
            self.due_reload.reason = reason
        self.wake_waiters()
        return self.due_reload

    async def next_reload(self) -> Reload:
        """Wait until a reload is due and may begin, and take it."""
        await self.wait_for(lambda: self.due_reload is not None and not self.is_ending())
        reload, self.due_reload = self.due_reload, None
        assert reload is not None
        return reload

    def finish_reload(self, reload: Reload, *, has_failed: bool) -> None:
        """Let those go on that wait for a reload."""
        reload.is_over, reload.has_failed = True, has_failed
        self.wake_waiters()

    def put_in_service(self, generation: Generation) -> None:
        """Have the workers of a generation kept at their number, and no longer those of another."""
        self.current = generation
        self.wake_waiters()

    @contextlib.contextmanager
    def bringing_up(self) -> Iterator[None]:
        """Say of a block that a generation comes up in it."""
        self.is_bringing_up = True
        try:
            yield
        finally:
            self.is_bringing_up = False
            self.taken_over = 0
            self.wake_waiters()

    def take_over(self, workers: int) -> None:
        """Have the current generation keep up fewer workers, since those of the next one stand in for them."""
        self.taken_over = workers
        self.wake_waiters()

    def begin_recycling(self, worker: WorkerProcess) -> None:
        """Say at once that a worker is recycled, so that nobody begins with another one: call `end_recycling`."""
        self.recycled = worker
        self.wake_waiters()

    def end_recycling(self) -> None:
        """Say that the recycled worker has been replaced, or that there is no need any more."""
        self.recycled = None
        self.wake_waiters()

    def end_seconds(self, *workers: WorkerProcess) -> float:
        """How long the end of these workers may take, at the most."""
        told = max((it.end_seconds for it in workers), default=0.0)
        return max(told, self.settings.graceful_timeout_seconds) + END_MARGIN_SECONDS
