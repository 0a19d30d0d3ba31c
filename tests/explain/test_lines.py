"""Lines of Nginx's logs are taken apart, whatever stands before them and whatever clients put into them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.explain.lines import Line, parse_line, parse_message, time_of

ERROR = (
    "2026/11/29 17:22:40 [error] 8001#8001: *98 recv() failed (104: Connection reset by peer) while reading upstream, "
    'client: 127.0.0.1, server: , request: "GET /a%20b?q=1 HTTP/1.1", upstream: "uwsgi://unix:/run/app.sock:", host: "x"'
)
COMBINED = (
    '203.0.113.7 - ann [29/Nov/2026:17:22:40 +0100] "GET /cart?x=1 HTTP/1.1" 502 157 "-" "curl/8"'
)
TIMED = (
    '203.0.113.7 [2026-11-29T17:22:40+01:00] "GET /cart HTTP/1.1" 504 157 "-" "a" '
    "60.001 10.0.0.1:3031, 10.0.0.2:3031 502, 504 0.001, 60.000"
)


@pytest.mark.parametrize(
    "before", ["", "nginx-1  | ", "Nov 29 17:22:40 host nginx[7]: ", "2026-11-29T17:22:40Z "]
)
def test_the_error_log(before: str) -> None:
    line = parse_line(before + ERROR)
    assert line == Line(
        "error",
        "recv() failed (104: Connection reset by peer) while reading upstream",
        level="error",
        stamp="2026/11/29 17:22:40",
        method="GET",
        target="/a%20b?q=1",
        upstream="uwsgi://unix:/run/app.sock:",
    )


@pytest.mark.parametrize("before", ["", "nginx-1  | "])
def test_the_access_log(before: str) -> None:
    line = parse_line(before + COMBINED)
    assert line == Line(
        "access", "502", stamp="29/Nov/2026:17:22:40 +0100", method="GET", target="/cart?x=1"
    )
    line = parse_line(before + TIMED)
    assert line is not None
    assert (line.message, line.target, line.seconds) == ("504", "/cart", 60.001)
    assert line.upstream == "10.0.0.1:3031"


def test_a_request_id_is_taken_from_behind_what_clients_write() -> None:
    mine, theirs = "0" * 31 + "a", "f" * 32
    line = parse_line(COMBINED.replace("curl/8", theirs) + f" {mine}")
    assert line is not None
    assert line.request_id == mine
    line = parse_line(COMBINED.replace("curl/8", theirs))
    assert line is not None
    assert not line.request_id


def test_a_complaint_at_the_start_has_no_time() -> None:
    line = parse_line(
        'nginx: [emerg] host not found in upstream "app:3031" in /etc/nginx/nginx.conf:9'
    )
    assert line is not None
    assert line.level == "emerg"
    assert line.message.startswith("host not found")
    assert time_of(line, None) is None


def test_nothing_that_is_quoted_names_the_upstream() -> None:
    target = '/",upstream:"uwsgi://evil'
    line = parse_line(ERROR.replace("/a%20b?q=1", target))
    assert line is not None
    assert (line.target, line.upstream) == (target, "uwsgi://unix:/run/app.sock:")
    quoted = 'upstream sent invalid header: "X: , upstream: "uwsgi://evil"" while reading'
    line = parse_line(ERROR.replace("recv() failed", quoted))
    assert line is not None
    assert line.upstream == "uwsgi://unix:/run/app.sock:"


@pytest.mark.parametrize(
    "text", ["", "hello", '{"event": "started"}', "[error] no time", "x" * 100_000]
)
def test_other_lines(text: str) -> None:
    assert parse_line(text) is None


def test_a_message_without_its_time() -> None:
    line = parse_message("8#8: *4 no live upstreams while connecting to upstream, client: 10.0.0.1")
    assert line.message == "no live upstreams while connecting to upstream"


def test_times_are_utc() -> None:
    error, combined, timed = (parse_line(it) for it in (ERROR, COMBINED, TIMED))
    assert error is not None
    assert combined is not None
    assert timed is not None
    one_hour_before = datetime(2026, 11, 29, 16, 22, 40, tzinfo=UTC)
    assert time_of(error, ZoneInfo("Europe/Berlin")) == one_hour_before
    assert time_of(combined, None) == time_of(timed, None) == one_hour_before
    assert time_of(Line("error", "x", stamp="2026/99/99 00:00:00"), None) is None
    assert time_of(Line("access", "502", stamp="yesterday"), None) is None


@given(st.text(max_size=300), st.sampled_from([ERROR, COMBINED, TIMED]), st.integers(0, 200))
def test_anything_may_stand_in_a_line(noise: str, text: str, place: int) -> None:
    line = parse_line(text[:place] + noise + text[place:])
    if line is not None:
        time_of(line, UTC)
