"""Useless wake-ups in what strace prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.spreading import Trace, find_strace

EAGAIN = "-1 EAGAIN (Resource temporarily unavailable)"
WAIT = "{0} epoll_wait(4, [{{events=EPOLLIN}}], 64, 1000) = 1"
ACCEPT = "{0} accept4(5, 0x0, NULL, SOCK_CLOEXEC) = 9"
NONE = f"{{0}} accept4(5, 0x0, NULL, SOCK_CLOEXEC) = {EAGAIN}"


def trace_of(*lines: str) -> tuple[int, int]:
    trace = Trace()
    trace.read(lines)
    return trace.useless, trace.accepted


def test_a_wake_up_that_finds_a_connection_is_of_use_also_where_the_next_try_finds_none() -> None:
    one = "11 "
    assert trace_of(WAIT.format(one), ACCEPT.format(one), ACCEPT.format(one), NONE.format(one)) == (
        0,
        2,
    )


def test_a_wake_up_that_finds_none_is_useless_and_counted_once() -> None:
    one = "11 "
    assert trace_of(WAIT.format(one), NONE.format(one), NONE.format(one)) == (1, 0)
    assert trace_of(*[WAIT.format(one), NONE.format(one)] * 3) == (3, 0)


def test_threads_are_told_apart() -> None:
    one, other = "11 ", "22 "
    assert trace_of(
        WAIT.format(one), WAIT.format(other), ACCEPT.format(one), NONE.format(other)
    ) == (1, 1)


def test_a_wait_that_ended_by_time_is_no_wake_up() -> None:
    assert trace_of("11 epoll_wait(4, [], 64, 1000) = 0", NONE.format("11 ")) == (0, 0)


@pytest.mark.parametrize("wait", ["select", "poll", "epoll_pwait"])
def test_calls_that_strace_prints_in_two_parts_and_other_waits_are_known(wait: str) -> None:
    assert trace_of(
        f"11 {wait}(4, <unfinished ...>",
        f"11 <... {wait} resumed>[5]) = 1 (in [5])",
        "11 accept4(5,  <unfinished ...>",
        f"11 <... accept4 resumed>0x0, NULL, SOCK_CLOEXEC) = {EAGAIN}",
        "11 +++ exited with 0 +++",
    ) == (1, 0)


def test_where_strace_is_missing_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(BenchmarkError, match="apt-get install strace"):
        find_strace()
