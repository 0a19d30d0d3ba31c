"""The figures of a process that serves without a supervisor, for whatever publishes them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from uwsgibridge import fast
from uwsgibridge._version import __version__
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.figures.families import counted_families
from uwsgibridge.figures.family import Family
from uwsgibridge.figures.memory import FiguresMemory
from uwsgibridge.figures.snapshot import Backlog, Snapshot, WorkerSnapshot
from uwsgibridge.figures.state_families import state_families
from uwsgibridge.figures.totals import Totals
from uwsgibridge.link.figures import Figures
from uwsgibridge.status.sources import Sources
from uwsgibridge.system.backlog import connections_waiting
from uwsgibridge.system.process_figures import (
    cpu_seconds,
    open_files,
    pss_bytes,
    rss_bytes,
    size_bytes,
)


class WorkerFigures:
    """Gives the figures of this process, which is the service's one worker.

    Args:
        mounts: the prefixes of the applications.
        settings: of the service.
        sockets: the listening sockets.
        figures: gives what the worker holds.
        memory: in which the worker counts.
        is_ready: set when requests are accepted.
        is_stopping: set when the process is asked to stop.
    """

    def __init__(
        self,
        mounts: Sequence[str],
        settings: Settings,
        sockets: Sequence[ListeningSocket],
        figures: Callable[[], Figures],
        memory: FiguresMemory,
        is_ready: trio.Event,
        is_stopping: trio.Event,
    ) -> None:
        self._mounts = [it or "/" for it in mounts]
        self._backlog = settings.backlog
        self._sockets = sockets
        self._figures = figures
        self._memory = memory
        self._is_ready = is_ready
        self._is_stopping = is_stopping
        self._started_at = round(time.time(), 3)

    @property
    def sources(self) -> Sources:
        """The figures, for whatever publishes them."""
        return Sources(self.collect, self.snapshot, self.glance)

    async def collect(self) -> Sequence[Family]:
        """Give all figures."""
        return [*state_families(self.glance()), *counted_families(self._counted())]

    async def snapshot(self) -> Snapshot:
        """Give the state of the service."""
        snapshot = self.glance()
        counted = self._counted()
        return replace(snapshot, workers=[it.with_counts(counted) for it in snapshot.workers])

    def glance(self) -> Snapshot:
        """Give the state of the service."""
        figures = self._figures()
        pid = os.getpid()
        worker = WorkerSnapshot(
            number=1,
            pid=pid,
            state=self._worker_state(figures),
            started_at=self._started_at,
            requests=figures.requests,
            app_errors=figures.app_errors,
            client_gone=figures.client_gone,
            refused=figures.refused,
            in_flight=figures.in_flight,
            capacity=figures.capacity,
            websockets=figures.websockets,
            mounts=figures.mounts,
            rss_bytes=rss_bytes(pid),
            pss_bytes=pss_bytes(pid),
            open_files=open_files(pid),
            size_bytes=size_bytes(pid),
            cpu_seconds=cpu_seconds(pid),
        )
        return Snapshot(
            version=__version__,
            accelerator=fast.accelerator_state,
            pid=pid,
            started_at=self._started_at,
            state=self._state(),
            mounts=self._mounts,
            workers_wanted=1,
            workers=[worker],
            backlogs=[
                Backlog(address=str(it.address), waiting=connections_waiting(it.socket))
                for it in self._sockets
            ],
            backlog_most=self._backlog,
        )

    def _counted(self) -> Totals:
        return Totals.of_memory(self._memory.memory, self._memory.layout.bounds)

    def _state(self) -> str:
        if self._is_stopping.is_set():
            return "stopping"
        return "running" if self._is_ready.is_set() else "starting"

    def _worker_state(self, figures: Figures) -> str:
        if self._is_stopping.is_set():
            return "stopping"
        if not self._is_ready.is_set():
            return "starting"
        return "busy" if figures.in_flight >= figures.capacity else "ready"
