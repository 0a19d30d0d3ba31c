"""Thousands of workers that count by prometheus_client and end, with the keeper and without; `pytest -s` shows the figures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from integration.soak.prometheus_workers import PATHS
from tests.prometheus_files import names, scrape
from uwsgibridge.multiproc.directory import hold_directory
from uwsgibridge.multiproc.ended import FilesOfEnded

Record = Callable[[str, object], None]

KEPT_GAUGES: Final = 16
# One for each of two kinds, the gauges that are kept, and what the process has itself that forks the workers.
MOST_FILES: Final = 2 + KEPT_GAUGES + 4
MOST_SCRAPE_SECONDS: Final = 0.05


@pytest.fixture
def figures(tmp_path: Path) -> Iterator[Path]:
    with hold_directory(str(tmp_path / "figures"), None):
        yield tmp_path / "figures"


def run_workers(directory: Path, workers: int, meanwhile: Callable[[], object]) -> None:
    """Have workers come and go, and do something meanwhile, again and again."""
    process = subprocess.Popen(
        [sys.executable, "-m", "integration.soak.prometheus_workers", str(workers)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )
    while process.poll() is None:
        meanwhile()
    assert process.returncode == 0


def seconds_of_scrape(directory: Path, times: int = 5) -> float:
    """Measure the median of some scrapes."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        scrape(directory)
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[times // 2]


def show(record_property: Record, name: str, workers: int, directory: Path) -> tuple[int, float]:
    files, seconds = (
        len(names(directory)),
        seconds_of_scrape(directory, 1 if name == "without" else 5),
    )
    said = f"{workers} workers: {files} files, {1000 * seconds:.1f} ms a scrape"
    record_property(name, said)
    sys.stdout.write(f"\n{name} the keeper: {said}\n")
    return files, seconds


def keep(directory: Path, workers: int) -> None:
    with ExitStack() as stack:
        descriptor = os.open(directory, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        files = stack.enter_context(closing(FilesOfEnded(descriptor, KEPT_GAUGES)))
        most = [0]

        def fold() -> None:
            most.append(len(names(directory)))
            files.fold(())
            time.sleep(0.02)  # the supervisor waits longer between two turns

        run_workers(directory, workers, fold)
        while files.fold(()).has_more:
            pass
    told = scrape(directory)
    for path in range(PATHS):
        assert told[f"requests_total,path=/{path},status=200"] == workers
        assert told[f"seconds_count,path=/{path}"] == workers
        assert told[f"seconds_bucket,le=0.5,path=/{path}"] == workers
        assert told[f"seconds_sum,path=/{path}"] == workers / 2
    assert "running" not in told
    assert max(most) < 1000


@pytest.mark.soak
def test_ten_thousand_workers(figures: Path, record_property: Record) -> None:
    keep(figures, 10_000)
    files, seconds = show(record_property, "with", 10_000, figures)
    assert files <= MOST_FILES
    assert seconds < MOST_SCRAPE_SECONDS


@pytest.mark.soak
def test_ten_thousand_workers_without_the_keeper(tmp_path: Path, record_property: Record) -> None:
    run_workers(tmp_path, 10_000, lambda: time.sleep(0.1))
    files, seconds = show(record_property, "without", 10_000, tmp_path)
    # Else the keeper is not needed any more.
    assert files > 10_000
    assert seconds > MOST_SCRAPE_SECONDS


def test_hundred_workers(figures: Path) -> None:
    keep(figures, 100)
    assert len(names(figures)) <= MOST_FILES
