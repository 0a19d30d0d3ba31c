"""The status of an answer: what is taken, what is refused, and what is remembered of it."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Any

import pytest

from tests.protocol.test_response import remembers_less_than
from uwsgibridge.protocol import status as status_module
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.status import parse_status, status_line


class Texts(StrEnum):
    FINE = "298 Fine"
    BAD = "20"


class TestParseStatus:
    @pytest.mark.parametrize(
        ("text", "code", "line"),
        [
            ("200 OK", 200, b"200 OK"),
            ("404 Not Found", 404, b"404 Not Found"),
            ("200", 200, b"200 "),
            ("200 ", 200, b"200 "),
            ("299 Mine\tand yours", 299, b"299 Mine\tand yours"),
            ("999 \xe9", 999, b"999 \xe9"),
            ("100 Continue", 100, b"100 Continue"),
        ],
    )
    def test_a_good_status_is_parsed(self, text, code, line) -> None:
        assert parse_status(text) == (code, line)
        assert parse_status(text) == (code, line)  # remembered, and the same

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "OK",
            "20",
            "2000",
            "200OK",
            "200\tOK",
            " 200 OK",
            "099 Low",
            "000 Zero",
            "+20 OK",
            "-20 OK",
            "２00 OK",  # noqa: RUF001 - a digit, but not one of HTTP's
            "200 OK\r\nX: y",
            "200 OK\n",
            "200\n",
            "200 \0",
            "200 \x7f",
            "200 €",
        ],
    )
    def test_a_bad_status_is_refused(self, text) -> None:
        with pytest.raises(InvalidResponse) as caught:
            parse_status(text)
        assert repr(text) in str(caught.value)
        with pytest.raises(InvalidResponse):
            parse_status(text)

    def test_a_member_of_an_enum_of_texts(self) -> None:
        for _ in range(2):
            assert parse_status(Texts.FINE) == (298, b"298 Fine")
        assert {type(text) for text in status_module.known_statuses} == {str}
        with pytest.raises(InvalidResponse, match="the status '20' is not of the form"):
            parse_status(Texts.BAD)

    @pytest.mark.parametrize("value", [200, b"200 OK", None, 200.0, ["200 OK"], HTTPStatus.OK])
    def test_what_is_not_text(self, value: Any) -> None:
        with pytest.raises(InvalidResponse, match="must be a str such as '200 OK'"):
            parse_status(value)

    def test_the_verdict_does_not_depend_on_what_came_before(self) -> None:
        class Text(str):
            __slots__ = ()

        def verdict(text: str) -> object:
            try:
                return parse_status(text)
            except InvalidResponse:
                return InvalidResponse

        before = verdict(Text("233 Asked Before"))
        parse_status("233 Asked Before")
        assert verdict(Text("233 Asked Before")) == before

    def test_many_different_ones_are_not_all_kept(self) -> None:
        def parse_many(start: int) -> None:
            for number in range(start, start + 2000):
                text = f"200 {number}"
                assert parse_status(text) == (200, text.encode())

        parse_many(0)
        parse_many(0)
        with remembers_less_than(20_000):
            parse_many(2000)

    def test_long_ones_are_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(status_module, "known_statuses", {})

        def parse_many(start: int) -> None:
            for number in range(start, start + 100):
                text = f"200 {number}" + "x" * 20_000
                assert parse_status(text) == (200, text.encode())

        parse_many(0)
        with remembers_less_than(20_000):
            parse_many(100)


class TestStatusLine:
    @pytest.mark.parametrize(
        ("status", "line"),
        [
            (200, b"200 OK"),
            (HTTPStatus.NOT_FOUND, b"404 Not Found"),
            (431, b"431 Request Header Fields Too Large"),
            (100, b"100 Continue"),
            (299, b"299 "),
            (999, b"999 "),
        ],
    )
    def test_a_good_status_is_written(self, status, line) -> None:
        assert status_line(status) == line
        assert status_line(status) == line

    @pytest.mark.parametrize("status", [0, 99, 1000, -200, True, "200", None, 2.5, [200]])
    def test_a_bad_number_is_refused(self, status: Any) -> None:
        with pytest.raises(InvalidResponse, match="the status must be an integer"):
            status_line(status)

    def test_the_verdict_does_not_depend_on_what_came_before(self) -> None:
        number: Any = 234.0

        def verdict() -> object:
            try:
                return status_line(number)
            except InvalidResponse:
                return InvalidResponse

        before = verdict()
        status_line(234)
        assert verdict() == before
