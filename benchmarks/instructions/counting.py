"""Count the instructions of one scenario: start it under callgrind, warm it up, and send it bursts of requests."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.instructions.bursts import send_burst, wait_for_rest
from benchmarks.instructions.callgrind import START_SECONDS, Counter, callgrind_argv
from benchmarks.instructions.scenarios import READY_TEXT
from benchmarks.processes import running

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from benchmarks.instructions.scenarios import Scenario

BURSTS = (16, 1)
"""How many requests come at once: a busy server has several to accept, and a quiet one has to be woken up for each."""

_WARM_UP_ROUNDS = 4
_IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """User instructions a request of one scenario, for bursts of one size.

    `spread` is the difference of the highest and the lowest of the repetitions, as a share of `instructions`, which
    is their median.
    """

    scenario: str
    burst: int
    instructions: float
    spread: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is the same for all scenarios of a checkout.

    `requests` is how many are counted in each repetition, for each size of burst.
    """

    valgrind: str
    python: Path
    checkout: Path
    environment: Mapping[str, str]
    cpus: Collection[int]
    requests: int
    repetitions: int


def count(conditions: Conditions, scenario: Scenario) -> list[Count]:
    """Return a count for each size of burst.

    What the process does by the clock, such as looking after its sockets each second, is counted while it is idle and
    taken off: on a slow machine there would be more of it for each request.

    Raises:
        BenchmarkError: the bridge doesn't start, doesn't answer, or can't be counted.
    """
    with tempfile.TemporaryDirectory(prefix="count-") as name:
        directory = Path(name)
        socket = directory / "socket"
        argv = scenario.argv(conditions.python, socket)
        with running(
            scenario.name,
            callgrind_argv(conditions.valgrind, directory, argv),
            cwd=conditions.checkout,
            ready_text=READY_TEXT,
            ready_seconds=START_SECONDS,
            cpus=conditions.cpus,
            env={**conditions.environment, **scenario.environment},
        ) as process:
            counter = Counter(directory, process.pid)
            counter.begin()
            for _ in range(_WARM_UP_ROUNDS):
                for burst in BURSTS:
                    send_burst(process.pid, str(socket), burst)
            idle = _idle_instructions_per_second(counter, process.pid)
            return [
                _summary(
                    scenario.name,
                    burst,
                    [
                        _repetition(
                            counter, process.pid, str(socket), burst, conditions.requests, idle
                        )
                        for _ in range(conditions.repetitions)
                    ],
                )
                for burst in BURSTS
            ]


def _idle_instructions_per_second(counter: Counter, pid: int) -> float:
    wait_for_rest(pid)
    counter.zero()
    began = time.monotonic()
    time.sleep(_IDLE_SECONDS)
    return counter.read() / (time.monotonic() - began)


def _repetition(
    counter: Counter, pid: int, socket: str, burst: int, requests: int, idle: float
) -> float:
    bursts = max(1, requests // burst)
    wait_for_rest(pid)
    counter.zero()
    began = time.monotonic()
    for _ in range(bursts):
        send_burst(pid, socket, burst)
    wait_for_rest(pid)
    by_the_clock = idle * (time.monotonic() - began)
    return (counter.read() - by_the_clock) / (bursts * burst)


def _summary(scenario: str, burst: int, repetitions: list[float]) -> Count:
    median = statistics.median(repetitions)
    return Count(scenario, burst, median, (max(repetitions) - min(repetitions)) / median)
