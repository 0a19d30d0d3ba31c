"""The workers that a supervisor has: their generations, how many there are to be, what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import trio

from uwsgibridge.config.settings import MAX_WORKERS, Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.supervisor.generation import Generation, Tally
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.system.systemd import Notifier
from uwsgibridge.telemetry.logs import Logger

# Beyond what a worker's start or end may take: a fork, the last cancellation, the exit.
END_MARGIN_SECONDS: Final = 5.0


class Fleet:
    """What all parts of a supervisor know and decide by; whoever changes it says so by `note_change`.

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
        current: the one whose workers are kept at their number.
        least, most: the bounds of that number.
        wanted: the number itself.
        taken_over: workers of the current generation that those of the next stand in for already.
        recycled: the worker that a successor is being brought up for, or that drains beside it.
        follows_load: whether the number of workers is to follow the load.
        failure: why it does so by itself; empty where it was asked to, or does not.
        is_stopping: whether the supervisor drains for good.
        is_hurried: whether that is to be over at once.
        is_upgrading: whether the process is being handed on.
        is_reloading: whether a generation is being brought up.
        reload_reason: why a reload is due; empty where none is.
        reloads_asked, reloads_done: counted, so that one that is asked for in another is not lost.
        reload_failed: how the last one went.
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
                "workers begin with a bound",
                workers=self.wanted,
                reason=f"--workers {settings.workers} is {bound}",
            )
        self.taken_over = 0
        self.recycled: WorkerProcess | None = None
        self.failure = ""
        self.is_stopping = False
        self.is_hurried = False
        self.is_upgrading = False
        self.is_reloading = False
        self.reload_reason = ""
        self.reloads_asked = 0
        self.reloads_done = 0
        self.reload_failed = False
        self._changed = trio.Event()

    def ends(self) -> bool:
        """Whether nothing new is begun any more."""
        return self.is_stopping or self.is_upgrading

    @property
    def state(self) -> str:
        """What it does, in a word."""
        if self.is_stopping:
            return "stopping"
        return "reloading" if self.is_reloading else "running"

    @property
    def summary(self) -> str:
        """What systemd shows of it."""
        return f"{self.wanted} workers, generation {self.current.number}"

    def note_change(self) -> None:
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
            self.note_change()

    def fail(self, reason: str) -> None:
        """Stop, since what serves can't do so any more."""
        self.log.error("stopping: running requests may end", reason=reason)
        self.failure = reason
        self.is_stopping = True
        self.note_change()

    def ask_for_reload(self, reason: str) -> None:
        """Have a new generation brought up, after the one that comes up now."""
        self.reloads_asked += 1
        self.reload_reason = reason
        self.note_change()

    def end_seconds(self, *workers: WorkerProcess) -> float:
        """How long the end of these workers may take, at the most."""
        told = max((it.end_seconds for it in workers), default=0.0)
        return max(told, self.settings.graceful_timeout_seconds) + END_MARGIN_SECONDS
