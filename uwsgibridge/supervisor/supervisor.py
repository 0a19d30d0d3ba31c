"""The supervisor: keeps the wanted number of workers, reloads without losing a request, drains."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.exit_status import EXIT_APPLICATION, StartFailed
from uwsgibridge.listener.sockets import ListeningSocket, open_sockets
from uwsgibridge.process import raise_descriptor_limit
from uwsgibridge.serving import single_error
from uwsgibridge.supervisor.generation import Generation
from uwsgibridge.telemetry.logs import Logger

# A worker that ends sooner counts as one that can't start, and its successor has to wait.
_SHORT_LIFE_SECONDS: Final = 5.0
_FIRST_BACKOFF_SECONDS: Final = 0.1
_MAX_BACKOFF_SECONDS: Final = 10.0

# Beyond the graceful time: what the last cancellation and the exit of a worker take.
_END_MARGIN_SECONDS: Final = 5.0


def run_supervisor(app_name: str | None, settings: Settings, logger: Logger) -> None:
    """Serve with several workers until SIGTERM or SIGINT, then drain and return.

    SIGHUP reloads, SIGTTIN and SIGTTOU add and take away a worker, a second SIGTERM or SIGINT breaks
    the drain off.

    Args:
        app_name: as for `uwsgibridge.process.run_process`.
        settings: `settings.workers` of them.
        logger: where log events go.

    Raises:
        BindError: an address can't be listened at.
        StartFailed: the first workers did not come up.
    """
    raise_descriptor_limit()
    with (
        open_sockets(settings.bind, mode=settings.socket_mode, backlog=settings.backlog) as sockets,
        single_error(),
    ):
        trio.run(_Supervisor(app_name, settings, logger, sockets).run)


class _Supervisor:
    def __init__(
        self,
        app_name: str | None,
        settings: Settings,
        logger: Logger,
        sockets: list[ListeningSocket],
    ) -> None:
        self._app_name = app_name
        self._settings = settings
        self._log = logger
        self._sockets = sockets
        self._wanted = settings.workers
        self._lifeline, self._held = os.pipe()
        self._changed = trio.Event()
        self._stopping = trio.Event()
        self._reload_wanted = False
        self._backoff_seconds = 0.0
        self._current: Generation

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await nursery.start(self._take_signals)
                self._current = self._start_generation()
                if not await self._bring_up(self._current):
                    status = self._current.last_status
                    await self._drain([self._current])
                    raise StartFailed(EXIT_APPLICATION if status is None else status)
                for listening in self._sockets:
                    self._log.info("listening", address=str(listening.address))
                await self._keep_up()
                await self._drain([self._current])
                nursery.cancel_scope.cancel()
        finally:
            os.close(self._held)
            os.close(self._lifeline)
        self._log.info("stopped")

    async def _take_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
        with trio.open_signal_receiver(*handled) as signals:
            task_status.started()
            async for number in signals:
                self._take_signal(signal.Signals(number))

    def _take_signal(self, number: signal.Signals) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            if self._stopping.is_set():
                self._log.warning("stopping at once", signal=number.name)
                self._current.signal_workers(signal.SIGTERM)
            else:
                self._log.info("stopping: running requests may end", signal=number.name)
                self._stopping.set()
        elif number == signal.SIGHUP:
            self._reload_wanted = True
        else:
            step = 1 if number == signal.SIGTTIN else -1
            self._wanted = max(1, self._wanted + step)
            self._log.info("number of workers changed", workers=self._wanted, signal=number.name)
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_for(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()

    def _start_generation(self) -> Generation:
        generation = Generation(
            self._app_name,
            self._settings,
            self._sockets,
            lifeline=self._lifeline,
            logger=self._log,
            changed=self._note_change,
        )
        self._nursery.start_soon(generation.listen)
        self._nursery.start_soon(self._watch_template, generation)
        return generation

    async def _watch_template(self, generation: Generation) -> None:
        generation.last_status = await generation.wait_for_template() or generation.last_status
        self._note_change()

    async def _bring_up(self, generation: Generation) -> bool:
        """Start the wanted number of workers; False where one ends before it is ready."""
        # One alone first: an application that can't be loaded says so once.
        return await self._fork_until(generation, 1) and await self._fork_until(
            generation, self._wanted
        )

    async def _fork_until(self, generation: Generation, count: int) -> bool:
        for _ in range(count - generation.ready_count):
            await generation.fork()

        def has_failed() -> bool:
            return not generation.is_alive or generation.last_status is not None

        with trio.move_on_after(self._settings.lifespan_timeout_seconds + _END_MARGIN_SECONDS):
            await self._wait_for(
                lambda: has_failed() or generation.ready_count >= count or self._stopping.is_set()
            )
            return not has_failed()
        return False

    async def _keep_up(self) -> None:
        """Replace what ends, and follow signals, until it is time to stop."""
        while not self._stopping.is_set():
            changed = self._changed
            if self._reload_wanted or not self._current.is_alive:
                self._reload_wanted = False
                await self._reload()
                continue
            running = [it for it in self._current.workers.values() if not it.is_stopping]
            if len(running) > self._wanted:
                self._current.stop_one()
            elif len(running) < self._wanted:
                await self._replace(self._wanted - len(running))
                continue
            else:
                await changed.wait()

    async def _replace(self, missing: int) -> None:
        young = trio.current_time() - _SHORT_LIFE_SECONDS
        if any(worker.started_at < young for worker in self._current.workers.values()):
            self._backoff_seconds = 0.0
        if self._backoff_seconds:
            with trio.move_on_after(self._backoff_seconds):
                await self._stopping.wait()
                return
        self._backoff_seconds = min(
            _MAX_BACKOFF_SECONDS, max(_FIRST_BACKOFF_SECONDS, 2 * self._backoff_seconds)
        )
        known = len(self._current.workers)
        for _ in range(missing):
            await self._current.fork()
        with trio.move_on_after(_SHORT_LIFE_SECONDS):
            await self._wait_for(
                lambda: (
                    len(self._current.workers) >= known + missing
                    or not self._current.is_alive
                    or self._stopping.is_set()
                )
            )

    async def _reload(self) -> None:
        self._log.info("reloading: new workers come up first")
        new = self._start_generation()
        if not await self._bring_up(new):
            self._log.error("reload failed: the old code goes on")
            await self._drain([new])
            return
        old, self._current = self._current, new
        self._log.info("reloaded", workers=new.ready_count)
        self._nursery.start_soon(self._drain, [old])

    async def _drain(self, generations: list[Generation]) -> None:
        """Ask all workers to end, wait for them, and end their templates."""
        for generation in generations:
            generation.signal_workers(signal.SIGTERM)
        if self._stopping.is_set():
            for listening in self._sockets:
                listening.close()  # Nginx is refused at once, and tries another server
        limit = self._settings.graceful_timeout_seconds + _END_MARGIN_SECONDS
        for generation in generations:
            with trio.move_on_after(limit):
                await self._wait_for(lambda it=generation: not it.workers or not it.is_alive)  # type: ignore[misc]
            generation.signal_workers(signal.SIGKILL)
            await generation.end()
