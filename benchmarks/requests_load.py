"""Workloads of one kind of request: CPU time, rate and latencies under `wrk`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import LoadReport, drive
from benchmarks.metrics import CPU, P50, P99, RATE, Metric
from benchmarks.turn import Turn, WorkloadFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.load import Request

METRICS = (CPU, RATE, P50, P99)


def under_requests(request: Request) -> Callable[[Turn], dict[Metric, float]]:
    """Return what measures a server under this request."""

    def measure(turn: Turn) -> dict[Metric, float]:
        before = turn.cpu_nanoseconds()
        report = driven(turn, request)
        used = turn.cpu_nanoseconds() - before
        return {
            CPU: used / 1000 / report.requests,
            RATE: report.requests_per_second,
            P50: report.p50_seconds * 1000,
            P99: report.p99_seconds * 1000,
        }

    return measure


def driven(turn: Turn, request: Request, connections: int | None = None) -> LoadReport:
    """Put a server under a request for its turn.

    Args:
        turn: the server's.
        request: what is asked for.
        connections: in place of the turn's.

    Raises:
        WorkloadFailed: not all of the answers were good ones: what fails is often cheap.
    """
    report = drive(
        turn.wrk,
        request,
        port=turn.port,
        host=turn.server.name,
        connections=connections or turn.connections,
        seconds=turn.seconds,
    )
    turn.process.require_alive()
    if report.errors:
        raise WorkloadFailed(f"{report.errors} errors beside {report.requests} answers")
    if report.requests == 0:
        raise WorkloadFailed(f"no answer within {turn.seconds} s")
    return report
