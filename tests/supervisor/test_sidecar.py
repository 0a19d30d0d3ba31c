"""A sidecar is kept running, restarted and stopped; without processes, on a clock that jumps."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import pytest
import structlog
import trio
import trio.testing

from uwsgibridge.commands.output import LastLines
from uwsgibridge.config.commands import parse_command
from uwsgibridge.config.settings import Settings
from uwsgibridge.supervisor import sidecar as sidecar_module
from uwsgibridge.supervisor.fleet import END_MARGIN_SECONDS, Fleet
from uwsgibridge.supervisor.phase import Phase
from uwsgibridge.supervisor.sidecar import Sidecar, SidecarState
from uwsgibridge.supervisor.sidecars import descriptors_of
from uwsgibridge.system.systemd import Notifier

END_SECONDS = 2.0


class FakeProgram:
    """Ends when it is told to, some time after it was asked to, or when it is killed."""

    programs: list[FakeProgram]
    error: OSError | None
    hangs: bool  # at SIGTERM
    lives_seconds: float | None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self.last_lines = LastLines()
        self.steps: list[str] = []
        self.started_at = trio.current_time()
        self.hangs = type(self).hangs
        self.lives_seconds = type(self).lives_seconds
        self._end = trio.Event()
        self._asked = trio.Event()
        self.has_ended = False
        self.programs.append(self)

    @classmethod
    def start(cls, _command: Any, *, tell: Any, grace_seconds: float) -> Self:
        if cls.error is not None:
            raise cls.error
        assert all(it.has_ended for it in cls.programs), "two at once"
        return cls(next(PIDS))

    @classmethod
    def adopt(cls, heritage: Mapping[str, Any], *, tell: Any, grace_seconds: float) -> Self:
        return cls(heritage["pid"])

    def bequeath(self) -> dict[str, Any]:
        return {"pid": self.pid, "lifeline": 3, "streams": {"stdout": 4, "stderr": 5}, "begun": {}}

    async def watch(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_asked)
            with trio.move_on_after(self.lives_seconds or float("inf")):
                await self._end.wait()
            nursery.cancel_scope.cancel()
        self.status = self.status if self.status is not None else 1
        self.has_ended = True

    async def _end_when_asked(self) -> None:
        await self._asked.wait()
        if not self.hangs:
            await trio.sleep(END_SECONDS)
            self.end(0)

    def end(self, status: int) -> None:
        self.status = status
        self._end.set()

    def terminate(self) -> None:
        self.steps.append("terminate")
        self._asked.set()

    def kill(self) -> None:
        self.steps.append("kill")
        self.end(-9)


# No process of the system has such a number.
PIDS = itertools.count(10_000_000)

Scene = Callable[[Sidecar, Fleet], Awaitable[None]]


class FakeGeneration:
    def __init__(self, number: int) -> None:
        self.number = number


def put_in_service(fleet: Fleet, number: int) -> None:
    generation: Any = FakeGeneration(number)
    fleet.put_in_service(generation)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Runs a scene with a sidecar; gives the log."""
    monkeypatch.setattr(sidecar_module, "Program", FakeProgram)
    for name, value in {"error": None, "hangs": False, "lives_seconds": None}.items():
        monkeypatch.setattr(FakeProgram, name, value, raising=False)
    monkeypatch.setattr(FakeProgram, "programs", [], raising=False)

    def run(
        scene: Scene,
        heritage: dict[str, Any] | None = None,
        *,
        is_kept: bool = True,
        **options: Any,
    ) -> list[Any]:
        log = structlog.testing.LogCapture()
        logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[log])

        async def main() -> None:
            with trio.fail_after(36_000):
                async with trio.open_nursery() as nursery:
                    fleet = Fleet(Settings(workers=1, **options), logger, (), Notifier(None))
                    put_in_service(fleet, 1)
                    sidecar = Sidecar(
                        "queue",
                        parse_command("--sidecar", "queue"),
                        fleet,
                        nursery,
                        is_kept=is_kept,
                    )
                    if heritage is not None:
                        sidecar.adopt(heritage)
                    nursery.start_soon(sidecar.run)
                    await trio.testing.wait_all_tasks_blocked(0.001)
                    await scene(sidecar, fleet)
                    nursery.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
        return [dict(entry) for entry in log.entries]

    return run


def names(log: list[Any]) -> list[str]:
    return [entry["event"] for entry in log]


async def until(fleet: Fleet, sidecar: Sidecar, state: SidecarState) -> None:
    await fleet.wait_for(lambda: sidecar.state is state)


def test_it_is_started_and_told(play: Any) -> None:
    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await trio.sleep(5)
        told = sidecar.describe()
        assert told["since_seconds_ago"] == pytest.approx(5, abs=0.1)
        del told["since_seconds_ago"]
        assert told == {
            "name": "queue",
            "command": "queue",
            "pid": FakeProgram.programs[0].pid,
            "state": "running",
            "restarts": 0,
            "last_exit": None,
            "rss_bytes": None,
            "cpu_seconds": None,
        }

    assert names(play(scene)) == ["sidecar started"]


