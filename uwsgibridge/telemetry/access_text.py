"""Texts of clients and times, as lines of the access log have them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

# A pipe takes a write of up to this size as one piece, whoever else writes to it (PIPE_BUF of Linux).
MAX_LINE_BYTES: Final = 4096

# The months' names in the Common Log Format; strftime's %b would follow the process's locale.
MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

_CUT_MARK: Final = "..."


def escape(text: str) -> str:
    """Escape a client's bytes that would end the field or the line (as Apache's mod_log_config does)."""
    # Most texts need no escape, and this look takes half the time of escaping.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')


def cut(text: str, most_bytes: int, escape: Callable[[str], str]) -> str:
    """Shorten a text so that it has no more than so many bytes when it is escaped; mark the cut."""
    start = text[:most_bytes]
    if len(start) == len(text) and len(escape(text)) <= most_bytes:
        return text
    room = most_bytes - len(_CUT_MARK)
    ends = range(len(start) + 1)
    return (
        start[: bisect_right(ends, room, key=lambda end: len(escape(start[:end]))) - 1] + _CUT_MARK
    )


def clf_time(seconds: float) -> str:
    """Write a time as the Common Log Format has it."""
    now = time.localtime(seconds)
    offset = now.tm_gmtoff // 60
    sign = "-" if offset < 0 else "+"
    return (
        f"{now.tm_mday:02}/{MONTHS[now.tm_mon - 1]}/{now.tm_year}:"
        f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02} "
        f"{sign}{abs(offset) // 60:02}{abs(offset) % 60:02}"
    )


class TimeOfLines:
    """Gives a time as text, which is made once a second: making it takes longer than writing a line.

    Args:
        write: makes the text of a time in seconds.
    """

    def __init__(self, write: Callable[[float], str]) -> None:
        self._write = write
        # Second and text in one tuple, so that another thread never sees one without the other.
        self._last = (-1, "")

    def now(self) -> str:
        """Give the present time; from any thread."""
        return self.at(int(time.time()))

    def at(self, now: int) -> str:
        """Give a time in whole seconds; from any thread."""
        second, text = self._last
        if second != now:
            text = self._write(now)
            self._last = (now, text)
        return text
