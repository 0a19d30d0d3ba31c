"""When the keeper of prometheus_client's files has its turns; without processes, on a clock that jumps."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from tests.prometheus_files import names, write_file
from uwsgibridge.config.settings import Settings
from uwsgibridge.multiproc.ended import FilesOfEnded
from uwsgibridge.multiproc.names import LOCK
from uwsgibridge.supervisor.fleet import Fleet
from uwsgibridge.supervisor.multiproc_keeper import MultiprocKeeper
from uwsgibridge.system.systemd import Notifier

CANT: str = "files of prometheus_client can't be folded"


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each turn began, in seconds since the first one."""
    at: list[float] = []
    fold = FilesOfEnded.fold

    def told(self: FilesOfEnded, living: Any) -> Any:
        at.append(round(trio.from_thread.run_sync(trio.current_time), 3))
        return fold(self, living)

    monkeypatch.setattr(FilesOfEnded, "fold", told)
    return at


@pytest.fixture
def open_directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def play(directory: int, scene: Callable[[Fleet], Awaitable[None]]) -> list[Any]:
    """Play a scene beside a keeper, and give what was logged."""

    async def main() -> None:
        fleet = Fleet(Settings(workers=1), structlog.get_logger(), (), Notifier())
        with trio.fail_after(3600):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(MultiprocKeeper(directory, fleet).run)
                await scene(fleet)
                nursery.cancel_scope.cancel()

    with structlog.testing.capture_logs() as log:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
    return log


def generation(*workers: int) -> Any:
    return SimpleNamespace(template_pid=1, workers=dict.fromkeys(workers))


def test_a_turn_follows_upon_the_end_of_a_worker(
    tmp_path: Path, open_directory: int, turns: list[float]
) -> None:
    async def scene(fleet: Fleet) -> None:
        fleet.generations.append(generation(2, 3))
        write_file(tmp_path, "counter", 2, 1)
        await trio.sleep(5)
        fleet.generations.append(generation(4))  # a start is none
        fleet.wake_waiters()
        await trio.sleep(1)
        assert names(tmp_path) == ["counter_2.db"]
        del fleet.generations[0].workers[2]
        fleet.wake_waiters()
        await trio.sleep(1)
        assert names(tmp_path) == ["counter_ended-1.db"]

    begin = len(turns)
    assert play(open_directory, scene) == []
    first, *later = turns[begin:]
    assert [round(it - first) for it in later] == [6]


def test_there_are_turns_without_the_end_of_a_worker(
    open_directory: int, turns: list[float]
) -> None:
    async def scene(_fleet: Fleet) -> None:
        await trio.sleep(25)

    assert play(open_directory, scene) == []
    assert [round(it - turns[0]) for it in turns] == [0, 10, 20]


def test_the_end_of_many_workers_is_few_turns(open_directory: int, turns: list[float]) -> None:
    async def scene(fleet: Fleet) -> None:
        fleet.generations.append(generation(*range(2, 22)))
        await trio.sleep(5)
        for number in range(2, 22):
            del fleet.generations[0].workers[number]
            fleet.wake_waiters()
            await trio.sleep(0.025)
        await trio.sleep(1)

    assert play(open_directory, scene) == []
    assert 3 <= len(turns) <= 6


def test_a_failure_is_told_once_and_tried_again(
    tmp_path: Path, open_directory: int, turns: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, failures = FilesOfEnded.fold, iter([True, True, True])

    def failing(self: FilesOfEnded, living: Any) -> Any:
        if next(failures, False):
            raise OSError(28, "No space left on device")
        return fold(self, living)

    monkeypatch.setattr(FilesOfEnded, "fold", failing)
    write_file(tmp_path, "counter", 2, 1)

    async def scene(_fleet: Fleet) -> None:
        await trio.sleep(25)
        assert names(tmp_path) == ["counter_2.db"]
        await trio.sleep(10)
        assert names(tmp_path) == ["counter_ended-1.db"]

    (told,) = play(open_directory, scene)
    assert (told["event"], told["log_level"]) == (CANT, "error")
    assert told["reason"] == "[Errno 28] No space left on device"
    assert len(turns) == 1


def test_a_directory_that_is_gone_does_not_end_the_supervisor(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    descriptor = os.open(tmp_path / "figures", os.O_RDONLY)
    (tmp_path / "figures").rmdir()

    async def scene(_fleet: Fleet) -> None:
        await trio.sleep(25)

    (told,) = play(descriptor, scene)
    assert told["event"] == CANT
    os.close(descriptor)


def test_a_damaged_file_is_told(tmp_path: Path, open_directory: int, turns: list[float]) -> None:
    (tmp_path / "counter_2.db").write_bytes(b"\xff" * 64)

    async def scene(_fleet: Fleet) -> None:
        await trio.sleep(25)

    (told,) = play(open_directory, scene)
    assert len(turns) == 3
    assert told == {
        "event": "a file of prometheus_client is damaged: its figures are left out",
        "log_level": "error",
        "file": "counter_2.db",
        "kept_as": "counter.damaged",
        "reason": "its head has no number of bytes",
    }


def test_a_scrape_that_lasts_is_waited_for(
    tmp_path: Path, open_directory: int, turns: list[float]
) -> None:
    write_file(tmp_path, "counter", 2, 1)
    (tmp_path / LOCK).touch()
    lock = os.open(tmp_path / LOCK, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)

    async def scene(_fleet: Fleet) -> None:
        await trio.sleep(2.5)
        assert names(tmp_path) == ["counter_2.db"]
        os.close(lock)
        await trio.sleep(1)
        assert names(tmp_path) == ["counter_ended-1.db"]

    assert play(open_directory, scene) == []
    assert [round(it - turns[0]) for it in turns] == [0, 1, 2, 3]
