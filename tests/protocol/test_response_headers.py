"""Heads: which content types are remembered, and those in which no header means anything to us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.response_headers import (
    LINES,
    encode_head,
    encode_lines,
    known_stream_kinds,
)


class TestEncodeHead:
    def test_boundaries_leave_room_for_other_content_types(self) -> None:
        def head(content_type: bytes) -> Any:
            return encode_head(200, b"200 OK", [(b"Content-Type", content_type)])

        for number in range(1100):
            head(b"multipart/byteranges; Boundary=%d" % number)
        head(b"text/x-new")
        assert b"text/x-new" in known_stream_kinds
        # What is not remembered has its kind all the same.
        assert head(b"multipart/x-mixed-replace; boundary=frame")[2] == LINES


class TestEncodeLines:
    """A head in which no header means anything to us: that of a tunnel."""

    def test_nothing_is_dropped_or_added(self) -> None:
        headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"TE", b"")]
        assert encode_lines(b"101 Switching Protocols", headers) == (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nTE: \r\n\r\n"
        )

    def test_no_headers_give_the_status_line_alone(self) -> None:
        assert encode_lines(b"200 OK", []) == b"HTTP/1.1 200 OK\r\n\r\n"

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"X", b"a\r\nSet-Cookie: b=1")],
            [(b"X", b"a\nb")],
            [(b"X", b"a\rb")],
            [(b"X", b"a\0b")],
            [(b"X", b"\r"), (b"Y", b"\n")],
            [(b"X\r\nY", b"1")],
            [(b"", b"1")],
            [(b"X Y", b"1")],
            [("X", "1")],
            [(b"X", "1")],
            [(b"X", None)],
            [(b"X",)],
            None,
        ],
    )
    def test_what_must_not_leave(self, headers: Any) -> None:
        with pytest.raises(InvalidResponse):
            encode_lines(b"101 Switching Protocols", headers)

    def test_an_error_of_the_application_as_it_makes_them_stays_its_own(self) -> None:
        def headers() -> Iterator[tuple[bytes, bytes]]:
            yield b"X", b"1"
            raise ValueError("the database said no")

        with pytest.raises(ValueError, match="the database said no"):
            encode_lines(b"101 Switching Protocols", headers())

    def test_a_type_derived_from_bytes_that_does_not_behave_is_named(self) -> None:
        class Length(bytes):
            def strip(self, _: Any = None) -> Any:
                return None

        with pytest.raises(InvalidResponse) as caught:
            encode_head(200, b"200 OK", [(b"Content-Length", Length(b"1"))])
        assert str(caught.value) == "headers must be pairs of bytes, not of Length and bytes"

    def test_a_status_line_with_a_break(self) -> None:
        with pytest.raises(InvalidResponse):
            encode_lines(b"101 Switching\r\nX: y", [])
