"""From single runs to figures that can be compared: medians with their spread, and ratios to a baseline."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.measuring import Case, Run
    from benchmarks.metrics import Metric
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
    """A server's figures over all rounds of a case; none where it has failed in one of them."""

    case: Case
    server: str
    figures: Mapping[Metric, Spread]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A server's figures divided by a baseline's, for one case."""

    case: Case
    server: str
    baseline: str
    ratios: Mapping[Metric, Spread]


def summarise(runs: Iterable[Run]) -> list[Summary]:
    """Return one summary for each case and server, in the order of their first runs."""
    grouped: defaultdict[tuple[Case, str], list[Run]] = defaultdict(list)
    for run in runs:
        grouped[run.case, run.server].append(run)
    summaries = []
    for (case, server), group in grouped.items():
        if failure := next((run.failure for run in group if run.failure), ""):
            summaries.append(Summary(case, server, {}, failure))
            continue
        values: defaultdict[Metric, list[float]] = defaultdict(list)
        for run in group:
            for metric, value in run.figures.items():
                values[metric].append(value)
        summaries.append(
            Summary(case, server, {metric: Spread.of(found) for metric, found in values.items()})
        )
    return summaries


def compare(runs: Iterable[Run], pairs: Iterable[Pair]) -> list[Comparison]:
    """Return the ratios of those pairs of which both were run, and neither has failed.

    Each round gives one ratio, of two runs some seconds apart, and the median is taken of these: a machine that
    gets slower or quicker in the course of the rounds then does so to both.
    """
    found: defaultdict[tuple[Case, str], dict[int, Run]] = defaultdict(dict)
    failed = set()
    for run in runs:
        found[run.case, run.server][run.round] = run
        if run.failure:
            failed.add((run.case, run.server))
    comparisons = []
    pairs = list(pairs)
    for case in dict.fromkeys(case for case, _ in found):
        for pair in pairs:
            if {(case, pair.server), (case, pair.baseline)} & failed:
                continue
            ours = found.get((case, pair.server), {})
            theirs = found.get((case, pair.baseline), {})
            ratios: defaultdict[Metric, list[float]] = defaultdict(list)
            for round_ in ours.keys() & theirs.keys():
                for metric, value in ours[round_].figures.items():
                    if metric.has_ratio and (base := theirs[round_].figures.get(metric)):
                        ratios[metric].append(value / base)
            if ratios:
                spreads = {metric: Spread.of(values) for metric, values in ratios.items()}
                comparisons.append(Comparison(case, pair.server, pair.baseline, spreads))
    return comparisons
