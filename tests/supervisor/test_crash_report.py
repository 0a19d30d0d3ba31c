"""What the log says of a worker that has ended unasked."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest
import structlog

from tests.nest import Nest
from uwsgibridge.link.flights import Flight, Held
from uwsgibridge.supervisor.crash_report import describe_end, report_crash
from uwsgibridge.supervisor.generation import Generation


class EndedWorker:
    pid, is_ready, age_seconds = 17, True, 1.23456
    is_being_killed = is_stopping = False

    def __init__(self, *requests: Flight, connections: int = 0) -> None:
        self._held = Held(list(requests), connections)

    def held(self) -> Held:
        return self._held


def told_of(worker: Any, status: int | None = 1) -> dict[str, Any]:
    with structlog.testing.capture_logs() as events:
        report_crash(structlog.get_logger(), worker, status)
    [event] = events
    return dict(event)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (None, {"exit_status": None}),
        (0, {"exit_status": 0}),
        (3, {"exit_status": 3}),
        (-9, {"signal": "SIGKILL"}),
        (-40, {"signal": 40}),  # it has no name in Python
    ],
)
def test_each_way_to_end_is_told(status: int | None, told: dict[str, Any]) -> None:
    assert describe_end(status) == told


def test_what_it_held_is_named_and_the_rest_is_counted() -> None:
    flights = [Flight("GET", f"/{number}") for number in range(12)]
    event = told_of(EndedWorker(*flights, connections=2))
    assert event["held"] == [f"GET /{number}" for number in range(10)]
    assert (event["held_more"], event["held_connections"]) == (2, 2)


def test_what_it_did_not_hold_is_not_told() -> None:
    assert told_of(EndedWorker()) == {
        "event": "worker ended",
        "log_level": "error",
        "worker": 17,
        "was_ready": True,
        "age_seconds": 1.235,
        "exit_status": 1,
    }


@pytest.mark.parametrize("attribute", ["", "is_being_killed", "is_stopping"])
def test_who_may_have_killed_it_is_told_where_we_have_not(attribute: str) -> None:
    worker = EndedWorker()
    if attribute:
        setattr(worker, attribute, True)
    assert ("out of memory" in told_of(worker, -9).get("hint", "")) is (not attribute)
    assert "hint" not in told_of(worker, -11)


# The last one has no name in Python.
@pytest.mark.parametrize(("number", "told"), [(signal.SIGKILL, "SIGKILL"), (40, 40)])
@pytest.mark.skipif(sys.platform != "linux", reason="has real-time signals")
def test_a_crash_is_told_with_its_signal(nest: Nest, number: int, told: str | int) -> None:
    async def whole(generation: Generation) -> None:
        [worker] = await nest.ready(generation)
        os.kill(worker.pid, number)
        await nest.until(lambda: generation.is_over)
        [event] = nest.log.find(event="worker ended")
        assert (event["worker"], event["signal"]) == (worker.pid, told)
        assert nest.tally.crashed == 1
        assert not generation.has_failed

    nest.run(whole)
