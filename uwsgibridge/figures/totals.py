"""Sums of what workers have counted, which never go back: workers that have ended stay in them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from uwsgibridge.figures.layout import (
    FIRST_HISTOGRAM,
    LAG,
    MESSAGES_IN,
    MESSAGES_OUT,
    METHODS,
    NAME_CELLS,
    NAMED,
    NAMED_CELLS,
    OUTCOMES,
    OWN_BOUNDS,
    OWN_HISTOGRAMS,
    PENDING_CELL,
    PENDING_VALUE,
    RECEIVED,
    REQUESTS,
    ROW,
    SENT,
    TIMES,
    Layout,
)
from uwsgibridge.quick_dataclass import dataclass

_NANOSECONDS = 1_000_000_000


@dataclass(slots=True)
class HistogramSum:
    """A sum of histograms.

    Attributes:
        bounds: upper bounds in seconds, growing.
        counts: for each range, and last above all bounds.
        nanoseconds: the sum of all observations.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    nanoseconds: int = 0

    @staticmethod
    def empty(bounds: Sequence[float]) -> HistogramSum:
        """Make one without observations."""
        return HistogramSum(tuple(bounds), [0] * (len(bounds) + 1))

    def add(self, bounds: Sequence[float], counts: Sequence[int], nanoseconds: int) -> None:
        """Add a histogram, which may have other bounds: a range then counts for the one that has its upper end."""
        self.nanoseconds += nanoseconds
        if self.bounds == tuple(bounds):
            for which, count in enumerate(counts):
                self.counts[which] += count
            return
        for bound, count in zip((*bounds, float("inf")), counts, strict=True):
            self.counts[bisect_left(self.bounds, bound)] += count

    @property
    def seconds(self) -> float:
        """The sum of all observations in seconds."""
        return self.nanoseconds / _NANOSECONDS


@dataclass(slots=True)
class MountTotals:
    """What was counted of the requests of one mount.

    Attributes:
        requests: by the names of method and outcome.
        times: for each of `TIMES`.
        received_bytes, sent_bytes: of bodies.
        messages_in, messages_out: of WebSockets.
    """

    times: dict[str, HistogramSum]
    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    received_bytes: int = 0
    sent_bytes: int = 0
    messages_in: int = 0
    messages_out: int = 0

    def add(self, other: MountTotals) -> None:
        """Add what was counted elsewhere of the same mount."""
        for name, times in other.times.items():
            self.times[name].add(times.bounds, times.counts, times.nanoseconds)
        for key, count in other.requests.items():
            self.requests[key] = self.requests.get(key, 0) + count
        self.received_bytes += other.received_bytes
        self.sent_bytes += other.sent_bytes
        self.messages_in += other.messages_in
        self.messages_out += other.messages_out


