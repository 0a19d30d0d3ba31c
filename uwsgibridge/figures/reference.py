"""Writes the table of figures for docs/metrics.md: ``python -m uwsgibridge.figures.reference``."""

from __future__ import annotations

from typing import Final

from uwsgibridge.figures.families import REFUSAL, RELOAD, RESTART, counted_families
from uwsgibridge.figures.family import Family
from uwsgibridge.figures.layout import OWN_BOUNDS, OWN_HISTOGRAMS
from uwsgibridge.figures.snapshot import Backlog, Snapshot, WorkerSnapshot
from uwsgibridge.figures.state_families import state_families
from uwsgibridge.figures.text import series_name
from uwsgibridge.figures.totals import HistogramSum, Totals

# A service in which each figure has a sample, so that its labels are known.
_WORKER: Final = WorkerSnapshot(
    number=1,
    pid=1,
    state="ready",
    started_at=0.0,
    mounts={"/": {}},
    rss_bytes=1,
    pss_bytes=1,
    open_files=1,
)
_SERVICE: Final = Snapshot(
    version="",
    accelerator="",
    pid=1,
    started_at=0.0,
    state="running",
    mounts=["/"],
    workers_wanted=1,
    workers=[_WORKER],
    backlogs=[Backlog(address="", waiting=0)],
    backlog_most=1,
)


def all_families() -> list[Family]:
    """Give all families that there are, each with a sample at the least."""
    totals = Totals(OWN_BOUNDS)
    totals.mount("/").requests["GET", "2xx"] = 1
    for name in (f"{REFUSAL}body_timeout", f"{RESTART}crashed", f"{RELOAD}done"):
        totals.count(name)
    totals.own.update((it, HistogramSum.empty(OWN_BOUNDS)) for it in OWN_HISTOGRAMS)
    return [*state_families(_SERVICE), *counted_families(totals)]


def table_lines() -> list[str]:
    """Write a row for each figure, with the name that Prometheus has for it."""
    lines = ["| figure | kind | labels | |", "|---|---|---|---|"]
    for family in all_families():
        labels = ", ".join(f"`{name}`" for name, _ in family.samples[0].labels)
        lines.append(f"| `{series_name(family)}` | {family.kind} | {labels} | {family.help} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table_lines()))  # noqa: T201 - this is the table
