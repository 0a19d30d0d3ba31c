"""Generations come and go as they are asked to; without processes, on a clock that jumps."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest
import structlog
import trio
import trio.testing

from uwsgibridge.config.settings import Settings
from uwsgibridge.supervisor import rollout as rollout_module
from uwsgibridge.supervisor.backoff import Backoff
from uwsgibridge.supervisor.control_commands import ControlCommands
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.rollout import Rollout
from uwsgibridge.system.systemd import Notifier

START_SECONDS = 3.0
END_SECONDS = 2.0


class FakeWorker:
    end_seconds = 0.0

    def __init__(self, pid: int) -> None:
        self.pid = pid


class FakeGeneration:
    """Brings up each worker in its time, unless it is told otherwise.

    Args:
        number: as of `Generation`.
        fleet: is told of changes.
        nursery: for what takes time.
    """

    fails = False  # no worker of the next ones comes up
    hangs = False  # none of them ends when it is asked to

    def __init__(self, number: int, fleet: Fleet, nursery: trio.Nursery) -> None:
        self.number, self._fleet, self._nursery = number, fleet, nursery
        self.workers: dict[int, FakeWorker] = {}
        self.backoff = Backoff()
        self.failed_status: int | None = None
        self.template_has_ended = self.is_asked_to_end = False
        self.fails, self.hangs = type(self).fails, type(self).hangs
        self.coming = 0
        self.ending: set[int] = set()
        self.steps: list[str] = []

    @property
    def running(self) -> list[FakeWorker]:
        if self.is_asked_to_end:
            return []
        return [it for it in self.workers.values() if it.pid not in self.ending]

    ready = running

    @property
    def expected(self) -> int:
        return len(self.running) + self.coming

    @property
    def is_over(self) -> bool:
        return not self.workers and not self.coming

    @property
    def has_failed(self) -> bool:
        return self.failed_status is not None

    def fork(self, instead_of: object = None) -> bool:
        del instead_of
        self.coming += 1
        self._nursery.start_soon(self._bring_up)
        return True

    async def _bring_up(self) -> None:
        await trio.sleep(START_SECONDS)
        if self.coming:
            self.coming -= 1
            if self.fails:
                self.failed_status = 3
            else:
                pid = next(PIDS)
                self.workers[pid] = FakeWorker(pid)
            self._fleet.wake_waiters()

    def stop_one(self) -> None:
        pid = self.running[0].pid
        self.ending.add(pid)
        self._nursery.start_soon(self._end, pid)

    def stop_workers(self) -> None:
        self.coming = 0
        self.is_asked_to_end = True
        self.steps.append("stop")
        if not self.hangs:
            for pid in list(self.workers):
                self._nursery.start_soon(self._end, pid)

    async def _end(self, pid: int) -> None:
        await trio.sleep(END_SECONDS)
        self.workers.pop(pid, None)
        self._fleet.wake_waiters()

    def kill_workers(self) -> None:
        self.steps.append(f"kill {len(self.workers)}")
        self.workers.clear()
        self._fleet.wake_waiters()

    async def close_sockets(self) -> None:
        self.steps.append("close")

    def tell_last(self) -> None:
        self.steps.append("last")

    async def end(self) -> None:
        self.steps.append("end")

    @classmethod
    def start(
        cls, number: int, _app: Any, _settings: Any, _sockets: Any, _lifeline: int, context: Any
    ) -> Self:
        fleet, nursery = context
        return cls(number, fleet, nursery)


PIDS = itertools.count(100)

Scene = Callable[[Fleet, Rollout, trio.Nursery], Awaitable[None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Runs a scene with a fleet that has two workers; gives the log."""
    monkeypatch.setattr(rollout_module, "Generation", FakeGeneration)
    monkeypatch.setattr(FakeGeneration, "fails", False)
    monkeypatch.setattr(FakeGeneration, "hangs", False)

    def run(scene: Scene, **options: Any) -> list[dict[str, Any]]:
        log = structlog.testing.LogCapture()
        logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[log])
        settings = Settings(workers=2, graceful_timeout_seconds=30.0, **options)

        async def main() -> None:
            with trio.fail_after(3600):
                async with trio.open_nursery() as nursery:
                    fleet = Fleet(settings, logger, (), Notifier(None))
                    context: Any = (fleet, nursery)
                    rollout = Rollout("site:app", fleet, -1, context, nursery)
                    fleet.put_in_service(rollout.start())
                    with fleet.bringing_up():
                        assert await rollout.bring_up(fleet.current)
                    nursery.start_soon(rollout.keep_up)
                    nursery.start_soon(rollout.reload_when_asked)
                    await scene(fleet, rollout, nursery)
                    nursery.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        return [dict(entry) for entry in log.entries]

    return run


def names(log: list[dict[str, Any]]) -> list[str]:
    return [entry["event"] for entry in log]


def fake(generation: Any) -> FakeGeneration:
    assert isinstance(generation, FakeGeneration)
    return generation


