"""The supervisor: one process from its start, through upgrades, to its stop; takes signals for all."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

import trio

from uwsgibridge._version import __version__
from uwsgibridge.config.settings import DEFAULT_BIND, Settings
from uwsgibridge.connection.failed_start import removing_files_unless_started
from uwsgibridge.connection.socket_files import socket_files
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.control.path import (
    default_control_path,
    directories_passed_over,
    remove_control_directory,
    remove_stale_sockets,
)
from uwsgibridge.control.server import answer_control, open_control, serve_control
from uwsgibridge.errors import (
    EXIT_APPLICATION,
    EXIT_FAILURE,
    BindError,
    LogFileError,
    SettingsError,
    StartFailed,
    WorkerUnfit,
    single_error,
)
from uwsgibridge.supervisor.control_commands import ControlCommands
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.generation import Generation, GenerationContext
from uwsgibridge.supervisor.health import HealthChecks
from uwsgibridge.supervisor.heritage import Heritage, defer_signals
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.preserved import PreservedProgram, current_guard, preserve_program
from uwsgibridge.supervisor.recycling import RecyclingPolicy
from uwsgibridge.supervisor.rehearsal import REHEARSAL_SECONDS, Part, Rehearsal
from uwsgibridge.supervisor.rollout import Rollout
from uwsgibridge.supervisor.tally import Tally
from uwsgibridge.system.privileges import resolve_user
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.system.systemd import Notifier, inherited_sockets
from uwsgibridge.system.watching import (
    require_directories,
    require_watchfiles,
    until_watched,
    watch_code,
    watch_touch,
)
from uwsgibridge.telemetry.announcement import announce
from uwsgibridge.telemetry.log_file import open_log_file
from uwsgibridge.telemetry.logs import Logger


def run_supervisor(
    app_name: str | None,
    settings: Settings,
    logger: Logger,
    *,
    bound: Callable[[], None],
) -> None:
    """Serve with workers until SIGTERM or SIGINT, then drain and return.

    A second such signal breaks the drain off. SIGHUP reloads, SIGTTIN and SIGTTOU add and take away a
    worker, SIGUSR1 opens the log file anew, SIGUSR2 upgrades in place, SIGQUIT logs all stacks.

    Args:
        app_name: as for `uwsgibridge.worker.process.run_process`.
        settings: `settings.workers` of them.
        logger: where log events go.
        bound: called when the sockets are open, before anything of the application is.

    Raises:
        SettingsError: what systemd handed over, or what is to be watched, can't be used.
        BindError: an address can't be listened at.
        StartFailed: the first workers did not come up.
    """
    heritage = Heritage.from_environment()
    guard = current_guard()
    if guard is not None and guard.reason:
        logger.error("upgrade failed: the old program goes on", reason=guard.reason)
    elif heritage is not None:
        logger.info("upgraded", version=__version__)
    defer_signals()
    notifier = Notifier.from_environment(os.environ)
    settings = _with_addresses(settings, heritage)
    if settings.reload:
        require_watchfiles()
        require_directories(_watched(settings))
    with (
        _open_sockets(settings, heritage, logger) as (sockets, handed_over),
        removing_files_unless_started(
            [one for all_ in sockets.values() for one in all_],
            resolve_user(settings.user, settings.group),
        ) as started,
        single_error(),
    ):
        bound()
        program: PreservedProgram | None = None
        unwanted: Sequence[ListeningSocket] = handed_over
        while True:
            supervisor = _Supervisor(
                app_name, settings, logger, sockets, notifier, heritage, program, unwanted, started
            )
            heritage = trio.run(supervisor.run)
            unwanted = ()
            program = supervisor.program
            if heritage is None:
                break
            notifier.restore(os.environ)
            try:
                heritage.exec(supervisor.program)
            except OSError as error:
                logger.error("upgrade failed: nothing can be started", reason=str(error))  # noqa: TRY400 - the reason says it
                notifier = Notifier.from_environment(os.environ)


def rehearse_takeover(app_name: str | None, settings: Settings, logger: Logger) -> None:
    """Bring one worker up on the sockets of the supervisor that asks for it, have it answer, and end it.

    Args:
        app_name: as for `run_supervisor`.
        settings: as for `run_supervisor`.
        logger: as for `run_supervisor`.

    Raises:
        StartFailed: it did not come up, or did not answer.
    """
    part = Part.from_environment()
    settings = replace(settings, workers=1, workers_min=0, workers_max=0)
    supervisor = _Supervisor(app_name, settings, logger, part.sockets, Notifier(), None)
    with single_error():
        trio.run(supervisor.rehearse)
    part.say_done()


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
) -> Iterator[tuple[dict[str, Sequence[ListeningSocket]], list[ListeningSocket]]]:
    """Listen at each address, or take over what listens there already.

    Yields:
        The sockets of each address, and those that were handed over and are not wanted any more.
    """
    taken_over = dict(heritage.sockets) if heritage is not None else {}
    with contextlib.ExitStack() as stack:
        for all_ in taken_over.values():
            for one in all_:
                stack.push(_closing(one))
        sockets: dict[str, Sequence[ListeningSocket]] = {}
        failed = False
        for address in settings.bind:
            if address in taken_over:
                sockets[address] = taken_over.pop(address)
                continue
            try:
                sockets[address] = stack.enter_context(
                    open_sockets((address,), mode=socket_files(settings), backlog=settings.backlog)
                )
            except BindError as error:
                if heritage is None:
                    raise
                logger.error("upgrade keeps the old addresses", reason=str(error))  # noqa: TRY400 - the reason says it
                failed = True
        if failed:
            sockets |= taken_over
            taken_over = {}
        yield sockets, [one for all_ in taken_over.values() for one in all_]


def _confirm_takeover() -> None:
    guard = current_guard()
    if guard is not None:
        guard.taken_over()


def _closing(
    listening: ListeningSocket,
) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], None]:
    """Make what closes a socket that was taken over, at the end of a context."""

    def close(
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None:
            listening.close()
        else:  # another program may go on with it: its file stays
            listening.socket.close()

    return close


def _recycling_policy(settings: Settings) -> RecyclingPolicy:
    return RecyclingPolicy(
        max_requests=settings.max_requests,
        max_requests_jitter=settings.max_requests_jitter,
        worker_lifetime_seconds=settings.worker_lifetime_seconds,
        worker_lifetime_jitter_seconds=settings.worker_lifetime_jitter_seconds,
        max_rss_bytes=settings.max_rss_bytes,
        max_rss_hard_bytes=settings.max_rss_hard_bytes,
        chance=random.Random(),  # noqa: S311 - it spreads work, and keeps no secret
    )


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
        program: PreservedProgram | None = None,
        unwanted: Sequence[ListeningSocket] = (),
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._app_name = app_name
        self._log = logger
        self._sockets_by_address = sockets
        self._unwanted = unwanted
        self._started = started
        self._heritage = heritage
        self._lifeline, self._held = heritage.lifeline if heritage is not None else os.pipe()
        self._rehearsal: Rehearsal | None = None
        self.program = program
        every = [one for all_ in sockets.values() for one in all_]
        self._fleet = Fleet(settings, logger, every, notifier)
        if heritage is not None:
            self._fleet.tally = Tally(**heritage.tally)
            self._fleet.started_at = heritage.started_at
        name = app_name or ", ".join(settings.mount)
        self._commands = ControlCommands(name, self._fleet, self._stop_or_hurry)

    async def run(self) -> Heritage | None:
        """Run until a stop or an upgrade; return what an upgrade hands on, or None after a stop."""
        with contextlib.ExitStack() as doors:
            return await self._run(doors)

    async def _run(self, doors: contextlib.ExitStack) -> Heritage | None:
        fleet = self._fleet
        async with trio.open_nursery() as nursery:
            policy = _recycling_policy(fleet.settings)
            self._prepare(nursery, policy)
            await nursery.start(self._receive_signals)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVER_SIGNALS)
            nursery.start_soon(self._feed_watchdog)
            control = self._open_named_control(doors)
            await self._watch_files(nursery)
            async with trio.open_nursery() as beginning:
                beginning.start_soon(self._preserve)
                await self._begin()
            if not fleet.is_ending():
                self._started()
                await self._answer_control(nursery, control)
                _confirm_takeover()
                # Nothing is brought up or ended before that: another program may go on with what there is.
                if self._unwanted:
                    await self._rollout.leave_sockets(self._unwanted)
                health = HealthChecks(fleet, policy, nursery, lambda: self._rehearsal is None)
                nursery.start_soon(health.run)
                nursery.start_soon(self._rollout.reload_when_asked)
                announce(self._app_name, fleet.settings, self._log, fleet.sockets)
                for listening in fleet.sockets:
                    self._log.info("listening", address=str(listening.address))
                fleet.notifier.ready(fleet.summary)
                await self._rollout.keep_up()
            upgrades = fleet.phase is Phase.UPGRADING
            if not upgrades:
                _confirm_takeover()  # where a stop has come first: it is this program's
                fleet.notifier.stopping()
                await self._rollout.drain(fleet.generations)
            nursery.cancel_scope.cancel()
        if upgrades:
            if fleet.is_stopping:
                # A stop was asked for at the last moment: the new program carries it out.
                signal.raise_signal(signal.SIGTERM)
            return self._bequeath()
        os.close(self._held)
        os.close(self._lifeline)
        if self.program is not None:
            self.program.close()
        if not fleet.settings.control_socket:
            remove_control_directory()
        self._log.info("stopped")
        if fleet.failure:
            raise WorkerUnfit(fleet.failure)
        return None

    async def _preserve(self) -> None:
        # In a thread: some megabytes are read while the first workers come up.
        if self.program is None:
            with contextlib.suppress(RuntimeError):  # no thread is to be had
                self.program = await trio.to_thread.run_sync(preserve_program)

    async def rehearse(self) -> None:
        """Bring up a worker that accepts nothing, have it answer, and end it.

        Raises:
            StartFailed: it did not, or SIGTERM came.
        """
        fleet = self._fleet
        answered = False
        async with trio.open_nursery() as nursery:
            self._prepare(nursery, _recycling_policy(fleet.settings), is_rehearsal=True)
            await nursery.start(self._receive_signals)
            # Of the signals to all processes, none is for this one.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            try:
                fleet.current = self._rollout.start()
            except OSError as error:
                self._log.error("no process can be started", reason=str(error))
                raise StartFailed(EXIT_FAILURE) from error
            if await self._rollout.bring_up(fleet.current):
                for worker in fleet.current.ready:
                    await worker.heartbeat(END_MARGIN_SECONDS)
                    answered = worker.figures is not None
            status = fleet.current.failed_status
            await self._rollout.drain([fleet.current])
            nursery.cancel_scope.cancel()
        if not answered:
            raise StartFailed(EXIT_FAILURE if status is None else status)

    def _prepare(
        self, nursery: trio.Nursery, policy: RecyclingPolicy, *, is_rehearsal: bool = False
    ) -> None:
        fleet = self._fleet
        self._nursery = nursery
        self._context = GenerationContext(
            policy, self._log, fleet.tally, fleet.wake_waiters, nursery, is_rehearsal
        )
        self._rollout = Rollout(self._app_name, fleet, self._lifeline, self._context, nursery)

    async def _begin(self) -> None:
        """Bring up the first workers; after an upgrade, have the old ones replaced."""
        if self._heritage is not None:
            for one in self._heritage.generations:
                self._fleet.generations.append(Generation.adopt(one, self._context))
            *left, self._fleet.current = self._fleet.generations
            if left:
                self._nursery.start_soon(self._rollout.drain, left)
            guard = current_guard()
            if guard is None or not guard.reason:
                self._fleet.ask_for_reload("upgrade")
            return
        try:
            self._fleet.current = self._rollout.start()
        except OSError as error:
            self._log.error("no process can be started", reason=str(error))
            raise StartFailed(EXIT_FAILURE) from error
        with self._fleet.bringing_up():
            came_up = await self._rollout.bring_up(self._fleet.current)
        if not came_up:
            status = self._fleet.current.failed_status
            was_stopped = self._fleet.is_stopping
            if not was_stopped:
                self._fleet.enter(Phase.STOPPING)
            await self._rollout.drain([self._fleet.current])
            if not was_stopped:
                raise StartFailed(EXIT_APPLICATION if status is None else status)

    def _open_named_control(self, doors: contextlib.ExitStack) -> ListeningSocket | None:
        """Listen at ``--control-socket``, before there is a worker that could lose its requests."""
        settings = self._fleet.settings
        if settings.control_socket in {"", "none"}:
            return None
        try:
            return doors.enter_context(open_control(Path(settings.control_socket)))
        except BindError as error:
            if self._heritage is None:
                raise
            # Nothing is to end what serves.
            self._log.warning("no control socket", reason=str(error), option="--control-socket")
            return None

    async def _answer_control(self, nursery: trio.Nursery, named: ListeningSocket | None) -> None:
        """Begin to take commands; where no place is named, at one that ctl finds by itself."""
        if named is not None:
            await nursery.start(
                lambda task_status: answer_control(
                    named, self._commands, logger=self._log, task_status=task_status
                )
            )
        elif not self._fleet.settings.control_socket:
            await self._serve_default_control(nursery)

    async def _serve_default_control(self, nursery: trio.Nursery) -> None:
        remove_stale_sockets()
        path = default_control_path(os.getpid())
        self._say_what_is_passed_over(path)
        if path is None:
            return
        try:
            await nursery.start(
                lambda task_status: serve_control(
                    path, self._commands, logger=self._log, task_status=task_status
                )
            )
        except BindError as error:
            self._log.warning("no control socket", reason=str(error), option="--control-socket")

    async def _watch_files(self, nursery: trio.Nursery) -> None:
        """Look at files that change, before the first of them is read."""
        settings = self._fleet.settings
        if settings.touch_reload:
            nursery.start_soon(
                watch_touch, [Path(it) for it in settings.touch_reload], self._fleet.ask_for_reload
            )
        if settings.reload:
            nursery.start_soon(self._watch_code)
        await until_watched()

    def _say_what_is_passed_over(self, path: Path | None) -> None:
        passed_over = directories_passed_over(os.getpid())
        if path is None:
            self._log.warning(
                "no control socket",
                reason="; ".join(passed_over) or "no directory for temporary files can be written",
                option="--control-socket",
            )
        elif passed_over:
            self._log.warning(
                "control socket is not in its usual place",
                path=str(path),
                reason="; ".join(passed_over),
                option="--control-socket",
            )

    async def _watch_code(self) -> None:
        settings = self._fleet.settings
        try:
            await watch_code(
                _watched(settings),
                settings.reload_include,
                settings.reload_exclude,
                self._fleet.ask_for_reload,
            )
        except (SettingsError, OSError) as error:
            # No reason to stop serving.
            self._log.error("code is not watched", reason=str(error), option="--reload")

    def _bequeath(self) -> Heritage:
        left = [one for one in self._fleet.generations if one is not self._fleet.current]
        described = [one.bequeath() for one in (*left, self._fleet.current)]
        return Heritage(
            self._fleet.settings.bind,
            self._sockets_by_address,
            (self._lifeline, self._held),
            [description for description, _ in described],
            asdict(self._fleet.tally),
            self._fleet.started_at,
            [it for _, descriptors in described for it in descriptors],
        )

    # Signals.

    async def _receive_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(*SERVER_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                self._handle_signal(signal.Signals(number))

    def _handle_signal(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop_or_hurry(number.name)
            case signal.SIGHUP:
                self._fleet.ask_for_reload(number.name)
            case signal.SIGUSR1:
                self._reopen_log()
            case signal.SIGUSR2:
                self._nursery.start_soon(self._upgrade)
            case signal.SIGQUIT:
                self._nursery.start_soon(self._log_stacks)
            case signal.SIGTTIN | signal.SIGTTOU:
                step = 1 if number == signal.SIGTTIN else -1
                self._fleet.want(
                    min(max(self._fleet.wanted + step, self._fleet.least), self._fleet.most),
                    number.name,
                )

    def _stop_or_hurry(self, reason: str) -> None:
        if self._fleet.is_stopping:
            self._log.warning("stopping at once", reason=reason)
            self._fleet.enter(Phase.HURRYING)
            for generation in self._fleet.generations:
                generation.hurry_workers()
        else:
            self._log.info("stopping: running requests may end", reason=reason)
            if self._rehearsal is not None:
                self._rehearsal.break_off()
            self._fleet.enter(Phase.STOPPING)

    def _reopen_log(self) -> None:
        if not self._fleet.settings.log_file:
            self._log.info("nothing to open anew: there is no log file", option="--log-file")
            return
        try:
            open_log_file(Path(self._fleet.settings.log_file).absolute())
        except LogFileError as error:
            self._log.error(
                "log file can't be opened anew: the old one stays open", reason=str(error)
            )
            return
        for generation in self._fleet.generations:
            generation.signal_template(signal.SIGUSR1)
            for worker in generation.workers.values():
                worker.signal(signal.SIGUSR1)
        self._log.info("log file opened anew")

    async def _log_stacks(self) -> None:
        for process in (await self._commands.stacks())["processes"]:
            self._log.info("stacks", **process)

    async def _upgrade(self) -> None:
        """Hand the process on, if the program that is installed now takes these arguments."""
        if self._fleet.is_ending():
            return
        if self._rehearsal is not None:
            self._log.info("upgrade is being tried already: ask again where it fails")
            return
        try:
            settings = self._fleet.settings
            # A start and an end of the application, and of all that is ours.
            seconds = REHEARSAL_SECONDS + 2 * settings.lifespan_timeout_seconds
            self._rehearsal = Rehearsal(self._sockets_by_address, seconds)
            status, output = await self._rehearsal.wait()
        except OSError as error:
            status, output = EXIT_FAILURE, str(error)
        finally:
            self._rehearsal = None
        if self._fleet.is_ending():
            return
        if status:
            self._log.error(
                "upgrade failed: the program that is installed now does not start",
                exit_status=status,
                output=output,
            )
            return
        if self._fleet.is_bringing_up:
            self._log.info("upgrade waits until the new workers are ready")
            # A generation of which only some workers are up is not handed on.
            await self._fleet.wait_for(
                lambda: not self._fleet.is_bringing_up or self._fleet.is_ending()
            )
        if self._fleet.is_ending():
            return
        self._log.info("upgrading: the program that is installed now takes over")
        self._fleet.enter(Phase.UPGRADING)

    async def _feed_watchdog(self) -> None:
        while self._fleet.notifier.watchdog_seconds is not None:
            self._fleet.notifier.watchdog()
            await trio.sleep(self._fleet.notifier.watchdog_seconds)
