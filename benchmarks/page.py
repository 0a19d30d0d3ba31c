"""Write the figures of a run as a Markdown page with plots, for `benchmarks/results/`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.plots import bar_chart
from benchmarks.table import figure_rows, heading, headings, ratio_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.servers import Server
    from benchmarks.summary import Comparison, Summary
    from benchmarks.workloads import Trial, Workload


def write_page(
    file: Path,
    *,
    environment: Mapping[str, str],
    how: str,
    workloads: Mapping[str, Workload | Trial],
    servers: Mapping[str, Server],
    summaries: Sequence[Summary],
    comparisons: Sequence[Comparison],
) -> None:
    """Write NAME.md, and a plot NAME-CASE.svg beside it of each case's first figure.

    Args:
        file: the page.
        environment: machine and versions.
        how: in words, how it was measured.
        workloads: by name.
        servers: by name.
        summaries: of all cases.
        comparisons: of all cases.
    """
    lines = [f"# Benchmark {file.stem}", "", how, "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in environment.items()]
    ours = {name for name, server in servers.items() if server.is_bridge}
    for case in dict.fromkeys(summary.case for summary in summaries):
        workload = workloads[case.workload]
        of_case = [summary for summary in summaries if summary.case == case]
        title = heading(workload, case)
        first = workload.metrics[0]
        plot = file.with_name(f"{file.stem}-{case.workload}-{case.connections}.svg")
        plot.write_text(bar_chart(f"{title}: {first.heading}", first, of_case, ours))
        lines += ["", f"## {title}", "", f"![{first.heading}]({plot.name})", ""]
        lines += _markdown(
            ("server", "protocol", *headings(workload.metrics)),
            figure_rows(workload, servers, of_case),
        )
        if ratios := [it for it in comparisons if it.case == case]:
            metrics = [metric for metric in workload.metrics if metric.has_ratio]
            rows = [ratio_row(comparison, metrics) for comparison in ratios]
            lines += ["", *_markdown(("ratio", "", *headings(metrics)), rows)]
    file.write_text("\n".join(lines) + "\n")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    lines += [[*row, *[""] * (len(header) - len(row))] for row in rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    return re.sub(r"[|\n]", " ", text)
