"""What a supervisor does on each signal; the signals are real, and there are no workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from uwsgibridge.config.settings import Settings
from uwsgibridge.supervisor.control_commands import ControlCommands
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.signal_commands import SignalCommands
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.system.systemd import Notifier


class FakeGeneration:
    number = 1
    workers: dict[int, Any] = {}  # noqa: RUF012 - nobody adds one


def after(
    signals: Iterable[signal.Signals],
    *,
    at_template: Iterable[tuple[float, signal.Signals]] = (),
    **options: Any,
) -> tuple[Fleet, list[str], list[dict[str, Any]]]:
    """Give the fleet after these signals, what was asked of others, and the log.

    Args:
        signals: to the supervisor.
        at_template: signals to a template after these, each with the seconds since the one before.
        options: of the service.
    """
    asked: list[str] = []

    async def upgrade() -> None:
        asked.append("upgrade")

    async def main() -> Fleet:
        fleet = Fleet(Settings(workers=2, **options), structlog.get_logger(), (), Notifier())
        generation: Any = FakeGeneration()
        fleet.put_in_service(generation)
        commands = ControlCommands("site", fleet, asked.append)
        async with trio.open_nursery() as nursery:
            received = SignalCommands(fleet, commands, asked.append, upgrade, nursery)
            await nursery.start(received.receive)
            for number in signals:
                signal.raise_signal(number)
                await trio.testing.wait_all_tasks_blocked()
            for seconds, number in at_template:
                clock.jump(seconds)
                received.take_over(number)
                await trio.testing.wait_all_tasks_blocked()
            if at_template:
                clock.jump(1000)
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return fleet

    clock = trio.testing.MockClock()
    with structlog.testing.capture_logs() as log:
        return trio.run(main, clock=clock), asked, [dict(event) for event in log]


@pytest.mark.parametrize(
    ("name", "asked"), [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGINT"), ("SIGUSR2", "upgrade")]
)
def test_a_stop_and_an_upgrade_are_asked_of_others(name: str, asked: str) -> None:
    assert after([signal.Signals[name]])[1] == [asked]


def test_sighup_asks_for_a_reload() -> None:
    fleet, _, _ = after([signal.SIGHUP])
    assert fleet.due_reload is not None
    assert fleet.due_reload.reason == "SIGHUP"


def test_sighup_to_a_template_asks_for_a_reload() -> None:
    fleet, _, log = after([], at_template=[(0, signal.SIGHUP), (0.1, signal.SIGHUP)])
    assert fleet.due_reload is not None
    assert fleet.due_reload.reason == "SIGHUP to a template"
    assert log == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTIN])
def test_a_signal_to_all_processes_counts_once(number: signal.Signals) -> None:
    fleet, _, log = after([number], at_template=[(0.2, number)])
    assert fleet.due_reload is None or fleet.due_reload.reason == "SIGHUP"
    assert fleet.wanted == (3 if number == signal.SIGTTIN else 2)
    assert "a template got a signal, which does nothing there" not in {it["event"] for it in log}


def test_a_later_signal_to_a_template_is_another_one() -> None:
    fleet, _, _ = after([signal.SIGHUP], at_template=[(5, signal.SIGHUP)])
    assert fleet.due_reload is not None
    assert fleet.due_reload.reason == "SIGHUP to a template"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGTTIN])
def test_other_signals_to_a_template_do_nothing_and_are_told(number: signal.Signals) -> None:
    fleet, asked, [told] = after([], at_template=[(0, number)])
    assert (asked, fleet.wanted) == ([], 2)
    assert (told["event"], told["signal"]) == (
        "a template got a signal, which does nothing there",
        number.name,
    )
    assert str(os.getpid()) in told["hint"]


@pytest.mark.parametrize(
    ("numbers", "options", "wanted"),
    [
        ([signal.SIGTTIN], {}, 3),
        ([signal.SIGTTOU], {}, 1),
        ([signal.SIGTTOU] * 3, {}, 1),
        ([signal.SIGTTIN] * 3, {"workers_max": 4}, 4),
        ([signal.SIGTTOU], {"workers_min": 2}, 2),
    ],
)
def test_workers_are_added_and_taken_away_within_the_bounds(
    numbers: list[signal.Signals], options: dict[str, Any], wanted: int
) -> None:
    fleet, _, log = after(numbers, **options)
    assert fleet.wanted == wanted
    assert [event["workers"] for event in log][-1:] == ([wanted] if wanted != 2 else [])


def test_without_a_log_file_there_is_nothing_to_open_anew() -> None:
    _, _, [event] = after([signal.SIGUSR1])
    assert event["event"] == "nothing to open anew: there is no log file"


def test_sigquit_logs_the_stacks() -> None:
    _, _, [event] = after([signal.SIGQUIT])
    assert (event["event"], event["role"]) == ("stacks", "supervisor")
    assert "MainThread" in event["stack"]


def test_each_signal_is_tested_here() -> None:
    assert {it.name for it in map(signal.Signals, SERVER_SIGNALS)} == {
        *("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGTTIN", "SIGTTOU")
    }