def test_a_reload_brings_up_the_new_before_the_old_is_asked_to_end(play: Any) -> None:
    async def scene(fleet: Fleet, rollout: Rollout, nursery: trio.Nursery) -> None:
        old = fake(fleet.current)
        reload = fleet.ask_for_reload("a test")
        await fleet.wait_for(lambda: len(fleet.generations) == 2)
        await fleet.wait_for(lambda: reload.is_over)
        assert not reload.has_failed
        assert fake(fleet.current).number == 2
        assert len(fleet.current.ready) == 2
        await fleet.wait_for(lambda: len(fleet.generations) == 1)
        assert old.steps == ["stop", "kill 0", "end"]

    assert names(play(scene)) == [
        "reloading: new workers come up first", "reloaded", "generation has ended",
    ]  # fmt: skip


def test_a_reload_that_does_not_come_up_leaves_the_old_in_service(play: Any) -> None:
    async def scene(fleet: Fleet, rollout: Rollout, nursery: trio.Nursery) -> None:
        old = fake(fleet.current)
        FakeGeneration.fails = True
        reload = fleet.ask_for_reload("a test")
        await fleet.wait_for(lambda: reload.is_over)
        assert reload.has_failed
        assert fake(fleet.current) is old
        await fleet.wait_for(lambda: len(fleet.generations) == 1)
        assert old.steps == []

    assert "reload failed: the old code goes on" in names(play(scene))


def test_one_that_is_asked_for_in_another_is_not_lost_and_several_are_one(play: Any) -> None:
    async def scene(fleet: Fleet, rollout: Rollout, nursery: trio.Nursery) -> None:
        first = fleet.ask_for_reload("first")
        await fleet.wait_for(lambda: fleet.is_bringing_up)
        second, third = fleet.ask_for_reload("second"), fleet.ask_for_reload("third")
        assert second is third is not first
        await fleet.wait_for(lambda: first.is_over)
        assert not second.is_over
        await fleet.wait_for(lambda: second.is_over)
        assert fake(fleet.current).number == 3

    log = play(scene)
    assert [entry["reason"] for entry in log if entry["event"].startswith("reloading")] == [
        "first", "third",
    ]  # fmt: skip


def test_who_asks_over_the_control_socket_hears_what_becomes_of_it(play: Any) -> None:
    async def scene(fleet: Fleet, rollout: Rollout, nursery: trio.Nursery) -> None:
        commands = ControlCommands("site", fleet, lambda _reason: None)
        bounds = rf"workers must be from 1 to {fleet.most} \(--workers-min, --workers-max\)"
        with pytest.raises(Exception, match=bounds):
            await commands.scale(fleet.most + 1)
        assert (await commands.reload())["generation"] == 2
        FakeGeneration.fails = True
        with pytest.raises(Exception, match="the new code does not come up"):
            await commands.reload()
        FakeGeneration.fails = False
        fleet.enter(Phase.STOPPING)
        with pytest.raises(Exception, match="the supervisor is stopping or being upgraded"):
            await commands.reload()

    play(scene)


def test_with_chain_there_are_never_more_workers_than_wanted_and_one(play: Any) -> None:
    async def scene(fleet: Fleet, rollout: Rollout, nursery: trio.Nursery) -> None:
        most = 0

        async def count() -> None:
            nonlocal most
            while True:
                most = max(most, sum(len(it.workers) for it in fleet.generations))
                await fleet.changed.wait()

        nursery.start_soon(count)
        reload = fleet.ask_for_reload("a test")
        await fleet.wait_for(lambda: reload.is_over)
        await fleet.wait_for(lambda: len(fleet.generations) == 1)
        assert most == 3

    play(scene, reload_mode="chain")


@pytest.mark.parametrize("is_hurried", [False, True])
def test_a_stop_ends_in_its_time_whatever_workers_do(play: Any, is_hurried: bool) -> None:
    async def scene(fleet: Fleet, rollout: Rollout, nursery: trio.Nursery) -> None:
        only = fake(fleet.current)
        only.hangs = True
        began = trio.current_time()
        fleet.enter(Phase.STOPPING)
        if is_hurried:
            fleet.enter(Phase.HURRYING)
        await rollout.drain(fleet.generations)
        taken = trio.current_time() - began
        assert only.steps == ["close", "last", "stop", "kill 2", "end"]
        most = END_MARGIN_SECONDS if is_hurried else fleet.end_seconds()
        assert taken == pytest.approx(most, abs=0.1)

    play(scene)


def test_what_ends_is_replaced_and_what_is_too_much_ends(play: Any) -> None:
    async def scene(fleet: Fleet, rollout: Rollout, nursery: trio.Nursery) -> None:
        current = fake(fleet.current)
        current.workers.popitem()
        fleet.wake_waiters()
        await fleet.wait_for(lambda: len(current.workers) == 2)
        fleet.want(3, "a test")
        await fleet.wait_for(lambda: len(current.workers) == 3)

    play(scene)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Phase.STOPPING, Phase.SERVING),
        (Phase.STOPPING, Phase.UPGRADING),
        (Phase.SERVING, Phase.HURRYING),
        (Phase.UPGRADING, Phase.SERVING),
        (Phase.HURRYING, Phase.STOPPING),
    ],
)
def test_a_phase_that_is_over_does_not_come_back(before: Phase, after: Phase) -> None:
    with pytest.raises(AssertionError, match="can't follow"):
        before.follow(after)
