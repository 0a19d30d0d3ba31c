"""An upgrade before the exec: the new program is tried out, and the moment is waited for."""

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
    """Prepares the handing on of this process to the program that is installed when it is asked for.

    Args:
        fleet: the workers.
        sockets: the listening sockets of each address.
        program: this program as it was preserved by an earlier supervisor in this process.

    Attributes:
        program: what puts the old program back where the new one dies in its start; None where there is none.
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
        """Whether a rehearsal runs, and waits for a child of its own."""
        return self._rehearsal is not None

    async def preserve(self) -> None:
        """Keep this program in memory, before its files can be replaced."""
        # In a thread: some megabytes are read while the first workers come up.
        if self.program is None:
            with contextlib.suppress(RuntimeError):  # no thread is to be had
                self.program = await trio.to_thread.run_sync(preserve_program)

    def break_off(self) -> None:
        """End a rehearsal that runs."""
        if self._rehearsal is not None:
            self._rehearsal.break_off()

    async def attempt(self) -> None:
        """Have the fleet enter `Phase.UPGRADING`, if the program that is installed now takes these arguments."""
        if self._fleet.is_ending():
            return
        if self._rehearsal is not None:
            self._log.info("upgrade is being tried already: ask again where it fails")
            return
        try:
            settings = self._fleet.settings
            # A start and an end of the application, and of all that is ours.
            seconds = REHEARSAL_SECONDS + 2 * settings.lifespan_timeout_seconds
            self._rehearsal = Rehearsal(self._sockets, seconds)
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
