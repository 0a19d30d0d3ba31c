"""Figures of processes: compared with what the process itself knows, and None where there is none."""

from __future__ import annotations

import mmap
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from uwsgibridge.system.process_figures import cpu_seconds, rss_bytes

MIB = 1_048_576
PATIENCE_SECONDS = 60.0

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc as Linux has it")


def used_seconds() -> float:
    times = os.times()
    return times.user + times.system


@linux_only
def test_memory_that_is_used_counts() -> None:
    before = rss_bytes(os.getpid())
    block = b"x" * (64 * MIB)
    after = rss_bytes(os.getpid())
    assert before is not None
    assert after is not None
    assert 48 * MIB < after - before < 80 * MIB
    assert len(block) == 64 * MIB  # and so it lived until here


@linux_only
def test_memory_that_is_only_reserved_does_not_count() -> None:
    before = rss_bytes(os.getpid())
    with mmap.mmap(-1, 256 * MIB):
        after = rss_bytes(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before < 16 * MIB


@linux_only
def test_cpu_time_is_what_the_process_has_used() -> None:
    while used_seconds() < 0.1:
        pass
    # A child's time does not count.
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    subprocess.run([sys.executable, "-c", burn], timeout=PATIENCE_SECONDS, check=True)
    before = used_seconds()
    told = cpu_seconds(os.getpid())
    after = used_seconds()
    assert told is not None
    assert before - 0.001 <= told <= after + 0.001


@linux_only
def test_a_name_with_parentheses_and_spaces_is_read_over() -> None:
    """It stands before the figures, as it is."""
    comm = Path("/proc/self/comm")
    name = comm.read_text()
    comm.write_text("a) R 1 (b) 9 9")
    try:
        before = used_seconds()
        told = cpu_seconds(os.getpid())
        after = used_seconds()
    finally:
        comm.write_text(name)
    assert told is not None
    assert before - 0.001 <= told <= after + 0.001


@linux_only
def test_the_figures_of_another_process_are_read() -> None:
    script = "b = b'x' * (32 << 20)\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()  # its memory is filled
            memory, cpu = rss_bytes(process.pid), cpu_seconds(process.pid)
        finally:
            process.kill()
    assert memory is not None
    assert 32 * MIB < memory < 128 * MIB
    assert cpu is not None
    assert 0.0 <= cpu < PATIENCE_SECONDS
    # It has been waited for.
    assert rss_bytes(process.pid) is None
    assert cpu_seconds(process.pid) is None


@linux_only
def test_a_zombie_has_no_memory_but_its_time() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        ended = os.pidfd_open(process.pid)
        try:
            assert select.select([ended], [], [], PATIENCE_SECONDS)[0]
        finally:
            os.close(ended)
        assert rss_bytes(process.pid) == 0
        assert cpu_seconds(process.pid) is not None
    finally:
        process.wait(PATIENCE_SECONDS)


def test_a_missing_process_has_no_figures() -> None:
    too_high = 2**22 + 1  # PID_MAX_LIMIT of linux/threads.h
    assert rss_bytes(too_high) is None
    assert cpu_seconds(too_high) is None
