"""Conditions and ranges of requests for files: RFC 9110, sections 13 and 14."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.protocol.conditions import Part, Validators, choose_part
from uwsgibridge.protocol.http_date import format_date

SIZE = 1000
MODIFIED = 1_700_000_000
FILE = Validators('"abc"', MODIFIED)
SAME, EARLIER, LATER = (format_date(MODIFIED + it) for it in (0, -1, 1))
WHOLE = Part(200, 0, SIZE)
NOT_MODIFIED = Part(304, 0, 0)
FAILED = Part(412, 0, 0)
UNSATISFIABLE = Part(416, 0, 0)


def chosen(size_bytes: int = SIZE, method: str = "GET", **headers: str) -> Part:
    variables = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return choose_part({"REQUEST_METHOD": method, **variables}, FILE, size_bytes)


def test_without_conditions_all_is_sent() -> None:
    assert chosen() == WHOLE
    assert chosen(0) == Part(200, 0, 0)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ('"abc"', NOT_MODIFIED),
        ('W/"abc"', NOT_MODIFIED),
        ('"x", "abc"', NOT_MODIFIED),
        ('"x","abc"', NOT_MODIFIED),
        ('"x,y", W/"abc"', NOT_MODIFIED),
        ("*", NOT_MODIFIED),
        (" * ", NOT_MODIFIED),
        ('"x"', WHOLE),
        ("abc", WHOLE),
        ('"abc', WHOLE),
        ("", WHOLE),
        ('"xabc"', WHOLE),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_compares_weakly(tags: str, expected: Part, method: str) -> None:
    assert chosen(if_none_match=tags, method=method) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ('"abc"', WHOLE),
        ('"x", "abc"', WHOLE),
        ("*", WHOLE),
        ('"x"', FAILED),
        ('W/"abc"', FAILED),
        ("", FAILED),
    ],
)
def test_if_match_compares_strongly(tags: str, expected: Part) -> None:
    assert chosen(if_match=tags) == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (SAME, NOT_MODIFIED),
        (LATER, NOT_MODIFIED),
        (EARLIER, WHOLE),
        ("yesterday", WHOLE),
        ("", WHOLE),
    ],
)
def test_if_modified_since(date: str, expected: Part) -> None:
    assert chosen(if_modified_since=date) == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [(SAME, WHOLE), (LATER, WHOLE), (EARLIER, FAILED), ("yesterday", WHOLE), ("", WHOLE)],
)
def test_if_unmodified_since(date: str, expected: Part) -> None:
    assert chosen(if_unmodified_since=date) == expected


def test_order_of_conditions() -> None:
    """Section 13.2.2."""
    # A tag overrules a date of the same kind.
    assert chosen(if_none_match='"x"', if_modified_since=LATER) == WHOLE
    assert chosen(if_match='"abc"', if_unmodified_since=EARLIER) == WHOLE
    # What the client has changed comes before what it has.
    assert chosen(if_match='"x"', if_none_match='"abc"') == FAILED
    assert chosen(if_match='"abc"', if_none_match='"abc"') == NOT_MODIFIED
    assert chosen(if_unmodified_since=EARLIER, if_none_match='"abc"') == FAILED
    # The range comes last.
    assert chosen(if_none_match='"abc"', range="bytes=0-1") == NOT_MODIFIED
    assert chosen(if_match='"x"', range="bytes=5000-") == FAILED


@pytest.mark.parametrize(
    ("asked", "first", "size_bytes"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 500),
        ("bytes=500-", 500, 500),
        ("bytes=999-", 999, 1),
        ("bytes=0-5000", 0, 1000),
        ("bytes=-1", 999, 1),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=0-999999999999999999", 0, 1000),
        ("Bytes = 0 - 9 ", 0, 10),
    ],
)
def test_range(asked: str, first: int, size_bytes: int) -> None:
    assert chosen(range=asked) == Part(206, first, size_bytes)


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_range_behind_the_end(asked: str) -> None:
    assert chosen(range=asked) == UNSATISFIABLE


def test_no_part_of_an_empty_file_can_be_had() -> None:
    assert chosen(0, range="bytes=0-") == UNSATISFIABLE
    assert chosen(0, range="bytes=-1") == UNSATISFIABLE


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0-1,5-6",
        "items=0-1",
        "bytes=0-1x",
        "bytes=--1",
        "bytes=0-" + "9" * 30,
        "bytes=" + "9" * 30 + "-",
        "bytes=\N{ARABIC-INDIC DIGIT ONE}-",
    ],
)
def test_what_is_no_single_range_gets_the_whole_file(asked: str) -> None:
    assert chosen(range=asked) == WHOLE


def test_head_has_no_ranges() -> None:
    assert chosen(method="HEAD", range="bytes=0-1") == WHOLE


@pytest.mark.parametrize(
    ("condition", "is_part"),
    [
        ('"abc"', True),
        (' "abc" ', True),
        (SAME, True),
        ('"x"', False),
        ('W/"abc"', False),
        (EARLIER, False),
        (LATER, False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_if_range(condition: str, is_part: bool) -> None:
    expected = Part(206, 0, 10) if is_part else WHOLE
    assert chosen(range="bytes=0-9", if_range=condition) == expected


def test_if_range_without_a_range_is_nothing() -> None:
    assert chosen(if_range='"x"') == WHOLE


TEXTS = st.sampled_from(
    [
        *('"abc"', 'W/"abc"', "*", SAME, EARLIER, LATER),
        *("bytes=0-", "bytes=-1", "bytes=5-9", "bytes=9-5", "bytes=29-", "bytes=30-", "bytes=0-99"),
    ]
) | st.text(max_size=20)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "if_match",
                "if_none_match",
                "if_modified_since",
                "if_unmodified_since",
                "if_range",
                "range",
            ]
        ),
        TEXTS,
    ),
    st.integers(0, 30),
    st.sampled_from(["GET", "HEAD"]),
)
def test_part_is_always_within_the_file(headers: dict[str, str], size: int, method: str) -> None:
    part = chosen(size, method, **headers)
    assert part.status in {200, 206, 304, 412, 416}
    assert part.first >= 0
    assert part.first + part.size_bytes <= size
    assert (part.status == 206) <= (part.size_bytes > 0)
    assert (part.status == 200) <= (part.size_bytes == size)
