"""An answer in the making: what leaves, what is refused, and what is said of a body that is wrong."""

from __future__ import annotations

import array
import gc
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from uwsgibridge.protocol import response_headers
from uwsgibridge.protocol.errors import IncompleteBody, InvalidResponse
from uwsgibridge.protocol.response import Response
from uwsgibridge.protocol.status import status_line

Headers = Iterable[tuple[bytes, bytes]]

PLAIN = (b"Content-Type", b"text/plain")

# All of ASCII's, and without the tab (RFC 9110, section 5.5).
CONTROLS = [*range(0x09), *range(0x0A, 0x20), 0x7F]


def started(headers: Headers = (), *, status: int = 200, method: str = "GET") -> Response:
    response = Response(method)
    response.start(status, status_line(status), headers)
    return response


def written(response: Response, *chunks: bytes) -> bytes:
    """Stream the chunks, and end."""
    pieces = [piece for chunk in chunks for piece in response.send(chunk)]
    return b"".join([*pieces, *response.finish()])


def split_head(data: bytes) -> tuple[list[bytes], bytes]:
    head, separator, body = data.partition(b"\r\n\r\n")
    assert separator
    return head.split(b"\r\n"), body


def header_lines(headers: Headers, *, status: int = 200, method: str = "GET") -> list[bytes]:
    """The header lines of a streamed answer with these headers and no body."""
    return split_head(b"".join(started(headers, status=status, method=method).send(b"")))[0][1:]


@contextmanager
def remembers_less_than(size_bytes: int) -> Iterator[None]:
    """Check that what happens leaves nothing behind that grows with it."""
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        yield
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < size_bytes


