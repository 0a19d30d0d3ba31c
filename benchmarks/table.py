"""Print tables as plain text, and the figures of a run as such tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measuring import Case
    from benchmarks.metrics import Metric
    from benchmarks.servers import Server
    from benchmarks.summary import Comparison, Spread, Summary
    from benchmarks.workloads import Trial, Workload


def format_results(
    workloads: Mapping[str, Workload | Trial],
    servers: Mapping[str, Server],
    summaries: Sequence[Summary],
    comparisons: Sequence[Comparison],
) -> str:
    """Return the whole report on the figures, without a line break at its end."""
    blocks = []
    for case in dict.fromkeys(summary.case for summary in summaries):
        workload = workloads[case.workload]
        rows = figure_rows(workload, servers, [s for s in summaries if s.case == case])
        blocks.append(
            f"{heading(workload, case)} (median of the rounds, lowest to highest in parentheses)\n"
            + format_table(("server", "protocol", *headings(workload.metrics)), rows)
        )
        if ratios := [c for c in comparisons if c.case == case]:
            metrics = [metric for metric in workload.metrics if metric.has_ratio]
            blocks.append(
                format_table(
                    ("ratio", "", *headings(metrics)),
                    [ratio_row(comparison, metrics) for comparison in ratios],
                )
            )
    return "\n\n".join(blocks)


def heading(workload: Workload | Trial, case: Case) -> str:
    """Say which case it is."""
    if not case.connections:
        return f"{workload.name}: {workload.summary}"
    plural = "s" if case.connections > 1 else ""
    return f"{workload.name}: {workload.summary}, {case.connections} connection{plural}"


def headings(metrics: Sequence[Metric]) -> list[str]:
    """Return the headings of these columns."""
    return [metric.heading for metric in metrics]


def figure_rows(
    workload: Workload | Trial, servers: Mapping[str, Server], summaries: Sequence[Summary]
) -> list[tuple[str, ...]]:
    """Return a row for each server: its name, its protocol, and figures, or the reason why there are none."""
    rows: list[tuple[str, ...]] = []
    for summary in summaries:
        names = (summary.server, servers[summary.server].protocol)
        if summary.failure:
            rows.append((*names, f"failed: {summary.failure}"))
        else:
            found = [summary.figures.get(metric) for metric in workload.metrics]
            figures = [
                spread_text(spread, metric.form) if spread else "-"
                for spread, metric in zip(found, workload.metrics, strict=True)
            ]
            rows.append((*names, *figures))
    return rows


def ratio_row(comparison: Comparison, metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Return a row of ratios, after the names of both servers."""
    found = [comparison.ratios.get(metric) for metric in metrics]
    return (
        comparison.server,
        f"/ {comparison.baseline}",
        *(spread_text(spread, ".2f") if spread else "-" for spread in found),
    )


def spread_text(spread: Spread, form: str) -> str:
    """Return the median, and the lowest and highest where they differ."""
    if spread.lowest == spread.highest:
        return f"{spread.median:{form}}"
    return f"{spread.median:{form}} ({spread.lowest:{form}} to {spread.highest:{form}})"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 2) -> str:
    """Return a table whose first columns, so many as `words`, stand to the left, and whose figures to the right.

    A row with fewer cells than the header ends with words, which take the width that they need.
    """
    lines = [header, *rows]
    whole = [line for line in lines if len(line) == len(header)]
    widths = [max(len(line[column]) for line in whole) for column in range(len(header))]
    for column in range(words):
        widths[column] = max(len(line[column]) for line in lines)
    padded = []
    for line in lines:
        cells = [
            cell.ljust(width) if column < words or len(line) < len(header) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=False))
        ]
        padded.append("  ".join(cells))
    padded.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in padded)
