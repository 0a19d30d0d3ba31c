"""Dates of HTTP (RFC 9110, section 5.6.7), which neither the locale nor the time zone of the process changes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

# The last second of the year 9999. The form has four digits for the year.
_LAST_SECOND: Final = 253_402_300_799

_TIME: Final = r"(?P<hour>[0-9][0-9]):(?P<minute>[0-9][0-9]):(?P<second>[0-9][0-9])"
_FORMS: Final = (
    re.compile(
        rf"[A-Z][a-z]{{2}}, (?P<day>[0-9][0-9]) (?P<month>[A-Z][a-z]{{2}}) (?P<year>[0-9]{{4}}) {_TIME} GMT"
    ),
    # The form of RFC 850, and that of C's asctime; old clients send them.
    re.compile(
        rf"[A-Z][a-z]{{5,8}}, (?P<day>[0-9][0-9])-(?P<month>[A-Z][a-z]{{2}})-(?P<year>[0-9][0-9]) {_TIME} GMT"
    ),
    re.compile(
        rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"
    ),
)

# Years of two digits from this one on are of the last century.
_FIRST_OF_LAST_CENTURY: Final = 70


def format_date(seconds: int) -> str:
    """Write a time as ``Sun, 06 Nov 1994 08:49:37 GMT``.

    Args:
        seconds: since 1970; a time before 1970 or after 9999 is written as the first or the last second.
    """
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LAST_SECOND), UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment.year:04} "
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02} GMT"
    )


def parse_date(text: str) -> int | None:
    """Read a date in one of the three forms.

    Returns:
        Seconds since 1970; None where the text is no such date.
    """
    text = text.strip()
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is None or found["month"] not in _MONTHS:
            continue
        year = int(found["year"])
        if len(found["year"]) == 2:
            year += 1900 if year >= _FIRST_OF_LAST_CENTURY else 2000
        try:
            moment = datetime(
                year,
                _MONTHS.index(found["month"]) + 1,
                int(found["day"]),
                int(found["hour"]),
                int(found["minute"]),
                min(int(found["second"]), 59),  # a leap second
                tzinfo=UTC,
            )
        except ValueError:
            return None
        return int(moment.timestamp())
    return None
