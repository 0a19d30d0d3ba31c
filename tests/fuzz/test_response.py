"""Any status, headers and body give a refusal in words, or exactly the answer that was asked for.

What leaves is read back twice: by cutting it at its CR LF, so that nothing passes unseen, and by the
standard library's HTTP client, as a frontend would.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import TypeAlias, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uwsgibridge.protocol import answers
from uwsgibridge.protocol.errors import IncompleteBody, InvalidResponse, ProtocolError
from uwsgibridge.protocol.response import Buffer, Response
from uwsgibridge.protocol.status import parse_status, status_line

Headers: TypeAlias = list[tuple[bytes, bytes]]

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"trailers", b"transfer-encoding", b"upgrade",
}  # fmt: skip

tokens = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12).map(str.encode)
odd_bytes = st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b": ", b"\xff", b"\x85", b" ", b"\t"])
names = st.one_of(
    tokens,
    st.sampled_from(
        [b"Content-Length", b"content-length", b"Content-Type", b"X-Accel-Buffering", b"X-Accel-Expires", b"Set-Cookie",
         b"Transfer-Encoding", b"CONNECTION", b"Keep-Alive", b"upgrade", b"TE", b"Status", b"Date"]
    ),
)  # fmt: skip
spaces = st.sampled_from([b"", b"", b"", b" ", b"\t "])
lengths = st.builds(
    lambda before, number, after: b"%b%d%b" % (before, number, after),
    *(spaces, st.integers(0, 40), spaces),
)
values = st.one_of(
    st.binary(max_size=20).filter(lambda value: not has_control(value)),
    lengths,
    st.sampled_from([b"", b"chunked", b"close", b"text/event-stream", b"no", b"yes"]),
)
bad_values = st.tuples(st.binary(max_size=8), odd_bytes, st.binary(max_size=8)).map(b"".join)
headers = st.lists(st.tuples(names, values), max_size=8)
bad_headers = st.lists(
    st.tuples(names | bad_values | st.just(b""), values | bad_values | lengths), max_size=8
)
statuses = st.sampled_from([200, 200, 204, 304, 404, 500, 101, 103]) | st.integers(100, 999)
methods = st.sampled_from(["GET", "HEAD", "POST", "head"])
bodies = st.lists(st.binary(max_size=12), max_size=5)
large_bodies = st.lists(
    st.sampled_from([0, 1, 4096, 16_383, 16_384, 16_385, 200_000]).map(bytes), max_size=3
)


def has_control(text: bytes) -> bool:
    """Whether it has a control character; a tab is none."""
    return any((byte < 0x20 or byte == 0x7F) and byte != 0x09 for byte in text)


def is_allowed(status: int, given_headers: Headers) -> bool:
    """The rules once more, as wire.md and RFC 9110 have them."""
    promised = set()
    for name, value in given_headers:
        if not TOKEN.fullmatch(name):
            return False
        if name.lower() in HOP_BY_HOP:
            continue
        if name.lower() == b"content-length":
            if not re.fullmatch(rb"[ \t]*[0-9]{1,18}[ \t]*", value):
                return False
            promised.add(int(value))
        if has_control(value):
            return False
    return status >= 200 and len(promised) <= 1


def promised_length(given_headers: Headers) -> int | None:
    return next((int(v) for n, v in given_headers if n.lower() == b"content-length"), None)


def expected_headers(status: int, given_headers: Headers) -> Headers:
    """What is left of them, and what is added; but for the length of a single piece."""
    found: Headers = []
    seen_length = False
    for name, value in given_headers:
        lower = name.lower()
        if lower in HOP_BY_HOP:
            continue
        if lower == b"content-length":
            if seen_length or status == 204:
                continue
            seen_length = True
            value = value.strip(b" \t")  # noqa: PLW2901 - that is what is expected
        found.append((name, value))
    return found


def headers_of_an_unknown_length(method: str, status: int, given_headers: Headers) -> Headers:
    """What is added where the head does not tell how long the body is."""
    types = [value for name, value in given_headers if name.lower() == b"content-type"]
    names_found = {name.lower() for name, _ in given_headers}
    if status in {204, 304} or promised_length(given_headers) is not None:
        return []
    if method == "HEAD":
        return [] if b"x-accel-expires" in names_found else [(b"X-Accel-Expires", b"0")]
    if types and types[-1] == b"text/event-stream" and b"x-accel-buffering" not in names_found:
        return [(b"X-Accel-Buffering", b"no")]
    return []


def split_answer(data: bytes) -> tuple[bytes, Headers, bytes]:
    head, separator, body = data.partition(b"\r\n\r\n")
    assert separator
    first, *lines = head.split(b"\r\n")
    found: Headers = []
    for line in lines:
        assert not has_control(line)
        name, colon, value = line.partition(b": ")
        assert colon
        found.append((name, value))
    return first, found, body


class Answered:
    """All of a socket that `HTTPResponse` asks for."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


