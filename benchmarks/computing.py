"""Workloads of an application that computes: light requests beside heavy ones, and pings beside both."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.apps.plain import COMPUTE_PATH
from benchmarks.load import Request
from benchmarks.metrics import (
    HEAVY_RATE,
    LIGHT_P50,
    LIGHT_P99,
    LIGHT_RATE,
    PING_LONGEST,
    PING_P50,
    Metric,
)
from benchmarks.requests_load import driven
from uwsgibridge.client import PingError, ping

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.turn import Turn

METRICS = (LIGHT_RATE, LIGHT_P50, LIGHT_P99, HEAVY_RATE, PING_P50, PING_LONGEST)

_CONNECTIONS = 4
_PING_EVERY_SECONDS = 0.02
_PING_SECONDS = 5.0


def while_computing(milliseconds: int) -> Callable[[Turn], dict[Metric, float]]:
    """Return what measures four light requests beside four that compute for so long.

    A server that answers no ping has no figures of pings.
    """

    def measure(turn: Turn) -> dict[Metric, float]:
        over = threading.Event()
        with ThreadPoolExecutor(3) as pool:
            light = pool.submit(driven, turn, Request("/"), _CONNECTIONS)
            heavy = pool.submit(
                driven, turn, Request(f"{COMPUTE_PATH}{milliseconds}"), _CONNECTIONS
            )
            pings = pool.submit(_ping, turn, over)
            try:
                found = light.result(), heavy.result()
            finally:
                over.set()
        answered = pings.result()
        figures = {
            LIGHT_RATE: found[0].requests_per_second,
            LIGHT_P50: found[0].p50_seconds * 1000,
            LIGHT_P99: found[0].p99_seconds * 1000,
            HEAVY_RATE: found[1].requests_per_second,
        }
        if answered:
            figures[PING_P50] = statistics.median(answered) * 1000
            figures[PING_LONGEST] = max(answered) * 1000
        return figures

    return measure


def _ping(turn: Turn, over: threading.Event) -> list[float]:
    if turn.server.protocol != "uwsgi":
        return []
    seconds = []
    while not over.is_set():
        began = time.monotonic()
        try:
            ping(turn.endpoint, timeout_seconds=_PING_SECONDS)
        except PingError:
            return []
        seconds.append(time.monotonic() - began)
        over.wait(_PING_EVERY_SECONDS)
    return seconds
