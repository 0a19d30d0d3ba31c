"""Writes figures as the two texts that Prometheus reads: its own format 0.0.4, and OpenMetrics 1.0.

Both have a line for each sample. They differ in where ``_total`` belongs, in what is escaped, and in the end. (Prometheus,
"Exposition formats"; the OpenMetrics specification 1.0, "Text format".)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import accumulate

from uwsgibridge.figures.family import Family, Histogram, Kind, Labels, Sample


class TextFormat(Enum):
    """A text format; the value is its content type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render(families: Iterable[Family], form: TextFormat) -> str:
    """Write families.

    Args:
        families: in the order in which they are written; no name comes twice.
        form: the format.

    Returns:
        The whole text, with the end that its format wants.
    """
    is_openmetrics = form is TextFormat.OPENMETRICS
    lines: list[str] = []
    for family in families:
        lines += _head(family, is_openmetrics=is_openmetrics)
        for sample in family.samples:
            lines += _sample_lines(family, sample)
    if is_openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines)


def series_name(family: Family) -> str:
    """Give the name of the samples of a counter, a gauge or an info."""
    match family.kind:
        case Kind.COUNTER:
            return f"{family.name}_total"
        case Kind.INFO:
            return f"{family.name}_info"
        case _:
            return family.name


def write_number(value: float) -> str:
    """Write a value as both formats have it, which is as Go and Python write it but for three words."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    # An integer is written in full: a count of bytes has more digits than a float shows.
    return str(int(value)) if value == int(value) and abs(value) < 2**63 else repr(value)


def cumulative_counts(histogram: Histogram) -> Iterator[tuple[str, int]]:
    """Give the text of each upper bound, the infinite one last, with the number of observations up to it."""
    bounds = [*map(_write_bound, histogram.bounds), "+Inf"]
    return zip(bounds, accumulate(histogram.counts), strict=True)


def _head(family: Family, *, is_openmetrics: bool) -> list[str]:
    if is_openmetrics:
        name, kind = family.name, family.kind.value
        text = _escape(family.help, quotes=True)
    else:
        # There, the name is that of the samples, and an info is not known (prometheus_client's generate_latest).
        name = series_name(family)
        kind = "gauge" if family.kind is Kind.INFO else family.kind.value
        text = _escape(family.help, quotes=False)
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    if is_openmetrics and family.unit:
        lines.insert(0, f"# UNIT {name} {family.unit}")
    return lines


def _sample_lines(family: Family, sample: Sample | Histogram) -> list[str]:
    if isinstance(sample, Sample):
        return [f"{series_name(family)}{_braces(sample.labels)} {write_number(sample.value)}"]
    name = family.name
    lines = [
        f"{name}_bucket{_braces((*sample.labels, ('le', bound)))} {count}"
        for bound, count in cumulative_counts(sample)
    ]
    braces = _braces(sample.labels)
    return [
        *lines,
        f"{name}_sum{braces} {write_number(sample.total)}",
        f"{name}_count{braces} {sum(sample.counts)}",
    ]


def _braces(labels: Labels | Sequence[tuple[str, str]]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(it, quotes=True)}"' for name, it in labels) + "}"


def _write_bound(bound: float) -> str:
    # OpenMetrics wants 1.0 where Prometheus's own format would also take 1: one text, so that no series changes its
    # name with the format.
    return repr(float(bound))


def _escape(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
