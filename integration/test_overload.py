"""Twice as many requests come as can be done, and the application stands still for a while: what the service does after it.

docs/overload.md has the figures of a longer run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.apps.stalling import SERVICE_SECONDS, STALL_VARIABLE
from benchmarks.overload.open_loop import Load, drive, good_per_second, most_late
from integration.conftest import REPOSITORY
from uwsgibridge.testing import LocalStack

THREADS = 8
CAPACITY = THREADS / SERVICE_SECONDS

# A process that gets no processor for so long measures itself.
MOST_LATE_SECONDS = 0.25


@dataclass(frozen=True)
class Scenario:
    """How long what takes."""

    before: int
    stall: int
    after: int
    patience: float


def good_after_stall(scenario: Scenario, directory: Path, *options: str) -> list[int]:
    """Count the good answers in each second after the stall."""
    stall_file = directory / "stall"
    end = scenario.before + scenario.stall
    with LocalStack(
        "benchmarks.apps.stalling:wsgi",
        app_dir=REPOSITORY,
        socket="unix",
        serve_args=("--workers", "1", "--threads", str(THREADS), *options),
        environment={STALL_VARIABLE: str(stall_file)},
        graceful_timeout_seconds=0,
    ) as stack:
        port = int(stack.url.rpartition(":")[2])
        seconds = end + scenario.after
        begin = time.monotonic()
        stall_file.write_text(f"{begin + scenario.before} {begin + end}")
        load = Load(port, "localhost", 2 * CAPACITY, seconds, scenario.patience)
        outcomes = drive(load, begin)
        if most_late(outcomes) > MOST_LATE_SECONDS:
            pytest.skip("the machine is too busy to send requests in time")
        return good_per_second(outcomes, end, seconds)


def test_a_service_with_a_limit_is_back_within_two_seconds(tmp_path: Path) -> None:
    scenario = Scenario(before=0, stall=1, after=2, patience=0.8)
    *_, last = good_after_stall(scenario, tmp_path, "--max-queue-seconds", "0.3")
    assert last > 0.5 * CAPACITY


@pytest.mark.soak
def test_a_long_stall_is_over_two_seconds_after_its_end(tmp_path: Path) -> None:
    scenario = Scenario(before=5, stall=10, after=30, patience=2)
    with_limit = good_after_stall(scenario, tmp_path, "--max-queue-seconds", "1")
    assert min(with_limit[2:]) > 0.8 * CAPACITY, with_limit
    without = good_after_stall(scenario, tmp_path, "--run-abandoned")
    assert sum(without) < 0.05 * CAPACITY * len(without), without
