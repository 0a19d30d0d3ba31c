"""What a supervisor does on each signal; the signals are real, and there are no workers."""

from __future__ import annotations

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
    signals: Iterable[signal.Signals], **options: Any
) -> tuple[Fleet, list[str], list[dict[str, Any]]]:
    """Give the fleet after these signals, what was asked of others, and the log."""
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
            nursery.cancel_scope.cancel()
        return fleet

    with structlog.testing.capture_logs() as log:
        return trio.run(main), asked, [dict(event) for event in log]


@pytest.mark.parametrize(
    ("name", "asked"), [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGINT"), ("SIGUSR2", "upgrade")]
)
def test_a_stop_and_an_upgrade_are_asked_of_others(name: str, asked: str) -> None:
    assert after([signal.Signals[name]])[1] == [asked]


def test_sighup_asks_for_a_reload() -> None:
    fleet, _, _ = after([signal.SIGHUP])
    assert fleet.due_reload is not None
    assert fleet.due_reload.reason == "SIGHUP"


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
    numbers: list[signal.Signals], options: dict[str, int], wanted: int
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
