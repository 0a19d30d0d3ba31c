"""What the person who runs the benchmark reads: aligned columns, spreads, and reasons in place of figures."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from benchmarks.measuring import Case
from benchmarks.metrics import CPU, P50, P99, RATE
from benchmarks.page import write_page
from benchmarks.plots import bar_chart
from benchmarks.server_table import SERVERS
from benchmarks.summary import Comparison, Spread, Summary
from benchmarks.table import format_results, format_table
from benchmarks.workloads import WORKLOADS

NAMED = {server.name: server for server in SERVERS}
KNOWN = {workload.name: workload for workload in WORKLOADS}

SUMMARY = Summary(
    case=Case("hello", 64),
    server="uwsgi",
    figures={
        CPU: Spread(12.34, 11.0, 13.0),
        RATE: Spread(29_700.4, 29_000.0, 30_000.0),
        P99: Spread(3.5, 3.5, 3.5),
    },
)
FAILED = Summary(SUMMARY.case, "gunicorn", {}, "answered 502 | and more")

COMPARISON = Comparison(
    case=SUMMARY.case,
    server="bridge-wsgi",
    baseline="uwsgi",
    ratios={CPU: Spread(2.3, 2.25, 2.4), RATE: Spread(0.9, 0.9, 0.9)},
)


def line_of(report: str, start: str) -> str:
    (line,) = [line for line in report.splitlines() if line.startswith(start)]
    return line


def test_a_table_aligns_words_to_the_left_and_figures_to_the_right() -> None:
    table = format_table(("name", "of", "us"), [("a", "x", "7"), ("longer", "y", "1,000")])
    assert table.splitlines() == [
        "name    of     us",
        "------  --  -----",
        "a       x       7",
        "longer  y   1,000",
    ]


def test_words_at_the_end_of_a_row_widen_no_column() -> None:
    table = format_table(
        ("name", "of", "us", "more"), [("a", "x", "7", "8"), ("b", "y", "no figures")]
    )
    assert table.splitlines()[2:] == ["a     x    7     8", "b     y   no figures"]


def test_figures_stand_with_their_spread_and_a_spread_of_nothing_is_left_out() -> None:
    report = format_results(KNOWN, NAMED, [SUMMARY], [])
    assert re.split(r"\s{2,}", line_of(report, "uwsgi ")) == [
        "uwsgi",
        "uwsgi",
        "12.3 (11.0 to 13.0)",
        "29,700 (29,000 to 30,000)",
        "-",
        "3.5",
    ]


def test_ratios_name_both_servers() -> None:
    report = format_results(KNOWN, NAMED, [SUMMARY], [COMPARISON])
    assert re.split(r"\s{2,}", line_of(report, "bridge-wsgi")) == [
        "bridge-wsgi",
        "/ uwsgi",
        "2.30 (2.25 to 2.40)",
        "0.90",
        "-",
    ]


def test_what_has_failed_has_its_reason_and_no_figure() -> None:
    report = format_results(KNOWN, NAMED, [SUMMARY, FAILED], [])
    assert line_of(report, "gunicorn").endswith("failed: answered 502 | and more")


def test_each_case_has_tables_of_its_own() -> None:
    alone = Case("hello", 1)
    report = format_results(
        KNOWN,
        NAMED,
        [replace(SUMMARY, case=alone), SUMMARY],
        [replace(COMPARISON, case=alone), COMPARISON],
    )
    headings = [line for line in report.splitlines() if "connection" in line]
    assert [heading.split(" (")[0] for heading in headings] == [
        "hello: 12 bytes, 1 connection",
        "hello: 12 bytes, 64 connections",
    ]
    assert report.count("bridge-wsgi") == 2


def test_a_plot_has_a_bar_for_each_figure_and_words_for_what_failed() -> None:
    longer = replace(SUMMARY, server="bridge-wsgi", figures={CPU: Spread(24.68, 24.0, 26.0)})
    plot = ET.fromstring(bar_chart("hello & more", CPU, [longer, SUMMARY, FAILED], {"bridge-wsgi"}))
    _, *bars = plot.iter("{http://www.w3.org/2000/svg}rect")
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[0] > 300
    assert round(widths[0] / widths[1], 1) == 2.0
    assert bars[0].attrib["fill"] != bars[1].attrib["fill"]
    words = [text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert words[0] == "hello & more"
    assert "24.7" in words
    assert "failed: answered 502 | and more" in words


def test_a_page_has_machine_versions_tables_and_plots_that_are_there(directory: Path) -> None:
    write_page(
        directory / "name.md",
        environment={"machine": "a processor", "nginx": "1.2"},
        how="In turn.",
        workloads=KNOWN,
        servers=NAMED,
        summaries=[replace(SUMMARY, figures={**SUMMARY.figures, P50: Spread(1, 1, 1)}), FAILED],
        comparisons=[COMPARISON],
    )
    page = (directory / "name.md").read_text()
    assert "| nginx | 1.2 |" in page
    assert "| uwsgi | uwsgi | 12.3 (11.0 to 13.0) | 29,700 (29,000 to 30,000) | 1.0 | 3.5 |" in page
    assert "| gunicorn | uwsgi | failed: answered 502   and more |  |  |  |" in page
    assert "| bridge-wsgi | / uwsgi | 2.30 (2.25 to 2.40) | 0.90 | - |" in page
    (plot,) = re.findall(r"\]\((.+?)\)", page)
    assert (directory / plot).read_text().startswith("<svg")
