"""Findings, and the table of rules that make them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from uwsgibridge.config.settings import Settings
from uwsgibridge.frontend.check.files import Missing
from uwsgibridge.frontend.check.reading import Directive
from uwsgibridge.frontend.check.tree import Level, Tree, Way

Version: TypeAlias = tuple[int, int, int]

REMOVE: Final = "(remove the line)"


class Severity(enum.Enum):
    """How much a finding matters, as SARIF has it."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at a place.

    Attributes:
        rule: the rule's id.
        severity: how much it matters.
        file: the file.
        line: the line, from 1 on.
        reason: one sentence.
        write: the line to write, or `REMOVE`.
    """

    rule: str
    severity: Severity
    file: str
    line: int
    reason: str
    write: str


# The options that rules look at. A file of options may have others that hold on another machine only.
LOOKED_AT: Final = frozenset(
    {
        "bind", "socket_mode", "mount", "run_abandoned", "max_vars_bytes", "max_body_bytes",
        "request_timeout_seconds", "body_timeout_seconds", "websocket_ping_seconds", "frontend_buffer_bytes",
        "interface", "wsgi_websockets",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge's options, as far as they concern Nginx.

    Attributes:
        settings: those of `LOOKED_AT` that are in force; all others have their defaults.
        given: names of options that were given, and are not just their defaults.
        offload: pairs of a URL and a directory, each with a slash at its end; it need not be on this machine.
        static: likewise.
    """

    settings: Settings = field(default_factory=Settings)
    given: frozenset[str] = frozenset()
    offload: tuple[tuple[str, str], ...] = ()
    static: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any], given: frozenset[str]) -> Bridge:
        """Take the values of options by their names in the table.

        Raises:
            SettingsError: one of `LOOKED_AT` is wrong.
        """
        # What comes by JSON has lists.
        looked_at: dict[str, Any] = {
            name: tuple(value) if isinstance(value := values[name], list) else value
            for name in LOOKED_AT & values.keys()
        }
        settings = Settings(**looked_at)
        pairs = {name: tuple(map(_pair, values.get(name, ()))) for name in ("offload", "static")}
        return cls(settings, given, pairs["offload"], pairs["static"])


def _pair(text: str) -> tuple[str, str]:
    url, _, directory = text.partition("=")
    return f"{url.rstrip('/')}/", f"{directory.rstrip('/')}/"


@dataclass(frozen=True, slots=True)
class Case:
    """What the rules judge.

    Attributes:
        tree: the configuration.
        bridge: the options of the bridge that are in force.
        version: Nginx's version, if it is known.
        missing: includes that were not found.
        socket_mode_of: gives the permissions of a socket on this machine, or None where there is none.
    """

    tree: Tree
    bridge: Bridge
    version: Version | None = None
    missing: tuple[Missing, ...] = ()
    socket_mode_of: Callable[[str], int | None] = field(default=lambda _: None)

    def is_before(self, *version: int) -> bool:
        """Whether Nginx's version is known, and earlier."""
        return self.version is not None and self.version < version


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        name: its id.
        severity: that of its findings.
        what: what is found, and why that matters, for the reference page.
        find: yields the place, the reason and the line to write for each thing found in a case.
    """

    name: str
    severity: Severity
    what: str
    find: Callable[[Case], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Found:
    """A place where a rule applies; `Rule` makes a finding of it.

    Attributes:
        at: the directive.
        reason: one sentence.
        write: the line to write.
    """

    at: Directive
    reason: str
    write: str


RULES: Final[dict[str, Rule]] = {}


def for_case(
    name: str, severity: Severity, what: str
) -> Callable[[Callable[[Case], Iterable[Found]]], Callable[[Case], Iterable[Found]]]:
    """Add a rule that looks at the whole configuration."""

    def add(find: Callable[[Case], Iterable[Found]]) -> Callable[[Case], Iterable[Found]]:
        assert name not in RULES, name
        RULES[name] = Rule(name, severity, what, find)
        return find

    return add


def for_way(
    name: str, severity: Severity, what: str
) -> Callable[[Callable[[Case, Way], Iterable[Found]]], Callable[[Case, Way], Iterable[Found]]]:
    """Add a rule that looks at each way to an application."""

    def add(
        find: Callable[[Case, Way], Iterable[Found]],
    ) -> Callable[[Case, Way], Iterable[Found]]:
        def find_all(case: Case) -> Iterator[Found]:
            for way in case.tree.ways:
                yield from find(case, way)

        for_case(name, severity, what)(find_all)
        return find

    return add


def for_server(
    name: str, severity: Severity, what: str
) -> Callable[[Callable[[Case, Level], Iterable[Found]]], Callable[[Case, Level], Iterable[Found]]]:
    """Add a rule that looks at each server which has a way to an application."""

    def add(
        find: Callable[[Case, Level], Iterable[Found]],
    ) -> Callable[[Case, Level], Iterable[Found]]:
        def find_all(case: Case) -> Iterator[Found]:
            for server in case.tree.ways_of:
                yield from find(case, server)

        for_case(name, severity, what)(find_all)
        return find

    return add
