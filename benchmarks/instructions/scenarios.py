"""What is counted: the bridge with each kind of application and each event loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from uwsgibridge.fast import PURE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

READY_TEXT = '"listening"'
"""Part of the line that the bridge logs when its socket listens."""

# An application may block its loop as long as a program under callgrind needs for anything.
_NO_WATCHDOG = ("--loop-block-warning-seconds", "0")


@dataclass(frozen=True, slots=True)
class Scenario:
    """The bridge with certain options.

    `app` is "module:attribute"; `options` are those of `uwsgibridge serve`. `is_pure` is whether it runs without its
    accelerator.
    """

    name: str
    summary: str
    app: str
    options: tuple[str, ...]
    is_pure: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What the environment has to have in addition."""
        return {PURE_VARIABLE: "1"} if self.is_pure else {}

    def argv(self, python: Path, socket: Path) -> list[str]:
        """Return the command line.

        Args:
            python: the interpreter.
            socket: path of the unix socket to listen on.
        """
        return [
            *(str(python), "-m", "uwsgibridge", "serve", self.app, *self.options),
            # Without a supervisor: valgrind keeps one of the real-time signals for itself that it needs.
            *("--workers", "0", "--bind", f"unix:{socket}", "--log-format", "json"),
        ]


def _wsgi(threads: int) -> Scenario:
    return Scenario(
        name=f"wsgi-{threads}",
        summary=f"WSGI, --threads {threads}",
        app="benchmarks.apps:wsgi_hello",
        options=("--interface", "wsgi", "--threads", str(threads)),
    )


def _asgi(loop: str) -> Scenario:
    return Scenario(
        name=loop,
        summary=f"ASGI, --loop {loop}",
        app="benchmarks.apps:asgi_hello",
        options=("--interface", "asgi", "--loop", loop, *_NO_WATCHDOG),
    )


def _pure(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        name=f"{scenario.name}-pure",
        summary=f"{scenario.summary}, Python alone",
        is_pure=True,
    )


_ACCELERATED = (_wsgi(1), _wsgi(8), _asgi("asyncio"), _asgi("uvloop"), _asgi("trio"))

SCENARIOS = (*_ACCELERATED, *map(_pure, _ACCELERATED))


def choose(only: Sequence[str], *, has_accelerator: bool) -> list[Scenario]:
    """Return the scenarios of these names in the table's order, or all where there are no names.

    Args:
        only: the names.
        has_accelerator: whether the accelerator is in use; where it isn't, only those without it can be counted.

    Raises:
        BenchmarkError: a name is unknown.
    """
    known = [scenario.name for scenario in SCENARIOS]
    for name in only:
        if name not in known:
            raise BenchmarkError(f"--only: there is no {name!r}; there are {', '.join(known)}.")
    chosen = [scenario for scenario in SCENARIOS if not only or scenario.name in only]
    countable = [scenario for scenario in chosen if has_accelerator or scenario.is_pure]
    if only and countable != chosen:
        raise BenchmarkError(
            "the accelerator is not in use here, so only the scenarios that end with -pure can be counted."
        )
    return countable
