"""What the person who runs the benchmark reads: aligned columns, spreads, and a flag on figures that are worthless."""

from __future__ import annotations

import re
from dataclasses import replace

from benchmarks.servers import SERVERS
from benchmarks.summary import Comparison, Spread, Summary
from benchmarks.table import format_results, format_table

NAMED = {server.name: server for server in SERVERS}

SUMMARY = Summary(
    server="uwsgi",
    connections=64,
    cpu_microseconds=Spread(12.34, 11.0, 13.0),
    requests_per_second=Spread(29_700.4, 29_000.0, 30_000.0),
    p99_milliseconds=Spread(3.5, 3.5, 3.5),
    errors=0,
)

COMPARISON = Comparison(
    server="bridge-wsgi",
    baseline="uwsgi",
    connections=64,
    cpu=Spread(2.3, 2.25, 2.4),
    requests_per_second=Spread(0.9, 0.9, 0.9),
    p99=Spread(1.1, 1.0, 1.2),
    flawed=False,
)


def test_a_table_aligns_words_to_the_left_and_figures_to_the_right() -> None:
    table = format_table(("name", "of", "us"), [("a", "x", "7"), ("longer", "y", "1,000")])
    assert table.splitlines() == [
        "name    of     us",
        "------  --  -----",
        "a       x       7",
        "longer  y   1,000",
    ]


def test_figures_stand_with_their_spread_and_a_spread_of_nothing_is_left_out() -> None:
    report = format_results(NAMED, [SUMMARY], [])
    (line,) = [line for line in report.splitlines() if line.startswith("uwsgi ")]
    assert re.split(r"\s{2,}", line) == [
        "uwsgi",
        "uwsgi",
        "12.3 (11.0 to 13.0)",
        "29,700 (29,000 to 30,000)",
        "3.5",
        "0",
    ]


def test_ratios_name_both_servers() -> None:
    report = format_results(NAMED, [SUMMARY], [COMPARISON])
    (line,) = [line for line in report.splitlines() if line.startswith("bridge-wsgi")]
    assert re.split(r"\s{2,}", line) == [
        "bridge-wsgi",
        "/ uwsgi",
        "2.30 (2.25 to 2.40)",
        "0.90",
        "1.10 (1.00 to 1.20)",
    ]


def test_without_errors_nothing_is_flagged() -> None:
    assert "!" not in format_results(NAMED, [SUMMARY], [COMPARISON])


def test_figures_and_ratios_with_errors_are_flagged_and_the_flag_is_explained() -> None:
    report = format_results(NAMED, [replace(SUMMARY, errors=7)], [replace(COMPARISON, flawed=True)])
    figures, ratios = (
        next(line for line in report.splitlines() if line.startswith(name))
        for name in ("uwsgi ", "bridge-wsgi")
    )
    assert figures.count("!") == 3
    assert figures.endswith(" 7")
    assert ratios.count("!") == 3
    assert report.splitlines()[-1].startswith("! There were errors")


def test_each_number_of_connections_has_tables_of_its_own() -> None:
    report = format_results(
        NAMED,
        [replace(SUMMARY, connections=1), SUMMARY],
        [replace(COMPARISON, connections=1), COMPARISON],
    )
    headings = [line for line in report.splitlines() if "connection" in line]
    assert [heading.split(" (")[0] for heading in headings] == ["1 connection", "64 connections"]
    assert report.count("bridge-wsgi") == 2
