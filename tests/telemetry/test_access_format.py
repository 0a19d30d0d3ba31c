"""What the variables of a format say, and that no client forges a line."""

from __future__ import annotations

import base64
import datetime as dt
import io
import os
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.telemetry.test_access_log import access, request_with
from uwsgibridge.config.access_format import GUNICORN_VARIABLES, UWSGI_VARIABLES, parse_format
from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.access_format import VARIABLES, FormattedAccessLog
from uwsgibridge.telemetry.line_stream import LineStream

HEAD = b"HTTP/1.1 200 OK\r\nServer: app/1\r\nX-A: 1\r\nx-a: 2"


class Answered:
    def sent_head(self) -> bytes:
        return HEAD


def line(text: str, it: Access | None = None) -> str:
    stream = io.StringIO()
    pieces = parse_format("--access-log-format", text)
    FormattedAccessLog(pieces, LineStream(stream)).write(it or full())
    written = stream.getvalue()
    assert written.endswith("\n")
    assert written.count("\n") == 1
    assert len(written.encode()) <= 4096
    return written[:-1]


def full(**more: Any) -> Access:
    request = request_with(
        HTTP_X_EMPTY="",
        REMOTE_USER="ada",
        HTTP_HOST="example.org",
        CONTENT_LENGTH="5",
        HTTP_X_FORWARDED_FOR="192.0.2.1",
    )
    values = {
        "body_bytes": 12,
        "queue_seconds": 0.25,
        "application_seconds": 1.5,
        "answered": Answered(),
        **more,
    }
    return access(request, **values)


def test_every_variable_says_something() -> None:
    assert set(VARIABLES) == UWSGI_VARIABLES | GUNICORN_VARIABLES
    for name in UWSGI_VARIABLES:
        assert line(f"%({name})")
    for name in GUNICORN_VARIABLES:
        assert line(f"%({name})s")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # uWSGI's
        ("%(method) %(uri) %(proto)", "GET /a/path?token=secret HTTP/1.1"),
        ("%(addr) %(user) %(host)", "203.0.113.7 ada example.org"),
        ("%(referer) %(uagent)", "https://example.org/ agent/1.0"),
        ("%(status) %(rsize) %(cl)", "200 12 5"),
        ("%(hsize) %(size) %(headers)", f"{len(HEAD) + 4} {len(HEAD) + 16} 3"),
        ("%(micros) %(msecs) %(secs)", "1750000 1750 1.750000"),
        ("%(core) %(switches) %(modifier1) %(modifier2) %(rerr)", "0 1 0 0 0"),
        ("%(werr) %(ioerr)", "0 0"),
        ("%(var.QUERY_STRING) %(var.NONE)", "token=secret -"),
        # gunicorn's
        ('%(h)s %(l)s %(u)s "%(r)s"', '203.0.113.7 - ada "GET /a/path?token=secret HTTP/1.1"'),
        ("%(m)s %(U)s %(q)s %(H)s", "GET /a/path token=secret HTTP/1.1"),
        ('%(s)s %(b)s %(B)s "%(f)s" "%(a)s"', '200 12 12 "https://example.org/" "agent/1.0"'),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1750 1750000 1.750000"),
        ("%({X-Forwarded-For}i)s %({none}i)s", "192.0.2.1 -"),
        ("%({content-length}i)s", "5"),
        ("%({Server}o)s %({x-a}o)s %({none}o)s", "app/1 1, 2 -"),
        ("%({remote_addr}e)s", "203.0.113.7"),
        # What is empty is empty to gunicorn, and a dash to uWSGI.
        ("[%({x-empty}i)s] [%({HTTP_X_EMPTY}e)s] [%(var.HTTP_X_EMPTY)]", "[] [] [-]"),
    ],
)
def test_variables(text: str, said: str) -> None:
    assert line(text) == said


