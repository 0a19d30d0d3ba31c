"""CPU time is counted for all of a server: children, threads, those that have ended, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from benchmarks.cpu_time import ProcessStat, cpu_nanoseconds, parse_stat, session_members

if TYPE_CHECKING:
    from collections.abc import Iterator

BURN = """
import os, sys, threading, time

def burn(clock=time.process_time):
    end = clock() + 0.2
    while clock() < end:
        pass

{how}
print("done", flush=True)
sys.stdin.read()
"""

HOWS = {
    "main thread": "burn()",
    "thread that has ended": (
        "thread = threading.Thread(target=burn, args=[time.thread_time]);"
        " thread.start(); thread.join()"
    ),
    "child that has ended": """
if os.fork() == 0:
    burn()
    os._exit(0)
os.wait()
""",
    "child that goes on": """
ready, told = os.pipe()
if os.fork() == 0:
    burn()
    os.write(told, b"x")
    sys.stdin.read()
    os._exit(0)
os.read(ready, 1)
""",
    "child in a session of its own": """
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    burn()
    os.write(told, b"x")
    sys.stdin.read()
    os._exit(0)
os.read(ready, 1)
""",
}


@contextmanager
def burning(how: str) -> Iterator[int]:
    """Start a session whose processes use 0.2 s of CPU; yield its number once they have."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN.format(how=how)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"done\n"
            yield process.pid
        finally:
            process.stdin.close()
            process.wait(timeout=30)


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS.keys())
def test_time_is_counted_wherever_it_was_used(how: str) -> None:
    with burning(how) as session:
        used = cpu_nanoseconds(session) / 1e9
    # The rest is the interpreter's start, and a clock tick for what has ended.
    assert 0.18 < used < 1.0


def test_a_session_without_processes_has_used_nothing() -> None:
    with burning(HOWS["main thread"]) as session:
        pass
    assert cpu_nanoseconds(session) == 0


def test_the_time_of_others_is_not_counted() -> None:
    with burning(HOWS["main thread"]) as session:
        before = cpu_nanoseconds(session)
        with burning(HOWS["main thread"]):
            pass
        assert cpu_nanoseconds(session) - before < 50_000_000


def test_a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    rest = "S 7 8 9 0 -1 4194560 1 2 3 4 5 6 250 50 20 0 1 0 123 456 789"
    stat = parse_stat(f"42 (a) R 1 (b c) {rest}\n")
    ticks = os.sysconf("SC_CLK_TCK")
    assert stat == ProcessStat(
        pid=42, parent=7, session=9, ended_children_nanoseconds=300 * 1_000_000_000 // ticks
    )


def test_members_are_the_session_and_all_its_descendants() -> None:
    processes = [
        # A grandchild in a session of its own, listed ahead of its parent.
        ProcessStat(30, parent=20, session=30, ended_children_nanoseconds=0),
        ProcessStat(10, parent=1, session=10, ended_children_nanoseconds=0),
        ProcessStat(20, parent=10, session=20, ended_children_nanoseconds=0),
        # Its parent has ended, so it was given to process 1, but the session is still the same.
        ProcessStat(40, parent=1, session=10, ended_children_nanoseconds=0),
        ProcessStat(50, parent=1, session=50, ended_children_nanoseconds=0),
    ]
    assert {process.pid for process in session_members(10, processes)} == {10, 20, 30, 40}
