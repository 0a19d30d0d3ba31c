"""Looks cases up in the bridge's own log: by request id where both have it, else by time, method and path."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from uwsgibridge.explain.causes import CAUSES, LISTENING
from uwsgibridge.explain.gathering import Case, Sample, Told

# So many different events are kept of a case.
_TOLD: Final = 20
_TEXT_CHARACTERS: Final = 2000
_EVER: Final = datetime.max.replace(tzinfo=UTC)
# Nginx writes whole seconds, so that what came after an event can have a time before it.
_WHOLE_SECOND: Final = timedelta(seconds=1)

# Fields that say what to change, of whatever event.
_ALWAYS_SHOWN: Final = ("option", "hint")

_Near: TypeAlias = tuple[str, Mapping[str, Any], datetime]


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """A line to look up; `look_back` is how long before it its cause may be."""

    case: Case
    sample: Sample
    look_back: timedelta


class _Index:
    """Lines in the order of their times; those without a time are always near."""

    def __init__(self, wanted: Iterable[_Wanted]) -> None:
        timed: list[tuple[datetime, _Wanted]] = []
        self._timeless: list[_Wanted] = []
        for it in wanted:
            if it.sample.time is None:
                self._timeless.append(it)
            else:
                timed.append((it.sample.time, it))
        timed.sort(key=lambda it: it[0])
        self._times = [it[0] for it in timed]
        self._timed = [it[1] for it in timed]
        self._longest = max((it.look_back for it in self._timed), default=timedelta())

    def near(self, when: datetime | None, within: timedelta) -> list[_Wanted]:
        """Give the lines that an event of that time may have led to."""
        if when is None:
            return [*self._timeless, *self._timed]
        first = bisect_left(self._times, when - within)
        last = bisect_right(self._times, when + self._longest)
        found = zip(self._times[first:last], self._timed[first:last], strict=True)
        return [*self._timeless, *(it for time, it in found if time <= when + it.look_back)]

    def between(self, first: datetime, last: datetime) -> list[_Wanted]:
        """Give the lines of that time."""
        return self._timed[bisect_left(self._times, first) : bisect_right(self._times, last)]


_NOTHING: Final = _Index(())


class Lookup:
    """Goes through the bridge's log once, event by event, and gives each case what belongs to it.

    Args:
        cases: what is looked for.
        within_seconds: how far the times of both logs may be apart.

    Attributes:
        events: how many events there were.
    """

    def __init__(self, cases: Iterable[Case], within_seconds: float) -> None:
        self.events = 0
        self._within = timedelta(seconds=within_seconds)
        self._all = [
            _Wanted(case, sample, self._look_back(case, sample))
            for case in cases
            for sample in case.samples()
        ]
        by_path: defaultdict[tuple[str, str], list[_Wanted]] = defaultdict(list)
        self._by_id: defaultdict[str, list[_Wanted]] = defaultdict(list)
        for it in self._all:
            by_path[it.sample.method, it.sample.path].append(it)
            if it.sample.request_id:
                self._by_id[it.sample.request_id].append(it)
        self._by_path = {key: _Index(wanted) for key, wanted in by_path.items()}
        self._by_time = _Index(it for it in self._all if it.sample.time is not None)
        # What holds since then, until the bridge listens again.
        self._lasting: _Near | None = None
        # Of each line: the events of its very request, and those that are near to it by their time alone.
        self._sure: defaultdict[_Wanted, set[str]] = defaultdict(set)
        self._near: defaultdict[_Wanted, dict[str, _Near]] = defaultdict(dict)

    def add(self, text: str) -> None:
        """Take a line of the bridge's log; one that is no event, such as what the application prints, is passed over."""
        event = _event(text)
        if event is None:
            return
        self.events += 1
        name, when = event["event"], _time(event.get("timestamp"))
        if name == LISTENING and when is not None:
            self._end_lasting(when)
        cause = CAUSES.get(name)
        if cause is None:
            return
        if cause.lasts:
            if when is not None and self._lasting is None:
                self._lasting = name, event, when
            return
        for it in self._of_the_request(event, when):
            sure = self._sure[it]
            if name in it.case.entry.causes and name not in sure:
                sure.add(name)
                _tell(it.case, name, event, when)
        if (
            when is not None
            and "path" not in event
            and ("held" not in event or "held_more" in event)
        ):
            for it in self._by_time.near(when, self._within):
                self._note(it, (name, event, when))

    def finish(self) -> None:
        """Take the end of the log. Where a line's own request has no event, those near to it are the cause."""
        self._end_lasting(_EVER)
        for it in self._all:
            if self._sure[it]:
                continue
            near = self._near[it].values()
            for name, event, when in near:
                _tell(it.case, name, event, when)
            it.case.untold += not near

    def _of_the_request(self, event: Mapping[str, Any], when: datetime | None) -> list[_Wanted]:
        request_id = event.get("request_id")
        if isinstance(request_id, str) and request_id in self._by_id:
            return self._by_id[request_id]
        path, held = event.get("path"), event.get("held")
        requests = [f"{event.get('method')} {path}"] if isinstance(path, str) else held
        found = []
        for it in requests if isinstance(requests, list) else ():
            method, _, its_path = str(it).partition(" ")
            found += self._by_path.get((method, its_path), _NOTHING).near(when, self._within)
        return found

    def _note(self, wanted: _Wanted, near: _Near) -> None:
        # Few kinds of events are causes, so that this stays small.
        if near[0] in wanted.case.entry.causes:
            self._near[wanted].setdefault(near[0], near)

    def _look_back(self, case: Case, sample: Sample) -> timedelta:
        seconds = max(case.entry.looks_back_seconds, sample.seconds)
        return self._within + timedelta(seconds=seconds)

    def _end_lasting(self, until: datetime) -> None:
        if self._lasting is not None:
            for it in self._by_time.between(self._lasting[2] - _WHOLE_SECOND, until):
                self._note(it, self._lasting)
            self._lasting = None


def _tell(case: Case, name: str, event: Mapping[str, Any], when: datetime | None) -> None:
    key = name, str(event.get("method") or ""), str(event.get("path") or "")
    told = case.told.get(key)
    if told is None:
        if len(case.told) >= _TOLD:
            return
        shows = dict.fromkeys((*CAUSES[name].shows, *_ALWAYS_SHOWN))
        fields = {it: _bounded(event[it]) for it in shows if event.get(it) is not None}
        told = case.told[key] = Told(*key, fields, when)
    told.count += 1


def _event(text: str) -> dict[str, Any] | None:
    start = text.find("{")  # behind the name of a container, say
    if start < 0:
        return None
    try:
        event = json.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return value[:_TEXT_CHARACTERS]
    if isinstance(value, list):
        return [str(it)[:_TEXT_CHARACTERS] for it in value[:20]]
    return value


def _time(stamp: object) -> datetime | None:
    if not isinstance(stamp, str):
        return None
    try:
        when = datetime.fromisoformat(stamp)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