def test_process() -> None:
    assert line("%(pid) %(wid) %(p)s") == f"{os.getpid()} {os.getpid()} <{os.getpid()}>"


def test_times() -> None:
    before = time.time()
    began, ctime, epoch, ended = line("%(ltime)|%(ctime)|%(epoch)|%(t)s").split("|")
    moment = dt.datetime.strptime(began, "%d/%b/%Y:%H:%M:%S %z").timestamp()
    assert moment == pytest.approx(before - 1.75, abs=1.5)
    assert re.fullmatch(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", ctime)
    assert int(epoch) == pytest.approx(before, abs=1.5)
    assert ended.startswith("[")
    numbers = line("%(time) %(tmsecs) %(tmicros)").split()
    for number, unit in zip(numbers, (1, 1e3, 1e6), strict=True):
        assert int(number) / unit == pytest.approx(before - 1.75, abs=1.5)
    assert line("%(ftime)")[:11] == began[:11]


def test_memory_of_the_worker() -> None:
    rss, rss_mib, vsz, vsz_mib = map(int, line("%(rss) %(rssM) %(vsz) %(vszM)").split())
    assert 0 < rss_mib <= rss / 1_048_576
    assert rss < vsz
    assert vsz_mib >= rss_mib


def test_answer_without_a_head() -> None:
    it = full(status=0, complete=False, body_bytes=0, answered=None)
    assert line("%(status) %(hsize) %(size) %(headers) %(werr)", it) == "499 0 0 0 1"
    assert line("%(s)s %({server}o)s", it) == "499 -"


@pytest.mark.parametrize(
    ("header", "user"),
    [
        ("Basic " + base64.b64encode(b"eve:secret").decode(), "eve"),
        ("basic " + base64.b64encode(b"eve").decode(), "eve"),
        ("Basic " + base64.b64encode(b'e"ve\n:x').decode(), 'e\\"ve\\n'),
        ("Basic ?", "-"),
        ("Basic", "-"),
        ("Bearer abc", "-"),
        ("Basic " + base64.b64encode(b"\xff:x").decode(), "-"),
    ],
)
def test_user_of_http_basic(header: str, user: str) -> None:
    request = request_with(HTTP_AUTHORIZATION=header)
    assert line("%(u)s", access(request)) == user
    assert line("%(user)", access(request)) == "-"


HOSTILE = 'a\nb\r\x00"\\\x1b[31m\x85\xff'


@pytest.mark.parametrize(
    "text",
    [
        "%(uri) %(uagent)",
        "%(method) %(proto) %(host)",
        "%(r)s %(a)s",
        "%({x}i)s %({HTTP_X}e)s",
        "%(var.HTTP_X)",
    ],
)
def test_no_client_forges_a_line(text: str) -> None:
    names = (
        "REQUEST_URI",
        "HTTP_USER_AGENT",
        "REQUEST_METHOD",
        "SERVER_PROTOCOL",
        "HTTP_HOST",
        "HTTP_X",
    )
    said = line(text, access(request_with(**dict.fromkeys(names, HOSTILE))))
    assert said.isascii()
    assert said.isprintable()
    assert re.search(r'(?<!\\)"', said) is None


@given(st.text(st.characters(max_codepoint=255), max_size=9000), st.integers(1, 64))
def test_any_line_is_one_line_of_some_length(value: str, count: int) -> None:
    said = line("%(uagent)" * count, access(request_with(HTTP_USER_AGENT=value[:9000] or "x")))
    assert said.isprintable()


def test_long_values_are_cut_with_a_mark() -> None:
    said = line("%(addr) %(uri) %(uagent)", access(request_with(REQUEST_URI="/" + "x" * 5000)))
    assert said.startswith("203.0.113.7 /xxx")
    assert said.endswith("x... agent/1.0")


def test_texts_between_are_as_they_are_given() -> None:
    assert line('\N{SNOWMAN} \\ "%(status)"') == '\N{SNOWMAN} \\ "200"'
