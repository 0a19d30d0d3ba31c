"""An upgrade begins where the new program has been tried out; without processes, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from uwsgibridge.config.settings import Settings
from uwsgibridge.supervisor import upgrade as upgrade_module
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.rehearsal import REHEARSAL_SECONDS
from uwsgibridge.supervisor.upgrade import Upgrade
from uwsgibridge.system.systemd import Notifier

TRIED = "upgrading: the program that is installed now takes over"
FAILED = "upgrade failed: the program that is installed now does not start"


class FakeRehearsal:
    """Ends after three seconds, or when it is broken off."""

    outcome: tuple[int, str] | OSError = (0, "")
    seconds: float

    def __init__(self, _sockets: Any, seconds: float) -> None:
        type(self).seconds = seconds
        self._broken_off = trio.Event()

    async def wait(self) -> tuple[int, str]:
        if isinstance(self.outcome, OSError):
            raise self.outcome
        with trio.move_on_after(3):
            await self._broken_off.wait()
            return -15, ""
        return self.outcome

    def break_off(self) -> None:
        self._broken_off.set()


Scene = Callable[[Fleet, Upgrade, trio.Nursery], Awaitable[None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Phase, list[str]]]:
    """Runs a scene; gives the phase at its end, and the names of the events that were logged."""
    monkeypatch.setattr(upgrade_module, "Rehearsal", FakeRehearsal)

    def run(
        scene: Scene, outcome: tuple[int, str] | OSError = (0, ""), **options: Any
    ) -> tuple[Phase, list[str]]:
        monkeypatch.setattr(FakeRehearsal, "outcome", outcome)

        async def main() -> Phase:
            fleet = Fleet(Settings(workers=1, **options), structlog.get_logger(), (), Notifier())
            upgrade = Upgrade(fleet, {}, None)
            with trio.fail_after(3600):
                async with trio.open_nursery() as nursery:
                    await scene(fleet, upgrade, nursery)
            assert not upgrade.is_rehearsing
            return fleet.phase

        with structlog.testing.capture_logs() as log:
            phase = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        return phase, [event["event"] for event in log]

    return run


async def attempt(_fleet: Fleet, upgrade: Upgrade, _nursery: trio.Nursery) -> None:
    await upgrade.attempt()


def test_a_program_that_starts_takes_over(play: Any) -> None:
    assert play(attempt, lifespan_timeout_seconds=7) == (Phase.UPGRADING, [TRIED])
    assert FakeRehearsal.seconds == REHEARSAL_SECONDS + 2 * 7


@pytest.mark.parametrize("outcome", [(1, "SyntaxError"), OSError("no memory")])
def test_one_that_does_not_start_changes_nothing(play: Any, outcome: Any) -> None:
    assert play(attempt, outcome) == (Phase.SERVING, [FAILED])


def test_it_is_tried_once_at_a_time(play: Any) -> None:
    async def scene(_fleet: Fleet, upgrade: Upgrade, nursery: trio.Nursery) -> None:
        nursery.start_soon(upgrade.attempt)
        await trio.testing.wait_all_tasks_blocked()
        assert upgrade.is_rehearsing
        await upgrade.attempt()

    told = "upgrade is being tried already: ask again where it fails"
    assert play(scene) == (Phase.UPGRADING, [told, TRIED])


def test_it_waits_for_workers_that_come_up(play: Any) -> None:
    async def scene(fleet: Fleet, upgrade: Upgrade, nursery: trio.Nursery) -> None:
        nursery.start_soon(upgrade.attempt)
        with fleet.bringing_up():
            await trio.sleep(100)
            assert fleet.phase is Phase.SERVING

    told = "upgrade waits until the new workers are ready"
    assert play(scene) == (Phase.UPGRADING, [told, TRIED])


@pytest.mark.parametrize("is_bringing_up", [False, True])
def test_a_stop_goes_before_it(play: Any, is_bringing_up: bool) -> None:
    async def scene(fleet: Fleet, upgrade: Upgrade, nursery: trio.Nursery) -> None:
        fleet.is_bringing_up = is_bringing_up
        nursery.start_soon(upgrade.attempt)
        await trio.sleep(10 if is_bringing_up else 1)
        upgrade.break_off()
        fleet.enter(Phase.STOPPING)

    phase, log = play(scene)
    assert phase is Phase.STOPPING
    assert TRIED not in log
    assert FAILED not in log


def test_in_a_stop_it_is_not_tried(play: Any) -> None:
    async def scene(fleet: Fleet, upgrade: Upgrade, _nursery: trio.Nursery) -> None:
        fleet.enter(Phase.STOPPING)
        await upgrade.attempt()

    assert play(scene) == (Phase.STOPPING, [])
