"""What a configuration of another server becomes here: an application, options, and a finding for each line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody has written a setting.

    Attributes:
        source: a file's path as it was named, or words such as "the command line".
        line: of the file, from 1 on; 0 where there are no lines.
    """

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of the other server, as it stands after all placeholders were replaced.

    Attributes:
        name: as it was written.
        value: as the other server's option gets it; None where nothing but the name was written.
        place: where it stands.
        is_named: whether another line's placeholder names it.
        variables: the variables of the environment that its value is made of.
    """

    name: str
    value: str | None
    place: Place
    is_named: bool = False
    variables: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name} = {self.value}"


class Verdict(Enum):
    """What becomes of one line."""

    MAPPED = auto()  # an option does the same here
    PASSED_OVER = auto()  # it needs nothing here
    WARNED = auto()  # the start goes on, and something is different
    REFUSED = auto()  # without it something else would be served or run, so there is no start


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one setting, and why.

    Attributes:
        verdict: the kind.
        setting: the line that it is about.
        text: for `Verdict.MAPPED` what it becomes, such as ``--workers 4``; else one or two sentences.
        group: the name that ``--ignore`` takes; the option's main name.
    """

    verdict: Verdict
    setting: Setting
    text: str
    group: str


@dataclass(slots=True)
class Plan:
    """All that a configuration becomes.

    Attributes:
        app: what ``uwsgibridge serve`` would get as APP; None where applications are mounted only.
        values: fields of `uwsgibridge.config.settings.Settings` that are not at their default.
        origins: for each of these fields, the last line that has set it.
        findings: in the order of the configuration.
        http: what the other server listened on for HTTP, which Nginx has to do here.
        environment: variables of the environment that the process needs; None for one that is to be removed.
    """

    app: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Setting] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    http: list[str] = field(default_factory=list)
    environment: dict[str, str | None] = field(default_factory=dict)
    # Of a list: the lines before the last one.
    _earlier: dict[str, list[Setting]] = field(default_factory=dict, repr=False)

    def note_origin(self, name: str, setting: Setting, *, adds: bool = False) -> None:
        """Note which line has set a field.

        Args:
            name: of the field.
            setting: the line.
            adds: whether it has added items to a list, so that earlier lines count as well.
        """
        before = self.origins_of(name) if adds else []
        self.origins[name] = setting
        self._earlier[name] = [it for it in before if it != setting]

    def origins_of(self, name: str) -> list[Setting]:
        """Give all lines that a field's value comes from, in their order; none where it has another reason."""
        last = self.origins.get(name)
        return [] if last is None else [*self._earlier.get(name, ()), last]

    def of(self, verdict: Verdict) -> list[Finding]:
        """Give the findings of one kind, in their order."""
        return [one for one in self.findings if one.verdict is verdict]
