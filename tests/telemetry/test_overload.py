"""The log of an overload: a line a second."""

from __future__ import annotations

from collections.abc import Callable

from tests.log_events import LogEvents
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.telemetry.once_a_second import LOG_SECONDS
from uwsgibridge.telemetry.overload import OverloadLog


def test_refusals_are_logged_once_a_second_with_their_number() -> None:
    events, counters, calls = LogEvents(), Counters(), list[Callable[[], object]]()

    def later(seconds: float, function: Callable[[], object]) -> None:
        assert seconds == LOG_SECONDS
        calls.append(function)

    def logged() -> list[tuple[str, int]]:
        return [(it["reason"], it["requests"]) for it in events.find(level="warning")]

    log = OverloadLog(make_logger("json", "debug", stream=events), counters, later)
    for reason in ("a", "a", "a", "b"):
        log.count(reason, "--option")
    assert logged() == [("a", 1), ("b", 1)]
    of_a, of_b = calls
    calls.clear()
    of_a()
    of_b()
    assert logged() == [("a", 1), ("b", 1), ("a", 2)]
    log.count("b", "--option")  # after a quiet second
    assert logged()[3:] == [("b", 1)]
    for call in calls:
        call()
    log.count("a", "--option")
    assert logged()[4:] == [("a", 1)]
    assert counters.refused == {"a": 4, "b": 2}
