"""Medians, spreads and ratios, from runs whose figures can be reckoned by hand."""

from __future__ import annotations

import pytest

from benchmarks.load import LoadReport
from benchmarks.measuring import Run
from benchmarks.servers import Pair
from benchmarks.summary import Spread, compare, summarise


def run_of(
    server: str, *, cpu_us: float, round_: int = 1, connections: int = 64, errors: int = 0
) -> Run:
    return Run(
        server=server,
        connections=connections,
        round=round_,
        cpu_nanoseconds=round(cpu_us * 1000 * 100),
        load=LoadReport(
            requests=100,
            requests_per_second=1_000_000 / cpu_us,
            p99_seconds=cpu_us / 1000,
            bad_statuses=errors,
        ),
    )


def test_cpu_time_is_divided_by_the_answers() -> None:
    load = LoadReport(requests=200, requests_per_second=1.0, p99_seconds=1.0)
    run = Run("a", connections=1, round=1, cpu_nanoseconds=5_000_000, load=load)
    assert run.cpu_microseconds_per_request == 25.0


def test_a_summary_has_the_median_and_the_spread_of_the_rounds() -> None:
    runs = [run_of("a", cpu_us=cpu, round_=n) for n, cpu in enumerate([10, 50, 20])]
    (summary,) = summarise(runs)
    assert summary.cpu_microseconds == Spread(20.0, 10.0, 50.0)
    assert summary.requests_per_second == Spread(50_000.0, 20_000.0, 100_000.0)
    assert summary.p99_milliseconds == Spread(20.0, 10.0, 50.0)
    assert summary.errors == 0


def test_errors_of_all_rounds_are_added_up() -> None:
    runs = [run_of("a", cpu_us=1, round_=n, errors=n) for n in (1, 2, 3)]
    assert summarise(runs)[0].errors == 6


def test_each_number_of_connections_has_its_own_summary() -> None:
    runs = [
        run_of("a", cpu_us=10, connections=1),
        run_of("a", cpu_us=30, connections=64),
        run_of("b", cpu_us=20, connections=1),
    ]
    summaries = summarise(runs)
    assert [(s.server, s.connections, s.cpu_microseconds.median) for s in summaries] == [
        ("a", 1, 10.0),
        ("a", 64, 30.0),
        ("b", 1, 20.0),
    ]


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine was ten times slower in the second round; the medians alone would say 100 / 15.
    runs = [
        run_of("a", cpu_us=20, round_=1),
        run_of("b", cpu_us=10, round_=1),
        run_of("a", cpu_us=200, round_=2),
        run_of("b", cpu_us=100, round_=2),
        run_of("a", cpu_us=100, round_=3),
        run_of("b", cpu_us=15, round_=3),
    ]
    (comparison,) = compare(runs, [Pair("a", "b")])
    assert comparison.cpu.median == pytest.approx(2.0)
    assert comparison.cpu.lowest == pytest.approx(2.0)
    assert comparison.cpu.highest == pytest.approx(100 / 15)
    assert comparison.requests_per_second.median == pytest.approx(0.5)
    assert comparison.p99.median == pytest.approx(2.0)
    assert not comparison.flawed


def test_runs_of_different_numbers_of_connections_are_not_compared() -> None:
    runs = [
        run_of("a", cpu_us=10, connections=1),
        run_of("b", cpu_us=5, connections=1),
        run_of("a", cpu_us=30, connections=64),
        run_of("b", cpu_us=10, connections=64),
    ]
    comparisons = compare(runs, [Pair("a", "b")])
    assert [(c.connections, c.cpu.median) for c in comparisons] == [(1, 2.0), (64, 3.0)]


def test_a_pair_of_which_one_was_not_run_is_left_out() -> None:
    assert compare([run_of("a", cpu_us=1)], [Pair("a", "b"), Pair("b", "a")]) == []


@pytest.mark.parametrize("flawed", ["a", "b"])
def test_an_error_on_either_side_flaws_the_ratio(flawed: str) -> None:
    runs = [run_of(name, cpu_us=1, errors=name == flawed) for name in ("a", "b")]
    assert compare(runs, [Pair("a", "b")])[0].flawed
