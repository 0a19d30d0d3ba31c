"""Run workloads: all servers stay up, and each has its turn in each round."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.launching import Bench, launched
from benchmarks.load import drive
from benchmarks.turn import Turn, probe_when_started
from benchmarks.workloads import Trial, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.metrics import Metric
    from benchmarks.processes import Process
    from benchmarks.servers import Server


@dataclass(frozen=True, slots=True)
class Case:
    """A workload with one number of connections; 0 where it has none of its own."""

    workload: str
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What one server has done in its turn of one round: figures, or the reason why there are none."""

    case: Case
    server: str
    round: int
    figures: Mapping[Metric, float]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often.

    `connections` is in place of what each workload of requests says; empty means what it says.
    """

    rounds: int
    seconds: int
    warm_up_seconds: int
    connections: tuple[int, ...] = ()


def measure(
    bench: Bench, workloads: Sequence[Workload | Trial], servers: Sequence[Server], pace: Pace
) -> Iterator[Run]:
    """Yield a run for each workload, number of connections, round and server, in this order.

    A server that doesn't start, or doesn't do what the workload asks for, gives one run with the reason, and is left
    out of the rest of that workload.
    """
    fleets: dict[tuple[str, int], list[Workload]] = {}
    for workload in workloads:
        if isinstance(workload, Workload):
            fleets.setdefault((workload.app, workload.workers), []).append(workload)
    for fleet in fleets.values():
        yield from _measure_fleet(bench, fleet, servers, pace)
    for workload in workloads:
        if isinstance(workload, Trial):
            yield from _measure_trial(bench, workload, servers, pace)


def _measure_fleet(
    bench: Bench, workloads: Sequence[Workload], servers: Sequence[Server], pace: Pace
) -> Iterator[Run]:
    first = workloads[0]
    interfaces = {interface for workload in workloads for interface in workload.interfaces}
    taking_part = [
        server
        for server in servers
        if server.interface in interfaces and (first.workers == 1 or server.has_workers)
    ]
    processes: dict[str, Process] = {}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        for server in taking_part:
            try:
                processes[server.name] = stack.enter_context(
                    launched(bench, server, first.app, first.workers)
                )
            except BenchmarkError as error:
                failures[server.name] = _short(error)
        for workload in workloads:
            for connections in _connections(workload, pace):
                yield from _measure_case(
                    bench,
                    workload,
                    connections,
                    [it for it in taking_part if it.interface in workload.interfaces],
                    pace,
                    processes,
                    failures,
                )


def _connections(workload: Workload, pace: Pace) -> tuple[int, ...]:
    # Others have a number that belongs to what they do.
    return (
        pace.connections or workload.connections
        if workload.takes_connections
        else (workload.connections)
    )


def _measure_case(
    bench: Bench,
    workload: Workload,
    connections: int,
    servers: Sequence[Server],
    pace: Pace,
    processes: Mapping[str, Process],
    not_started: Mapping[str, str],
) -> Iterator[Run]:
    case = Case(workload.name, connections)
    left: list[Server] = []
    for server in servers:
        try:
            if server.name in not_started:
                raise BenchmarkError(not_started[server.name])
            probe_when_started(bench.nginx_port, server.name, workload.probe, workload.expected)
            if pace.warm_up_seconds:
                drive(
                    bench.wrk,
                    workload.probe,
                    port=bench.nginx_port,
                    host=server.name,
                    connections=connections,
                    seconds=pace.warm_up_seconds,
                )
            left.append(server)
        except BenchmarkError as error:
            yield Run(case, server.name, 1, {}, _short(error))
    for round_ in range(1, pace.rounds + 1):
        # A B C A B C: what changes on the machine in the meantime then meets all of them.
        for server in tuple(left):
            turn = Turn(
                server=server,
                process=processes[server.name],
                endpoint=bench.endpoints[server.name],
                port=bench.nginx_port,
                wrk=bench.wrk,
                connections=connections,
                seconds=pace.seconds,
            )
            try:
                yield Run(case, server.name, round_, workload.measure(turn))
            except BenchmarkError as error:
                left.remove(server)
                yield Run(case, server.name, round_, {}, _short(error))


def _measure_trial(
    bench: Bench, trial: Trial, servers: Sequence[Server], pace: Pace
) -> Iterator[Run]:
    case = Case(trial.name)
    left = [server for server in servers if server.interface in trial.interfaces]
    for round_ in range(1, pace.rounds + 1):
        for server in tuple(left):
            try:
                yield Run(case, server.name, round_, trial.measure(bench, server))
            except BenchmarkError as error:
                left.remove(server)
                yield Run(case, server.name, round_, {}, _short(error))


def _short(error: BenchmarkError) -> str:
    """Take the first line, and the last one where that is the end of the server's log."""
    first, *others = str(error).rstrip().split("\n")
    return f"{first.removesuffix(' Its log:')} {others[-1].strip()}" if others else first