class TestHead:
    def test_status_line_headers_and_body_leave_in_one_buffer(self) -> None:
        response = started(
            [PLAIN, (b"X-Empty", b""), (b"set-cookie", b"a=1"), (b"set-cookie", b"b")]
        )
        (data,) = response.send(b"hello")
        assert data == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Empty: \r\n"
            b"set-cookie: a=1\r\nset-cookie: b\r\n\r\nhello"
        )

    def test_a_head_may_have_no_headers(self) -> None:
        assert started().send(b"x") == (b"HTTP/1.1 200 OK\r\n\r\nx",)

    def test_nothing_is_added_that_the_frontend_writes_itself(self) -> None:
        names = [line.lower() for line in header_lines([PLAIN])]
        assert names == [b"content-type: text/plain"]  # no Date, no Server, no Connection

    @pytest.mark.parametrize(
        "line",
        [
            b"Date: Thu, 01 Jan 1970 00:00:00 GMT",
            b"Server: mine",
            b"X-Accel-Redirect: /protected/file",
            b"X-Accel-Expires: 10",
            b"X-Accel-Limit-Rate: 1024",
            b"X-Accel-Buffering: yes",
            b"X-Accel-Charset: utf-8",
            b"Link: </style.css>; rel=preload",
            b"Content-Encoding: gzip",
            b"X-Bytes: \x80\xff\t!",
            b"!#$%&'*+-.^_`|~09azAZ: every character of a token",
        ],
    )
    def test_the_applications_own_headers_pass_as_they_are(self, line) -> None:
        name, _, value = line.partition(b": ")
        assert header_lines([(name, value)]) == [line]

    def test_it_may_be_replaced_until_it_leaves(self) -> None:
        """As PEP 3333's start_response with exc_info does."""
        response = started([(b"Content-Length", b"1000"), (b"Content-Type", b"text/event-stream")])
        response.start(500, b"500 Oops", [(b"X-New", b"1")])
        assert response.status == 500
        assert b"".join(response.send(b"oops", last=True)) == (
            b"HTTP/1.1 500 Oops\r\nX-New: 1\r\nContent-Length: 4\r\n\r\noops"
        )

    def test_a_replacement_lifts_the_rule_against_a_body(self) -> None:
        response = started(status=204)
        response.start(200, b"200 OK", [])
        assert written(response, b"body").endswith(b"\r\n\r\nbody")

    def test_it_leaves_once(self) -> None:
        response = started()
        assert response.send(b"x") == (b"HTTP/1.1 200 OK\r\n\r\nx",)
        assert response.is_head_sent
        assert response.send(b"y") == (b"y",)
        with pytest.raises(InvalidResponse, match="already sent"):
            response.start(500, b"500 ", [])
        assert response.status == 200

    def test_it_leaves_with_an_empty_piece(self) -> None:
        assert started().send(b"") == (b"HTTP/1.1 200 OK\r\n\r\n",)

    def test_there_is_none_yet(self) -> None:
        response = Response("GET")
        assert (response.status, response.is_head_sent, response.is_complete) == (0, False, False)
        assert response.head_bytes == 0

    @pytest.mark.parametrize("last", [False, True])
    def test_a_body_before_it_is_refused(self, last) -> None:
        response = Response("GET")
        with pytest.raises(InvalidResponse, match="before the head"):
            response.send(b"x", last=last)
        assert not response.is_head_sent
        assert not response.is_complete

    def test_an_end_before_it_is_refused(self) -> None:
        response = Response("GET")
        with pytest.raises(InvalidResponse, match="before the head"):
            response.finish()
        assert not response.is_complete

    def test_a_refused_body_counts_for_nothing(self) -> None:
        response = Response("GET")
        with pytest.raises(InvalidResponse):
            response.send(b"lost")
        response.start(200, b"200 OK", [(b"Content-Length", b"4")])
        assert b"".join(response.send(b"kept", last=True)).endswith(b"\r\n\r\nkept")

    def test_a_refused_head_leaves_the_former_one(self) -> None:
        response = started([(b"X-Old", b"1")])
        with pytest.raises(InvalidResponse):
            response.start(500, b"500 ", [(b"X-New", b"a\nb")])
        assert response.status == 200
        assert response.send(b"") == (b"HTTP/1.1 200 OK\r\nX-Old: 1\r\n\r\n",)

    def test_many_different_names_are_not_all_kept(self) -> None:
        def send_many(start: int) -> None:
            for number in range(start, start + 2000):
                assert header_lines([(b"X-%d" % number, b"1")]) == [b"X-%d: 1" % number]

        send_many(0)
        send_many(0)
        with remembers_less_than(20_000):
            send_many(2000)

    def test_long_names_are_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An application may repeat what a client has sent."""
        monkeypatch.setattr(response_headers, "known_kinds", {})

        def send_many(start: int) -> None:
            for number in range(start, start + 100):
                name = b"X-%d" % number + b"x" * 20_000
                assert header_lines([(name, b"1")]) == [name + b": 1"]

        send_many(0)
        with remembers_less_than(20_000):
            send_many(100)


class TestHeadSize:
    def test_the_largest_header_is_named(self) -> None:
        response = started([(b"A", b"x"), (b"Set-Cookie", b"y" * 5000), (b"B", b"z" * 10)])
        head = b"".join(response.send(b""))
        assert response.largest_header() == (len(head), "Set-Cookie", len("Set-Cookie: ") + 5000)
        assert response.head_bytes <= len(head)

    def test_without_headers_none_is_the_largest(self) -> None:
        size, name, largest = started().largest_header()
        assert (size, name, largest) == (len(b"HTTP/1.1 200 OK\r\n\r\n"), "", 0)


class TestWhatMustNotLeave:
    """What would end a header early begins another one: response splitting."""

    @pytest.mark.parametrize("name", [b"X-Plain", b"Content-Type", b"X-Accel-Buffering"])
    @pytest.mark.parametrize(
        "value",
        [
            b"a\r\nSet-Cookie: b=1",
            b"a\nb",
            b"a\rb",
            b"a\0b",
            b"\n",
            b"\r",
            b"\0",
            b"a\r\n",
            b"\r\na",
            b"\r\n\r\n<script>",
            *(pytest.param(b"a%cb" % code, id=f"{code:#04x}") for code in CONTROLS),
        ],
    )
    def test_a_control_character_in_a_value_is_refused(self, name, value) -> None:
        response = Response("GET")
        with pytest.raises(InvalidResponse, match="control character") as caught:
            response.start(200, b"200 OK", [PLAIN, (name, value), (b"X-After", b"1")])
        assert name.decode() in str(caught.value)  # for the one who has to mend it
        assert response.status == 0

    def test_a_tab_and_what_is_beyond_ascii_pass(self) -> None:
        value = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
        assert header_lines([(b"X-A", value)]) == [b"X-A: " + value]

    def test_a_cr_and_an_lf_in_two_values_do_not_even_out(self) -> None:
        for values in ((b"\r", b"\n"), (b"\n", b"\r"), (b"\n\n", b"\r\r")):
            with pytest.raises(InvalidResponse):
                started([(b"X-A", values[0]), (b"X-B", values[1])])

    @pytest.mark.parametrize(
        "name",
        [
            b"",
            b" ",
            b"X Y",
            b"X:",
            b"X\r\nY",
            b"X\n",
            b"X\0",
            b"X\t",
            b" X",
            b"X ",
            b"X(",
            b'"X"',
            b"X/Y",
            b"X\xe9",
            b"{X}",
            b"Content-Length ",
        ],
    )
    def test_a_name_that_is_no_token(self, name) -> None:
        with pytest.raises(InvalidResponse, match="not a header name"):
            started([(name, b"1")])
        with pytest.raises(InvalidResponse):  # and not because it is new
            started([(name, b"1")])

    @pytest.mark.parametrize(
        "line", [b"200 OK\r\nX: y", b"200 OK\n", b"200 \r", b"200 O\0K", b"200 OK\r\n"]
    )
    def test_a_status_line_with_a_break(self, line) -> None:
        with pytest.raises(InvalidResponse):
            Response("GET").start(200, line, [])

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([("X-Text", "1")], id="text"),
            pytest.param([("X-Text", b"1")], id="name is text"),
            pytest.param([(b"X-Text", "1")], id="value is text"),
            pytest.param([(b"X-Number", 1)], id="value is a number"),
            pytest.param([(b"X-None", None)], id="value is None"),
            pytest.param([(None, b"1")], id="name is None"),
            pytest.param([(b"Content-Length", 5)], id="length is a number"),
            pytest.param([(b"Content-Length", "5")], id="length is text"),
            pytest.param([(b"Content-Length", None)], id="length is None"),
            pytest.param([(b"Content-Type", None)], id="type is None"),
            pytest.param([(b"Content-Type", "text/plain")], id="type is text"),
            pytest.param([(b"X-Alone",)], id="no value"),
            pytest.param([(b"X-Three", b"1", b"2")], id="three"),
            pytest.param([None], id="no pair"),
            pytest.param(None, id="nothing"),
            pytest.param(5, id="no list"),
            pytest.param([([], b"1")], id="name is a list"),
        ],
    )
    def test_what_is_not_pairs_of_bytes(self, headers: Any) -> None:
        with pytest.raises(InvalidResponse, match="headers must be pairs of bytes, not "):
            started(headers)

    def test_the_odd_one_is_shown(self) -> None:
        odd: Any = (b"X-Odd", "text")
        with pytest.raises(InvalidResponse) as caught:
            started([PLAIN, odd, PLAIN])
        assert str(caught.value) == f"headers must be pairs of bytes, not {odd!r}"

    def test_the_odd_one_of_a_generator_is_shown(self) -> None:
        headers: list[Any] = [PLAIN, (b"X-Odd", "text")]
        with pytest.raises(InvalidResponse) as caught:
            started(pair for pair in headers)
        assert str(caught.value) == "headers must be pairs of bytes, not (b'X-Odd', 'text')"

    @pytest.mark.parametrize("error", [ValueError, TypeError, AttributeError])
    def test_an_error_of_the_application_as_it_makes_them_stays_its_own(
        self, error: type[Exception]
    ) -> None:
        def headers() -> Iterator[tuple[bytes, bytes]]:
            yield PLAIN
            raise error("the database said no")

        with pytest.raises(error, match="the database said no"):
            started(headers())

    @pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
    def test_an_interim_status_is_refused(self, status) -> None:
        """Nginx takes the first head for the final one."""
        with pytest.raises(InvalidResponse, match="interim"):
            started(status=status)


class TestHopByHop:
    @pytest.mark.parametrize(
        "name",
        [
            b"Connection",
            b"Keep-Alive",
            b"Proxy-Authenticate",
            b"Proxy-Authorization",
            b"Proxy-Connection",
            b"TE",
            b"Trailer",
            b"Trailers",
            b"Transfer-Encoding",
            b"Upgrade",
        ],
    )
    def test_it_is_dropped_in_every_spelling(self, name) -> None:
        for spelling in (name, name.lower(), name.upper()):
            headers = [(b"X-Before", b"1"), (spelling, b"chunked"), (b"X-After", b"2")]
            assert header_lines(headers) == [b"X-Before: 1", b"X-After: 2"]

    def test_it_leaves_nothing_behind_in_the_framing(self) -> None:
        response = started([(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"5")])
        assert written(response, b"hello") == (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    def test_what_only_looks_like_it_stays(self) -> None:
        assert header_lines(
            [(b"X-Upgrade", b"1"), (b"Tea", b"2"), (b"Upgrade-Insecure", b"3")]
        ) == [
            b"X-Upgrade: 1",
            b"Tea: 2",
            b"Upgrade-Insecure: 3",
        ]


class TestContentLength:
    def test_as_many_bytes_as_promised_complete_the_answer(self) -> None:
        response = started([(b"Content-Length", b"5")])
        assert written(response, b"he", b"", b"llo").endswith(b"Content-Length: 5\r\n\r\nhello")
        assert response.is_complete
        assert response.excess_bytes == 0

    @pytest.mark.parametrize(
        "chunks",
        [(b"helloXY",), (b"hel", b"loXY"), (b"hello", b"XY"), (b"hello", b"X", b"", b"Y")],
    )
    def test_what_is_too_long_is_cut_and_counted(self, chunks) -> None:
        response = started([(b"Content-Length", b"5")])
        assert written(response, *chunks).endswith(b"Content-Length: 5\r\n\r\nhello")
        assert response.is_complete
        assert response.excess_bytes == 2

    def test_a_single_piece_that_is_too_long(self) -> None:
        response = started([(b"Content-Length", b"5")])
        (data,) = response.send(b"hello, world", last=True)
        assert bytes(data).endswith(b"Content-Length: 5\r\n\r\nhello")
        assert response.excess_bytes == 7

    def test_a_body_beyond_a_length_of_0_is_cut_off(self) -> None:
        response = started([(b"Content-Length", b"0")])
        assert response.send(b"x", last=True) == (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",)
        assert response.excess_bytes == 1

    @pytest.mark.parametrize("chunks", [(), (b"",), (b"hell",), (b"he", b"ll")])
    def test_what_is_too_short_is_told(self, chunks) -> None:
        response = started([(b"Content-Length", b"5")])
        for chunk in chunks:
            response.send(chunk)
        size = sum(map(len, chunks))
        with pytest.raises(IncompleteBody, match=f"has {size} bytes, its Content-Length is 5"):
            response.finish()
        assert not response.is_complete

    def test_a_single_piece_that_is_too_short_keeps_the_head_back(self) -> None:
        """So that a 500 can still be sent."""
        response = started([(b"Content-Length", b"5")])
        with pytest.raises(IncompleteBody, match="has 4 bytes, its Content-Length is 5"):
            response.send(b"hell", last=True)
        assert not response.is_head_sent
        assert not response.is_complete
        response.start(500, b"500 ", [])
        assert b"".join(response.send(b"oops", last=True)).startswith(b"HTTP/1.1 500 ")

    def test_a_last_piece_that_is_too_short_is_not_sent(self) -> None:
        response = started([(b"Content-Length", b"5")])
        response.send(b"he")
        with pytest.raises(IncompleteBody, match="has 4 bytes"):
            response.send(b"ll", last=True)
        assert response.is_head_sent
        assert not response.is_complete

    @pytest.mark.parametrize("method", ["GET", "POST", "get"])
    def test_it_is_added_for_a_single_piece(self, method) -> None:
        response = started([PLAIN], method=method)
        assert response.send(b"hello", last=True) == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        )
        assert response.is_complete

    def test_it_is_added_for_no_body_at_all(self) -> None:
        assert started().finish() == (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",)

    def test_it_is_not_added_to_a_stream(self) -> None:
        response = started()
        assert written(response, b"a", b"b") == b"HTTP/1.1 200 OK\r\n\r\nab"
        assert response.is_complete

    def test_it_is_not_added_twice(self) -> None:
        lines, body = split_head(
            b"".join(started([(b"content-length", b"5")]).send(b"hello", last=True))
        )
        assert lines[1:] == [b"content-length: 5"]
        assert body == b"hello"

    @pytest.mark.parametrize("others", [[b"5"], [b"5", b"5"], [b"05"], [b"000000000000000005"]])
    def test_equal_ones_become_one(self, others) -> None:
        headers = [(b"Content-Length", b"5"), *((b"content-length", other) for other in others)]
        assert header_lines(headers) == [b"Content-Length: 5"]

    def test_different_ones_are_refused(self) -> None:
        with pytest.raises(InvalidResponse, match="two Content-Length headers, 5 and 6"):
            started([(b"Content-Length", b"5"), (b"X", b"1"), (b"content-length", b"6")])

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"-1",
            b"+1",
            b" ",
            b"1 2",
            b"\v1",
            b"1_0",
            b"0x5",
            b"1.0",
            b"1,1",
            b"1\r\n",
            b"\xb2",
            "１".encode(),  # noqa: RUF001 - a digit, but not one of HTTP's
            b"five",
        ],
    )
    def test_what_is_not_a_plain_number(self, value) -> None:
        with pytest.raises(InvalidResponse, match=r"Content-Length is .*, not a decimal number"):
            started([(b"Content-Length", value)])

    @pytest.mark.parametrize("value", [b" 5", b"5 ", b"\t5\t", b" \t 5 \t "])
    def test_space_around_it_is_none_of_it(self, value) -> None:
        response = started([(b"Content-Length", value), (b"content-length", b"5")])
        assert written(response, b"hello") == (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    @pytest.mark.parametrize("digits", [19, 5000])
    def test_more_digits_than_any_size_has(self, digits) -> None:
        assert header_lines([(b"Content-Length", b"9" * 18)])
        with pytest.raises(InvalidResponse):
            started([(b"Content-Length", b"9" * digits)])


class TestAnswersWithoutBody:
    @pytest.mark.parametrize("status", [200, 301, 404, 500])
    def test_head_keeps_its_length_and_sends_nothing(self, status) -> None:
        response = started([(b"Content-Length", b"5")], status=status, method="HEAD")
        data = written(response, b"he", b"llo")
        assert data == b"HTTP/1.1 %b\r\nContent-Length: 5\r\n\r\n" % status_line(status)
        assert response.is_complete
        assert response.excess_bytes == 0

    def test_head_without_a_body_is_not_too_short(self) -> None:
        response = started([(b"Content-Length", b"5")], method="HEAD")
        assert response.finish() == (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",)
        assert response.is_complete

    @pytest.mark.parametrize("body", [b"hello", memoryview(b"hello"), b"x" * 100_000])
    def test_head_gets_the_length_that_get_has(self, body) -> None:
        """RFC 9110, section 9.3.2."""
        response = started([PLAIN], method="HEAD")
        (data,) = response.send(body, last=True)
        in_full = b"".join(started([PLAIN]).send(body, last=True))
        assert bytes(data) == in_full.removesuffix(bytes(body))
        assert b"Content-Length" in data
        assert response.is_complete
        assert response.body_bytes == 0

    def test_head_gets_no_length_of_ours_where_there_was_no_body(self) -> None:
        """The application may have left it out, so that a GET might have had another length."""
        (data,) = started(method="HEAD").send(b"", last=True)
        assert b"Content-Length" not in data

    def test_head_gets_no_length_of_a_streams_end(self) -> None:
        response = started(method="HEAD")
        (data,) = response.send(b"he")
        assert b"Content-Length" not in data
        assert response.send(b"llo", last=True) == ()

    def test_head_gets_no_length_of_what_another_replaces(self) -> None:
        response = started([(b"X-Accel-Redirect", b"/f")], method="HEAD")
        response.omit_body()
        assert response.send(b"ignored", last=True) == (
            b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /f\r\n\r\n",
        )

    @pytest.mark.parametrize("status", [204, 304])
    def test_head_gets_no_length_of_an_answer_without_a_body(self, status) -> None:
        (data,) = started(method="HEAD", status=status).send(b"ignored", last=True)
        assert data == b"HTTP/1.1 %b\r\n\r\n" % status_line(status)

    def test_only_the_exact_method_is_head(self) -> None:
        (data,) = started(method="head").send(b"x", last=True)
        assert bytes(data).endswith(b"\r\n\r\nx")

    @pytest.mark.parametrize("status", [204, 304])
    @pytest.mark.parametrize("body", [b"", b"ignored"])
    def test_204_and_304_have_no_body(self, status, body) -> None:
        single, stream = started([PLAIN], status=status), started([PLAIN], status=status)
        expected = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\n\r\n" % status_line(status)
        assert b"".join(single.send(body, last=True)) == expected
        assert written(stream, body) == expected
        assert single.is_complete
        assert stream.is_complete

    def test_204_has_no_length(self) -> None:
        """RFC 9110, section 8.6."""
        headers = [(b"Content-Length", b"0"), (b"X", b"1")]
        assert header_lines(headers, status=204) == [b"X: 1"]

    def test_304_keeps_the_length_of_what_it_stands_for(self) -> None:
        response = started([(b"Content-Length", b"1234")], status=304)
        assert written(response) == b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n"


class TestBuffers:
    @pytest.mark.parametrize("size", [0, 1, 4096, 16_384])
    def test_up_to_16_kib_the_body_is_joined_to_the_head(self, size) -> None:
        body = b"x" * size
        buffers = started([(b"Content-Length", b"%d" % size)]).send(body, last=True)
        assert len(buffers) == 1
        assert bytes(buffers[0]).endswith(b"\r\n\r\n" + body)

    def test_beyond_them_there_are_two(self) -> None:
        first, rest = started().send(b"x" * 16_385, last=True)
        assert bytes(first).endswith(b"\r\n\r\n" + b"x" * 4096)
        assert bytes(rest) == b"x" * (16_385 - 4096)

    @pytest.mark.parametrize("kind", [bytes, memoryview, bytearray])
    def test_a_large_first_piece_is_split_and_not_copied(self, kind) -> None:
        body = kind(bytes(range(256)) * 4096)
        first, rest = started().send(body, last=True)
        head, start = bytes(first).split(b"\r\n\r\n", 1)
        assert head.endswith(b"Content-Length: 1048576")
        assert start  # nginx before 1.31.0 wants the first bytes of the body with the head
        assert start + bytes(rest) == bytes(body)
        assert isinstance(rest, memoryview)
        assert rest.obj is (body.obj if isinstance(body, memoryview) else body)

    def test_a_later_piece_is_passed_on_as_it_is(self) -> None:
        response = started()
        response.send(b"x")
        body = b"y" * 1_000_000
        (buffer,) = response.send(body)
        assert buffer is body

    def test_a_piece_that_is_cut_is_split_like_any(self) -> None:
        body = b"x" * 300_000
        response = started([(b"Content-Length", b"200000")])
        buffers = response.send(body, last=True)
        assert split_head(b"".join(buffers))[1] == b"x" * 200_000
        assert response.excess_bytes == 100_000

    def test_none_of_them_is_empty(self) -> None:
        response = started([(b"Content-Length", b"2")])
        assert response.send(b"ab")
        assert response.send(b"") == ()
        assert response.send(b"cut") == ()
        assert response.finish() == ()

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(memoryview(array.array("I", [1, 2, 3])), id="larger items"),
            pytest.param(memoryview(b"abcdef")[::2], id="every second byte"),
            pytest.param(memoryview(bytes(6)).cast("B", (2, 3)), id="two dimensions"),
        ],
    )
    def test_a_view_of_any_kind_is_counted_in_bytes(self, body) -> None:
        lines, sent = split_head(b"".join(started().send(body, last=True)))
        assert sent == body.tobytes()
        assert lines[1:] == [b"Content-Length: %d" % len(sent)]

    def test_after_the_end_nothing_more_leaves(self) -> None:
        """It would stand beyond the Content-Length that was announced."""
        response = started()
        response.send(b"all", last=True)
        with suppress(InvalidResponse):  # to refuse it is as good as to swallow it
            assert response.send(b"more") == ()


class TestBodyByOtherMeans:
    """A file that the kernel sends: the same counting, without the bytes passing through."""

    def test_its_length_becomes_that_of_the_answer(self) -> None:
        response = started([PLAIN])
        assert response.allow(5) == 5
        assert response.send(b"") == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n",
        )
        response.sent_elsewhere(3)
        response.sent_elsewhere(2)
        assert response.finish() == ()
        assert response.is_complete
        assert response.body_bytes == 5

    @pytest.mark.parametrize(("available", "allowed"), [(4, 4), (5, 5), (6, 5), (1000, 5), (0, 0)])
    def test_a_promised_length_is_the_most(self, available, allowed) -> None:
        response = started([(b"Content-Length", b"5")])
        assert response.allow(available) == allowed
        assert split_head(b"".join(response.send(b"")))[0][1:] == [b"Content-Length: 5"]

    def test_what_was_sent_before_counts(self) -> None:
        response = started([(b"Content-Length", b"5")])
        response.send(b"he")
        assert response.allow(1000) == 3

    def test_too_little_is_told(self) -> None:
        response = started()
        response.allow(5)
        response.send(b"")
        response.sent_elsewhere(4)
        with pytest.raises(IncompleteBody, match="has 4 bytes, its Content-Length is 5"):
            response.finish()

    def test_in_a_stream_it_has_any_length(self) -> None:
        response = started()
        response.send(b"begun")
        assert response.allow(1000) == 1000
        response.sent_elsewhere(10)
        assert response.finish() == ()
        assert response.body_bytes == 15

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 204), ("GET", 204), ("GET", 304)])
    def test_none_where_there_is_no_body(self, method, status) -> None:
        response = started(method=method, status=status)
        assert response.allow(1000) == 0
        assert written(response) == b"HTTP/1.1 %b\r\n\r\n" % status_line(status)
        assert response.body_bytes == 0

    def test_head_has_the_length_that_get_has(self) -> None:
        response = started(method="HEAD")
        assert response.allow(1000) == 0
        assert written(response) == b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        assert response.body_bytes == 0

    def test_head_has_no_length_of_a_part(self) -> None:
        response = started(method="HEAD")
        assert response.allow(1000, last=False) == 0
        assert b"Content-Length" not in written(response)

    def test_no_body_is_allowed_before_the_head(self) -> None:
        with pytest.raises(InvalidResponse, match="before the head"):
            Response("GET").allow(1)

    def test_a_body_that_another_takes_care_of_is_left_out(self) -> None:
        """As after X-Accel-Redirect."""
        response = started([(b"X-Accel-Redirect", b"/f"), (b"Content-Length", b"5")])
        response.omit_body()
        head, body = split_head(written(response, b"ignored"))
        assert body == b""
        assert head[1:] == [b"X-Accel-Redirect: /f", b"Content-Length: 5"]
        assert response.is_complete
        assert response.excess_bytes == 0

    def test_what_has_left_is_counted(self) -> None:
        response = started([(b"Content-Length", b"5")])
        assert response.body_bytes == 0
        response.send(b"he")
        assert response.body_bytes == 2
        response.send(b"llo, world")
        assert response.body_bytes == 5


class TestStreamOfLines:
    @pytest.mark.parametrize(
        "content_type",
        [
            b"text/event-stream",
            b"text/event-stream; charset=utf-8",
            b"Text/Event-Stream",
            b"application/x-ndjson",
            b'multipart/mixed;boundary="graphql";subscriptionSpec="1.0,application/json"',
            b"application/ndjson;charset=utf-8",
            b"application/jsonl",
            b"application/json-seq",
            b"application/geo+json-seq",
            b"application/stream+json",
            b"multipart/x-mixed-replace; boundary=frame",
        ],
    )
    def test_it_is_not_held_back_by_nginx(self, content_type) -> None:
        assert header_lines([(b"content-type", content_type), (b"X", b"1")]) == [
            b"content-type: " + content_type,
            b"X: 1",
            b"X-Accel-Buffering: no",
        ]

    @pytest.mark.parametrize("name", [b"X-Accel-Buffering", b"x-accel-buffering"])
    def test_unless_the_application_says_so(self, name) -> None:
        type_header = (b"Content-Type", b"text/event-stream")
        for headers in ([type_header, (name, b"yes")], [(name, b"yes"), type_header]):
            assert sorted(header_lines(headers)) == [
                b"Content-Type: text/event-stream",
                name + b": yes",
            ]

    @pytest.mark.parametrize(
        "content_type",
        [
            b"text/plain",
            b"text/event",
            b"",
            b"x/event-stream",
            b"application/json",
            b";",
            b"x" * 500,
        ],
    )
    def test_other_types_are_buffered(self, content_type) -> None:
        for _ in range(2):  # the second time, it is remembered
            lines = header_lines([(b"Content-Type", content_type)])
            assert lines == [b"Content-Type: " + content_type]

    @pytest.mark.parametrize("length", [(b"Content-Length", b"6"), None])
    def test_what_is_there_as_a_whole_is_buffered(self, length) -> None:
        """Nothing waits for its end: Nginx may take it at once."""
        response = started([(b"Content-Type", b"application/jsonl"), *([length] if length else [])])
        head = b"".join(response.send(b"[1, 2]", last=True)).partition(b"\r\n\r\n")[0]
        assert b"X-Accel-Buffering" not in head
        assert b"Content-Length: 6" in head

    def test_a_replaced_head_says_nothing_of_it(self) -> None:
        response = started([(b"Content-Type", b"application/jsonl")])
        response.start(500, b"500 Internal Server Error", [PLAIN])
        assert b"X-Accel" not in b"".join(response.send(b"sorry"))


class TestHeadOfUnknownLength:
    """Nginx with uwsgi_cache keeps the empty body for GET, unless it is told not to."""

    UNKNOWN = b"X-Accel-Expires: 0"

    @pytest.mark.parametrize("status", [200, 301, 404, 500])
    def test_it_is_kept_out_of_caches(self, status) -> None:
        response = Response("HEAD")
        response.start(status, status_line(status), [PLAIN])
        lines = b"".join(response.finish()).split(b"\r\n")
        assert lines.count(self.UNKNOWN) == 1

    def test_head_of_a_body_in_pieces_is_kept_out_of_caches_too(self) -> None:
        response = started([PLAIN], method="HEAD")
        assert self.UNKNOWN in b"".join([*response.send(b"a"), *response.send(b"b", last=True)])

    @pytest.mark.parametrize(
        "headers",
        [[(b"Content-Length", b"5")], [(b"x-accel-expires", b"60")]],
        ids=["length", "own"],
    )
    def test_not_where_its_length_is_told_or_the_application_says_how_long(self, headers) -> None:
        assert self.UNKNOWN not in b"".join(started(headers, method="HEAD").finish())

    def test_not_where_the_body_tells_its_length(self) -> None:
        sent = b"".join(started([PLAIN], method="HEAD").send(b"12345", last=True))
        assert b"Content-Length: 5" in sent
        assert self.UNKNOWN not in sent
        response = started([PLAIN], method="HEAD")
        assert response.allow(1000) == 0
        assert self.UNKNOWN not in b"".join(response.send(b"", last=True))

    @pytest.mark.parametrize("status", [204, 304])
    def test_not_where_there_is_no_body_for_get_either(self, status) -> None:
        response = Response("HEAD")
        response.start(status, status_line(status), [])
        assert self.UNKNOWN not in b"".join(response.finish())

    def test_answers_to_other_methods_may_be_kept_in_caches(self) -> None:
        assert self.UNKNOWN not in b"".join(started([PLAIN]).send(b""))
