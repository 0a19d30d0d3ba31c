"""The trial run of a rehearsal: the new program brings one worker up, has it answer, and exits."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import trio

# Imported so that a missing module of the real start ends the rehearsal, and not the start.
import uwsgibridge.supervisor.sidecar
import uwsgibridge.supervisor.supervisor  # noqa: F401
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import EXIT_FAILURE, StartFailed, single_error
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.generation import GenerationContext
from uwsgibridge.supervisor.recycling import recycling_policy
from uwsgibridge.supervisor.rehearsal import Part
from uwsgibridge.supervisor.rollout import Rollout
from uwsgibridge.system.systemd import Notifier
from uwsgibridge.telemetry.logs import Logger


def rehearse_takeover(app_name: str | None, settings: Settings, logger: Logger) -> None:
    """Bring one worker up on the sockets of the supervisor that has started this, have it answer, and end it.

    Args:
        app_name: as for `uwsgibridge.supervisor.supervisor.run_supervisor`.
        settings: as for `run_supervisor`.
        logger: as for `run_supervisor`.

    Raises:
        StartFailed: the worker did not come up or did not answer, or SIGTERM came.
    """
    part = Part.from_environment()
    if settings.speaks_tls:
        from uwsgibridge.supervisor.tls_files import hold_tls_files  # few services do

        hold_tls_files(settings)
    settings = replace(settings, workers=1, workers_min=0, workers_max=0)
    sockets = [one for all_ in part.sockets.values() for one in all_]
    fleet = Fleet(settings, logger, sockets, Notifier())
    with single_error():
        trio.run(_rehearse, app_name, fleet)
    part.say_done()


async def _rehearse(app_name: str | None, fleet: Fleet) -> None:
    lifeline, _lifeline_write_end = os.pipe()
    answered = False
    async with trio.open_nursery() as nursery:
        context = GenerationContext(
            recycling_policy(fleet.settings),
            fleet.log,
            fleet.tally,
            fleet.wake_waiters,
            nursery,
            is_rehearsal=True,
        )
        rollout = Rollout(app_name, fleet, lifeline, context, nursery)
        await nursery.start(_stop_when_told, fleet)
        try:
            fleet.current = rollout.start()
        except OSError as error:
            fleet.log.error("no process can be started", reason=str(error))  # noqa: TRY400 - the reason says it
            raise StartFailed(EXIT_FAILURE) from error
        if await rollout.bring_up(fleet.current):
            for worker in fleet.current.ready:
                await worker.heartbeat(END_MARGIN_SECONDS)
                answered = worker.figures is not None
        status = fleet.current.failed_status
        await rollout.drain([fleet.current])
        nursery.cancel_scope.cancel()
    if not answered:
        raise StartFailed(EXIT_FAILURE if status is None else status)


async def _stop_when_told(
    fleet: Fleet, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        # This process was started with all signals blocked. Signals to all processes are not for it, and stay blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        task_status.started()
        async for number in signals:
            fleet.stop_or_hurry(signal.Signals(number).name)
