"""Functions that an application has registered to be run by time, and when each is due.

A cron has uWSGI's five numbers: minute, hour, day of the month, month, day of the week. A number from 0 on has to be
that of the time; -1 is any, and -N every N. Where both days are numbers, one of them is enough (crontab(5), and
`uwsgi_cron_task_needs_execution` in uWSGI's core/master_utils.c).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

SIGNALS: Final = range(256)
SECONDS_PER_MINUTE: Final = 60

# How many minutes back crons are looked for, after a function that has taken long, or a reload.
MOST_MINUTES_LATE: Final = 60

# The week's day that is Sunday as well, as in crontab(5).
_SUNDAY_TOO: Final = 7


@dataclass(frozen=True, slots=True)
class Cron:
    """A signal that is due at certain minutes.

    Attributes:
        signal: its number.
        minute, hour, day, month, weekday: as in the module's docstring; January is 1, and Sunday 0.
    """

    signal: int
    minute: int
    hour: int
    day: int
    month: int
    weekday: int

    def is_due(self, now: time.struct_time) -> bool:
        """Whether it is due in a minute of local time."""
        weekday = 0 if self.weekday == _SUNDAY_TOO else self.weekday
        # `tm_wday` counts from Monday on; uWSGI, as C, from Sunday.
        is_weekday = _fits(weekday, (now.tm_wday + 1) % 7)
        is_day = _fits(self.day, now.tm_mday)
        is_date = (
            is_day or is_weekday if self.day >= 0 and self.weekday >= 0 else is_day and is_weekday
        )
        return (
            is_date
            and _fits(self.minute, now.tm_min)
            and _fits(self.hour, now.tm_hour)
            and _fits(self.month, now.tm_mon)
        )


def _fits(wanted: int, found: int) -> bool:
    return found == wanted if wanted >= 0 else found % -wanted == 0


@dataclass(slots=True)
class Timer:
    """A signal that is due again and again.

    Attributes:
        signal: its number.
        seconds: between two times.
        left: how many times are left; None for no end.
        due_at: the next time, of `time.monotonic`.
    """

    signal: int
    seconds: float
    left: int | None = None
    due_at: float = 0.0


@dataclass(slots=True)
class Schedule:
    """All that an application has registered in this process.

    Attributes:
        functions: by the number of their signal.
        timers, crons: in the order in which they were registered.
    """

    functions: dict[int, Callable[[int], object]] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)
    crons: list[Cron] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be run."""
        return not self.timers and not self.crons

    def start(self, now: float) -> None:
        """Have each timer due for the first time after its seconds.

        Args:
            now: of `time.monotonic`.
        """
        for timer in self.timers:
            timer.due_at = now + timer.seconds

    def due_timers(self, now: float) -> list[int]:
        """Take the signals of the timers that are due. One that is late by several times is due once.

        Args:
            now: of `time.monotonic`.
        """
        due = []
        for timer in self.timers:
            if timer.left != 0 and timer.due_at <= now:
                due.append(timer.signal)
                missed = int((now - timer.due_at) // timer.seconds)
                timer.due_at += timer.seconds * (missed + 1)
                if timer.left is not None:
                    timer.left -= 1
        return due

    def due_crons(self, minutes: Iterable[int]) -> list[int]:
        """Give the signals of the crons that are due in one of some minutes, each once.

        Args:
            minutes: since the epoch.
        """
        times = [time.localtime(it * SECONDS_PER_MINUTE) for it in minutes]
        return [cron.signal for cron in self.crons if any(map(cron.is_due, times))]

    def next_timer_at(self) -> float | None:
        """Tell when the next timer is due, of `time.monotonic`; None where there is none."""
        return min((it.due_at for it in self.timers if it.left != 0), default=None)
