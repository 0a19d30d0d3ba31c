"""The table of workloads."""

from __future__ import annotations

import pytest

from benchmarks.apps.plain import make_json
from benchmarks.errors import BenchmarkError
from benchmarks.workloads import WORKLOADS, Workload, choose_workloads

NAMED = {workload.name: workload for workload in WORKLOADS}


def test_names_are_told_apart() -> None:
    assert len(NAMED) == len(WORKLOADS)


def test_a_browser_sends_thirty_headers() -> None:
    workload = NAMED["headers"]
    assert isinstance(workload, Workload)
    names = [name.lower() for name, _ in workload.probe.headers]
    assert len(set(names)) == len(names) == 29  # and Host


def test_the_json_is_about_a_kibibyte() -> None:
    assert 1000 < len(make_json()) < 1100


def test_all_are_all_and_names_are_in_the_tables_order() -> None:
    assert choose_workloads(["all"]) == list(WORKLOADS)
    assert [it.name for it in choose_workloads(["upload", "hello"])] == ["hello", "upload"]


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(BenchmarkError, match=r"--workloads: there is no 'x'; there are hello, "):
        choose_workloads(["x"])