@dataclass(slots=True)
class Totals:
    """What was counted over several workers.

    Attributes:
        bounds: of the histograms of requests.
        arrived: requests.
        mounts: by label.
        named: the named counters.
        own: the histograms of `OWN_HISTOGRAMS`.
    """

    bounds: tuple[float, ...]
    arrived: int = 0
    mounts: dict[str, MountTotals] = field(default_factory=dict)
    named: dict[str, int] = field(default_factory=dict)
    own: dict[str, HistogramSum] = field(default_factory=dict)

    @staticmethod
    def of_memory(memory: memoryview, bounds: Sequence[float] = ()) -> Totals:
        """Give what one worker that lives has counted."""
        totals = Totals(tuple(bounds))
        totals.add_memory(memory, has_ended=False)
        return totals

    def mount(self, label: str) -> MountTotals:
        """Give what was counted of a mount, which is made where it is new."""
        found = self.mounts.get(label)
        if found is None:
            times = {name: HistogramSum.empty(self.bounds) for name in TIMES}
            found = self.mounts[label] = MountTotals(times)
        return found

    @property
    def answered(self) -> int:
        """How many requests are over."""
        return sum(sum(it.requests.values()) for it in self.mounts.values())

    def count(self, name: str, by: int = 1) -> None:
        """Count by a name, beside what workers have counted."""
        self.named[name] = self.named.get(name, 0) + by

    def observe_lag(self, seconds: float) -> None:
        """Record how long a worker's event loop has taken to answer."""
        lag = self.own.setdefault(OWN_HISTOGRAMS[LAG], HistogramSum.empty(OWN_BOUNDS))
        lag.counts[bisect_left(lag.bounds, seconds)] += 1
        lag.nanoseconds += int(seconds * _NANOSECONDS)

    def by_reason(self, prefix: str) -> dict[str, int]:
        """Give the named counters with a prefix, without it."""
        return {
            name.removeprefix(prefix): count
            for name, count in self.named.items()
            if name.startswith(prefix)
        }

    def copy(self) -> Totals:
        """Make a copy that can be added to."""
        made = Totals(self.bounds)
        made.add(self)
        return made

    def add(self, other: Totals) -> None:
        """Add what was counted elsewhere."""
        self.arrived += other.arrived
        for name, count in other.named.items():
            self.count(name, count)
        for name, one in other.own.items():
            own = self.own.setdefault(name, HistogramSum.empty(OWN_BOUNDS))
            own.add(one.bounds, one.counts, one.nanoseconds)
        for label, mount in other.mounts.items():
            self.mount(label).add(mount)

    def bequeath(self) -> dict[str, Any]:
        """Give everything as JSON can have it."""
        return {
            "bounds": self.bounds,
            "arrived": self.arrived,
            "named": dict(self.named),
            "own": {name: _told(it) for name, it in self.own.items()},
            "mounts": {
                label: {
                    "requests": [[*key, count] for key, count in it.requests.items()],
                    "times": {name: _told(one) for name, one in it.times.items()},
                    "received_bytes": it.received_bytes,
                    "sent_bytes": it.sent_bytes,
                    "messages_in": it.messages_in,
                    "messages_out": it.messages_out,
                }
                for label, it in self.mounts.items()
            },
        }

    @staticmethod
    def of_heritage(told: Mapping[str, Any], bounds: Sequence[float]) -> Totals:
        """Go on with what the program before has counted, whose histograms may have had other bounds."""
        totals = Totals(tuple(bounds), int(told.get("arrived", 0)))
        totals.named.update(told.get("named", {}))
        for name, one in told.get("own", {}).items():
            _add_told(totals.own.setdefault(name, HistogramSum.empty(OWN_BOUNDS)), one)
        for label, one in told.get("mounts", {}).items():
            mount = totals.mount(label)
            for method, outcome, count in one["requests"]:
                mount.requests[method, outcome] = count
            for name, histogram in one["times"].items():
                if name in mount.times:
                    _add_told(mount.times[name], histogram)
            mount.received_bytes = one["received_bytes"]
            mount.sent_bytes = one["sent_bytes"]
            mount.messages_in = one["messages_in"]
            mount.messages_out = one["messages_out"]
        return totals

    def add_memory(self, memory: memoryview, *, has_ended: bool) -> None:
        """Add what one worker has counted.

        Args:
            memory: as the worker has it.
            has_ended: whether nobody writes to it any more: then, an answer that was about to be counted is, and
                requests that are not over never will be, which the name ``aborted`` counts.
        """
        layout = Layout.of_header(memory)
        if layout is None or len(memory) < layout.size_bytes:
            return
        # A copy: a worker that lives writes on.
        cells = memoryview(bytearray(memory[len(layout.header) : layout.size_bytes])).cast("Q")
        before = self.answered
        arrived = sum(cells[layout.arrival(it)] for it in range(layout.arrivals))
        unread = sum(cells[layout.arrival(it) + 1] for it in range(layout.arrivals))
        for which in range(layout.blocks):
            mount = cells[layout.table_start + which]
            if mount:
                start = layout.block(which)
                block = cells[start : start + layout.block_cells]
                if has_ended:
                    _settle(block)
                self._add_block(layout, layout.mounts[mount - 1], block)
        self._add_named(cells)
        for which, name in enumerate(OWN_HISTOGRAMS):
            start = layout.own_histogram(which)
            end = start + len(OWN_BOUNDS) + 1
            own = self.own.setdefault(name, HistogramSum.empty(OWN_BOUNDS))
            own.add(OWN_BOUNDS, cells[start:end].tolist(), cells[end])
        self.arrived += arrived
        if has_ended:
            held = arrived + unread - (self.answered - before)
            if held > 0:
                self.count("aborted", held)

    def _add_block(self, layout: Layout, label: str, block: memoryview) -> None:
        mount = self.mount(label)
        for row, method in enumerate(METHODS):
            start = REQUESTS + row * ROW
            for outcome, count in zip(OUTCOMES, block[start : start + len(OUTCOMES)], strict=True):
                if count:
                    key = (method, outcome)
                    mount.requests[key] = mount.requests.get(key, 0) + count
        start = FIRST_HISTOGRAM
        for name in TIMES:
            end = start + len(layout.bounds) + 1
            mount.times[name].add(layout.bounds, block[start:end].tolist(), block[end])
            start = end + 1
        mount.received_bytes += block[RECEIVED]
        mount.sent_bytes += block[SENT]
        mount.messages_in += block[MESSAGES_IN]
        mount.messages_out += block[MESSAGES_OUT]

    def _add_named(self, cells: memoryview) -> None:
        for which in range(NAMED):
            start = which * NAMED_CELLS
            name = cells[start : start + NAME_CELLS].tobytes().rstrip(b"\0")
            if not name:
                return
            self.count(name.decode(errors="replace"), cells[start + NAME_CELLS])


def _settle(block: memoryview) -> None:
    """Count the answer that the writer of a block had begun to send as it ended: `Recorder.mark`."""
    pending = block[PENDING_CELL]
    if pending:
        block[pending] = max(block[pending], block[PENDING_VALUE])


def _told(histogram: HistogramSum) -> list[Any]:
    return [histogram.bounds, histogram.counts, histogram.nanoseconds]


def _add_told(histogram: HistogramSum, told: Sequence[Any]) -> None:
    bounds, counts, nanoseconds = told
    histogram.add(bounds, counts, nanoseconds)