@contextmanager
def read_by_http_client(data: bytes, method: str) -> Iterator[HTTPResponse]:
    response = HTTPResponse(cast("socket.socket", Answered(data)), method=method)
    with response:
        response.begin()
        yield response


@given(statuses, headers | bad_headers)
def test_a_head_is_refused_or_exactly_what_was_asked_for(
    status: int, given_headers: Headers
) -> None:
    response = Response("GET")
    try:
        response.start(status, status_line(status), given_headers)
    except InvalidResponse:
        assert not is_allowed(status, given_headers)
        assert not response.status
        return
    assert is_allowed(status, given_headers)
    first, found, body = split_answer(b"".join(response.send(b"")))
    assert first == b"HTTP/1.1 " + status_line(status)
    added = headers_of_an_unknown_length("GET", status, given_headers)
    assert found == expected_headers(status, given_headers) + added
    assert body == b""


@given(methods, statuses, headers, bodies | large_bodies, st.booleans())
def test_a_body_is_as_long_as_it_says(
    method: str, status: int, given_headers: Headers, chunks: list[bytes], ends_with_a_piece: bool
) -> None:
    assume(is_allowed(status, given_headers))
    response = Response(method)
    response.start(status, status_line(status), given_headers)
    promised = promised_length(given_headers)
    whole = b"".join(chunks)
    has_no_body = method == "HEAD" or status in {204, 304}
    written: list[Buffer] = []
    try:
        for number, chunk in enumerate(chunks, start=1):
            last = ends_with_a_piece and number == len(chunks)
            written += response.send(chunk, last=last)
        if not response.is_complete:
            written += response.finish()
    except IncompleteBody:
        assert promised is not None
        assert len(whole) < promised
        assert not has_no_body
        assert not response.is_complete
        return
    assert response.is_complete
    assert all(written)
    _, found, body = split_answer(b"".join(written))
    expected = expected_headers(status, given_headers)
    is_single = not chunks or (ends_with_a_piece and len(chunks) == 1)
    length = [(b"Content-Length", b"%d" % len(whole))]
    unknown = headers_of_an_unknown_length(method, status, given_headers)
    if has_no_body:
        assert body == b""
        # An empty piece may have been left out for HEAD: its length is not known.
        is_known = status not in {204, 304} and promised is None and is_single and len(whole) > 0
        assert found == expected + (length if is_known else unknown)
    elif promised is not None:
        assert len(whole) >= promised
        assert body == whole[:promised]
        assert response.excess_bytes == len(whole) - promised
        assert found == expected
    else:
        assert body == whole
        assert found == expected + (length if is_single else unknown)


@given(methods, statuses, headers, bodies)
def test_a_frontend_reads_it(
    method: str, status: int, given_headers: Headers, chunks: list[bytes]
) -> None:
    assume(is_allowed(status, given_headers))
    response = Response(method)
    response.start(status, status_line(status), given_headers)
    try:
        data = b"".join([*response.send(b"".join(chunks)), *response.finish()])
    except IncompleteBody:
        return
    with read_by_http_client(data, method) as answer:
        assert answer.status == status
        assert answer.version == 11
        expected = [
            (name.decode(), value.decode("latin-1").lstrip(" \t"))
            for name, value in [
                *expected_headers(status, given_headers),
                *headers_of_an_unknown_length(method, status, given_headers),
            ]
        ]
        assert answer.getheaders() == expected
        assert answer.read() == split_answer(data)[2]


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{3}( [ -~]{0,10})?", fullmatch=True))
def test_any_status_text_is_sent_or_refused(text: str) -> None:
    try:
        code, line = parse_status(text)
    except InvalidResponse:
        assert not re.fullmatch(r"[1-9][0-9]{2}( [ -~]*)?", text)
        return
    assert line.startswith(b"%d " % code)
    assert line.decode("latin-1").rstrip(" ") == text.rstrip(" ")
    assert not has_control(line)
    assert 100 <= code <= 999


@given(st.integers() | st.integers(90, 1010))
def test_any_status_number_is_sent_or_refused(status: int) -> None:
    if 100 <= status <= 999:
        assert status_line(status).startswith(b"%d " % status)
    else:
        with pytest.raises(InvalidResponse):
            status_line(status)


@given(st.sampled_from([400, 404, 413, 431, 503]), st.text(max_size=60))
def test_a_refusals_sentence_is_all_body(status: int, text: str) -> None:
    error = ProtocolError(text)
    error.status = status
    first, found, body = split_answer(answers.refused(error, "GET").data)
    assert first == b"HTTP/1.1 " + status_line(status)
    assert body == text.encode() + b"\n"
    assert found == [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", b"%d" % len(body)),
    ]