def test_one_that_has_lived_is_started_again_at_once(play: Any) -> None:
    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        for count in range(1, 4):
            await trio.sleep(60)
            before = trio.current_time()
            FakeProgram.programs[-1].end(-11)
            await fleet.wait_for(lambda count=count: len(FakeProgram.programs) > count)  # type: ignore[misc]
            assert trio.current_time() - before < 0.1
        told = sidecar.describe()
        assert (told["restarts"], told["last_exit"]["signal"]) == (3, "SIGSEGV")

    log = play(scene)
    assert names(log) == ["sidecar started", *["sidecar ended", "sidecar started"] * 3]
    assert log[1]["signal"] == "SIGSEGV"
    assert log[1]["seconds"] == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(("status", "level"), [(0, "info"), (1, "error"), (-15, "error")])
def test_an_end_is_an_error_unless_its_status_is_0(play: Any, status: int, level: str) -> None:
    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        FakeProgram.programs[0].end(status)
        await fleet.wait_for(lambda: len(FakeProgram.programs) == 2)

    [ended] = [it for it in play(scene) if it["event"] == "sidecar ended"]
    assert ended["log_level"] == level


def test_one_that_ends_soon_is_started_after_longer_and_longer(play: Any) -> None:
    FakeProgram.lives_seconds = 3.0

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await fleet.wait_for(lambda: len(FakeProgram.programs) > 9)

    log = play(scene)
    pauses = [it["in_seconds"] for it in log if it["event"] == "sidecar starts again later"]
    assert pauses[:9] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    starts = [it.started_at for it in FakeProgram.programs]
    assert starts[9] - starts[8] == pytest.approx(13, abs=0.1)


def test_one_that_can_not_be_started_is_tried_again(play: Any) -> None:
    FakeProgram.error = FileNotFoundError(2, "No such file or directory")

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await trio.sleep(1)
        assert (sidecar.describe()["state"], sidecar.describe()["pid"]) == ("waiting", None)
        FakeProgram.error = None
        await until(fleet, sidecar, SidecarState.RUNNING)

    log = play(scene)
    assert names(log)[:2] == ["sidecar can't be started", "sidecar starts again later"]
    assert names(log)[-1] == "sidecar started"


def test_a_reload_restarts_it_and_there_are_never_two(play: Any) -> None:
    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        put_in_service(fleet, 2)
        await until(fleet, sidecar, SidecarState.STOPPING)
        put_in_service(fleet, 3)  # while it ends
        await fleet.wait_for(lambda: len(FakeProgram.programs) == 2)
        await trio.sleep(60)
        first, second = FakeProgram.programs
        assert first.steps == ["terminate"]
        assert second.steps == []
        told = sidecar.describe()
        assert (told["restarts"], told["last_exit"]["exit_status"]) == (0, 0)

    assert names(play(scene)) == ["sidecar started", "sidecar stopped", "sidecar started"]


def test_a_reload_ends_the_wait_for_the_next_start(play: Any) -> None:
    FakeProgram.lives_seconds = 1.0

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await fleet.wait_for(lambda: len(FakeProgram.programs) > 9)
        await until(fleet, sidecar, SidecarState.WAITING)
        await trio.sleep(1)
        before = trio.current_time()
        put_in_service(fleet, 2)
        await until(fleet, sidecar, SidecarState.RUNNING)
        assert trio.current_time() - before < 0.1
        await until(fleet, sidecar, SidecarState.WAITING)
        await until(fleet, sidecar, SidecarState.RUNNING)

    log = play(scene)
    pauses = [it["in_seconds"] for it in log if it["event"] == "sidecar starts again later"]
    assert pauses[-1] == 0.1  # the new code has patience of its own


@pytest.mark.parametrize(("graceful", "is_hurried"), [(30.0, False), (0.0, False), (30.0, True)])
def test_one_that_does_not_end_is_killed_in_its_time(
    play: Any, graceful: float, is_hurried: bool
) -> None:
    FakeProgram.hangs = True

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        before = trio.current_time()
        fleet.enter(Phase.STOPPING)
        if is_hurried:
            fleet.enter(Phase.HURRYING)
        await until(fleet, sidecar, SidecarState.STOPPED)
        took = trio.current_time() - before
        assert took == pytest.approx(0 if is_hurried else graceful, abs=0.1)
        assert FakeProgram.programs[0].steps == ["terminate", "kill"]
        assert sidecar.describe()["last_exit"]["signal"] == "SIGKILL"

    log = play(scene, graceful_timeout_seconds=graceful)
    killed = [it for it in log if it["event"] == "killing sidecar: it does not end"]
    assert [it["option"] for it in killed] == ([] if is_hurried else ["--graceful-timeout-seconds"])


