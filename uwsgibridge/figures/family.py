"""A figure at one moment, in the terms of OpenMetrics: a family has a name, a kind, and a sample for each set of labels."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

from uwsgibridge.quick_dataclass import dataclass

# Names and values, in the order in which they are written.
Labels: TypeAlias = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    """What a figure is (OpenMetrics 1.0, "Metric Types"); the values are its words.

    Attributes:
        COUNTER: a count that only grows, or a sum of durations or sizes.
        GAUGE: a state that goes up and down.
        HISTOGRAM: how many observations fell into each of several ranges.
        INFO: texts that do not change, such as versions, as labels.
    """

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a counter, a gauge or an info, which always has 1.

    Attributes:
        labels: what it is about.
        value: in the unit of its family.
    """

    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """One value of a histogram.

    Attributes:
        labels: what it is about.
        bounds: the upper bounds of the ranges, in growing order, without the infinite one; each belongs to its range.
        counts: how many observations fell into each range, and last those above all bounds. They are not cumulative.
        total: the sum of all observations.
    """

    labels: Labels
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class Family:
    """A figure.

    Attributes:
        name: in snake case, with the unit as its last word and without ``_total``.
        kind: what it is.
        help: one sentence.
        unit: ``seconds``, ``bytes`` or another plural of OpenMetrics; empty where it counts things.
        samples: in the order in which they are written; `Histogram` where the kind is one.
    """

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample | Histogram]
    unit: str = ""
