"""What ended processes have left becomes one file for each kind, and each scrape is right meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.prometheus_files import key_of, names, open_file, scrape, write_file
from uwsgibridge.multiproc import ended as ended_module
from uwsgibridge.multiproc import leases
from uwsgibridge.multiproc.ended import FilesOfEnded
from uwsgibridge.multiproc.names import BARRIER

MORE_THAN_A_TURN = 150


@pytest.fixture
def open_directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def files(open_directory: int) -> Iterator[FilesOfEnded]:
    files = FilesOfEnded(open_directory, kept_gauges=2)
    yield files
    files.close()


def fold_all(files: FilesOfEnded) -> None:
    while files.fold(()).has_more:
        pass


@pytest.mark.parametrize("kind", ["counter", "summary", "gauge_sum", "gauge_min", "gauge_max"])
def test_a_scrape_is_the_same_before_and_after(
    tmp_path: Path, files: FilesOfEnded, kind: str
) -> None:
    for number in range(1, 6):
        write_file(tmp_path, kind, number, number, name="requests", path=f"/{number % 2}")
        write_file(tmp_path, kind, f"id-{number}", number, name="others")
    before = scrape(tmp_path)
    assert len(before) == 3
    files.fold(())
    assert names(tmp_path) == [f"{kind}_ended-1.db"]
    assert scrape(tmp_path) == before
    write_file(tmp_path, kind, 7, 7.0, name="others")
    before = scrape(tmp_path)
    files.fold(())
    assert names(tmp_path) == [f"{kind}_ended-2.db"]
    assert scrape(tmp_path) == before


def test_histograms_are_not_accumulated_twice(tmp_path: Path, files: FilesOfEnded) -> None:
    for number in range(3):
        file = open_file(tmp_path, "histogram", number)
        for bound, value in (("0.1", 1), ("1.0", 2), ("+Inf", 4)):
            file.write_value(key_of("seconds", "seconds_bucket", le=bound), value, 0.0)
        file.write_value(key_of("seconds", "seconds_sum"), 2.5, 0.0)
        file.close()
    before = scrape(tmp_path)
    assert before["seconds_bucket,le=1.0"] == 9
    files.fold(())
    files.fold(())
    assert names(tmp_path) == ["histogram_ended-1.db"]
    assert scrape(tmp_path) == before


def test_the_latest_value_of_a_gauge_stays(tmp_path: Path, files: FilesOfEnded) -> None:
    for number, at in ((1, 10.0), (2, 30.0), (3, 20.0)):
        write_file(tmp_path, "gauge_mostrecent", number, number, at=at)
    files.fold(())
    assert scrape(tmp_path) == {"gauge_mostrecent": 2}
    write_file(tmp_path, "gauge_mostrecent", 4, 4, at=25.0)
    files.fold(())
    assert names(tmp_path) == ["gauge_mostrecent_ended-2.db"]
    assert scrape(tmp_path) == {"gauge_mostrecent": 2}


@pytest.mark.parametrize("mode", ["all", "sum", "min", "max", "mostrecent"])
def test_live_gauges_end_with_their_process(tmp_path: Path, files: FilesOfEnded, mode: str) -> None:
    write_file(tmp_path, f"gauge_live{mode}", 1, 5)
    with_process = open_file(tmp_path, f"gauge_live{mode}", 2)
    with_process.write_value(key_of("a"), 1.0, 0.0)
    files.fold(())
    assert names(tmp_path) == [f"gauge_live{mode}_2.db"]
    with_process.close()
    files.fold(())
    assert names(tmp_path) == []


def test_gauges_by_process_stay_for_the_last_ones(tmp_path: Path, files: FilesOfEnded) -> None:
    for number in range(1, 6):
        write_file(tmp_path, "gauge_all", number, number)
        os.utime(tmp_path / f"gauge_all_{number}.db", (number, number))
    living = open_file(tmp_path, "gauge_all", 6)
    files.fold(())
    assert names(tmp_path) == [f"gauge_all_{number}.db" for number in (4, 5, 6)]
    assert scrape(tmp_path) == {"gauge_all,pid=4": 4, "gauge_all,pid=5": 5}
    living.close()


def test_who_has_its_file_open_is_not_folded_whatever_its_name(
    tmp_path: Path, files: FilesOfEnded
) -> None:
    file = open_file(tmp_path, "counter", "worker-1")
    file.write_value(key_of("a"), 1.0, 0.0)
    files.fold(())
    assert names(tmp_path) == ["counter_worker-1.db"]
    file.write_value(key_of("a"), 2.0, 0.0)
    file.close()
    files.fold(())
    assert names(tmp_path) == ["counter_ended-1.db"]
    assert scrape(tmp_path) == {"a": 2}


def test_who_lives_is_not_folded_although_its_file_is_closed(
    tmp_path: Path, files: FilesOfEnded
) -> None:
    write_file(tmp_path, "counter", 4711, 1)
    files.fold([4711])
    assert names(tmp_path) == ["counter_4711.db"]


def test_without_leases_the_number_of_the_process_tells(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_SET_LEASE", -1)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for identifier in (child, os.getpid(), "worker-1"):
        write_file(tmp_path, "counter", identifier, 1)
    files.fold(())
    assert names(tmp_path) == sorted(
        ["counter_ended-1.db", f"counter_{os.getpid()}.db", "counter_worker-1.db"]
    )


def test_who_opens_a_file_that_is_being_folded_goes_on_with_it(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path, "counter", "worker-1", 1)
    opened: list[int] = []

    def open_it() -> None:
        file = open_file(tmp_path, "counter", "worker-1")  # waits for the lease
        file.write_value(key_of("counter"), 2.0, 0.0)
        file.close()

    opener = threading.Thread(target=open_it)
    waits, write = leases.somebody_waits, FilesOfEnded._write

    def write_meanwhile(self: FilesOfEnded, name: str, content: bytes, *, like: int) -> None:
        write(self, name, content, like=like)
        opener.start()
        while not waits(like):  # the kernel tells it without a wait for it
            opened.append(like)

    monkeypatch.setattr(FilesOfEnded, "_write", write_meanwhile)
    assert files.fold(()).was_held_off
    opener.join()
    assert scrape(tmp_path) == {"counter": 2}
    monkeypatch.undo()
    files.fold(())
    assert names(tmp_path) == ["counter_ended-1.db"]
    assert scrape(tmp_path) == {"counter": 2}


def test_many_files_take_several_turns(tmp_path: Path, files: FilesOfEnded) -> None:
    for number in range(MORE_THAN_A_TURN):
        write_file(tmp_path, "counter", number, 1)
        write_file(tmp_path, "gauge_all", number, 1)
    turn = files.fold(())
    assert turn.has_more
    assert len(names(tmp_path)) > MORE_THAN_A_TURN
    fold_all(files)
    assert len(names(tmp_path)) == 3
    assert scrape(tmp_path)["counter"] == MORE_THAN_A_TURN


def test_a_file_of_many_figures_is_read_whole(tmp_path: Path, files: FilesOfEnded) -> None:
    for process in (1, 2):
        file = open_file(tmp_path, "counter", process)
        for number in range(200):
            file.write_value(key_of("a", path=f"/{number}"), number, 0.0)
        file.close()
    files.fold(())
    assert names(tmp_path) == ["counter_ended-1.db"]
    assert scrape(tmp_path) == {f"a,path=/{number}": 2 * number for number in range(200)}


def test_a_damaged_file_is_set_aside(tmp_path: Path, files: FilesOfEnded) -> None:
    for number in (1, 2):
        write_file(tmp_path, "counter", number, 1)
        with (tmp_path / f"counter_{number}.db").open("r+b") as file:
            file.truncate(40)
    write_file(tmp_path, "counter", 3, 1)
    turn = files.fold(())
    assert sorted(it.name for it in turn.damaged) == ["counter_1.db", "counter_2.db"]
    assert {it.kept_as for it in turn.damaged} == {"counter.damaged"}
    assert "its head says" in turn.damaged[0].reason
    assert names(tmp_path) == ["counter_ended-1.db"]
    assert scrape(tmp_path) == {"counter": 1}


def test_a_file_that_was_never_written_is_removed(tmp_path: Path, files: FilesOfEnded) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"")
    (tmp_path / "gauge_livesum_1.db").write_bytes(bytes(65536))
    files.fold(())
    # Their process may be about to open them.
    assert names(tmp_path) == ["counter_1.db", "gauge_livesum_1.db"]
    for name in names(tmp_path):
        os.utime(tmp_path / name, (1, 1))
    files.fold(())
    assert names(tmp_path) == []


def test_other_files_stay(tmp_path: Path, files: FilesOfEnded) -> None:
    (tmp_path / "kept").write_text("by somebody else")
    (tmp_path / "counter_1.db").symlink_to("kept")
    files.fold(())
    assert (tmp_path / "counter_1.db").read_text() == "by somebody else"


def test_the_sums_may_be_read_by_those_who_might_before(
    tmp_path: Path, files: FilesOfEnded
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    (tmp_path / "counter_1.db").chmod(0o640)
    files.fold(())
    assert (tmp_path / "counter_ended-1.db").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_where_the_disk_fails_nothing_is_lost(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    for number in (1, 2):
        write_file(tmp_path, "counter", number, number)
    files.fold(())
    for number in (3, 4):
        write_file(tmp_path, "counter", number, number)
    before = names(tmp_path)
    rename, calls = FilesOfEnded._rename, iter(range(1, 100))

    def failing(self: FilesOfEnded, source: str, target: str) -> None:
        if next(calls) == fails_at:
            raise OSError(5, "Input/output error")
        rename(self, source, target)

    monkeypatch.setattr(FilesOfEnded, "_rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        files.fold(())
    monkeypatch.undo()
    assert names(tmp_path) == before
    assert scrape(tmp_path) == {"counter": 10}
    files.fold(())
    assert names(tmp_path) == ["counter_ended-2.db"]
    assert scrape(tmp_path) == {"counter": 10}


@pytest.mark.parametrize("step", range(1, 6))
def test_a_scrape_in_the_middle_fails_or_is_right(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    files.fold(())
    for number in (2, 3):
        write_file(tmp_path, "counter", number, number)
    rename, calls, seen = FilesOfEnded._rename, iter(range(1, 100)), list[object]()

    def scraping(self: FilesOfEnded, source: str, target: str) -> None:
        rename(self, source, target)
        if next(calls) == step:
            with pytest.raises(FileNotFoundError):
                scrape(tmp_path)
            seen.append(step)

    monkeypatch.setattr(FilesOfEnded, "_rename", scraping)
    files.fold(())
    assert seen == ([step] if step <= 4 else [])  # three files are hidden, and one is shown
    assert scrape(tmp_path) == {"counter": 6}
    assert BARRIER not in names(tmp_path)


def test_a_link_that_was_left_is_removed(tmp_path: Path, open_directory: int) -> None:
    (tmp_path / BARRIER).symlink_to(".uwsgibridge-nothing")
    write_file(tmp_path, "counter", 1, 1)
    FilesOfEnded(open_directory, 0).close()
    assert scrape(tmp_path) == {"counter": 1}


def test_no_scrape_counts_twice_or_goes_back(tmp_path: Path, files: FilesOfEnded) -> None:
    """Processes end, are folded and are scraped by three threads; a scrape may fail, as one outside of a worker does."""
    processes, has_ended = 300, threading.Event()
    problems: list[str] = []

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                problems.append(repr(error))
                raise

        return run

    def count() -> None:
        try:
            for number in range(processes):
                write_file(tmp_path, "counter", number, 1)
        finally:
            has_ended.set()

    def fold() -> None:
        while not has_ended.is_set():
            files.fold(())

    right, seen = [0], [0.0]

    def watch() -> None:
        while not has_ended.is_set():
            try:
                value = scrape(tmp_path).get("counter", 0.0)
            except Exception:  # also of a process that has made its file and has not written it
                continue
            if not seen[-1] <= value <= processes:
                problems.append(f"{value} after {seen[-1]}")
            seen.append(value)
            right[0] += 1

    threads = [threading.Thread(target=guarded(it)) for it in (count, fold, watch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fold_all(files)
    assert problems == []
    assert right[0] > 0
    assert scrape(tmp_path) == {"counter": processes}
    assert len(names(tmp_path)) == 1


def test_a_turn_has_a_bound(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_file(tmp_path, "counter", number, 1)
    times = iter([0.0, 0.1, 100.0, 100.0])
    monkeypatch.setattr(ended_module, "monotonic", lambda: next(times))
    assert files.fold(()).has_more
    assert len(names(tmp_path)) == 3  # one of them has become the sum
    assert scrape(tmp_path) == {"counter": 3}
