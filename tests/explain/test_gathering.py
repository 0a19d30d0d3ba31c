"""Equal lines become one case, in bounded memory."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from uwsgibridge.explain import gathering
from uwsgibridge.explain.gathering import Gathered, join_logs, path_of
from uwsgibridge.explain.lines import parse_line


def error(second: int = 0, path: str = "/a", port: int = 1, message: str = "") -> str:
    message = message or "connect() failed (111: Connection refused) while connecting to upstream"
    return (
        f"2026/11/29 17:00:{second:02} [error] 1#1: *1 {message}, client: ::1, server: , "
        f'request: "GET {path} HTTP/1.1", upstream: "uwsgi://127.0.0.1:{port}", host: "x"'
    )


def access(status: int, second: int = 0, path: str = "/a") -> str:
    return f'::1 - - [29/Nov/2026:17:00:{second:02} +0000] "GET {path} HTTP/1.1" {status} 1 "-" "-"'


def gather(*lines: str) -> Gathered:
    gathered = Gathered(UTC)
    for it in lines:
        gathered.add(parse_line(it))
    return gathered


def test_equal_lines_are_summed_up() -> None:
    gathered = gather(error(5), error(1), error(9, "/b?secret=1"))
    [case] = gathered.cases
    assert (case.entry.name, case.count, gathered.explained) == ("connection-refused", 3, 3)
    assert case.first == datetime(2026, 11, 29, 17, 0, 1, tzinfo=UTC)
    assert case.last == datetime(2026, 11, 29, 17, 0, 9, tzinfo=UTC)
    assert case.requests == {"GET /a": 2, "GET /b": 1}


def test_upstreams_are_told_apart() -> None:
    assert [it.upstream for it in gather(error(port=1), error(port=2)).cases] == [
        "uwsgi://127.0.0.1:1",
        "uwsgi://127.0.0.1:2",
    ]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_CASES", 3)
    monkeypatch.setattr(gathering, "_REQUESTS", 4)
    monkeypatch.setattr(gathering, "_UNKNOWN", 2)
    gathered = gather(*(error(path=f"/{it}", port=it) for it in range(50)))
    assert len(gathered.cases) == 4
    assert sum(it.count for it in gathered.cases) == 50
    assert max(len(it.requests) for it in gathered.cases) == 4
    gathered = gather(*(error(it % 60) for it in range(1000)))
    assert len(list(gathered.cases[0].samples())) == 100
    names = ("one", "two", "three", "four")
    gathered = gather(*(error(message=f"{it} is broken") for it in names))
    assert (len(gathered.unknown), gathered.unknown_lines) == (2, 4)


def test_what_is_not_known_is_said_without_what_varies() -> None:
    gathered = gather(*(error(message=f'lua failed on "{it}" line {it}') for it in range(3)))
    assert gathered.unknown == {'lua failed on "..." line N': 3}
    assert gather(access(599)).unknown == {"599 in the access log": 1}


def test_what_tells_of_no_failure_is_passed_over() -> None:
    notice = "2026/11/29 17:00:00 [notice] 1#1: start worker process 7"
    gathered = gather(notice, access(200), access(404), "hello", "")
    assert (gathered.passed_over, gathered.explained, gathered.unknown_lines) == (5, 0, 0)


def test_a_line_of_the_access_log_is_found_in_the_error_log() -> None:
    gathered = gather(error(3), access(502, 4), access(502, 30), access(502, 4, "/other"))
    join_logs(gathered.cases, 5.0)
    [refused, answered] = gathered.cases
    assert answered.in_error_log == {"connection-refused": 1}
    assert not refused.in_error_log


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a%20b?q", "/a b"), ("/caf%C3%A9", "/caf\N{LATIN SMALL LETTER E WITH ACUTE}"), ("http://host/a", "/a"), ("/%ff", "/\N{REPLACEMENT CHARACTER}"), ("", "")],
)  # fmt: skip
def test_paths_are_as_the_application_has_them(target: str, path: str) -> None:
    assert path_of(target) == path
