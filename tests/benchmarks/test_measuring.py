"""Turns and rounds, and what becomes of a server that fails: with servers that are no processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.launching import Bench
from benchmarks.load import Request
from benchmarks.measuring import Case, Pace, Run, measure
from benchmarks.metrics import CPU, Metric
from benchmarks.placement import Placement
from benchmarks.server_table import SERVERS
from benchmarks.turn import WorkloadFailed
from benchmarks.workloads import Trial, Workload

NAMED = {server.name: server for server in SERVERS}
BRIDGE, UWSGI, UVICORN = NAMED["bridge-wsgi"], NAMED["uwsgi"], NAMED["uvicorn"]
ALL = (BRIDGE, UWSGI, UVICORN)
BENCH = Bench(
    root=Path("/"),
    directory=Path("/nowhere"),
    wrk="wrk",
    nginx_port=1,
    endpoints={server.name: "unix:/nowhere" for server in ALL},
    backlog=1,
    placement=Placement(frozenset({0}), frozenset({0})),
)
PACE = Pace(rounds=2, seconds=1, warm_up_seconds=0)


def workload(**changes: Any) -> Workload:
    def measure(turn: Any) -> dict[Metric, float]:
        return {CPU: float(turn.connections)}

    base = Workload("w", "", "plain", measure, (CPU,), Request(), b"", takes_connections=True)
    return replace(base, **changes)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is started and stopped; a server called "uwsgi" has no Flask, and gives wrong answers to "/wrong"."""
    events: list[str] = []

    @contextmanager
    def launched(_bench: Bench, server: Any, app: str, workers: int) -> Iterator[object]:
        if server is UWSGI and app == "flask":
            raise BenchmarkError("uwsgi ended while starting. Its log:\nfirst\nno Flask\n")
        events.append(f"+{server.name} {app} {workers}")
        yield object()
        events.append(f"-{server.name}")

    def probe(_port: int, name: str, request: Request, _expected: object) -> bytes:
        if name == "uwsgi" and request.path == "/wrong":
            raise WorkloadFailed("answered 500")
        return b""

    monkeypatch.setattr("benchmarks.measuring.launched", launched)
    monkeypatch.setattr("benchmarks.measuring.probe_when_started", probe)
    return events


def told(runs: Iterator[Run]) -> list[tuple[str, int, str, str]]:
    return [(run.case.workload, run.round, run.server, run.failure) for run in runs]


def test_all_servers_are_up_while_they_take_turns(events: list[str]) -> None:
    runs = measure(BENCH, [workload()], ALL[:2], PACE)
    next(runs)
    assert events == ["+bridge-wsgi plain 1", "+uwsgi plain 1"]
    assert told(runs) == [("w", 1, "uwsgi", ""), ("w", 2, "bridge-wsgi", ""), ("w", 2, "uwsgi", "")]
    assert sorted(events[2:]) == ["-bridge-wsgi", "-uwsgi"]


def test_servers_are_started_once_for_all_workloads_of_an_application(events: list[str]) -> None:
    list(
        measure(
            BENCH, [workload(), workload(name="x", workers=2), workload(name="y")], ALL[:1], PACE
        )
    )
    assert events == [
        "+bridge-wsgi plain 1",
        "-bridge-wsgi",
        "+bridge-wsgi plain 2",
        "-bridge-wsgi",
    ]


@pytest.mark.usefixtures("events")
def test_a_workload_is_for_the_servers_of_its_interfaces() -> None:
    runs = told(measure(BENCH, [workload(interfaces=("asgi",))], ALL, PACE))
    assert {server for _, _, server, _ in runs} == {"uvicorn"}


@pytest.mark.usefixtures("events")
def test_several_workers_are_for_servers_that_can_have_them() -> None:
    servers = [BRIDGE, NAMED["waitress"]]
    runs = told(measure(BENCH, [workload(workers=2)], servers, PACE))
    assert {server for _, _, server, _ in runs} == {"bridge-wsgi"}


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"app": "flask"}, "uwsgi ended while starting. no Flask"),
        ({"probe": Request("/wrong")}, "answered 500"),
    ],
)
def test_a_server_that_fails_at_first_is_told_once_and_the_others_go_on(
    changes: dict[str, Any], reason: str
) -> None:
    assert told(measure(BENCH, [workload(**changes)], ALL[:2], PACE)) == [
        ("w", 1, "uwsgi", reason),
        ("w", 1, "bridge-wsgi", ""),
        ("w", 2, "bridge-wsgi", ""),
    ]


def failing_once(of: str) -> Callable[[Any], dict[Metric, float]]:
    def measure(turn: Any) -> dict[Metric, float]:
        if turn.server.name == of:
            raise WorkloadFailed("ended during the run")
        return {CPU: 1.0}

    return measure


@pytest.mark.usefixtures("events")
def test_a_server_that_fails_under_load_is_out_of_that_workload_alone() -> None:
    workloads = [workload(measure=failing_once("uwsgi")), workload(name="x")]
    assert told(measure(BENCH, workloads, ALL[:2], PACE)) == [
        ("w", 1, "bridge-wsgi", ""),
        ("w", 1, "uwsgi", "ended during the run"),
        ("w", 2, "bridge-wsgi", ""),
        ("x", 1, "bridge-wsgi", ""),
        ("x", 1, "uwsgi", ""),
        ("x", 2, "bridge-wsgi", ""),
        ("x", 2, "uwsgi", ""),
    ]


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("takes", "given", "used"), [(True, (), [64]), (True, (1, 8), [1, 8]), (False, (1, 8), [64])]
)
def test_connections_replace_those_of_a_workload_of_requests(
    takes: bool, given: tuple[int, ...], used: list[int]
) -> None:
    pace = replace(PACE, rounds=1, connections=given)
    runs = list(measure(BENCH, [workload(takes_connections=takes)], ALL[:1], pace))
    assert [run.case for run in runs] == [Case("w", count) for count in used]
    assert [run.figures[CPU] for run in runs] == used


def test_a_trial_starts_its_servers_by_itself(events: list[str]) -> None:
    def measure_(_bench: Bench, server: Any) -> dict[Metric, float]:
        if server is UWSGI:
            raise BenchmarkError("uwsgi has failed")
        return {CPU: 1.0}

    trial = Trial("t", "", "plain", measure_, (CPU,), ("wsgi",))
    assert told(measure(BENCH, [trial], ALL, PACE)) == [
        ("t", 1, "bridge-wsgi", ""),
        ("t", 1, "uwsgi", "uwsgi has failed"),
        ("t", 2, "bridge-wsgi", ""),
    ]
    assert events == []
