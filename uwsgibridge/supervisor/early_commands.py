"""Lets commands of the control socket come before the first workers are ready."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from uwsgibridge.control.commands import CommandFailed
from uwsgibridge.supervisor.control_commands import ControlCommands
from uwsgibridge.supervisor.fleet import Fleet

# What looks at a service that does not come up, or ends it. All others need workers that serve, and wait for them.
_AT_ONCE: Final = frozenset({"status", "config", "stacks", "stop"})


class EarlyCommands:
    """The commands of a supervisor, as `uwsgibridge.control.commands.Commands`, from its start on.

    Args:
        commands: carries them out.
        fleet: tells when requests are served.
    """

    def __init__(self, commands: ControlCommands, fleet: Fleet) -> None:
        self._commands = commands
        self._fleet = fleet

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Mapping[str, object]]]:
        async def carry_out(**arguments: Any) -> Mapping[str, object]:
            fleet = self._fleet
            if name not in _AT_ONCE and not fleet.has_served:
                await fleet.wait_for(lambda: fleet.has_served or fleet.is_ending())
                if not fleet.has_served:
                    raise CommandFailed("the supervisor is stopping: no worker has become ready")
            answer: Mapping[str, object] = await getattr(self._commands, name)(**arguments)
            return answer

        return carry_out
