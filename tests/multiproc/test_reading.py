"""A scrape in a worker is repeated where the directory has changed meanwhile."""

from __future__ import annotations

import fcntl
import importlib
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, multiprocess

from tests.prometheus_files import figures_of, names, write_file
from uwsgibridge.multiproc import reading
from uwsgibridge.multiproc.ended import FilesOfEnded
from uwsgibridge.multiproc.names import LOCK
from uwsgibridge.multiproc.reading import repeat_failed_scrapes

NAME = "prometheus_client.multiprocess"


@pytest.fixture(autouse=True)
def unchanged_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = multiprocess.MultiProcessCollector
    monkeypatch.setattr(collector, "collect", collector.collect)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FilesOfEnded]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    files = FilesOfEnded(descriptor, kept_gauges=0)
    yield files
    files.close()
    os.close(descriptor)


def scrape(directory: Path) -> dict[str, float]:
    return figures_of(
        multiprocess.MultiProcessCollector(CollectorRegistry(), str(directory)).collect()
    )


def fail_first(monkeypatch: pytest.MonkeyPatch, times: int, error: Exception) -> list[int]:
    """Have the scrapes fail that come first; gives a list that has one more number for each scrape."""
    collect, calls = multiprocess.MultiProcessCollector.collect, list[int]()

    def failing(self: Any) -> Any:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return collect(self)

    monkeypatch.setattr(multiprocess.MultiProcessCollector, "collect", failing)
    return calls


@pytest.mark.parametrize("error", [FileNotFoundError("counter_1.db"), struct.error("4 bytes")])
def test_it_is_repeated(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    calls = fail_first(monkeypatch, 2, error)
    repeat_failed_scrapes(str(tmp_path))
    assert scrape(tmp_path) == {"counter": 1}
    assert len(calls) == 3


def test_an_error_that_stays_is_raised(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_first(monkeypatch, 100, FileNotFoundError("counter_1.db"))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    repeat_failed_scrapes(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"counter_1\.db"):
        scrape(tmp_path)
    assert len(calls) == 1 + len(reading._PAUSES_SECONDS) + 1


def test_another_error_is_not_repeated(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_first(monkeypatch, 100, RuntimeError("corrupted"))
    repeat_failed_scrapes(str(tmp_path))
    with pytest.raises(RuntimeError):
        scrape(tmp_path)
    assert len(calls) == 1


def test_nothing_changes_while_it_is_repeated(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    collector = multiprocess.MultiProcessCollector
    collect, outcomes = collector.collect, list[Any]()

    def folding(self: Any) -> Any:
        outcomes.append(files.fold(()).was_held_off)
        if len(outcomes) == 1:
            raise FileNotFoundError
        return collect(self)

    monkeypatch.setattr(collector, "collect", folding)
    repeat_failed_scrapes(str(tmp_path))
    write_file(tmp_path, "counter", 2, 1)
    files_before = len(names(tmp_path))
    write_file(tmp_path, "counter", 3, 1)

    def write_and_fold(self: Any) -> Any:
        write_file(tmp_path, "counter", f"x{len(outcomes)}", 1)
        return folding(self)

    monkeypatch.setattr(collector, "collect", reading._repeating(write_and_fold, str(tmp_path)))
    assert scrape(tmp_path) == {"counter": 5}
    assert outcomes == [False, True]
    assert files_before == 2
    assert not files.fold(()).was_held_off


def test_a_process_that_is_forked_meanwhile_keeps_nothing(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    waiting, end = os.pipe()
    collector = multiprocess.MultiProcessCollector
    collect, children = collector.collect, list[int]()

    def forking(self: Any) -> Any:
        children.append(os.fork())
        if children[-1] == 0:
            os.close(end)
            os.read(waiting, 1)
            os._exit(0)
        if len(children) == 1:
            raise FileNotFoundError
        return collect(self)

    monkeypatch.setattr(collector, "collect", forking)
    repeat_failed_scrapes(str(tmp_path))
    assert scrape(tmp_path) == {"counter": 1}
    assert not files.fold(()).was_held_off
    os.close(end)
    for child in children:
        os.waitpid(child, 0)
    os.close(waiting)


def test_it_waits_for_the_end_of_a_change(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    fail_first(monkeypatch, 1, FileNotFoundError())
    repeat_failed_scrapes(str(tmp_path))
    waits = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda _: waits.set())
    scraped: list[dict[str, float]] = []
    lock = os.open(tmp_path / LOCK, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = threading.Thread(target=lambda: scraped.append(scrape(tmp_path)))
    thread.start()
    assert waits.wait(10)
    assert scraped == []
    os.close(lock)
    thread.join(10)
    assert scraped == [{"counter": 1}]


def test_it_does_not_wait_for_ever(
    tmp_path: Path, files: FilesOfEnded, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    fail_first(monkeypatch, 1, FileNotFoundError())
    repeat_failed_scrapes(str(tmp_path))
    monkeypatch.setattr(reading, "_PATIENCE_SECONDS", 0.0)
    lock = os.open(tmp_path / LOCK, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert scrape(tmp_path) == {"counter": 1}  # as it would without a lock
    os.close(lock)


def test_without_a_lock_it_is_repeated_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path, "counter", 1, 1)
    fail_first(monkeypatch, 1, FileNotFoundError())
    repeat_failed_scrapes(str(tmp_path))
    assert scrape(tmp_path) == {"counter": 1}


def test_the_module_is_changed_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, NAME)
    repeat_failed_scrapes(str(tmp_path))
    assert NAME not in sys.modules
    finders = len(sys.meta_path)
    module = importlib.import_module(NAME)
    assert hasattr(module.MultiProcessCollector.collect, "__wrapped__")
    assert len(sys.meta_path) == finders - 1
    monkeypatch.setattr("prometheus_client.multiprocess", multiprocess)


def test_without_the_package_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_MODULE", "there_is_no_such_module")
    repeat_failed_scrapes(str(tmp_path))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("there_is_no_such_module")
