"""The lines of the access log: both forms, and what clients put into them."""

from __future__ import annotations

import io
import json
import os
import re
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ways import python_alone
from uwsgibridge.protocol.packet import PacketLimits, encode_packet, parse_packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.access_log import AccessLog

# Apache's LogFormat "combined", then what this bridge adds.
COMBINED = re.compile(
    r"(?P<client>\S+) - (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+|-) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)" '
    r"queue=(?P<queue>\d+\.\d{6}) app=(?P<app>\d+\.\d{6}) total=(?P<total>\d+\.\d{6}) "
    r"worker=(?P<worker>\d+)(?P<broken> broken)?\n"
)


def request_with(**variables: str) -> Request:
    packet = parse_packet(
        memoryview(
            encode_packet(
                {
                    "REQUEST_METHOD": "GET",
                    "REQUEST_URI": "/a/path?token=secret",
                    "PATH_INFO": "/a/path",
                    "QUERY_STRING": "token=secret",
                    "SERVER_PROTOCOL": "HTTP/1.1",
                    "REMOTE_ADDR": "203.0.113.7",
                    "HTTP_REFERER": "https://example.org/",
                    "HTTP_USER_AGENT": "agent/1.0",
                    **variables,
                }
            )
        ),
        PacketLimits(65_535, 1000),
    )
    assert packet is not None
    return Request(packet)


def access(request: Request | None = None, **fields: Any) -> Access:
    values: dict[str, Any] = {
        "request": request or request_with(),
        "status": 200,
        "body_bytes": 12,
        "complete": True,
        "queue_seconds": 0.00125,
        "application_seconds": 0.5,
        **fields,
    }
    return Access(**values)


def line_of(form: str, it: Access) -> str:
    stream = io.StringIO()
    AccessLog(form, stream).write(it)
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.isascii()
    assert text[:-1].isprintable()
    return text


def combined(it: Access) -> re.Match[str]:
    line = line_of("combined", it)
    match = COMBINED.fullmatch(line)
    assert match, line
    return match


def as_json(it: Access) -> dict[str, Any]:
    found = json.loads(line_of("json", it))
    assert isinstance(found, dict)
    return found


def test_a_combined_line_has_each_field():
    found = combined(access(request_with(REMOTE_USER="ada")))

    assert found["client"] == "203.0.113.7"
    assert found["user"] == "ada"
    assert found["request"] == "GET /a/path HTTP/1.1"
    assert (found["status"], found["bytes"]) == ("200", "12")
    assert (found["referer"], found["agent"]) == ("https://example.org/", "agent/1.0")
    assert (found["queue"], found["app"], found["total"]) == ("0.001250", "0.500000", "0.501250")
    assert found["worker"] == str(os.getpid())
    assert found["broken"] is None


def test_a_json_line_has_each_field():
    found = as_json(access(request_with(REMOTE_USER="ada", REQUEST_ID="7f")))

    timestamp = found.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", timestamp)
    assert found == {
        "event": "access",
        "client": "203.0.113.7",
        "user": "ada",
        "method": "GET",
        "path": "/a/path",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 12,
        "complete": True,
        "referer": "https://example.org/",
        "user_agent": "agent/1.0",
        "queue_seconds": 0.00125,
        "application_seconds": 0.5,
        "total_seconds": 0.50125,
        "worker": os.getpid(),
        "request_id": "7f",
    }


def test_what_is_not_known_is_a_dash_or_null():
    request = request_with()
    for name in ("REMOTE_ADDR", "HTTP_REFERER", "HTTP_USER_AGENT"):
        del request.vars[name]
    it = access(request, body_bytes=0)

    found = combined(it)
    assert [found[name] for name in ("client", "user", "bytes", "referer", "agent")] == ["-"] * 5
    record = as_json(it)
    assert [record[name] for name in ("client", "user", "referer", "user_agent")] == [None] * 4
    assert record["bytes"] == 0


def test_request_without_an_answer():
    """499 is what Nginx writes of a client that left."""
    it = access(status=0, body_bytes=0, complete=False)

    found = combined(it)
    assert (found["status"], found["bytes"], found["broken"]) == ("499", "-", " broken")
    record = as_json(it)
    assert (record["status"], record["bytes"], record["complete"]) == (499, 0, False)


def test_broken_answer_keeps_its_status():
    it = access(body_bytes=5, complete=False)

    assert combined(it)["broken"] == " broken"
    assert combined(it)["status"] == "200"
    assert as_json(it)["complete"] is False


@pytest.mark.parametrize("form", ["combined", "json"])
def test_query_is_nowhere(form: str):
    request = request_with(HTTP_REFERER="https://example.org/from?token=secret")
    line = line_of(form, access(request))
    assert "secret" not in line
    assert '"https://example.org/from"' in line


