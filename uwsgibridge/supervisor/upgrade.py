"""Prepares an upgrade: rehearses the new program, and waits for the moment of the exec."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import trio

from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.errors import EXIT_FAILURE
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.preserved import PreservedProgram, preserve_program
from uwsgibridge.supervisor.rehearsal import REHEARSAL_SECONDS, Rehearsal


class Upgrade:
    """Prepares upgrades of this process to the program that is installed at that time.

    Args:
        fleet: the workers.
        sockets: the listening sockets of each address.
        program: this program, if an earlier supervisor in this process has preserved it.

    Attributes:
        program: the preserved program, which is put back where a new one dies in its start; None where there
            is none.
    """

    def __init__(
        self,
        fleet: Fleet,
        sockets: Mapping[str, Sequence[ListeningSocket]],
        program: PreservedProgram | None,
    ) -> None:
        self.program = program
        self._fleet = fleet
        self._log = fleet.log
        self._sockets = sockets
        self._rehearsal: Rehearsal | None = None

    @property
    def is_rehearsing(self) -> bool:
        """Whether a rehearsal runs, which waits for a child process."""
        return self._rehearsal is not None

    async def preserve(self) -> None:
        """Keep this program in memory before somebody replaces its files."""
        # In a thread, because this reads some megabytes while the first workers come up.
        if self.program is None:
            with contextlib.suppress(RuntimeError):  # no thread can be started
                self.program = await trio.to_thread.run_sync(preserve_program)

    def break_off(self) -> None:
        """End a running rehearsal."""
        if self._rehearsal is not None:
            self._rehearsal.break_off()

    async def attempt(self) -> None:
        """Have the fleet enter `Phase.UPGRADING`, if the rehearsal of the installed program succeeds."""
        if self._fleet.phase is Phase.DRAIN_DELAY:
            self._log.info("upgrade is not begun: the service stops")
        if self._fleet.is_leaving():
            return
        if self._rehearsal is not None:
            self._log.info("upgrade is being tried already: ask again where it fails")
            return
        try:
            settings = self._fleet.settings
            # The application starts and ends in this time, and so do the supervisor and its template.
            seconds = REHEARSAL_SECONDS + 2 * settings.lifespan_timeout_seconds
            self._rehearsal = Rehearsal(self._sockets, seconds)
            status, output = await self._rehearsal.wait()
        except OSError as error:
            status, output = EXIT_FAILURE, str(error)
        finally:
            self._rehearsal = None
        if self._fleet.is_leaving():
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
            # A generation with only some of its workers is not handed on.
            await self._fleet.wait_for(
                lambda: not self._fleet.is_bringing_up or self._fleet.is_leaving()
            )
        if self._fleet.is_leaving():
            return
        self._log.info("upgrading: the program that is installed now takes over")
        self._fleet.enter(Phase.UPGRADING)
