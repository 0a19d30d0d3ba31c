"""All sidecars of a supervisor: their names, their common start and end, and who takes over which at an upgrade."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import trio

from uwsgibridge.supervisor.fleet import Fleet

if TYPE_CHECKING:
    from uwsgibridge.config.commands import Command
    from uwsgibridge.supervisor.sidecar import Sidecar


class Sidecars:
    """The sidecars that the options name, and those of an older program that they do not name any more.

    Args:
        app_name: the application, for the one that runs its timers.
        fleet: the workers beside them.
        heritage: what `bequeath` has described, after an upgrade.
    """

    def __init__(
        self, app_name: str | None, fleet: Fleet, heritage: Sequence[dict[str, Any]] = ()
    ) -> None:
        self._app_name = app_name
        self._fleet = fleet
        self._heritage = heritage
        self._all: list[Sidecar] = []

    async def run(self) -> None:
        """Run all sidecars until the supervisor stops; where this is cancelled, their processes go on.

        Call it when the workers are ready.
        """
        settings = self._fleet.settings
        if settings.sidecar or settings.uwsgi_module or self._heritage:
            async with trio.open_nursery() as nursery:
                self._make(nursery)
                for sidecar in self._all:
                    nursery.start_soon(sidecar.run)

    async def wait_stopped(self) -> None:
        """Wait until all sidecars have stopped, which each of them does in its time."""
        await self._fleet.wait_for(lambda: all(it.has_stopped for it in self._all))

    def describe(self) -> list[dict[str, Any]]:
        """Give the state of each sidecar, for `status`."""
        return [it.describe() for it in self._all if not it.is_idle]

    def bequeath(self) -> list[dict[str, Any]]:
        """Describe the sidecars for another program, and forget them; call it when `run` was cancelled.

        Returns:
            The descriptions, as JSON values; `descriptors_of` lists what has to be inherited.
        """
        if not self._all:  # another upgrade came before they were taken over
            return list(self._heritage)
        return [it.bequeath() for it in self._all if not it.has_stopped]

    def _make(self, nursery: trio.Nursery) -> None:
        # Imported here, since few services have sidecars.
        from uwsgibridge.config.commands import Command, parse_command
        from uwsgibridge.supervisor.sidecar import Sidecar

        texts = self._fleet.settings.sidecar
        commands = name_commands(parse_command("--sidecar", it) for it in texts)
        timers = self._add_timers(commands)
        successors = match_heritage(commands, self._heritage)
        for name, command in commands.items():
            sidecar = Sidecar(name, command, self._fleet, nursery)
            if name == timers:
                sidecar = Sidecar(name, command, self._fleet, nursery, is_needed=self._has_schedule)
            if name in successors:
                sidecar.adopt(successors[name])
            self._all.append(sidecar)
        for one in self._heritage:
            if one not in successors.values():
                command = Command("--sidecar", one["command"], (one["command"],))
                sidecar = Sidecar(one["name"], command, self._fleet, nursery, is_kept=False)
                sidecar.adopt(one)
                self._all.append(sidecar)

    def _add_timers(self, commands: dict[str, Command]) -> str | None:
        """Add the process that runs the timers of the application, and give its name; None where there is none."""
        if not self._fleet.settings.uwsgi_module:
            return None
        from uwsgibridge.supervisor.timers_sidecar import NAME, make_command

        names = chain([NAME], (f"{NAME}-{number}" for number in count(2)))
        name = next(it for it in names if it not in commands)
        commands[name] = make_command(self._app_name, self._fleet.settings)
        return name

    def _has_schedule(self) -> bool:
        return self._fleet.current.has_schedule


def name_commands(commands: Iterable[Command]) -> dict[str, Command]:
    """Give each command a name of its own: that of its program, with a number where another one has it."""
    named: dict[str, Command] = {}
    for command in commands:
        names = chain([command.name], (f"{command.name}-{number}" for number in count(2)))
        named[next(it for it in names if it not in named)] = command
    return named


def match_heritage(
    commands: dict[str, Command], heritage: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Find what each sidecar takes over.

    The same command comes first: then the order of the options does not matter. Otherwise it is the same name,
    so that a changed command waits for the end of the old one: two of its kind never run at once.

    Args:
        commands: the commands of now, by name.
        heritage: the sidecars of the older program.

    Returns:
        One of them for each name that has one.
    """
    left = list(heritage)
    found: dict[str, dict[str, Any]] = {}
    for key in ("command", "name"):
        for name, command in commands.items():
            wanted = command.text if key == "command" else name
            match = next((it for it in left if it[key] == wanted), None)
            if name not in found and match is not None:
                left.remove(match)
                found[name] = match
    return found


def descriptors_of(heritage: Iterable[dict[str, Any]]) -> list[int]:
    """List the descriptors that belong to sidecars that `Sidecars.bequeath` has described."""
    programs = [it["program"] for it in heritage if it["program"] is not None]
    return [it for one in programs for it in (one["lifeline"], *one["streams"].values())]
