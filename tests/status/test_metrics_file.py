"""The file for node_exporter is whole at each moment, and says when it can't be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.log_events import LogEvents
from tests.status.conftest import Service, settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.status.metrics_file import MetricsFile, require_writable
from uwsgibridge.telemetry.logs import Logger


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "bridge.prom"


def made(counted: Service, logger: Logger, place: Path) -> MetricsFile:
    return MetricsFile(counted.sources, settings(metrics_file=str(place)), logger)


def test_it_is_replaced_as_a_whole(counted: Service, logger: Logger, place: Path) -> None:
    file = made(counted, logger, place)
    counted.requests = 1
    trio.run(file.write)
    with place.open() as first:
        counted.requests = 2
        trio.run(file.write)
        assert first.read().endswith("test_requests_total 1\n")
    assert place.read_text().endswith("test_requests_total 2\n")
    assert list(place.parent.iterdir()) == [place]
    assert place.stat().st_mode & 0o044 == 0o044  # node_exporter is another user


def test_it_is_written_again_and_again(counted: Service, logger: Logger, place: Path) -> None:
    file = made(counted, logger, place)

    read: list[str] = []

    def look() -> None:
        read.append(place.read_text())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.run)
            await trio.sleep(1)
            for counted.requests in (5, 6):
                await trio.sleep(15)
                look()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [it.splitlines()[-1] for it in read] == [
        "test_requests_total 5",
        "test_requests_total 6",
    ]
    file.remove()
    assert not place.exists()


def test_a_failure_is_one_event_and_its_end_another(
    counted: Service, logger: Logger, log: LogEvents, place: Path
) -> None:
    file = made(counted, logger, place)
    place.mkdir()
    trio.run(file.write)
    trio.run(file.write)
    assert list(place.parent.iterdir()) == [place]
    place.rmdir()
    trio.run(file.write)
    trio.run(file.write)
    [failed] = log.find(event="metrics file can't be written")
    assert (failed["path"], failed["reason"]) == (str(place), "Is a directory")
    assert len(log.find(event="metrics file is written again")) == 1


def test_a_fault_in_the_figures_keeps_the_file(
    counted: Service, logger: Logger, log: LogEvents, place: Path
) -> None:
    file = made(counted, logger, place)
    trio.run(file.write)
    counted.fault = RuntimeError("no figures")
    trio.run(file.write)
    assert place.exists()
    log.wait(event="figures can't be collected")


def test_what_a_killed_process_has_left_is_no_obstacle(
    counted: Service, logger: Logger, place: Path
) -> None:
    (place.parent / ".bridge.prom.part").write_text("half")
    trio.run(made(counted, logger, place).write)
    assert list(place.parent.iterdir()) == [place]


def test_a_link_in_the_place_of_what_is_being_written_is_not_followed(
    counted: Service, logger: Logger, place: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / ".bridge.prom.part").symlink_to(other)
    trio.run(made(counted, logger, place).write)
    assert other.read_text() == "precious"
    assert place.read_text().endswith("test_requests_total 0\n")


def test_a_place_that_can_be_written_is_left_as_it_is(place: Path) -> None:
    require_writable(settings(metrics_file=str(place)))
    assert list(place.parent.iterdir()) == []


def test_a_missing_directory_ends_a_start(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^--metrics-file .*: there is no directory .*; create it first$"
    ):
        require_writable(settings(metrics_file=f"{tmp_path}/nowhere/x.prom"))
    with pytest.raises(SettingsError, match=r": it is a directory$"):
        require_writable(settings(metrics_file=str(tmp_path)))
    with pytest.raises(SettingsError, match=r"is no path that a file can have$"):
        require_writable(settings(metrics_file=f"{tmp_path}/\0"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do harm for others")
def test_root_writes_nothing_where_others_can_put_a_link(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65_534, 65_534)
    with pytest.raises(SettingsError, match="root writes this file"):
        require_writable(settings(metrics_file=f"{theirs}/x.prom"))