def test_one_that_even_a_kill_does_not_end_holds_no_stop_and_gets_no_second_one(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeProgram.hangs = True
    monkeypatch.setattr(FakeProgram, "kill", lambda self: self.steps.append("kill"))

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        put_in_service(fleet, 2)
        await trio.sleep(600)
        assert sidecar.state is SidecarState.STOPPING
        assert len(FakeProgram.programs) == 1
        fleet.enter(Phase.STOPPING)
        await until(fleet, sidecar, SidecarState.STOPPED)

    play(scene)


def test_a_stop_while_it_waits_starts_nothing(play: Any) -> None:
    FakeProgram.lives_seconds = 1.0

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await fleet.wait_for(lambda: len(FakeProgram.programs) > 5)
        await until(fleet, sidecar, SidecarState.WAITING)
        count = len(FakeProgram.programs)
        fleet.enter(Phase.STOPPING)
        await until(fleet, sidecar, SidecarState.STOPPED)
        assert len(FakeProgram.programs) == count

    play(scene)


def test_while_another_program_takes_over_nothing_is_started(play: Any) -> None:
    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await trio.sleep(60)
        fleet.enter(Phase.UPGRADING)
        FakeProgram.programs[0].end(1)
        await trio.sleep(60)
        assert len(FakeProgram.programs) == 1

    play(scene)


def heritage_of(
    play: Any, before: Callable[[Sidecar, Fleet], Awaitable[None]] | None = None
) -> Any:
    found: list[Any] = []

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await trio.sleep(100)
        if before is not None:
            await before(sidecar, fleet)
        found.append(sidecar.bequeath())

    play(scene)
    return found[0]


def test_another_supervisor_takes_it_over_and_restarts_it_at_a_reload(play: Any) -> None:
    heritage = heritage_of(play)
    assert descriptors_of([heritage]) == [3, 4, 5]
    FakeProgram.programs.clear()

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        [first] = FakeProgram.programs
        assert first.pid == heritage["program"]["pid"]
        assert sidecar.describe()["since_seconds_ago"] == pytest.approx(100, abs=0.1)
        put_in_service(fleet, 2)
        await fleet.wait_for(lambda: len(FakeProgram.programs) == 2)
        assert first.steps == ["terminate"]

    assert names(play(scene, heritage)) == ["sidecar stopped", "sidecar started"]


def test_one_that_was_stopping_is_not_asked_again_and_has_what_is_left_of_its_time(
    play: Any,
) -> None:
    FakeProgram.hangs = True

    async def begin_stop(sidecar: Sidecar, fleet: Fleet) -> None:
        put_in_service(fleet, 2)
        await until(fleet, sidecar, SidecarState.STOPPING)
        await trio.sleep(20)

    heritage = heritage_of(play, begin_stop)
    FakeProgram.programs.clear()

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        before = trio.current_time()
        await fleet.wait_for(lambda: len(FakeProgram.programs) == 2)
        assert trio.current_time() - before == pytest.approx(10, abs=0.1)
        assert FakeProgram.programs[0].steps == ["kill"]

    play(scene, heritage)


def test_one_that_has_stopped_while_it_was_handed_on_has_not_failed(play: Any) -> None:
    async def begin_stop(sidecar: Sidecar, fleet: Fleet) -> None:
        put_in_service(fleet, 2)
        await until(fleet, sidecar, SidecarState.STOPPING)

    heritage = heritage_of(play, begin_stop)
    FakeProgram.programs.clear()
    FakeProgram.lives_seconds = 0.000_1

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await fleet.wait_for(lambda: len(FakeProgram.programs) == 2)
        assert sidecar.describe()["restarts"] == 0

    log = play(scene, heritage)
    assert names(log)[:2] == ["sidecar stopped", "sidecar started"]


def test_one_that_is_not_kept_is_stopped_and_not_started_again(play: Any) -> None:
    heritage = heritage_of(play)
    FakeProgram.programs.clear()

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await until(fleet, sidecar, SidecarState.STOPPED)
        assert [it.steps for it in FakeProgram.programs] == [["terminate"]]

    play(scene, heritage, is_kept=False)


def test_one_that_waits_leaves_its_past_to_another_supervisor(play: Any) -> None:
    FakeProgram.lives_seconds = 1.0

    async def wait(sidecar: Sidecar, fleet: Fleet) -> None:
        await until(fleet, sidecar, SidecarState.WAITING)
        assert sidecar.describe()["restarts"] == len(FakeProgram.programs) - 1

    heritage = heritage_of(play, wait)
    count = len(FakeProgram.programs)
    assert heritage["program"] is None
    assert descriptors_of([heritage]) == []

    async def scene(sidecar: Sidecar, fleet: Fleet) -> None:
        await fleet.wait_for(lambda: len(FakeProgram.programs) > count)
        told = sidecar.describe()
        assert (told["restarts"], told["last_exit"]["exit_status"]) == (count, 1)

    play(scene, heritage)


def test_a_state_that_can_not_follow_does_not() -> None:
    assert END_MARGIN_SECONDS
    with pytest.raises(AssertionError, match="can't follow"):
        SidecarState.STOPPED.follow(SidecarState.RUNNING)
