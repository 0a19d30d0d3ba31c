"""Workloads for which a server is started anew: its memory with several workers, and the time to its first answer."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.apps import BODY
from benchmarks.cpu_time import cpu_nanoseconds, session_pids
from benchmarks.launching import Bench, launched
from benchmarks.load import Request
from benchmarks.metrics import (
    PSS_OF_1,
    PSS_OF_2,
    PSS_OF_4,
    START_CPU,
    START_TIME,
    Metric,
)
from benchmarks.turn import WorkloadFailed, probe, probe_when_started

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.servers import App, Server

MEMORY_METRICS = (PSS_OF_1, PSS_OF_2, PSS_OF_4)
START_METRICS = (START_CPU, START_TIME)

_REQUESTS = 200
"""Before memory is looked at: what an application loads late, it has loaded."""


def memory(app: App, *, preloaded: bool) -> Callable[[Bench, Server], dict[Metric, float]]:
    """Return what measures the memory of a server with 1, 2 and 4 workers.

    It is the proportional set size (proc_pid_smaps(5)) of all its processes in MiB: what several processes share is
    counted once.

    Args:
        app: the application.
        preloaded: whether it is loaded once, before the workers are forked.
    """

    def measure(bench: Bench, server: Server) -> dict[Metric, float]:
        options: tuple[str, ...] = ()
        if preloaded:
            if server.preload is None:
                raise WorkloadFailed("can't load an application before its workers are forked")
            options = server.preload
        figures = {}
        for workers, metric in ((1, PSS_OF_1), (2, PSS_OF_2), (4, PSS_OF_4)):
            if workers > 1 and not server.has_workers:
                break
            with launched(bench, server, app, workers, options) as process:
                probe_when_started(bench.nginx_port, server.name, Request(), BODY)
                for _ in range(_REQUESTS):
                    probe(bench.nginx_port, server.name, Request(), BODY)
                process.require_alive()
                figures[metric] = pss_bytes(session_pids(process.session)) / 1024**2
        return figures

    return measure


def start(app: App) -> Callable[[Bench, Server], dict[Metric, float]]:
    """Return what measures the time and the CPU time from a server's start to its first answer."""

    def measure(bench: Bench, server: Server) -> dict[Metric, float]:
        began = time.monotonic()
        with launched(bench, server, app, 1) as process:
            probe_when_started(bench.nginx_port, server.name, Request(), BODY)
            took = time.monotonic() - began
            used = cpu_nanoseconds(process.session)
        return {START_CPU: used / 1e6, START_TIME: took * 1000}

    return measure


def pss_bytes(pids: list[int]) -> int:
    """Add up the proportional set sizes of processes; one that has ended has none."""
    total = 0
    for pid in pids:
        try:
            text = Path("/proc", str(pid), "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total
