"""When timers and crons are due, as uWSGI has it."""

from __future__ import annotations

import time

import pytest

from uwsgibridge.uwsgi_module.schedule import Cron, Schedule, Timer

# Sunday, the first of November 2026, 02:59 local time.
SUNDAY = time.struct_time((2026, 11, 1, 2, 59, 0, 6, 305, -1))
MONDAY = time.struct_time((2026, 11, 2, 3, 10, 0, 0, 306, -1))
JANUARY = time.struct_time((2026, 1, 6, 0, 0, 0, 1, 6, -1))


@pytest.mark.parametrize(
    ("numbers", "now", "is_due"),
    [
        ((-1, -1, -1, -1, -1), SUNDAY, True),
        ((59, 2, -1, -1, -1), SUNDAY, True),
        ((59, 2, -1, -1, -1), MONDAY, False),
        ((59, 3, -1, -1, -1), SUNDAY, False),
        # -N is every N.
        ((-5, -1, -1, -1, -1), MONDAY, True),
        ((-5, -1, -1, -1, -1), SUNDAY, False),
        ((10, -3, -1, -1, -1), MONDAY, True),
        ((-1, -2, -1, -1, -1), MONDAY, False),
        # Months are counted from 1 on, in both forms.
        ((-1, -1, -1, 11, -1), SUNDAY, True),
        ((-1, -1, -1, 10, -1), SUNDAY, False),
        ((-1, -1, -1, -11, -1), SUNDAY, True),
        ((-1, -1, -1, 1, -1), JANUARY, True),
        ((-1, -1, -1, -2, -1), JANUARY, False),
        # Sunday is 0, and 7.
        ((-1, -1, -1, -1, 0), SUNDAY, True),
        ((-1, -1, -1, -1, 7), SUNDAY, True),
        ((-1, -1, -1, -1, 1), MONDAY, True),
        ((-1, -1, -1, -1, 1), SUNDAY, False),
        # Of two days that are numbers, one is enough; else both have to fit.
        ((-1, -1, 2, -1, 0), SUNDAY, True),
        ((-1, -1, 2, -1, 3), MONDAY, True),
        ((-1, -1, 3, -1, 3), MONDAY, False),
        ((-1, -1, -2, -1, 0), SUNDAY, False),
    ],
)
def test_a_cron_is_due_where_its_numbers_fit(
    numbers: tuple[int, int, int, int, int], now: time.struct_time, is_due: bool
) -> None:
    assert Cron(1, *numbers).is_due(now) is is_due


def test_each_cron_is_due_once_however_many_minutes_were_missed() -> None:
    schedule = Schedule(crons=[Cron(1, -1, -1, -1, -1, -1), Cron(2, 7, 7, 7, 7, -1)])
    minute = int(time.mktime(MONDAY) // 60)
    assert schedule.due_crons(range(minute, minute + 30)) == [1]
    assert schedule.due_crons(()) == []


def test_timers_are_due_again_and_again() -> None:
    schedule = Schedule(timers=[Timer(1, 10), Timer(2, 3)])
    schedule.start(100)
    assert schedule.due_timers(100) == []
    assert schedule.next_timer_at() == 103
    assert schedule.due_timers(103) == [2]
    assert schedule.due_timers(103) == []
    assert schedule.due_timers(110.5) == [1, 2]
    # The rhythm stays, and what was missed does not come at once.
    assert schedule.next_timer_at() == 112
    assert schedule.due_timers(151) == [1, 2]
    assert schedule.due_timers(151) == []
    assert schedule.next_timer_at() == 154


def test_a_timer_may_have_an_end() -> None:
    schedule = Schedule(timers=[Timer(1, 1, 2)])
    schedule.start(0)
    assert [schedule.due_timers(now) for now in (1, 2, 3)] == [[1], [1], []]
    assert schedule.next_timer_at() is None
