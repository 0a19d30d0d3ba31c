"""The commands of the control socket: their arguments, what is allowed for each, and who carries them out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from math import isfinite
from typing import Any, Final, Protocol

from uwsgibridge.config.settings import MAX_WORKERS
from uwsgibridge.quick_dataclass import dataclass

# How many requests in flight `requests` tells at the most: a table of more is read by nobody.
MAX_REQUESTS: Final = 10_000

_MAX_SECONDS: Final = 1_000_000.0
_TOKEN: Final = "[0-9a-f]{32}"  # noqa: S105 - a pattern
_MAX_PID: Final = 2**31


class CommandFailed(Exception):
    """A command can't be carried out, or has failed; the message is a sentence for the operator."""


class Commands(Protocol):
    """The commands that a supervisor carries out; each method may raise `CommandFailed`.

    Each returns what the answer has beside ``ok``, as values that JSON has. `COMMANDS` has the same names.
    """

    async def status(self) -> Mapping[str, object]:
        """Give the state of the supervisor and its workers; docs/ctl.md has the form."""

    async def requests(
        self, *, limit: int, older_seconds: float, stacks: bool
    ) -> Mapping[str, object]:
        """Give the requests in flight of all workers, the oldest first."""

    async def config(self) -> Mapping[str, object]:
        """Give each option with its value and where that came from, and no secret."""

    async def reopen(self) -> Mapping[str, object]:
        """Open the log files anew."""

    async def kill(self, pid: int, *, now: bool) -> Mapping[str, object]:
        """End one worker, which is replaced at once; return when it has ended."""

    async def profile(self, *, seconds: float, worker: int) -> Mapping[str, object]:
        """Sample where the threads of the workers are, or of one; 0 is no worker's pid, and means all."""

    async def memory(self, *, worker: int, lines: int, reset: bool) -> Mapping[str, object]:
        """Tell which lines of code hold memory in a worker; 0 is no worker's pid, and means the only one."""

    async def probe(self, *, token: str, ends: bool) -> Mapping[str, object]:
        """Have the workers answer requests that have a token, for 30 seconds from now on or no more, and tell what arrived."""

    async def reload(self) -> Mapping[str, object]:
        """Bring up new workers with new code, and return when they serve."""

    async def scale(self, workers: int) -> Mapping[str, object]:
        """Change the number of workers, from 1 to `MAX_WORKERS`."""

    async def stop(self) -> Mapping[str, object]:
        """Begin the graceful stop, and return at once."""

    async def stacks(self) -> Mapping[str, object]:
        """Give the stacks of all threads and tasks of each process."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command.

    Attributes:
        wanted: what it takes, in words, for who gives something else.
        fits: whether a value that JSON has is one that it takes.
        default: where it is not given; None where it has to be.
    """

    wanted: str
    fits: Callable[[object], bool]
    default: object = None


@dataclass(frozen=True, slots=True)
class Command:
    """What may be asked for.

    Attributes:
        arguments: by name.
        is_logged: whether it changes something, or costs the service something.
    """

    arguments: Mapping[str, Argument] = field(default_factory=dict)
    is_logged: bool = True


def whole(least: int, most: int, default: int | None = None) -> Argument:
    """Make an argument that takes a whole number within bounds."""
    return Argument(
        f"a whole number from {least} to {most}",
        # `type(...) is int`, since isinstance(True, int) is true.
        lambda it: type(it) is int and least <= it <= most,
        default,
    )


def seconds(least: float, most: float, default: float | None = None) -> Argument:
    """Make an argument that takes a number of seconds within bounds."""
    return Argument(
        f"a number of seconds from {least:g} to {most:g}",
        lambda it: type(it) in {int, float} and isfinite(it) and least <= it <= most,  # type: ignore[arg-type, operator]
        default,
    )


def flag() -> Argument:
    """Make an argument that is true or false, and false where it is not given."""
    return Argument("true or false", lambda it: isinstance(it, bool), default=False)


def token() -> Argument:
    """Make an argument that takes what nobody guesses."""
    return Argument(
        "32 hexadecimal digits",
        lambda it: isinstance(it, str) and re.fullmatch(_TOKEN, it) is not None,
    )


COMMANDS: Final[Mapping[str, Command]] = {
    "status": Command(is_logged=False),
    "requests": Command(
        {
            "limit": whole(1, MAX_REQUESTS, 1_000),
            "older_seconds": seconds(0, _MAX_SECONDS, 0.0),
            "stacks": flag(),
        },
        is_logged=False,
    ),
    "config": Command(is_logged=False),
    "profile": Command({"seconds": seconds(0.01, 600), "worker": whole(0, _MAX_PID, 0)}),
    "memory": Command(
        {"worker": whole(0, _MAX_PID, 0), "lines": whole(1, 1_000, 20), "reset": flag()}
    ),
    # The log is no place for a token.
    "probe": Command({"token": token(), "ends": flag()}, is_logged=False),
    "reload": Command(),
    "reopen": Command(),
    "kill": Command({"pid": whole(1, _MAX_PID), "now": flag()}),
    "scale": Command({"workers": whole(1, MAX_WORKERS)}),
    "stop": Command(),
    "stacks": Command(is_logged=False),
}


def read_arguments(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments of a command, and fill in the defaults.

    Args:
        name: of the command, in `COMMANDS`.
        given: from a client; anything that JSON has.

    Raises:
        CommandFailed: one of them is missing, unknown or wrong.
    """
    known = COMMANDS[name].arguments
    missing = {it for it, argument in known.items() if argument.default is None} - given.keys()
    if missing or given.keys() - known.keys():
        wanted = ", ".join(known) or "none"
        raise CommandFailed(f"arguments of {name}: {wanted}; not {', '.join(given)[:40] or 'none'}")
    for argument, value in given.items():
        if not known[argument].fits(value):
            raise CommandFailed(f"{argument} is {known[argument].wanted}")
    return {it: given.get(it, argument.default) for it, argument in known.items()}
