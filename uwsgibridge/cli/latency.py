"""Tells from two readings of a histogram how long the requests between them took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def quantile_between(
    status: Mapping[str, Any], earlier: Mapping[str, Any], part: float
) -> float | None:
    """Estimate below which time a part of the requests between two answers to ``status`` stayed.

    As Prometheus's `histogram_quantile` does: requests are taken to be spread evenly over their range, and what is above
    the last bound counts as that bound.

    Args:
        status: of this moment.
        earlier: an earlier one.
        part: such as 0.99.

    Returns:
        Seconds; None where no request has ended meanwhile, or nothing is known.
    """
    now, before = status.get("latency"), earlier.get("latency")
    if not now or not before or now["bounds"] != before["bounds"]:
        return None
    counts = [new - old for new, old in zip(now["counts"], before["counts"], strict=True)]
    if min(counts, default=0) < 0:  # another supervisor's
        return None
    return _quantile(now["bounds"], counts, part)


def _quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    rank = part * sum(counts)
    if not rank:
        return None
    lower = 0.0
    for upper, count in zip(bounds, counts, strict=False):
        if count and rank <= count:
            return lower + (upper - lower) * rank / count
        rank -= count
        lower = upper
    return lower
