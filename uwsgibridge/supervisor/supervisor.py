"""The supervisor: one process from its start, through upgrades, to its stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import trio

from uwsgibridge._version import __version__
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.failed_start import removing_files_unless_started
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import (
    EXIT_APPLICATION,
    EXIT_FAILURE,
    StartFailed,
    WorkerUnfit,
    single_error,
)
from uwsgibridge.status.sockets import PublishedSockets, open_published
from uwsgibridge.supervisor.addresses import open_or_take_over, with_inherited_addresses
from uwsgibridge.supervisor.control_commands import ControlCommands
from uwsgibridge.supervisor.control_socket import ControlSocket
from uwsgibridge.supervisor.early_commands import EarlyCommands
from uwsgibridge.supervisor.file_size import require_file_size
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.generation import Generation, GenerationContext
from uwsgibridge.supervisor.health import HealthChecks
from uwsgibridge.supervisor.heritage import Heritage, defer_signals
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.preserved import PreservedProgram, confirm_takeover, current_guard
from uwsgibridge.supervisor.recycling import recycling_policy
from uwsgibridge.supervisor.rollout import Rollout
from uwsgibridge.supervisor.sidecars import Sidecars, descriptors_of
from uwsgibridge.supervisor.signal_commands import SignalCommands
from uwsgibridge.supervisor.spare_template import SpareTemplate
from uwsgibridge.supervisor.tally import Tally
from uwsgibridge.supervisor.upgrade import Upgrade
from uwsgibridge.supervisor.watched_files import require_watchable, watch_files
from uwsgibridge.system.privileges import resolve_user
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.system.systemd import Notifier
from uwsgibridge.telemetry.announcement import announce
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.starter import forget_starter

if TYPE_CHECKING:
    from uwsgibridge.control.commands import Commands
    from uwsgibridge.status.publishing import Publishing


def run_supervisor(
    app_name: str | None,
    settings: Settings,
    logger: Logger,
    *,
    after_bind: Callable[[], None],
    spare: SpareTemplate | None = None,
    origins: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Serve with workers until SIGTERM or SIGINT, then drain and return.

    With ``--drain-delay-seconds``, the drain begins so much later, or at a second such signal. The next one breaks the
    drain off. SIGHUP reloads. SIGTTIN adds a worker, and SIGTTOU removes one.
    SIGUSR1 opens the log file anew, SIGUSR2 upgrades in place, and SIGQUIT logs all stacks.

    Args:
        app_name: as for `uwsgibridge.worker.process.run_process`.
        settings: `settings.workers` of them.
        logger: where log events go.
        after_bind: called when the sockets are open, before anything of the application is.
        spare: runs as the first template.
        origins: where each setting came from, for an operator.

    Raises:
        SettingsError: systemd's sockets can't be used, or the code can't be watched.
        BindError: an address can't be listened at.
        StartCommandFailed: a command of ``--on-start`` has failed.
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
    settings = with_inherited_addresses(settings, heritage)
    require_watchable(settings)
    if heritage is None:
        require_file_size(app_name, settings)
    with (
        open_or_take_over(settings, heritage, logger) as (sockets, handed_over),
        open_published(
            settings, logger, heritage.published if heritage is not None else None
        ) as published,
        removing_files_unless_started(
            [*(one for all_ in sockets.values() for one in all_), *published.all],
            resolve_user(settings.user, settings.group),
        ) as started,
        single_error(),
        contextlib.ExitStack() as held,
    ):
        multiproc = _hold_multiproc_directory(settings, held, is_upgrade=heritage is not None)
        if settings.speaks_tls:
            from uwsgibridge.supervisor.tls_files import hold_tls_files  # few services do

            hold_tls_files(settings)
        after_bind()
        has_commands = settings.on_start or settings.on_ready or settings.sidecar
        if has_commands and heritage is None:  # the rehearsal of an upgrade has looked
            from uwsgibridge.commands.finding import require_programs  # imported here: few have any

            require_programs(settings)
        if settings.metrics_file and heritage is None:
            from uwsgibridge.status.metrics_file import require_writable  # few have any

            require_writable(settings)
        with contextlib.ExitStack() as stack:
            if settings.uwsgi_module:
                from uwsgibridge.supervisor.timers_sidecar import sharing_file  # few need it

                stack.enter_context(sharing_file(settings, is_upgrade=heritage is not None))
            program: PreservedProgram | None = None
            unwanted: Sequence[ListeningSocket] = handed_over
            while True:
                supervisor = _Supervisor(
                    app_name,
                    settings,
                    logger,
                    sockets=sockets,
                    notifier=notifier,
                    heritage=heritage,
                    program=program,
                    unwanted=unwanted,
                    published=published,
                    started=started,
                    spare=spare,
                    multiproc=multiproc,
                    origins=origins,
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


def _hold_multiproc_directory(
    settings: Settings, stack: contextlib.ExitStack, *, is_upgrade: bool
) -> int | None:
    """Hold the directory of ``--prometheus-multiproc-dir`` until a stack is left, and give its descriptor."""
    if not settings.prometheus_multiproc_dir:
        return None
    from uwsgibridge.multiproc.directory import hold_directory  # imported here: few have one

    user = resolve_user(settings.user, settings.group)
    held = hold_directory(settings.prometheus_multiproc_dir, user, is_upgrade=is_upgrade)
    return stack.enter_context(held)


class _Supervisor:
    """One run of a supervisor, from the start or an upgrade to the stop or the next upgrade."""

    def __init__(
        self,
        app_name: str | None,
        settings: Settings,
        logger: Logger,
        *,
        sockets: dict[str, Sequence[ListeningSocket]],
        notifier: Notifier,
        heritage: Heritage | None,
        program: PreservedProgram | None,
        unwanted: Sequence[ListeningSocket],
        published: PublishedSockets,
        started: Callable[[], None],
        spare: SpareTemplate | None,
        multiproc: int | None,
        origins: Mapping[str, str],
    ) -> None:
        self._app_name = app_name
        self._log = logger
        self._sockets_by_address = sockets
        self._unwanted = unwanted
        self._published = published
        self._started = started
        self._spare = spare
        self._multiproc = multiproc
        self._heritage = heritage
        self._lifeline, self._lifeline_write_end = (
            heritage.lifeline if heritage is not None else os.pipe()
        )
        every = [one for all_ in sockets.values() for one in all_]
        self._fleet = Fleet(settings, logger, every, notifier)
        if heritage is not None:
            self._fleet.tally = Tally.of_heritage(heritage.tally, self._fleet.tally.counted.bounds)
            self._fleet.started_at = heritage.started_at
            self._fleet.has_served = True
        self._upgrade = Upgrade(self._fleet, sockets, program)
        self._sidecars = Sidecars(
            app_name, self._fleet, heritage.sidecars if heritage is not None else ()
        )
        name = app_name or ", ".join(settings.mount)
        self._commands = ControlCommands(
            name, self._fleet, self._stop_or_hurry, self._sidecars.describe, origins
        )
        early = cast("Commands", EarlyCommands(self._commands, self._fleet))
        self._control = ControlSocket(settings, early, logger)
        self._publishing = self._make_publishing(settings) if settings.publishes_figures else None

    def _make_publishing(self, settings: Settings) -> Publishing:
        # Imported here, since not all services publish figures.
        from uwsgibridge.status.publishing import Publishing
        from uwsgibridge.supervisor.figures import FleetFigures

        sources = FleetFigures(self._app_name, self._fleet).sources
        pages = None
        if settings.status_bind:
            from uwsgibridge.supervisor.live_view import live_handlers

            pages = live_handlers(self._commands)
        return Publishing(settings, sources, self._published, self._log, pages)

    @property
    def program(self) -> PreservedProgram | None:
        """The preserved program, which is put back where the next one dies in its start."""
        return self._upgrade.program

    async def run(self) -> Heritage | None:
        """Run until a stop or an upgrade.

        Returns:
            The heritage that an upgrade hands on; None after a stop.
        """
        try:
            with contextlib.ExitStack() as stack:
                return await self._run(stack)
        except BaseException:
            self._control.remove_default()
            raise

    async def _run(self, stack: contextlib.ExitStack) -> Heritage | None:
        fleet = self._fleet
        async with trio.open_nursery() as nursery:
            policy = recycling_policy(fleet.settings)
            signals = SignalCommands(
                fleet, self._commands, self._stop_or_hurry, self._upgrade.attempt, nursery
            )
            context = GenerationContext(
                *(policy, self._log, fleet.tally, fleet.wake_waiters, nursery),
                spare=self._spare,
                signalled=signals.take_over,
            )
            rollout = Rollout(self._app_name, fleet, self._lifeline, context, nursery)
            await nursery.start(signals.receive)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVER_SIGNALS)
            nursery.start_soon(self._feed_watchdog)
            if fleet.settings.drain_delay_seconds:
                from uwsgibridge.supervisor.drain_delay import end_drain_delay  # few have any

                nursery.start_soon(end_drain_delay, fleet)
            # After an upgrade, a missing control socket must not end the service.
            self._control.open_named(stack, must_open=self._heritage is None)
            if self._publishing is not None:
                nursery.start_soon(self._publishing.run)
            if self._heritage is None:
                # An operator asks why a service does not come up.
                await self._control.answer(nursery)
            await watch_files(fleet.settings, nursery, self._log, fleet.ask_for_reload)
            async with trio.open_nursery() as beginning:
                beginning.start_soon(self._upgrade.preserve)
                if self._heritage is None:
                    await self._start_first(rollout)
                else:
                    self._take_over(self._heritage, rollout, context)
            if not fleet.is_ending():
                self._started()
                if self._heritage is not None:
                    await self._control.answer(nursery)
                confirm_takeover()
                self._published.close_unwanted()
                # No worker starts or ends before this point: the old program may have to go on with them.
                if self._unwanted:
                    await rollout.leave_sockets(self._unwanted)
                health = HealthChecks(
                    fleet, policy, nursery, lambda: not self._upgrade.is_rehearsing
                )
                nursery.start_soon(health.run)
                nursery.start_soon(rollout.reload_when_asked)
                announce(self._app_name, fleet.settings, self._log, fleet.sockets)
                for listening in fleet.sockets:
                    self._log.info("listening", address=str(listening.address))
                forget_starter()
                fleet.has_served = True
                fleet.wake_waiters()
                fleet.notifier.ready(fleet.summary)
                if self._heritage is None and fleet.settings.on_ready:
                    from uwsgibridge.commands.actions import run_when_ready  # few have any

                    nursery.start_soon(run_when_ready, fleet.settings, self._log, self._ending)
                nursery.start_soon(self._sidecars.run)
                if self._multiproc is not None:
                    from uwsgibridge.supervisor.multiproc_keeper import MultiprocKeeper

                    nursery.start_soon(MultiprocKeeper(self._multiproc, fleet).run)
                await rollout.keep_up()
            upgrades = fleet.phase is Phase.UPGRADING
            if not upgrades:
                confirm_takeover()  # where a stop has come first, this program carries it out
                fleet.notifier.stopping()
                async with trio.open_nursery() as stopping:
                    stopping.start_soon(self._sidecars.wait_stopped)
                    await rollout.drain(fleet.generations)
            nursery.cancel_scope.cancel()
        if upgrades:
            if fleet.is_stopping:
                # A stop came at the last moment, and the new program carries it out.
                signal.raise_signal(signal.SIGTERM)
            return self._bequeath()
        os.close(self._lifeline_write_end)
        os.close(self._lifeline)
        if self.program is not None:
            self.program.close()
        self._control.remove_default()
        if self._publishing is not None:
            self._publishing.end()
        self._log.info("stopped")
        if fleet.failure:
            raise WorkerUnfit(fleet.failure)
        return None

    def _take_over(self, heritage: Heritage, rollout: Rollout, context: GenerationContext) -> None:
        """Adopt the workers of the old program, and have them replaced."""
        fleet = self._fleet
        for one in heritage.generations:
            fleet.generations.append(Generation.adopt(one, context))
        *left, fleet.current = fleet.generations
        if left:
            context.nursery.start_soon(rollout.drain, left)
        guard = current_guard()
        if guard is None or not guard.reason:
            fleet.ask_for_reload("upgrade")

    async def _start_first(self, rollout: Rollout) -> None:
        """Run the commands of ``--on-start``, and bring up the first workers.

        Raises:
            StartCommandFailed: a command has failed.
            StartFailed: the workers do not come up.
        """
        fleet = self._fleet
        if fleet.settings.on_start:
            from uwsgibridge.commands.actions import run_at_start  # imported here: few have any

            commands_seconds = len(fleet.settings.on_start) * fleet.settings.on_start_seconds
            start_seconds = fleet.settings.lifespan_timeout_seconds + END_MARGIN_SECONDS
            fleet.notifier.starting(commands_seconds + start_seconds)
            # An upgrade that is asked for meanwhile waits, as it does while workers come up.
            with fleet.bringing_up():
                await run_at_start(fleet.settings, self._log, self._ending)
            if fleet.is_ending():
                return
        try:
            fleet.current = rollout.start()
        except OSError as error:
            self._log.error("no process can be started", reason=str(error))
            raise StartFailed(EXIT_FAILURE) from error
        with fleet.bringing_up():
            came_up = await rollout.bring_up(fleet.current)
        if not came_up:
            status = fleet.current.failed_status
            was_stopped = fleet.is_stopping
            if not was_stopped:
                fleet.enter(Phase.STOPPING)
            await rollout.drain([fleet.current])
            if not was_stopped:
                raise StartFailed(EXIT_APPLICATION if status is None else status)

    async def _ending(self) -> None:
        """Wait until a stop or an upgrade begins."""
        await self._fleet.wait_for(self._fleet.is_ending)

    def _bequeath(self) -> Heritage:
        left = [one for one in self._fleet.generations if one is not self._fleet.current]
        described = [one.bequeath() for one in (*left, self._fleet.current)]
        sidecars = self._sidecars.bequeath()
        return Heritage(
            self._fleet.settings.bind,
            self._sockets_by_address,
            (self._lifeline, self._lifeline_write_end),
            [description for description, _ in described],
            self._fleet.tally.bequeath(),
            self._fleet.started_at,
            [*(it for _, one in described for it in one), *descriptors_of(sidecars)],
            sidecars,
            self._published.by_place,
        )

    def _stop_or_hurry(self, reason: str) -> None:
        if not self._fleet.is_stopping:
            self._upgrade.break_off()
        self._fleet.stop_or_hurry(reason)

    async def _feed_watchdog(self) -> None:
        while self._fleet.notifier.watchdog_seconds is not None:
            self._fleet.notifier.watchdog()
            await trio.sleep(self._fleet.notifier.watchdog_seconds)
