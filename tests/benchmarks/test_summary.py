"""Medians, spreads and ratios, from runs whose figures can be reckoned by hand."""

from __future__ import annotations

import pytest

from benchmarks.measuring import Case, Run
from benchmarks.metrics import CPU, P50, RATE, Metric
from benchmarks.servers import Pair
from benchmarks.summary import Spread, compare, summarise

HELLO = Case("hello", 64)
ALONE = Case("hello", 1)


def run_of(
    server: str, *, cpu: float, round_: int = 1, case: Case = HELLO, **more: dict[Metric, float]
) -> Run:
    return Run(case, server, round_, {CPU: cpu, RATE: 1_000_000 / cpu, **more.get("more", {})})


def test_a_summary_has_the_median_and_the_spread_of_the_rounds() -> None:
    runs = [run_of("a", cpu=cpu, round_=n) for n, cpu in enumerate([10, 50, 20], 1)]
    (summary,) = summarise(runs)
    assert summary.figures == {
        CPU: Spread(20.0, 10.0, 50.0),
        RATE: Spread(50_000.0, 20_000.0, 100_000.0),
    }
    assert summary.failure == ""


def test_a_server_that_fails_in_one_round_has_no_figures_but_the_reason() -> None:
    runs = [run_of("a", cpu=10), Run(HELLO, "a", 2, {}, "ended"), run_of("b", cpu=10)]
    failed, other = summarise(runs)
    assert (failed.server, failed.figures, failed.failure) == ("a", {}, "ended")
    assert other.figures


def test_each_case_has_its_own_summary() -> None:
    runs = [
        run_of("a", cpu=10, case=ALONE),
        run_of("a", cpu=30),
        run_of("b", cpu=20, case=ALONE),
    ]
    assert [(s.case, s.server, s.figures[CPU].median) for s in summarise(runs)] == [
        (ALONE, "a", 10.0),
        (HELLO, "a", 30.0),
        (ALONE, "b", 20.0),
    ]


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine was ten times slower in the second round; the medians alone would say 100 / 15.
    runs = [
        run_of("a", cpu=20, round_=1),
        run_of("b", cpu=10, round_=1),
        run_of("a", cpu=200, round_=2),
        run_of("b", cpu=100, round_=2),
        run_of("a", cpu=100, round_=3),
        run_of("b", cpu=15, round_=3),
    ]
    (comparison,) = compare(runs, [Pair("a", "b")])
    assert comparison.ratios[CPU].median == pytest.approx(2.0)
    assert comparison.ratios[CPU].lowest == pytest.approx(2.0)
    assert comparison.ratios[CPU].highest == pytest.approx(100 / 15)
    assert comparison.ratios[RATE].median == pytest.approx(0.5)


def test_runs_of_different_cases_are_not_compared() -> None:
    runs = [
        run_of("a", cpu=10, case=ALONE),
        run_of("b", cpu=5, case=ALONE),
        run_of("a", cpu=30),
        run_of("b", cpu=10),
    ]
    comparisons = compare(runs, [Pair("a", "b")])
    assert [(c.case, c.ratios[CPU].median) for c in comparisons] == [(ALONE, 2.0), (HELLO, 3.0)]


def test_a_pair_of_which_one_was_not_run_is_left_out() -> None:
    assert compare([run_of("a", cpu=1)], [Pair("a", "b"), Pair("b", "a")]) == []


@pytest.mark.parametrize("failed", ["a", "b"])
def test_nothing_is_held_against_what_failed(failed: str) -> None:
    runs = [run_of(name, cpu=1) for name in ("a", "b")]
    assert compare([*runs, Run(HELLO, failed, 2, {}, "ended")], [Pair("a", "b")]) == []


def test_a_figure_that_one_lacks_or_that_is_none_to_compare_has_no_ratio() -> None:
    runs = [run_of("a", cpu=2, more={P50: 1.0}), Run(HELLO, "b", 1, {CPU: 1.0, P50: 1.0})]
    (comparison,) = compare(runs, [Pair("a", "b")])
    assert set(comparison.ratios) == {CPU}
