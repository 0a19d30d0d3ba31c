"""The supervisor: keeps the wanted number of workers, reloads without losing a request, drains."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge._version import __version__
from uwsgibridge.config.control_path import (
    default_control_path,
    remove_control_directory,
    remove_stale_sockets,
)
from uwsgibridge.config.settings import DEFAULT_BIND, Settings, SettingsError
from uwsgibridge.exit_status import EXIT_APPLICATION, EXIT_FAILURE, StartFailed
from uwsgibridge.hosts.loading import own_stack
from uwsgibridge.listener.sockets import BindError, ListeningSocket, open_sockets
from uwsgibridge.process import raise_descriptor_limit
from uwsgibridge.serving import names_of_threads, single_error
from uwsgibridge.supervisor.backlog import connections_waiting
from uwsgibridge.supervisor.control import MAX_WORKERS, CommandFailed, serve_control
from uwsgibridge.supervisor.generation import Generation, GenerationContext, Tally
from uwsgibridge.supervisor.heritage import (
    HANDED_ON,
    Heritage,
    hold_signals,
)
from uwsgibridge.supervisor.process_figures import cpu_seconds, rss_bytes
from uwsgibridge.supervisor.recycling import Candidate, RecyclingPolicy
from uwsgibridge.supervisor.rehearsal import Rehearsal
from uwsgibridge.supervisor.scaling import Load, ScalingPolicy
from uwsgibridge.supervisor.systemd import Notifier, inherited_sockets
from uwsgibridge.supervisor.worker_process import WorkerProcess
from uwsgibridge.telemetry.log_file import LogFileError, open_log_file
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.watching import (
    require_directories,
    require_watchfiles,
    watch_code,
    watch_touch,
)

# Between two looks at the workers: a question to each, its memory, the backlog.
_BEAT_SECONDS: Final = 1.0

# Before a template whose code does not come up is tried again by itself.
_BROKEN_TEMPLATE_SECONDS: Final = 10.0

# Beyond what a worker's end may take: its last cancellation, its exit.
_END_MARGIN_SECONDS: Final = 5.0

# For an answer to `status`, which does not wait for workers that are stuck.
_STATUS_SECONDS: Final = 0.5

# For a template to fork, which takes milliseconds.
_FORK_SECONDS: Final = 30.0


def run_supervisor(
    app_name: str | None,
    settings: Settings,
    logger: Logger,
    *,
    bound: Callable[[Sequence[ListeningSocket]], None],
) -> None:
    """Serve with workers until SIGTERM or SIGINT, then drain and return.

    A second such signal breaks the drain off. SIGHUP reloads, SIGTTIN and SIGTTOU add and take away a
    worker, SIGUSR1 opens the log file anew, SIGUSR2 upgrades in place, SIGQUIT logs all stacks.

    Args:
        app_name: as for `uwsgibridge.process.run_process`.
        settings: `settings.workers` of them.
        logger: where log events go.
        bound: called with the sockets, before anything of the application is.

    Raises:
        SettingsError: what systemd handed over, or what is to be watched, can't be used.
        BindError: an address can't be listened at.
        StartFailed: the first workers did not come up.
    """
    heritage = Heritage.from_environment()
    if heritage is not None:
        logger.info("upgraded", version=__version__)
    hold_signals()
    notifier = Notifier.from_environment(os.environ)
    settings = _with_addresses(settings, heritage)
    if settings.reload:
        require_watchfiles()
        require_directories(_watched(settings))
    raise_descriptor_limit()
    with _open_sockets(settings, heritage, logger) as sockets, single_error():
        every = [one for all_ in sockets.values() for one in all_]
        bound(every)
        while True:
            supervisor = _Supervisor(app_name, settings, logger, sockets, notifier, heritage)
            heritage = trio.run(supervisor.run)
            if heritage is None:
                break
            notifier.restore(os.environ)
            try:
                heritage.exec()
            except OSError as error:
                logger.error("upgrade failed: nothing can be started", reason=str(error))  # noqa: TRY400 - the reason says it
                notifier = Notifier.from_environment(os.environ)


def _watched(settings: Settings) -> list[Path]:
    return [Path(it) for it in settings.reload_dir or (settings.app_dir,)]


def _with_addresses(settings: Settings, heritage: Heritage | None) -> Settings:
    """Replace the default address by the sockets of systemd, where there are some."""
    activated = tuple(f"fd://{descriptor}" for descriptor in inherited_sockets(os.environ))
    if activated and settings.bind != (DEFAULT_BIND,):
        raise SettingsError(
            "systemd hands over sockets, and --bind names others: leave out one of them"
        )
    if heritage is not None and all(it.startswith("fd://") for it in heritage.bind):
        activated = tuple(heritage.bind)
    return replace(settings, bind=activated) if activated else settings


@contextlib.contextmanager
def _open_sockets(
    settings: Settings, heritage: Heritage | None, logger: Logger
) -> Iterator[dict[str, Sequence[ListeningSocket]]]:
    """Listen at each address, or take over what listens there already."""
    taken_over = dict(heritage.sockets) if heritage is not None else {}
    with contextlib.ExitStack() as stack:
        for all_ in taken_over.values():
            for one in all_:
                stack.callback(one.close)
        sockets: dict[str, Sequence[ListeningSocket]] = {}
        failed = False
        for address in settings.bind:
            if address in taken_over:
                sockets[address] = taken_over.pop(address)
                continue
            try:
                sockets[address] = stack.enter_context(
                    open_sockets((address,), mode=settings.socket_mode, backlog=settings.backlog)
                )
            except BindError as error:
                if heritage is None:
                    raise
                logger.error("upgrade keeps the old addresses", reason=str(error))  # noqa: TRY400 - the reason says it
                failed = True
        if failed:
            sockets |= taken_over
        else:
            for all_ in taken_over.values():  # no longer wanted; the old workers still drain them
                for one in all_:
                    one.close()
        yield sockets


class _Supervisor:
    """One run, from the start or an upgrade to the stop or the next upgrade."""

    def __init__(
        self,
        app_name: str | None,
        settings: Settings,
        logger: Logger,
        sockets: dict[str, Sequence[ListeningSocket]],
        notifier: Notifier,
        heritage: Heritage | None,
    ) -> None:
        self._app_name = app_name
        self._settings = settings
        self._log = logger
        self._sockets_by_address = sockets
        self._sockets = [one for all_ in sockets.values() for one in all_]
        self._notifier = notifier
        self._heritage = heritage
        self._tally = Tally(**heritage.tally) if heritage is not None else Tally()
        self._started_at = heritage.started_at if heritage is not None else monotonic()
        self._lifeline, self._held = heritage.lifeline if heritage is not None else os.pipe()
        self._follows_load = bool(settings.workers_min or settings.workers_max)
        self._least = settings.workers_min or 1
        if self._follows_load:
            self._most = settings.workers_max or max(settings.workers, self._least)
        else:
            self._most = MAX_WORKERS
        self._wanted = min(max(settings.workers, self._least), self._most)
        self._changed = trio.Event()
        self._stopping = trio.Event()
        self._is_hurried = False
        self._upgrading = False
        self._rehearsal: Rehearsal | None = None
        self._generations: list[Generation] = []
        self._current: Generation
        # Reloads are counted: one that is asked for while another runs is not lost.
        self._reload_reason = ""
        self._reloads_asked = 0
        self._reloads_done = 0
        self._reload_failed = False
        self._is_reloading = False
        # Workers of the current generation that those of the next stand in for.
        self._taken_over = 0
        self._recycled: WorkerProcess | None = None
        self._policy = RecyclingPolicy(
            max_requests=settings.max_requests,
            max_requests_jitter=settings.max_requests_jitter,
            worker_lifetime_seconds=settings.worker_lifetime_seconds,
            worker_lifetime_jitter_seconds=settings.worker_lifetime_jitter_seconds,
            max_rss_bytes=settings.max_rss_bytes,
            max_rss_hard_bytes=settings.max_rss_hard_bytes,
            chance=random.Random(),  # noqa: S311 - it spreads work, and keeps no secret
        )
        self._scaling = (
            ScalingPolicy(
                self._least,
                self._most,
                queue_seconds=settings.scale_queue_seconds,
                grow_after_seconds=settings.scale_up_seconds,
                idle_seconds=settings.scale_idle_seconds,
            )
            if self._follows_load
            else None
        )

    async def run(self) -> Heritage | None:
        """Run; a value where the process is to be handed on."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._context = GenerationContext(
                self._policy, self._log, self._tally, self._note_change, nursery
            )
            await nursery.start(self._take_signals)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
            nursery.start_soon(self._feed_watchdog)
            await self._begin()
            if not self._ends():
                nursery.start_soon(self._beat)
                nursery.start_soon(self._reload_when_asked)
                await self._open_doors(nursery)
                for listening in self._sockets:
                    self._log.info("listening", address=str(listening.address))
                self._notifier.ready(self._summary())
                await self._keep_up()
            self._upgrading = self._upgrading and not self._stopping.is_set()
            if not self._upgrading:
                self._notifier.stopping()
                await self._drain(self._generations)
            nursery.cancel_scope.cancel()
        if self._upgrading:
            if self._stopping.is_set():  # asked for in the last moment: the new program does it
                signal.raise_signal(signal.SIGTERM)
            return self._bequeath()
        os.close(self._held)
        os.close(self._lifeline)
        if not self._settings.control_socket:
            remove_control_directory()
        self._log.info("stopped")
        return None

    async def _begin(self) -> None:
        """Bring up the first workers; after an upgrade, have the old ones replaced."""
        if self._heritage is not None:
            for one in self._heritage.generations:
                self._generations.append(Generation.adopt(one, self._context))
            *left, self._current = self._generations
            if left:
                self._nursery.start_soon(self._drain, left)
            self._ask_for_reload("upgrade")
            return
        try:
            self._current = self._start_generation()
        except OSError as error:
            self._log.error("no process can be started", reason=str(error))
            raise StartFailed(EXIT_FAILURE) from error
        self._is_reloading = True
        came_up = await self._bring_up(self._current)
        self._is_reloading = False
        self._note_change()
        if not came_up:
            status = self._current.failed_status
            stopped = self._stopping.is_set()
            await self._drain([self._current])
            if not stopped:
                raise StartFailed(EXIT_APPLICATION if status is None else status)

    async def _open_doors(self, nursery: trio.Nursery) -> None:
        """Begin to listen to what steers: the control socket, files that change."""
        settings = self._settings
        if settings.control_socket != "none":
            path = Path(settings.control_socket) if settings.control_socket else None
            if path is None:
                remove_stale_sockets()
                path = default_control_path(os.getpid())
            try:
                if path is not None:
                    await nursery.start(
                        lambda task_status: serve_control(
                            path, self, logger=self._log, task_status=task_status
                        )
                    )
            except BindError as error:
                # After an upgrade, nothing is to end what serves.
                if settings.control_socket and self._heritage is None:
                    await self._drain(self._generations)
                    raise
                self._log.warning("no control socket", reason=str(error), option="--control-socket")
        if settings.touch_reload:
            nursery.start_soon(
                watch_touch, [Path(it) for it in settings.touch_reload], self._ask_for_reload
            )
        if settings.reload:
            nursery.start_soon(self._watch_code)

    async def _watch_code(self) -> None:
        settings = self._settings
        try:
            await watch_code(
                _watched(settings),
                settings.reload_include,
                settings.reload_exclude,
                self._ask_for_reload,
            )
        except (SettingsError, OSError) as error:
            # No reason to stop serving.
            self._log.error("code is not watched", reason=str(error), option="--reload")

    def _bequeath(self) -> Heritage:
        left = [one for one in self._generations if one is not self._current]
        described = [one.bequeath() for one in (*left, self._current)]
        return Heritage(
            self._settings.bind,
            self._sockets_by_address,
            (self._lifeline, self._held),
            [description for description, _ in described],
            asdict(self._tally),
            self._started_at,
            [it for _, descriptors in described for it in descriptors],
        )

    # Signals.

    async def _take_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(*HANDED_ON) as signals:
            task_status.started()
            async for number in signals:
                self._take_signal(signal.Signals(number))

    def _take_signal(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._take_stop(number.name)
            case signal.SIGHUP:
                self._ask_for_reload(number.name)
            case signal.SIGUSR1:
                self._reopen_log()
            case signal.SIGUSR2:
                self._nursery.start_soon(self._upgrade)
            case signal.SIGQUIT:
                self._nursery.start_soon(self._log_stacks)
            case signal.SIGTTIN | signal.SIGTTOU:
                step = 1 if number == signal.SIGTTIN else -1
                self._want(min(max(self._wanted + step, self._least), self._most), number.name)

    def _take_stop(self, reason: str) -> None:
        if self._stopping.is_set():
            self._log.warning("stopping at once", reason=reason)
            self._is_hurried = True
            self._note_change()
            for generation in self._generations:
                generation.hurry_workers()
        else:
            self._log.info("stopping: running requests may end", reason=reason)
            self._stopping.set()
            if self._rehearsal is not None:
                self._rehearsal.break_off()
            self._note_change()

    def _reopen_log(self) -> None:
        if not self._settings.log_file:
            self._log.info("nothing to open anew: there is no log file", option="--log-file")
            return
        try:
            open_log_file(Path(self._settings.log_file).absolute())
        except LogFileError as error:
            self._log.error("the log file stays as it is", reason=str(error))
            return
        for generation in self._generations:
            generation.signal_template(signal.SIGUSR1)
            for worker in generation.workers.values():
                worker.signal(signal.SIGUSR1)
        self._log.info("log file opened anew")

    async def _log_stacks(self) -> None:
        for process in (await self.stacks())["processes"]:
            self._log.info("stacks", **process)

    async def _upgrade(self) -> None:
        """Hand the process on, if the program that is installed now takes these arguments."""
        if self._rehearsal is not None or self._ends():
            return
        try:
            self._rehearsal = Rehearsal()
            status, output = await self._rehearsal.wait()
        except OSError as error:
            status, output = EXIT_FAILURE, str(error)
        finally:
            self._rehearsal = None
        if self._ends():
            return
        if status:
            self._log.error(
                "upgrade failed: the program that is installed now does not start",
                exit_status=status,
                output=output,
            )
            return
        if self._is_reloading:
            self._log.info("upgrade comes when the new workers are up")
            # Half of the new workers are nothing to hand on.
            await self._wait_for(lambda: not self._is_reloading or self._ends())
        if self._ends():
            return
        self._log.info("upgrading: the program that is installed now takes over")
        self._upgrading = True
        self._note_change()

    # The number of workers.

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_for(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()

    def _want(self, workers: int, reason: str) -> None:
        if workers != self._wanted:
            self._wanted = workers
            self._log.info("number of workers changed", workers=workers, reason=reason)
            self._notifier.status(self._summary())
            self._note_change()

    def _ends(self) -> bool:
        return self._stopping.is_set() or self._upgrading

    async def _keep_up(self) -> None:
        """Replace what ends and follow the wanted number, until it is time to stop."""
        while not self._ends():
            changed = self._changed
            current = self._current
            # One that is recycled is there beside its successor.
            wanted = self._wanted + (self._recycled in current.running) - self._taken_over
            missing = wanted - current.expected
            if missing < 0 and current.running:
                current.stop_one()
                continue
            if current.has_ended:
                if not self._is_reloading and not self._reload_reason:
                    self._ask_for_reload("the template has ended")
            elif missing > 0:
                if current.backoff.reason:
                    await self._back_off(current)
                    continue
                for _ in range(missing):
                    if not current.fork():
                        break
            elif len(current.ready) == current.expected:
                current.backoff.note_all_ready()
            await changed.wait()

    async def _back_off(self, generation: Generation) -> None:
        """Wait: workers have ended right away, and the next one probably does, too."""
        current, reason = self._current, generation.backoff.reason
        seconds = generation.backoff.take_pause()
        self._log.warning("next worker", in_seconds=seconds, reason=reason)
        with trio.move_on_after(seconds):
            await self._wait_for(lambda: self._ends() or self._current is not current)

    # Generations.

    def _start_generation(self) -> Generation:
        number = max((it.number for it in self._generations), default=0) + 1
        generation = Generation.start(
            number, self._app_name, self._settings, self._sockets, self._lifeline, self._context
        )
        self._generations.append(generation)
        return generation

    async def _bring_up(self, generation: Generation) -> bool:
        """Start the wanted number of workers; False where one ends before it is ready."""
        # One alone first: an application that can't be loaded says so once.
        return await self._fork_until(generation, 1) and await self._fork_until(
            generation, self._wanted
        )

    async def _fork_until(self, generation: Generation, count: int) -> bool:
        limit = self._settings.lifespan_timeout_seconds + _END_MARGIN_SECONDS
        with trio.move_on_after(limit):
            while not generation.has_failed and not self._ends():
                if len(generation.ready) >= count:
                    return True
                if generation.backoff.reason:
                    await self._back_off(generation)
                    continue
                changed = self._changed
                # Anew, too, for one that was killed when it was ready.
                for _ in range(count - generation.expected):
                    if not generation.fork():
                        break
                await changed.wait()
            return False
        self._log.error("workers are not ready in time", option="--lifespan-timeout-seconds")
        return False

    def _ask_for_reload(self, reason: str) -> None:
        self._reloads_asked += 1
        self._reload_reason = reason
        self._note_change()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._wait_for(lambda: bool(self._reload_reason) and not self._ends())
            reason, self._reload_reason = self._reload_reason, ""
            serves = self._reloads_asked
            self._log.info("reloading: new workers come up first", reason=reason)
            self._notifier.reloading()
            self._reload_failed = not await self._replace_generation()
            self._notifier.ready(self._summary())
            self._reloads_done = serves
            self._note_change()
            if self._reload_failed and self._current.has_ended:
                # Nothing can be forked any more, and what is loaded is broken: not too often.
                await trio.sleep(_BROKEN_TEMPLATE_SECONDS)

    async def _replace_generation(self) -> bool:
        """Bring up a new generation and drain the one before; False where that fails."""
        self._is_reloading = True
        try:
            old = self._current
            try:
                new = self._start_generation()
            except OSError as error:
                self._log.error("reload failed: no process can be started", reason=str(error))
                return False
            came_up = (
                await self._chain(old, new)
                if self._settings.reload_mode == "chain"
                else await self._bring_up(new)
            )
            if not came_up:
                if not self._ends():
                    self._log.error("reload failed: the old code goes on")
                    self._nursery.start_soon(self._drain, [new])
                return False
            self._current = new
            self._log.info("reloaded", workers=len(new.ready), generation=new.number)
            self._nursery.start_soon(self._drain, [old])
            return True
        finally:
            self._taken_over = 0
            self._is_reloading = False
            self._note_change()

    async def _chain(self, old: Generation, new: Generation) -> bool:
        """Bring up one worker after the other, and take an old one away for each."""
        while len(new.ready) < self._wanted:
            if not await self._fork_until(new, len(new.ready) + 1):
                return False
            self._taken_over = len(new.ready)
            self._note_change()  # the old generation keeps up with fewer
            with trio.move_on_after(self._end_seconds(*old.workers.values())):
                await self._wait_for(
                    lambda: (
                        len(old.workers) <= max(0, self._wanted - self._taken_over) or self._ends()
                    )
                )
        return True

    def _end_seconds(self, *workers: WorkerProcess) -> float:
        """How long the end of these workers may take, at the most."""
        told = max((it.end_seconds for it in workers), default=0.0)
        return max(told, self._settings.graceful_timeout_seconds) + _END_MARGIN_SECONDS

    def _patience_seconds(self, worker: WorkerProcess) -> float:
        """How long it may take to end; one whose loop stands still is not about to shut down."""
        stands_still = worker.silent_seconds > _END_MARGIN_SECONDS
        return self._end_seconds() if stands_still else self._end_seconds(worker)

    async def _drain(self, generations: Sequence[Generation]) -> None:
        """Ask all workers to end, wait for them, and end their templates."""
        drained = list(generations)

        def are_over() -> bool:
            return all(it.is_over for it in drained)

        # Those that somebody else has made are accepted from again by who comes next.
        is_last = self._stopping.is_set() and not any(it.is_inherited for it in self._sockets)
        for generation in drained:
            generation.stop_workers(is_last=is_last)
        if self._stopping.is_set():
            for listening in self._sockets:
                listening.close()  # Nginx is refused at once, and tries another server
        workers = [worker for it in drained for worker in it.workers.values()]
        with trio.move_on_after(self._end_seconds(*workers)):
            await self._wait_for(lambda: are_over() or self._is_hurried)
            with trio.move_on_after(_END_MARGIN_SECONDS):
                await self._wait_for(are_over)
        for generation in drained:
            generation.kill_workers()
        with trio.move_on_after(_END_MARGIN_SECONDS):
            await self._wait_for(are_over)  # what they held is reported
        for generation in drained:
            await generation.end()
            if generation in self._generations:
                self._generations.remove(generation)
            if not self._stopping.is_set():
                self._log.info("generation has ended", generation=generation.number)
        self._note_change()

    # Looks at the workers.

    async def _beat(self) -> None:
        while True:
            for generation in self._generations:
                for worker in list(generation.workers.values()):
                    self._look_at(worker)
            self._look_at_template(self._current)
            self._consider_recycling()
            self._consider_scaling()
            if os.getpid() == 1 and self._rehearsal is None:
                self._reap_orphans()
            with trio.move_on_after(_BEAT_SECONDS):
                await self._wait_for(self._somebody_has_enough)

    def _somebody_has_enough(self) -> bool:
        may_recycle = self._recycled is None and not self._is_reloading and not self._ends()
        return may_recycle and any(
            it.has_enough and self._reason_to_recycle(it) is not None for it in self._current.ready
        )

    def _look_at(self, worker: WorkerProcess) -> None:
        if worker.is_doomed:
            return
        settings = self._settings
        start_seconds = settings.lifespan_timeout_seconds + _END_MARGIN_SECONDS
        reason = self._policy.reason_to_kill(rss_bytes(worker.pid))
        if reason is not None:
            self._kill(worker, "killing worker", reason=reason)
        elif worker.stopping_seconds > self._patience_seconds(worker):
            self._kill(
                worker,
                "killing worker: it does not end",
                option="--graceful-timeout-seconds",
            )
        elif not worker.is_ready and worker.age_seconds > start_seconds:
            self._kill(
                worker,
                "killing worker: it is not ready in time",
                option="--lifespan-timeout-seconds",
            )
        elif not worker.is_ready:
            pass
        elif worker.is_stopping:
            worker.ask()
        elif 0 < settings.heartbeat_timeout_seconds < worker.silent_seconds:
            worker.is_doomed = True
            self._nursery.start_soon(self._kill_stuck, worker)
        else:
            worker.ask()

    def _kill(self, worker: WorkerProcess, event: str, **why: Any) -> None:
        self._log.error(event, worker=worker.pid, **why)
        worker.is_doomed = True
        worker.signal(signal.SIGKILL)

    async def _kill_stuck(self, worker: WorkerProcess) -> None:
        seconds = worker.silent_seconds
        stack = await worker.dump()
        if not worker.silent_seconds:
            worker.is_doomed = False  # it was this process, or the machine, that stood still
            return
        self._kill(
            worker,
            "killing worker: it does not answer",
            seconds=round(seconds, 1),
            option="--heartbeat-timeout-seconds",
            stack=stack,
        )

    def _look_at_template(self, generation: Generation) -> None:
        if generation.owing_seconds > _FORK_SECONDS:
            self._log.error("killing template: it does not fork", template=generation.template_pid)
            generation.signal_template(signal.SIGKILL)

    def _consider_recycling(self) -> None:
        now = monotonic()
        candidates = []
        for worker in self._current.running:
            if worker.is_ready and self._reason_to_recycle(worker) is not None:
                worker.due_since = worker.due_since or now
                candidates.append(Candidate(worker.pid, worker.due_since))
            else:
                worker.due_since = None
        if self._recycled is None and not self._is_reloading and not self._ends():
            chosen = self._policy.choose(candidates)
            if chosen is not None:
                self._recycled = self._current.workers[chosen]
                self._nursery.start_soon(self._recycle, self._current, self._recycled)

    def _reason_to_recycle(self, worker: WorkerProcess) -> str | None:
        told = worker.figures.requests if worker.figures is not None else 0
        return self._policy.reason_to_recycle(
            worker.limits,
            requests=max(told, worker.limits.requests) if worker.has_enough else told,
            age_seconds=worker.age_seconds,
            rss_bytes=rss_bytes(worker.pid) if self._policy.max_rss_bytes else None,
        )

    async def _recycle(self, generation: Generation, worker: WorkerProcess) -> None:
        """Replace a worker: the new one comes first, then the old one drains."""
        reason = self._reason_to_recycle(worker)
        self._log.info("recycling worker", worker=worker.pid, reason=reason)
        self._note_change()

        def is_moot() -> bool:
            return (
                generation is not self._current
                or self._is_reloading
                or self._ends()
                or generation.workers.get(worker.pid) is not worker
            )

        limit = self._settings.lifespan_timeout_seconds + _END_MARGIN_SECONDS
        with trio.move_on_after(limit) as waiting:
            await self._wait_for(lambda: len(generation.ready) > self._wanted or is_moot())
        if waiting.cancelled_caught:
            self._log.error("worker goes on: no other comes up", worker=worker.pid)
        elif not is_moot():
            self._tally.recycled += 1
            worker.stop()
            with trio.move_on_after(self._end_seconds(worker) + _END_MARGIN_SECONDS):
                await self._wait_for(lambda: generation.workers.get(worker.pid) is not worker)
        self._recycled = None
        self._note_change()

    def _consider_scaling(self) -> None:
        if self._scaling is None or self._is_reloading or self._ends():
            return
        ready = self._current.ready
        figures = [it.figures for it in ready if it.figures is not None]
        # One that is being replaced and its successor count once.
        count = min(len(ready), self._wanted)
        load = Load(
            workers=count,
            starting=self._wanted - count,
            waiting=sum(connections_waiting(it.socket) or 0 for it in self._sockets),
            queue_seconds=max((it.queue_seconds for it in ready), default=0.0),
            in_flight=sum(it.in_flight for it in figures),
            capacity=sum(it.capacity for it in figures),
        )
        step = self._scaling.decide(load, monotonic())
        if step is not None:
            self._want(step.workers, step.reason)

    def _reap_orphans(self) -> None:
        """Take leave of processes that others have left to us, as the first process has to."""
        templates = {it.template_pid for it in self._generations}
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in templates:
                    return  # whose thread waits for it already
                os.waitpid(ended.si_pid, 0)

    async def _feed_watchdog(self) -> None:
        while self._notifier.watchdog_seconds is not None:
            self._notifier.watchdog()
            await trio.sleep(self._notifier.watchdog_seconds)

    def _summary(self) -> str:
        return f"{self._wanted} workers, generation {self._current.number}"

    # Commands of the control socket.

    async def status(self) -> dict[str, Any]:
        """Tell how the supervisor and its workers are."""
        async with trio.open_nursery() as nursery:
            for generation in self._generations:
                for worker in generation.ready:
                    nursery.start_soon(worker.heartbeat, _STATUS_SECONDS)
        workers = [
            {
                **worker.describe(),
                "generation": generation.number,
                "rss_bytes": rss_bytes(worker.pid),
                "cpu_seconds": cpu_seconds(worker.pid),
                "heartbeat_seconds_ago": worker.heard_seconds_ago,
            }
            for generation in self._generations
            for worker in generation.workers.values()
        ]
        return {
            "version": __version__,
            "pid": os.getpid(),
            "name": self._app_name or ", ".join(self._settings.mount),
            "started_seconds_ago": round(monotonic() - self._started_at, 3),
            "state": self._state(),
            "generation": self._current.number,
            "workers_wanted": self._wanted,
            "listening": [
                {"address": str(it.address), "waiting": connections_waiting(it.socket)}
                for it in self._sockets
            ],
            "requests": self._tally.requests + sum(it["requests"] or 0 for it in workers),
            "recycled": self._tally.recycled,
            "crashed": self._tally.crashed,
            "workers": workers,
        }

    def _state(self) -> str:
        if self._stopping.is_set():
            return "stopping"
        return "reloading" if self._is_reloading else "running"

    async def reload(self) -> dict[str, Any]:
        """Bring up new workers with new code, and return when they serve."""
        self._ask_for_reload("control socket")
        mine = self._reloads_asked
        await self._wait_for(lambda: self._reloads_done >= mine or self._ends())
        if self._ends():
            raise CommandFailed("the supervisor stops")
        if self._reload_failed:
            raise CommandFailed("the new code does not come up, the old goes on; the log says why")
        return {"reloaded": True, "generation": self._current.number}

    async def scale(self, workers: int) -> dict[str, Any]:
        """Change the number of workers."""
        if not self._least <= workers <= self._most:
            raise CommandFailed(f"workers is from {self._least} to {self._most} here")
        self._want(workers, "control socket")
        return {"workers_wanted": self._wanted}

    async def stop(self) -> dict[str, Any]:
        """Begin the graceful stop."""
        if not self._stopping.is_set():
            self._take_stop("control socket")
        return {"stopping": True}

    async def stacks(self) -> dict[str, Any]:
        """Give the stacks of all processes."""
        names = names_of_threads()
        own = "\n".join(
            f"Thread {names.get(ident, ident)}:\n{own_stack(frame)}"
            for ident, frame in sys._current_frames().items()  # noqa: SLF001 - documented for this
        )
        processes: list[dict[str, Any]] = [{"pid": os.getpid(), "role": "supervisor", "stack": own}]

        async def ask(worker: WorkerProcess) -> None:
            stack = await worker.stacks()
            processes.append({"pid": worker.pid, "role": "worker", "stack": stack})

        async with trio.open_nursery() as nursery:
            for generation in self._generations:
                for worker in list(generation.workers.values()):
                    nursery.start_soon(ask, worker)
        return {"processes": processes}
