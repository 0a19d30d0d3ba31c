"""Looks cases up in the bridge's own log: by request id where both have it, else by time, method and path."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
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

_Wanted: TypeAlias = tuple[Case, Sample]
_Near: TypeAlias = tuple[str, Mapping[str, Any], datetime]


class Lookup:
    """Goes through the bridge's log once, event by event, and gives each case what belongs to it.

    Args:
        cases: what is looked for.
        within_seconds: how far the times of both logs may be apart.

    Attributes:
        events: how many events there were.
    """

    def __init__(self, cases: Iterable[Case], within_seconds: float) -> None:
        self._within = timedelta(seconds=within_seconds)
        self._by_path: defaultdict[tuple[str, str], list[_Wanted]] = defaultdict(list)
        self._by_id: defaultdict[str, list[_Wanted]] = defaultdict(list)
        self._all = [(case, sample) for case in cases for sample in case.samples()]
        self._timed: list[tuple[datetime, _Wanted]] = []
        # What holds since then, until the bridge listens again.
        self._lasting: tuple[datetime, str, Mapping[str, Any]] | None = None
        # Samples with an event of their very request, and events that are near to others by their time alone.
        self._sure: set[int] = set()
        self._near: defaultdict[int, dict[str, _Near]] = defaultdict(dict)
        self._longest_look_back = self._within
        self.events = 0
        for case, sample in self._all:
            self._by_path[sample.method, sample.path].append((case, sample))
            if sample.request_id:
                self._by_id[sample.request_id].append((case, sample))
            if sample.time is not None:
                self._timed.append((sample.time, (case, sample)))
                look_back = self._look_back(case, sample)
                self._longest_look_back = max(self._longest_look_back, look_back)
        self._timed.sort(key=lambda it: it[0])
        self._times = [it[0] for it in self._timed]

    def add(self, text: str) -> None:
        """Take a line of the bridge's log; one that is no event, such as what the application prints, is passed over."""
        start = text.find("{")
        if start < 0:
            return
        try:
            event = json.loads(text[start:])
        except (ValueError, RecursionError):
            return
        name = event.get("event") if isinstance(event, dict) else None
        if not isinstance(name, str):
            return
        self.events += 1
        when = _time(event.get("timestamp"))
        if name == LISTENING and when is not None:
            self._end_lasting(when)
        cause = CAUSES.get(name)
        if cause is None:
            return
        if cause.lasts:
            if when is not None and self._lasting is None:
                self._lasting = when, name, event
            return
        for case, sample in self._of_the_request(event):
            if self._fits(case, sample, name, when):
                self._sure.add(id(sample))
                _tell(case, name, event, when)
        if (
            when is not None
            and "path" not in event
            and ("held" not in event or "held_more" in event)
        ):
            for case, sample in self._of_the_time(when):
                if self._fits(case, sample, name, when):
                    self._note(sample, name, event, when)

    def finish(self) -> None:
        """Take the end of the log. Where a line's own request has no event, those near to it are the cause."""
        self._end_lasting(_EVER)
        for case, sample in self._all:
            if id(sample) in self._sure:
                continue
            near = self._near[id(sample)].values()
            for name, event, when in near:
                _tell(case, name, event, when)
            case.untold += not near

    def _of_the_request(self, event: Mapping[str, Any]) -> list[_Wanted]:
        request_id = event.get("request_id")
        if isinstance(request_id, str) and request_id in self._by_id:
            return self._by_id[request_id]
        path, held = event.get("path"), event.get("held")
        if isinstance(path, str):
            return self._by_path.get((str(event.get("method")), path), [])
        found: list[_Wanted] = []
        for it in held if isinstance(held, list) else ():
            method, _, held_path = str(it).partition(" ")
            found += self._by_path.get((method, held_path), [])
        return found

    def _of_the_time(self, when: datetime) -> list[_Wanted]:
        first = bisect_left(self._times, when - self._within)
        last = bisect_right(self._times, when + self._longest_look_back)
        return [it[1] for it in self._timed[first:last]]

    def _note(self, sample: Sample, name: str, event: Mapping[str, Any], when: datetime) -> None:
        # Few kinds of events are causes, so that this stays small.
        self._near[id(sample)].setdefault(name, (name, event, when))

    def _fits(self, case: Case, sample: Sample, name: str, when: datetime | None) -> bool:
        if name not in case.entry.causes:
            return False
        if sample.time is None or when is None:
            return True
        return when - self._within <= sample.time <= when + self._look_back(case, sample)

    def _look_back(self, case: Case, sample: Sample) -> timedelta:
        seconds = max(case.entry.looks_back_seconds, sample.seconds)
        return self._within + timedelta(seconds=seconds)

    def _end_lasting(self, until: datetime) -> None:
        if self._lasting is None:
            return
        since, name, event = self._lasting
        self._lasting = None
        first = bisect_left(self._times, since - _WHOLE_SECOND)
        for _, (case, sample) in self._timed[first : bisect_right(self._times, until)]:
            if name in case.entry.causes:
                self._note(sample, name, event, since)


def _tell(case: Case, name: str, event: Mapping[str, Any], when: datetime | None) -> None:
    key = name, str(event.get("method") or ""), str(event.get("path") or "")
    told = case.told.get(key)
    if told is None:
        if len(case.told) >= _TOLD:
            return
        shows = CAUSES[name].shows
        fields = {it: _bounded(event[it]) for it in shows if event.get(it) is not None}
        told = case.told[key] = Told(*key, fields, when)
    told.count += 1


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
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
