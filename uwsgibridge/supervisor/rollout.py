"""Brings generations of workers up, keeps the number of workers, replaces generations, and drains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.figures.families import RELOAD
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.generation import Generation, GenerationContext
from uwsgibridge.supervisor.lost_files import listen_where_lost
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.slow_start import tell_slow_start

# How long to wait before code that does not come up is loaded again, where the template has ended.
_BROKEN_TEMPLATE_SECONDS: Final = 10.0


class Rollout:
    """Starts, replaces and drains the generations of a fleet.

    Args:
        app_name: the application as ``module:attribute``, if any beside the mounts.
        fleet: the workers.
        lifeline: a descriptor whose end of file tells workers that the supervisor is gone.
        context: shared by all generations.
        nursery: runs drains.
    """

    def __init__(
        self,
        app_name: str | None,
        fleet: Fleet,
        lifeline: int,
        context: GenerationContext,
        nursery: trio.Nursery,
    ) -> None:
        self._app_name = app_name
        self._fleet = fleet
        self._log = fleet.log
        self._lifeline = lifeline
        self._context = context
        self._nursery = nursery

    def start(self) -> Generation:
        """Start a generation without a worker.

        Raises:
            OSError: no process can be started.
        """
        number = max((it.number for it in self._fleet.generations), default=0) + 1
        generation = Generation.start(
            number,
            self._app_name,
            self._fleet.settings,
            self._fleet.sockets,
            self._lifeline,
            self._context,
        )
        self._fleet.generations.append(generation)
        return generation

    async def bring_up(self, generation: Generation) -> bool:
        """Start the wanted number of workers; False where a worker ends before it is ready."""
        # The first worker starts alone, so that an application that can't be loaded is reported once.
        return await self._fork_until(generation, 1) and await self._fork_until(
            generation, self._fleet.wanted
        )

    async def keep_up(self) -> None:
        """Keep the wanted number of workers until the supervisor ends or upgrades."""
        while not self._fleet.is_ending():
            changed = self._fleet.changed
            current = self._fleet.current
            # A worker that is being recycled runs beside its successor.
            wanted = (
                self._fleet.wanted
                + (self._fleet.recycled in current.running)
                - self._fleet.replaced_workers
            )
            missing = wanted - current.expected
            if missing < 0 and current.running:
                current.stop_one()
                continue
            if current.template_has_ended:
                if not self._fleet.is_bringing_up and self._fleet.due_reload is None:
                    self._fleet.ask_for_reload("the template has ended")
            elif missing > 0:
                if current.backoff.reason:
                    await self._back_off(current)
                    continue
                for _ in range(missing):
                    if not current.fork(instead_of=self._fleet.recycled):
                        break
            elif len(current.ready) == current.expected:
                current.backoff.reset_if_stable()
            await changed.wait()

    async def reload_when_asked(self) -> None:
        """Replace the current generation whenever a reload is asked for, until cancelled."""
        while True:
            reload = await self._fleet.next_reload()
            self._log.info("reloading: new workers come up first", reason=reload.reason)
            self._fleet.notifier.reloading()
            came_up = await self._replace_generation()
            self._fleet.notifier.ready(self._fleet.summary)
            self._fleet.finish_reload(reload, has_failed=not came_up)
            self._fleet.tally.counted.count(RELOAD + ("done" if came_up else "failed"))
            if not came_up and self._fleet.current.template_has_ended:
                # The template has ended, and the code is broken: try it again, but not too often.
                await trio.sleep(_BROKEN_TEMPLATE_SECONDS)

    async def leave_sockets(self, sockets: Sequence[ListeningSocket]) -> None:
        """Leave sockets whose addresses the options no longer name; the old workers serve what waits there."""
        # As at a stop, templates and this process close the sockets before the workers empty the backlogs.
        ours = [it.socket.fileno() for it in sockets if not it.is_inherited]
        if ours:
            async with trio.open_nursery() as leaving:
                for generation in self._fleet.generations:
                    leaving.start_soon(generation.leave_sockets, ours)
        for listening in sockets:
            self._log.info("no longer listening", address=str(listening.address))
            listening.close()
        if ours:
            for generation in self._fleet.generations:
                generation.announce_leave()
            for generation in self._fleet.generations:
                generation.begin_leave()

    async def drain(self, generations: Sequence[Generation]) -> None:
        """Ask all workers to end, wait for them, and end their templates."""
        drained = list(generations)

        def are_over() -> bool:
            return all(it.is_over for it in drained)

        # The next service accepts on inherited sockets again, so their backlogs are left to it.
        is_last = self._fleet.is_stopping and not any(it.is_inherited for it in self._fleet.sockets)
        if self._fleet.is_stopping:
            # First the sockets are closed, so that Nginx is refused and tries another server. Then the workers
            # empty the backlogs: a connection that came after that would be lost.
            async with trio.open_nursery() as closing:
                for generation in drained:
                    closing.start_soon(generation.close_sockets)
            for listening in self._fleet.sockets:
                listening.close()
        if is_last:
            # All workers are told before the first one refuses new connections for all, so that the others know why.
            for generation in drained:
                generation.tell_last()
        for generation in drained:
            generation.stop_workers()
        workers = [worker for it in drained for worker in it.workers.values()]
        with trio.move_on_after(self._fleet.end_seconds(*workers)):
            await self._fleet.wait_for(lambda: are_over() or self._fleet.phase is Phase.HURRYING)
            with trio.move_on_after(END_MARGIN_SECONDS):
                await self._fleet.wait_for(are_over)
        for generation in drained:
            generation.kill_workers()
        with trio.move_on_after(END_MARGIN_SECONDS):
            await self._fleet.wait_for(are_over)  # so that the requests they held are reported
        for generation in drained:
            await generation.end()
            if generation in self._fleet.generations:
                self._fleet.generations.remove(generation)
            if not self._fleet.is_stopping:
                self._log.info("generation has ended", generation=generation.number)
        self._fleet.wake_waiters()

    async def _replace_generation(self) -> bool:
        """Bring up a new generation and drain the old one; False where the new one does not come up."""
        with self._fleet.bringing_up():
            old = self._fleet.current
            made = listen_where_lost(self._fleet)
            try:
                if self._fleet.settings.speaks_tls:
                    # Imported here, since few services speak TLS.
                    from uwsgibridge.supervisor.tls_files import read_tls_files_again

                    read_tls_files_again(self._fleet.settings, self._fleet.log)
                new = self.start()
            except OSError as error:
                self._log.error("reload failed: no process can be started", reason=str(error))
                _remove_files(made)
                return False
            came_up = (
                await self._chain(old, new)
                if self._fleet.settings.reload_mode == "chain"
                else await self.bring_up(new)
            )
            if not came_up:
                if not self._fleet.is_ending():
                    self._log.error("reload failed: the old code goes on")
                    _remove_files(made)
                    self._nursery.start_soon(self.drain, [new])
                return False
            self._fleet.put_in_service(new)
            self._log.info("reloaded", workers=len(new.ready), generation=new.number)
            self._nursery.start_soon(self.drain, [old])
            return True

    async def _chain(self, old: Generation, new: Generation) -> bool:
        """Bring up one worker after another, and stop an old worker for each."""
        while len(new.ready) < self._fleet.wanted:
            if not await self._fork_until(new, len(new.ready) + 1):
                return False
            self._fleet.set_replaced_workers(len(new.ready))
            with trio.move_on_after(self._fleet.end_seconds(*old.workers.values())):
                await self._fleet.wait_for(
                    lambda: (
                        len(old.workers)
                        <= max(0, self._fleet.wanted - self._fleet.replaced_workers)
                        or self._fleet.is_ending()
                    )
                )
        return True

    async def _fork_until(self, generation: Generation, count: int) -> bool:
        async with trio.open_nursery() as telling:
            telling.start_soon(tell_slow_start, self._fleet, generation)
            came_up = await self._fork_in_time(generation, count)
            telling.cancel_scope.cancel()
        return came_up

    async def _fork_in_time(self, generation: Generation, count: int) -> bool:
        limit = self._fleet.settings.lifespan_timeout_seconds + END_MARGIN_SECONDS
        with trio.move_on_after(limit):
            while not generation.has_failed and not self._fleet.is_ending():
                if len(generation.ready) >= count:
                    return True
                if generation.backoff.reason:
                    await self._back_off(generation)
                    continue
                changed = self._fleet.changed
                # This also replaces a worker that was killed when it was ready.
                for _ in range(count - generation.expected):
                    if not generation.fork():
                        break
                await changed.wait()
            return False
        self._log.error("workers are not ready in time", option="--lifespan-timeout-seconds")
        return False

    async def _back_off(self, generation: Generation) -> None:
        """Wait before the next fork, because workers have ended right away."""
        current, reason = self._fleet.current, generation.backoff.reason
        seconds = generation.backoff.start_pause()
        self._log.warning("next worker starts later", in_seconds=seconds, reason=reason)
        with trio.move_on_after(seconds):
            await self._fleet.wait_for(
                lambda: self._fleet.is_ending() or self._fleet.current is not current
            )


def _remove_files(made: Sequence[ListeningSocket]) -> None:
    """Remove the files of new sockets which no worker has, so that Nginx is refused at once."""
    for listening in made:
        listening.remove_file()
