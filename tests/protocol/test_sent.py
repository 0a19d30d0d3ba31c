"""When the frontend has sent a request."""

from __future__ import annotations

import pytest

from uwsgibridge.protocol.sent import SENT_VAR, read_moment, seconds_since_sent

NOW = 1_800_000_000.25


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1800000000.123", 1_800_000_000.123),
        ("0.000", 0.0),
        ("999999999999.999", 999_999_999_999.999),
    ],
)
def test_a_moment_is_written_as_nginx_writes_it(text: str, moment: float) -> None:
    assert read_moment(text) == moment


NO_MOMENTS = [
    "", ".", ".123", "1.12", "1800000000", "1800000000.", "1800000000.12", "1800000000.1234", "1800000000,123",
    "-1800000000.123", "+1800000000.123", " 1800000000.123", "1800000000.123\n", "1800000000.1 3", "18e8", "nan",
    "inf", "1_800_000_000.123", "t=1800000000.123", "1800000000.²23", "9999999999999.000", "$msec",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_MOMENTS)
def test_what_is_written_in_another_way_is_no_moment(text: str) -> None:
    assert read_moment(text) is None
    assert seconds_since_sent({SENT_VAR: text}, NOW) is None


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("1800000000.000", 0.25),
        ("1799999990.250", 10.0),
        ("1800000000.250", 0.0),
        ("1800000001.250", 0.0),  # a second ahead
        ("1800000001.251", None),
        ("1799913600.250", 86_400.0),
        ("1799913600.249", None),
        ("0.000", None),
    ],
)
def test_an_age_is_not_negative_and_less_than_a_day(sent: str, seconds: float | None) -> None:
    assert seconds_since_sent({SENT_VAR: sent}, NOW) == seconds


def test_without_the_var_there_is_no_age() -> None:
    assert seconds_since_sent({}, NOW) is None
