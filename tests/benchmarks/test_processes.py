"""What the benchmark starts it stops, and what doesn't start is explained by its own log."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.processes import running

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from benchmarks.processes import Process

ALL_CPUS = os.sched_getaffinity(0)


def started(
    code: str, *, cpus: set[int] = ALL_CPUS, ready_seconds: float = 20.0
) -> AbstractContextManager[Process]:
    return running(
        "the server",
        [sys.executable, "-u", "-c", code],
        cwd=Path.cwd(),
        ready_text="listening",
        cpus=cpus,
        ready_seconds=ready_seconds,
    )


def ends(pidfd: int) -> bool:
    """Wait for the end of a process, with a deadline."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(10_000))


def test_it_runs_until_the_end_of_the_block() -> None:
    with started("print('now listening'); import time; time.sleep(600)") as process:
        process.require_alive()
        pidfd = os.pidfd_open(process.session)
    try:
        assert ends(pidfd)
    finally:
        os.close(pidfd)


def test_an_exception_in_the_block_stops_it_too() -> None:
    pidfds = []

    def interrupted_run() -> None:
        with started("print('listening'); import time; time.sleep(600)") as process:
            pidfds.append(os.pidfd_open(process.session))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    try:
        assert ends(pidfds[0])
    finally:
        os.close(pidfds[0])


def test_children_that_ignore_the_signal_are_killed_with_it() -> None:
    code = """
import os, signal, time
if (pid := os.fork()) == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("child", os.getpid())
    print("listening")
    time.sleep(600)
time.sleep(600)
"""
    with started(code) as process:
        pid = int(process.log_tail.split()[1])
        pidfd = os.pidfd_open(pid)
    try:
        assert ends(pidfd)
    finally:
        os.close(pidfd)


def test_what_ends_while_starting_is_explained_by_its_log() -> None:
    with (
        pytest.raises(BenchmarkError, match="the server ended while starting") as caught,
        started("import sys; sys.exit('address in use')"),
    ):
        pytest.fail("it did not start")
    assert "address in use" in str(caught.value)


def test_what_does_not_get_ready_is_stopped_at_the_deadline() -> None:
    with (
        pytest.raises(BenchmarkError, match=r"did not log 'listening' within 0\.5 s"),
        started("import time; time.sleep(600)", ready_seconds=0.5),
    ):
        pytest.fail("it never was ready")


def test_what_can_not_be_started_is_named() -> None:
    with (
        pytest.raises(BenchmarkError, match=r"wrk can't be started: .*no-such-program"),
        running("wrk", ["no-such-program"], cwd=Path.cwd(), ready_text="x", cpus=ALL_CPUS),
    ):
        pytest.fail("there is no such program")


def test_an_end_during_the_run_is_noticed() -> None:
    with started("print('listening'); print('out of memory'); input()") as process:
        # Its stdin is empty, so it ends by itself.
        pidfd = os.pidfd_open(process.session)
        try:
            assert ends(pidfd)
        finally:
            os.close(pidfd)
        with pytest.raises(BenchmarkError, match="the server ended during the run"):
            process.require_alive()


def test_it_is_kept_on_its_cpus_and_the_benchmark_is_not() -> None:
    cpu = max(ALL_CPUS)
    code = "import os; print(os.sched_getaffinity(0), 'listening'); import time; time.sleep(600)"
    with started(code, cpus={cpu}) as process:
        assert process.log_tail == f"{{{cpu}}} listening"
    assert os.sched_getaffinity(0) == ALL_CPUS
