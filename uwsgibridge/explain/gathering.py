"""Sums lines of Nginx's logs up: equal ones become one case, in bounded memory however long the logs are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Final
from urllib.parse import unquote_to_bytes

from uwsgibridge.explain.catalogue import entry_of_message, entry_of_status
from uwsgibridge.explain.entry import Entry
from uwsgibridge.explain.lines import Line, time_of

# Of each case, so many lines at its beginning and at its end are looked up in the bridge's log.
_LOOKED_UP: Final = 50
# So many cases are told apart by their upstream; beyond that, an entry has one for all others.
_CASES: Final = 200
# So many different requests are counted in a case.
_REQUESTS: Final = 500
_UNKNOWN: Final = 50
_TEXT_CHARACTERS: Final = 300

# Levels of which a line is a failure, whether it is known or not.
_FAILURES: Final = ("error", "crit", "alert", "emerg")
_VARYING: Final = re.compile(r'"[^"]*"|\d+')


@dataclass(frozen=True, slots=True)
class Sample:
    """A line to look up in the bridge's log.

    Attributes:
        time: in UTC; None where the line has none.
    """

    time: datetime | None
    method: str
    path: str
    request_id: str
    seconds: float


@dataclass(slots=True, eq=False)
class Told:
    """An event of the bridge's log that belongs to a case.

    Attributes:
        count: of the case's lines that it belongs to.
        fields: of the first such event.
    """

    event: str
    method: str
    path: str
    fields: dict[str, object]
    first: datetime | None
    count: int = 0


@dataclass(slots=True, eq=False)
class Case:
    """Equal lines.

    Attributes:
        example: the first line's message.
        upstream: that was asked; empty where none was, or several.
        longest_seconds: that a request took; 0 where no line says it.
        requests: methods and paths, with how often each was there.
        told: what the bridge's log says of it.
        untold: how many of its lines were looked up there, and nothing was found.
        in_error_log: of a case of the access log: the entries that have the same requests in the error log.
    """

    entry: Entry
    example: str
    upstream: str
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    longest_seconds: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    told: dict[tuple[str, str, str], Told] = field(default_factory=dict)
    untold: int = 0
    in_error_log: Counter[str] = field(default_factory=Counter)
    _begin: list[Sample] = field(default_factory=list)
    _end: deque[Sample] = field(default_factory=lambda: deque(maxlen=_LOOKED_UP))

    def add(self, line: Line, when: datetime | None) -> None:
        """Count a line."""
        self.count += 1
        if when is not None:
            self.first = when if self.first is None else min(self.first, when)
            self.last = when if self.last is None else max(self.last, when)
        self.longest_seconds = max(self.longest_seconds, line.seconds)
        path = path_of(line.target)
        request = f"{line.method} {path}".strip()
        if request and (request in self.requests or len(self.requests) < _REQUESTS):
            self.requests[request] += 1
        sample = Sample(when, line.method, path, line.request_id, line.seconds)
        if len(self._begin) < _LOOKED_UP:
            self._begin.append(sample)
        else:
            self._end.append(sample)

    def samples(self) -> Iterator[Sample]:
        """Give the lines that are looked up."""
        yield from self._begin
        yield from self._end


@dataclass(slots=True)
class Gathered:
    """All that was read of Nginx's logs.

    Args:
        zone: where the error log was written; None is this machine's.

    Attributes:
        explained: lines that are in a case.
        unknown: failures that the catalogue does not have, with how often each was there.
        unknown_lines: how many lines those are.
        passed_over: lines that tell of no failure.
    """

    zone: tzinfo | None = None
    explained: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_lines: int = 0
    passed_over: int = 0
    _cases: dict[tuple[str, str], Case] = field(default_factory=dict)

    @property
    def cases(self) -> list[Case]:
        """All cases, the error log's first, each in the order of their first lines."""
        return sorted(self._cases.values(), key=lambda it: it.entry.log == "access")

    def add(self, line: Line | None) -> Entry | None:
        """Count a line; give the entry that explains it."""
        if line is None:
            self.passed_over += 1
            return None
        entry = _entry(line)
        if entry is None:
            if _is_failure(line):
                self._add_unknown(line)
            else:
                self.passed_over += 1
            return None
        self.explained += 1
        self._case(entry, line).add(line, time_of(line, self.zone))
        return entry

    def _case(self, entry: Entry, line: Line) -> Case:
        upstream = line.upstream
        if (entry.name, upstream) not in self._cases and len(self._cases) >= _CASES:
            upstream = ""
        key = entry.name, upstream
        if key not in self._cases:
            self._cases[key] = Case(entry, line.message[:_TEXT_CHARACTERS], upstream)
        return self._cases[key]

    def _add_unknown(self, line: Line) -> None:
        self.unknown_lines += 1
        text = _VARYING.sub(_shorten, line.message)[:_TEXT_CHARACTERS]
        if line.log == "access":
            text = f"{line.message} in the access log"
        if text in self.unknown or len(self.unknown) < _UNKNOWN:
            self.unknown[text] += 1


def join_logs(cases: Iterable[Case], within_seconds: float) -> None:
    """Find for each case of the access log what the error log says of the same requests.

    Args:
        cases: all of them, with the error log's.
        within_seconds: how far the times may be apart, beside the time that a request took.
    """
    errors: defaultdict[tuple[str, str], list[tuple[Entry, datetime]]] = defaultdict(list)
    accesses = []
    for case in cases:
        if case.entry.log == "access":
            accesses.append(case)
            continue
        for sample in case.samples():
            if sample.time is not None and sample.method:
                errors[sample.method, sample.path].append((case.entry, sample.time))
    for case in accesses:
        for sample in case.samples():
            names = {
                entry.name
                for entry, when in errors.get((sample.method, sample.path), ())
                if sample.time is not None
                and abs((sample.time - when).total_seconds()) <= within_seconds + sample.seconds
            }
            case.in_error_log.update(names)


def path_of(target: str) -> str:
    """Give the path of a request's target as an application has it: decoded, without the query."""
    path = target.partition("?")[0]
    if "://" in path[:12]:
        path = f"/{path.partition('://')[2].partition('/')[2]}"
    return unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


def _entry(line: Line) -> Entry | None:
    return entry_of_message(line.message) if line.log == "error" else entry_of_status(line.message)


def _is_failure(line: Line) -> bool:
    return line.level in _FAILURES or (line.log == "access" and line.message.startswith("5"))


def _shorten(found: re.Match[str]) -> str:
    return '"..."' if found[0].startswith('"') else "N"
