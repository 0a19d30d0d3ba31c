"""Sizes and times as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.config.units import parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65_536),
        ("0", 0),
        ("-1", -1),  # its bound is checked elsewhere
        ("64k", 65_536),
        ("64K", 65_536),
        ("64ki", 65_536),
        ("64KiB", 65_536),
        ("64 KiB", 65_536),
        (" 64k ", 65_536),
        ("256M", 268_435_456),
        ("1GiB", 1_073_741_824),
        ("1.5g", 1_610_612_736),
        ("2T", 2_199_023_255_552),
        ("512b", 512),
        ("512B", 512),
        ("0.5k", 512),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "x", "64x", "64 k b", "1,5k", "1e3", "0x10", "64kk", "-1k", "nan", "9" * 5000, "64  k"]
)  # fmt: skip
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"is no size: write a number of bytes, or one with k, M, G or T"
    ):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "instead"), [("64kB", "64k"), ("1 GB", "1G"), ("5mb", "5m")])
def test_sizes_that_programs_read_differently(text: str, instead: str) -> None:
    with pytest.raises(ValueError, match=rf"'{text}' may mean 1000s or 1024s: write {instead} for"):
        parse_bytes(text)


def test_part_of_a_byte() -> None:
    with pytest.raises(ValueError, match=r"'0.3k' is no whole number of bytes"):
        parse_bytes("0.3k")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("1e2", 100),
        ("500ms", 0.5),
        ("500 ms", 0.5),
        ("1ms", 0.001),
        ("30s", 30),
        ("30sec", 30),
        ("2m", 120),
        ("2min", 120),
        ("1.5h", 5400),
        ("1d", 86_400),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


def test_bounds_of_a_time_are_checked_elsewhere() -> None:
    assert parse_seconds("-1") == -1
    assert parse_seconds("inf") == math.inf
    assert math.isnan(parse_seconds("nan"))


@pytest.mark.parametrize(
    "text", ["", "s", "30x", "30S", "1M", "1m30s", "-1s", "1 m 3", "1:30", "5y"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"is no time: write a number of seconds, or one with ms, s, m, h or d"
    ):
        parse_seconds(text)


@given(st.text(alphabet="0123456789.kKmMgGiIbBsh -+e\N{ARABIC-INDIC DIGIT ONE}\0", max_size=20))
def test_each_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    for parse in (parse_bytes, parse_seconds):
        try:
            parse(text)
        except ValueError as error:
            assert str(error).startswith(repr(text))  # noqa: PT017 - most texts are refused
