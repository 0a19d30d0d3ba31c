"""What the bridge's log says of a case: by request id, by time with method and path, or by time alone."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import pytest

from uwsgibridge.explain.gathering import Case, Gathered
from uwsgibridge.explain.lines import parse_line
from uwsgibridge.explain.own_log import Lookup

RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
REFUSED = "connect() failed (111: Connection refused) while connecting to upstream"
TIMED_OUT = (
    "upstream timed out (110: Operation timed out) while reading response header from upstream"
)


def case_of(message: str, path: str = "/a", *, lines: int = 1, time: str = "17:00:30") -> Case:
    gathered = Gathered(UTC)
    for _ in range(lines):
        gathered.add(
            parse_line(
                f"2026/11/29 {time} [error] 1#1: *1 {message}, client: ::1, server: , "
                f'request: "GET {path} HTTP/1.1", upstream: "uwsgi://127.0.0.1:1", host: "x"'
            )
        )
    [case] = gathered.cases
    return case


def event(name: str, time: str = "17:00:30.5", **fields: Any) -> str:
    return json.dumps({"event": name, "timestamp": f"2026-11-29T{time}Z", **fields})


def look_up(case: Case, *lines: str, within_seconds: float = 5.0) -> list[tuple[str, int]]:
    lookup = Lookup([case], within_seconds)
    for it in lines:
        lookup.add(it)
    lookup.finish()
    return [(told.event, told.count) for told in case.told.values()]


def test_method_path_and_time() -> None:
    this = {"method": "GET", "path": "/a"}
    log = event("application failed", detail="E: x", option="--threads", app="a", **this)
    case = case_of(RESET)
    assert look_up(case, log) == [("application failed", 1)]
    [told] = case.told.values()
    assert told.fields == {"detail": "E: x", "option": "--threads"}
    assert look_up(case_of(RESET, "/b"), log) == []
    assert look_up(case_of(RESET), event("application failed", method="POST", path="/a")) == []
    assert look_up(case_of(RESET), event("application failed", "17:00:36", **this)) == []
    assert look_up(case_of(RESET), event("application failed", "17:00:24", **this)) == []
    late = event("application failed", "17:00:36", **this)
    assert look_up(case_of(RESET), late, within_seconds=10.0) == [("application failed", 1)]


def test_events_that_do_not_lead_to_it_are_left_out() -> None:
    assert look_up(case_of(REFUSED), event("application failed", method="GET", path="/a")) == []
    assert look_up(case_of(RESET), event("reloaded")) == []


def test_what_is_about_a_timeout_is_looked_for_further_back() -> None:
    slow = event("request is slow, and still runs", "16:59:40", method="GET", path="/a")
    assert look_up(case_of(TIMED_OUT), slow) == [("request is slow, and still runs", 1)]


def test_how_far_back_depends_on_what_nginx_says() -> None:
    cases = [case_of(TIMED_OUT), case_of(RESET)]
    lookup = Lookup(cases, 5.0)
    lookup.add(event("request took too long", "16:59:40", method="GET", path="/a"))
    lookup.finish()
    assert [[it.event for it in case.told.values()] for case in cases] == [
        ["request took too long"],
        [],
    ]


def test_a_request_id_goes_before_path_and_time() -> None:
    gathered, mine = Gathered(UTC), "a" * 32
    gathered.add(
        parse_line(f'::1 - - [29/Nov/2026:17:00:30 +0000] "GET /x HTTP/1.1" 500 1 "-" "-" {mine}')
    )
    [case] = gathered.cases
    failed = event("application failed", method="GET", path="/rewritten", request_id=mine)
    assert look_up(case, failed) == [("application failed", 1)]


def test_a_worker_that_ended_has_held_the_request() -> None:
    assert look_up(case_of(RESET), event("worker ended", held=["POST /b", "GET /a"])) == [
        ("worker ended", 1)
    ]
    assert look_up(case_of(RESET), event("worker ended", held=["GET /b"])) == []
    # There were more than the event names.
    assert look_up(case_of(RESET), event("worker ended", held=["GET /b"], held_more=90)) == [
        ("worker ended", 1)
    ]


def test_an_event_of_the_request_itself_goes_before_those_near_to_it() -> None:
    case = case_of(RESET)
    logged = (
        event("requests were broken off: they did not end in time", requests=3),
        event("application failed", method="GET", path="/a"),
    )
    assert look_up(case, *logged) == [("application failed", 1)]
    assert look_up(case_of(RESET), logged[0]) == [
        ("requests were broken off: they did not end in time", 1)
    ]


@pytest.mark.parametrize(
    ("listening", "found"),
    [("17:00:10", []), ("17:01:00", [("stopped", 1)]), ("", [("stopped", 1)])],
)
def test_a_stop_lasts_until_the_bridge_listens(listening: str, found: list[Any]) -> None:
    log = [event("stopped", "16:00:00")]
    if listening:
        log.append(event("listening", listening))
    assert look_up(case_of(REFUSED), *log) == found


@pytest.mark.parametrize("is_mended", [False, True])
def test_a_lost_socket_file_lasts_until_a_reload(is_mended: bool) -> None:
    lost = "nobody can connect any more: the socket file is lost"
    log = [event("listening", "15:00:00"), event(lost, "16:00:00", file="removed")]
    if is_mended:
        log.append(event("listening", "16:30:00"))
    assert look_up(case_of(REFUSED), *log) == ([] if is_mended else [(lost, 1)])


def test_lines_are_counted_and_not_events() -> None:
    log = [event("application failed", method="GET", path="/a")] * 7
    assert look_up(case_of(RESET, lines=3), *log) == [("application failed", 3)]


def test_lines_without_a_cause_are_counted() -> None:
    case = case_of(RESET, lines=3)
    look_up(case, event("application failed", method="GET", path="/b"))
    assert case.untold == 3


@pytest.mark.parametrize(
    "text",
    ["", "Traceback", "{", '{"event": 1}', "[1]", '{"a": ' * 5000, '{"event": "worker ended", "held": "GET /a"}',
     '{"event": "application failed", "method": "GET", "path": "/a", "timestamp": "soon"}'],
)  # fmt: skip
def test_other_lines_do_no_harm(text: str) -> None:
    look_up(case_of(RESET), text)


def test_what_the_log_has_before_the_event_is_no_matter() -> None:
    text = f"bridge-1  | {event('application failed', method='GET', path='/a')}"
    assert look_up(case_of(RESET), text) == [("application failed", 1)]


def test_long_fields_are_cut() -> None:
    case = case_of(RESET)
    look_up(case, event("application failed", method="GET", path="/a", detail="x" * 100_000))
    [told] = case.told.values()
    assert len(str(told.fields["detail"])) == 2000
