"""The process of timers: what it runs, when, and what it does at a stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from uwsgibridge.config.settings import Settings
from uwsgibridge.uwsgi_module.installing import Installed
from uwsgibridge.uwsgi_module.place import read_place
from uwsgibridge.uwsgi_module.schedule import Cron, Schedule, Timer
from uwsgibridge.uwsgi_module.shared_file import SharedFile
from uwsgibridge.worker.timers import Stop, run

EVERY_MINUTE = (-1, -1, -1, -1, -1)


@pytest.fixture
def stop() -> Iterator[Stop]:
    with Stop() as stop:
        yield stop


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    shared = SharedFile(str(tmp_path / "shared"))
    place = read_place(Settings(uwsgi_module=True), {})
    return Installed(place, Schedule(), shared, ModuleType("uwsgi"))


class Clock:
    """A clock that a wait sets forward; it ends the run after so many waits."""

    def __init__(self, stop: Stop, monkeypatch: pytest.MonkeyPatch, *, waits: int) -> None:
        self.now = 1_795_958_640.0  # the begin of a minute
        self.waited: list[float] = []
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

        def wait(seconds: float) -> None:
            self.waited.append(seconds)
            self.now += seconds
            stop.is_asked_for = len(self.waited) >= waits

        monkeypatch.setattr(stop, "wait", wait)


def test_crons_run_at_the_begin_of_a_minute_and_timers_between(
    installed: Installed, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(stop, monkeypatch, waits=8)
    ran: list[tuple[int, float]] = []
    begin = clock.now
    clock.now += 10
    installed.schedule.functions.update(
        {it: lambda number: ran.append((number, clock.now - begin)) for it in (1, 2)}
    )
    installed.schedule.crons.append(Cron(1, *EVERY_MINUTE))
    installed.schedule.timers.append(Timer(2, 25))
    run(installed, stop)
    # The minute that has begun at the start is passed over.
    assert ran == [
        *((2, 35), (2, 60), (1, 60), (2, 85), (2, 110), (1, 120), (2, 135), (2, 160)),
    ]


def test_what_came_due_while_no_process_was_there_is_done_once(
    installed: Installed, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(stop, monkeypatch, waits=1)
    minute = int(clock.now // 60)
    ran: list[int] = []
    installed.schedule.functions[1] = ran.append
    installed.schedule.crons.append(Cron(1, *EVERY_MINUTE))
    installed.shared.write_minute(minute - 5)
    run(installed, stop)
    assert ran == [1]
    assert installed.shared.read_minute() == minute


def test_what_is_too_late_is_left_out(
    installed: Installed, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(stop, monkeypatch, waits=1)
    late = time.localtime(clock.now - 2 * 3600)
    ran: list[int] = []
    installed.schedule.functions[1] = ran.append
    installed.schedule.crons.append(Cron(1, late.tm_min, late.tm_hour, -1, -1, -1))
    installed.shared.write_minute(int(clock.now // 60) - 24 * 60)
    run(installed, stop)
    assert ran == []


def test_a_clock_that_is_set_back_runs_nothing_twice_an_hour(
    installed: Installed, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(stop, monkeypatch, waits=2)
    ran: list[int] = []
    installed.schedule.functions[1] = ran.append
    installed.schedule.crons.append(Cron(1, *EVERY_MINUTE))
    installed.shared.write_minute(int(clock.now // 60) + 90)
    run(installed, stop)
    assert all(0 < seconds <= 60 for seconds in clock.waited)
    assert ran == [1]  # of the next minute


def test_a_stop_ends_the_wait_and_lets_the_function_end(installed: Installed, stop: Stop) -> None:
    ran: list[str] = []

    def first(_number: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        ran.append("ended")

    installed.schedule.functions.update({1: first, 2: lambda _: ran.append("second")})
    installed.schedule.timers += [Timer(1, 0.01), Timer(2, 0.01)]
    run(installed, stop)
    assert ran == ["ended"]
    began = time.monotonic()
    stop.wait(60)
    assert time.monotonic() - began < 30


def test_what_fails_and_what_has_no_function_is_said(
    installed: Installed, stop: Stop, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_number: int) -> None:
        raise SystemExit(3)

    def end(_number: int) -> None:
        stop.is_asked_for = True

    installed.schedule.functions.update({1: fail, 3: end})
    installed.schedule.timers += [Timer(it, 0.01) for it in (1, 2, 3)]
    run(installed, stop)
    said = capfd.readouterr().err
    assert "SystemExit: 3" in said
    assert "fail failed" in said
    assert "signal 2 is due, and has no function" in said
