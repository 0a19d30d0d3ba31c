"""Carries out what signals ask of a supervisor."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from uwsgibridge.errors import LogFileError
from uwsgibridge.supervisor.control_commands import ControlCommands
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.log_reopening import reopen_logs
from uwsgibridge.system.signals import SERVER_SIGNALS

# A signal that was sent to all processes reaches the supervisor itself within this time.
_SAME_SIGNAL_SECONDS: Final = 1.0


class SignalCommands:
    """Receives signals, and carries out what they ask for.

    Args:
        fleet: the workers.
        commands: of the control socket; one of them comes as a signal, too.
        stop: begins the stop, or cuts it short; called with the reason.
        upgrade: upgrades to the program that is installed now.
        nursery: runs what takes time.
    """

    def __init__(
        self,
        fleet: Fleet,
        commands: ControlCommands,
        stop: Callable[[str], None],
        upgrade: Callable[[], Awaitable[None]],
        nursery: trio.Nursery,
    ) -> None:
        self._fleet = fleet
        self._log = fleet.log
        self._commands = commands
        self._stop = stop
        self._upgrade = upgrade
        self._nursery = nursery
        self._received_at: dict[int, float] = {}  # by signal

    async def receive(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle signals until cancelled."""
        with trio.open_signal_receiver(*SERVER_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                self._received_at[number] = trio.current_time()
                self._handle(signal.Signals(number))

    def take_over(self, number: int) -> None:
        """Take a signal over that a template got; where it was sent to all processes, it is here as well, and counts once.

        Args:
            number: of the signal.
        """
        self._nursery.start_soon(self._take_over, signal.Signals(number), trio.current_time())

    async def _take_over(self, number: signal.Signals, received_at: float) -> None:
        await trio.sleep(_SAME_SIGNAL_SECONDS)
        own = self._received_at.get(number)
        if self._fleet.is_ending() or (
            own is not None and received_at - own <= _SAME_SIGNAL_SECONDS
        ):
            return
        self._received_at[number] = received_at  # each worker may have sent it
        if number == signal.SIGHUP:
            # An application under gunicorn asks for a reload so, by os.kill(os.getppid(), signal.SIGHUP).
            self._fleet.ask_for_reload("SIGHUP to a template")
        else:
            self._log.warning(
                "a template got a signal, which does nothing there",
                signal=number.name,
                hint=f"send it to the supervisor, process {os.getpid()}",
            )

    def _handle(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop(number.name)
            case signal.SIGHUP:
                self._fleet.ask_for_reload(number.name)
            case signal.SIGUSR1:
                self._reopen_logs()
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

    def _reopen_logs(self) -> None:
        try:
            reopen_logs(self._fleet)
        except LogFileError as error:
            self._log.error(
                "log file can't be opened anew: the old one stays open", reason=str(error)
            )

    async def _log_stacks(self) -> None:
        for process in (await self._commands.stacks())["processes"]:
            self._log.info("stacks", **process)
