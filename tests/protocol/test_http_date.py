"""Dates of HTTP in all their forms."""

from __future__ import annotations

import locale

import pytest

from uwsgibridge.protocol.http_date import format_date, parse_date

# RFC 9110, section 5.6.7, has this moment in its three forms.
EXAMPLE = 784_111_777


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "  Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_each_form_is_read(text: str) -> None:
    assert parse_date(text) == EXAMPLE


def test_date_is_written_as_clients_have_to_read_it() -> None:
    assert format_date(EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert format_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize("seconds", [0, EXAMPLE, 951_782_400, 4_102_444_799, 253_402_300_799])
def test_what_is_written_is_read_again(seconds: int) -> None:
    assert parse_date(format_date(seconds)) == seconds


@pytest.mark.parametrize(("seconds", "text"), [(-1, "1970"), (10**15, "9999")])
def test_file_of_another_age_has_a_date(seconds: int, text: str) -> None:
    """Anybody may set the time of a file of their own to anything."""
    assert text in format_date(seconds)


@pytest.mark.parametrize(("year", "full"), [("69", 2069), ("70", 1970), ("99", 1999), ("00", 2000)])
def test_year_of_two_digits(year: str, full: int) -> None:
    seconds = parse_date(f"Sunday, 06-Nov-{year} 08:49:37 GMT")
    assert seconds is not None
    assert f" {full} " in format_date(seconds)


def test_leap_second_is_a_second() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == 1_483_228_799


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "yesterday",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT; x",
        "Sun, 06 Nov 1994 08:49:37 GMT" * 1000,
        "Sun, \N{ARABIC-INDIC DIGIT ZERO}6 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_locale_changes_nothing() -> None:
    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "C.UTF-8"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
    try:
        assert format_date(EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"
    finally:
        locale.setlocale(locale.LC_ALL, before)
