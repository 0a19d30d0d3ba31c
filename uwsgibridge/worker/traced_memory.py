"""Tells which lines of code hold memory, and how that has changed, for ``ctl memory``; needs ``--tracemalloc``."""

from __future__ import annotations

import threading
import tracemalloc
from itertools import islice
from time import monotonic
from typing import Any, Final

# Of files with these names, nothing is told: they are what looks, or no file at all.
_NOT_ITS_OWN: Final = (tracemalloc.__file__, __file__, "<frozen ", "<unknown>")


class _Baseline:
    """What the first call has found, which later ones are compared with; one for each process."""

    snapshot: tracemalloc.Snapshot | None = None
    taken_at = 0.0


_one_at_a_time: Final = threading.Lock()


def describe_memory(*, lines: int, resets: bool) -> dict[str, Any]:
    """Compare the memory that is held now with what was held at the first call.

    Args:
        lines: how many lines of code are told at the most: those that have grown most, or that hold most at the first call.
        resets: whether what is held now becomes what later calls are compared with.

    Returns:
        ``since_seconds``, how old the baseline is, or None where this call has taken it; ``traced_bytes``; and ``lines``,
        each with ``place``, ``bytes``, ``blocks``, ``more_bytes``, ``more_blocks``, and ``traceback``, the calls that have
        led to it, where ``--tracemalloc`` is more than 1. ``error`` where nothing is traced.
    """
    if not tracemalloc.is_tracing():
        return {"error": "memory is not traced: start the service with --tracemalloc 1"}
    with _one_at_a_time:
        now = tracemalloc.take_snapshot()
        before = _Baseline.snapshot
        since = None if before is None else round(monotonic() - _Baseline.taken_at, 3)
        if before is None or resets:
            _Baseline.snapshot, _Baseline.taken_at = now, monotonic()
        grouping = "traceback" if tracemalloc.get_traceback_limit() > 1 else "lineno"
        if before is None:
            held = filter(_is_its_own, now.statistics(grouping))
            found = [_describe(it, it.size, it.count) for it in islice(held, lines)]
        else:
            differences = now.compare_to(before, grouping)
            changed = [it for it in differences if it.size_diff > 0 and _is_its_own(it)]
            changed.sort(key=lambda it: it.size_diff, reverse=True)
            found = [_describe(it, it.size_diff, it.count_diff) for it in changed[:lines]]
    return {
        "since_seconds": since,
        "traced_bytes": tracemalloc.get_traced_memory()[0],
        "lines": found,
    }


def _is_its_own(statistic: tracemalloc.Statistic | tracemalloc.StatisticDiff) -> bool:
    return not statistic.traceback[-1].filename.startswith(_NOT_ITS_OWN)


def _describe(
    statistic: tracemalloc.Statistic | tracemalloc.StatisticDiff, more_bytes: int, more_blocks: int
) -> dict[str, Any]:
    frames = list(statistic.traceback)
    last = frames[-1]  # the most recent call, as a traceback has it
    return {
        "place": f"{last.filename}:{last.lineno}",
        "bytes": statistic.size,
        "blocks": statistic.count,
        "more_bytes": more_bytes,
        "more_blocks": more_blocks,
        "traceback": [f"{it.filename}:{it.lineno}" for it in frames[:-1]],
    }
