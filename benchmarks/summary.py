"""From single runs to figures that can be compared: medians with their spread, and ratios to a baseline."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.measuring import Run
    from benchmarks.servers import Pair


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the lowest and highest of them."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Take it of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Summary:
    """A server's figures over all rounds, for one number of connections."""

    server: str
    connections: int
    cpu_microseconds: Spread
    requests_per_second: Spread
    p99_milliseconds: Spread
    errors: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A server's figures divided by a baseline's, for one number of connections.

    `flawed`: one of the two had errors, so the ratio is not to be relied on.
    """

    server: str
    baseline: str
    connections: int
    cpu: Spread
    requests_per_second: Spread
    p99: Spread
    flawed: bool


def summarise(runs: Iterable[Run]) -> list[Summary]:
    """Return one summary for each server and number of connections, in the order of their first runs."""
    grouped: defaultdict[tuple[int, str], list[Run]] = defaultdict(list)
    for run in runs:
        grouped[run.connections, run.server].append(run)
    return [
        Summary(
            server=server,
            connections=connections,
            cpu_microseconds=Spread.of([_cpu(run) for run in group]),
            requests_per_second=Spread.of([_rate(run) for run in group]),
            p99_milliseconds=Spread.of([_p99(run) * 1000 for run in group]),
            errors=sum(run.load.errors for run in group),
        )
        for (connections, server), group in grouped.items()
    ]


def compare(runs: Iterable[Run], pairs: Iterable[Pair]) -> list[Comparison]:
    """Return the ratios of those pairs of which both were run.

    Each round gives one ratio, of two runs a few seconds apart, and the median is taken of these: a machine that
    gets slower or quicker in the course of the rounds then does so to both.
    """
    found: defaultdict[tuple[int, str], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        found[run.connections, run.server][run.round] = run
    comparisons = []
    counts = dict.fromkeys(connections for connections, _ in found)
    for connections in counts:
        for pair in pairs:
            ours = found.get((connections, pair.server), {})
            theirs = found.get((connections, pair.baseline), {})
            both = [(ours[n], theirs[n]) for n in ours.keys() & theirs.keys()]
            if both:
                comparisons.append(_comparison(pair, connections, both))
    return comparisons


def _comparison(pair: Pair, connections: int, both: Sequence[tuple[Run, Run]]) -> Comparison:
    def ratio(figure: Callable[[Run], float]) -> Spread:
        return Spread.of([figure(ours) / figure(theirs) for ours, theirs in both])

    return Comparison(
        server=pair.server,
        baseline=pair.baseline,
        connections=connections,
        cpu=ratio(_cpu),
        requests_per_second=ratio(_rate),
        p99=ratio(_p99),
        flawed=any(run.load.errors for runs in both for run in runs),
    )


def _cpu(run: Run) -> float:
    return run.cpu_microseconds_per_request


def _rate(run: Run) -> float:
    return run.load.requests_per_second


def _p99(run: Run) -> float:
    return run.load.p99_seconds