def test_question_mark_of_a_path_begins_no_query():
    request = request_with(PATH_INFO="/why?", REQUEST_URI="/why%3F?token=secret")
    assert as_json(access(request))["path"] == "/why?"
    assert combined(access(request))["request"] == "GET /why%3F HTTP/1.1"
    del request.vars["REQUEST_URI"]
    assert combined(access(request))["request"] == "GET /why? HTTP/1.1"


def test_path_below_a_mount_is_the_whole_path():
    request = request_with(SCRIPT_NAME="/mounted", PATH_INFO="/path", REQUEST_URI="/mounted/path")
    assert combined(access(request))["request"] == "GET /mounted/path HTTP/1.1"
    assert as_json(access(request))["path"] == "/mounted/path"


def test_path_without_a_request_uri_is_whole_too():
    request = request_with(SCRIPT_NAME="/mounted", PATH_INFO="/path")
    del request.vars["REQUEST_URI"]
    assert combined(access(request))["request"] == "GET /mounted/path HTTP/1.1"


# Times.


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", r"\+0000"),
        ("Asia/Kolkata", r"\+0530"),
        ("America/St_Johns", r"-0[23]30"),
    ],
)
def test_time_has_its_zone(zone: str, expected: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        written = combined(access())["time"]
        assert re.fullmatch(rf"\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d:\d\d {expected}", written)
        assert abs(time.mktime(time.strptime(written[:-6], "%d/%b/%Y:%H:%M:%S")) - time.time()) < 60
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("combined", ["27/Nov/2026:23:59:59 +0000", "28/Nov/2026:00:00:00 +0000"]),
        ("json", ["2026-11-27T23:59:59Z", "2026-11-28T00:00:00Z"]),
        ("short", ["23:59:59", "00:00:00"]),
    ],
)
def test_each_line_has_the_time_of_its_second(
    form: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        stream = io.StringIO()
        log = AccessLog(form, stream)
        # The clock goes back once.
        for seconds in (0.1, 0.9, 1.0, 1.5, 0.5):
            monkeypatch.setattr(time, "time", lambda seconds=seconds: 1_795_823_999 + seconds)
            log.write(access())
    finally:
        monkeypatch.undo()
        time.tzset()
    first, second = expected
    lines = stream.getvalue().splitlines()
    for line, its_time in zip(lines, [first, first, second, second, first], strict=True):
        assert its_time in line


# What a client can put in.

FORGED = '" 200 5 "-" "-"\n203.0.113.9 - root [now] "GET /forged HTTP/1.1'
ODD = [
    FORGED,
    FORGED.replace("\n", "\r\n"),
    "\x1b[2J\x1b]0;title\x07",
    'back\\slash and \\" both',
    "caf\xc3\xa9 \x85 \xa0 \x7f \x00",
    '"',
    "\\",
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    ("variable", "group"),
    [
        ("HTTP_REFERER", "referer"),
        ("HTTP_USER_AGENT", "agent"),
        ("REQUEST_URI", "request"),
        ("REQUEST_METHOD", "request"),
        ("SERVER_PROTOCOL", "request"),
    ],
)
def test_client_cannot_end_its_field(odd: str, variable: str, group: str):
    """`line_of` has seen that it is one printable line; here, that each field is where it was."""
    plain = combined(access(request_with(**{variable: "x"})))
    found = combined(access(request_with(**{variable: odd})))

    same = set(plain.groupdict()) - {group, "time"}
    assert {name: found[name] for name in same} == {name: plain[name] for name in same}


@pytest.mark.parametrize("odd", [*ODD, "with space", ""], ids=repr)
@pytest.mark.parametrize("variable", ["REMOTE_USER", "REMOTE_ADDR"])
def test_name_and_address_are_one_word(odd: str, variable: str):
    """A user's name comes from the client's Authorization header; only the frontend has checked it."""
    found = combined(access(request_with(**{variable: odd})))
    assert found["request"] == "GET /a/path HTTP/1.1"


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_json_has_what_the_client_said(odd: str):
    record = as_json(access(request_with(HTTP_USER_AGENT=odd)))
    assert record["user_agent"] == odd


def test_lone_bytes_in_the_path_are_no_error():
    request = request_with(PATH_INFO="/\xff\xfe", REQUEST_URI="/%FF%FE")
    assert as_json(access(request))["path"] == "/\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"


# Long values: a line is never longer than what a pipe takes as one piece.

MAX_LINE_BYTES = 4096
TEXTS = {
    "REMOTE_ADDR": "client",
    "REMOTE_USER": "user",
    "REQUEST_METHOD": "method",
    "REQUEST_URI": "path",
    "SERVER_PROTOCOL": "protocol",
    "HTTP_REFERER": "referer",
    "HTTP_USER_AGENT": "user_agent",
}
# One byte in a line, four, six, twelve.
CHARACTERS = ["x", '"', "\\", " ", "\n", "\xff", "\x00", "\xf0\x9f\x98\x80"]


def long_path(text: str) -> dict[str, str]:
    return {"REQUEST_URI": "/" + text, "PATH_INFO": "/" + text}


@pytest.mark.parametrize("form", ["combined", "json"])
@pytest.mark.parametrize("character", CHARACTERS, ids=ascii)
def test_line_fits_a_pipe_whatever_is_in_it(form: str, character: str):
    text = character * 8000
    request = request_with()
    request.vars.update(dict.fromkeys(TEXTS, text), **long_path(text))
    it = access(
        request,
        status=0,
        body_bytes=2**63,
        complete=False,
        queue_seconds=123456.123456,
        application_seconds=1e-6,
    )
    line = line_of(form, it)
    assert len(line) <= MAX_LINE_BYTES
    if form == "combined":
        found = combined(it)
        shown = [found[name] for name in ("client", "user", "referer", "agent")]
        assert found["request"].count("...") == 3
    else:
        record = as_json(it)
        shown = [record[name] for name in TEXTS.values()]
    assert all(text.endswith("...") for text in shown)
    # What there is room for is used, but for the last character.
    assert len(line) > 3000


@pytest.mark.parametrize("form", ["combined", "json"])
@pytest.mark.parametrize(("variable", "name"), [(v, n) for v, n in TEXTS.items() if n != "path"])
def test_one_long_value_leaves_the_others_alone(form: str, variable: str, name: str):
    request = request_with(**{"REMOTE_USER": "ada", variable: "y" * 8000})
    line = line_of(form, access(request))
    assert len(line) <= MAX_LINE_BYTES
    assert "y..." in line
    plain = (
        "203.0.113.7",
        "ada",
        "GET",
        "/a/path",
        "HTTP/1.1",
        "https://example.org/",
        "agent/1.0",
    )
    shown = [text for text in plain if text in line]
    assert len(shown) == len(plain) - 1


@pytest.mark.parametrize("form", ["combined", "json"])
def test_nothing_is_cut_of_a_line_that_fits(form: str):
    """Up to the last byte of it."""
    short = len(line_of(form, access(request_with(HTTP_USER_AGENT=""))))
    room = MAX_LINE_BYTES - short + (len("-") if form == "combined" else 0)

    line = line_of(form, access(request_with(HTTP_USER_AGENT="y" * room)))
    assert len(line) == MAX_LINE_BYTES
    assert "y" * room in line
    line = line_of(form, access(request_with(HTTP_USER_AGENT="y" * (room + 1))))
    assert "y..." in line


# Writing.


def test_lines_of_threads_stay_whole():
    stream = io.StringIO()
    log = AccessLog("combined", stream)
    it = access()

    def write_many() -> None:
        for _ in range(200):
            log.write(it)

    threads = [threading.Thread(target=write_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = stream.getvalue().splitlines(keepends=True)
    assert len(lines) == 800
    assert all(COMBINED.fullmatch(line) for line in lines)


def test_goes_to_standard_error_unless_told_otherwise(capsys: pytest.CaptureFixture[str]):
    AccessLog("json").write(access())
    assert json.loads(capsys.readouterr().err)["event"] == "access"


texts = st.text(st.characters(max_codepoint=255), max_size=20) | st.sampled_from(
    ["", "/plain", "https://example.org/?token=1", "?", 'a"b', "\\", "\x7f", "x" * 2000]
)


@given(
    st.dictionaries(
        st.sampled_from([*TEXTS, "PATH_INFO", "SCRIPT_NAME"]), texts, max_size=len(TEXTS) + 2
    ),
    st.sampled_from([0, 200, 404, 999]),
    st.sampled_from([0, 12, 2**40]),
    st.floats(min_value=0, max_value=1e6),
    st.booleans(),
)
def test_lines_of_json_are_the_same_both_ways(
    variables: dict[str, str], status: int, body_bytes: int, seconds: float, complete: bool
) -> None:
    it = access(
        request_with(REQUEST_ID="7f", **variables),
        status=status,
        body_bytes=body_bytes,
        queue_seconds=seconds,
        complete=complete,
    )
    log = AccessLog("json", io.StringIO())
    accelerated = log.line(it)
    with python_alone():
        pure = log.line(it)
    assert json.loads(accelerated).pop("timestamp")
    assert accelerated[60:] == pure[60:]  # behind the time
    assert json.loads(accelerated).keys() == json.loads(pure).keys()
