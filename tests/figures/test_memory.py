"""The memory that a worker counts in: what is recorded there is read whole, by another process, after a kill."""

from __future__ import annotations

import gc
import json
import mmap
import os
import signal
import sys
from collections.abc import Iterator
from subprocess import PIPE, Popen
from time import process_time
from typing import Final

import pytest

from tests.recorded import recorded, totals_of
from uwsgibridge.figures.layout import CPU_MILLISECONDS, NAMED, NO_MOUNT, TIMES, Layout, outcome_of
from uwsgibridge.figures.memory import FiguresMemory, Recorders
from uwsgibridge.figures.recorder import UNKNOWN
from uwsgibridge.figures.totals import Totals
from uwsgibridge.system.memory_file import make_memory_file

BOUNDS: Final = (0.01, 0.1, 1.0)
LAYOUT: Final = Layout.plan(["", "/api"], BOUNDS, 1)
OK: Final = outcome_of(200, is_complete=True)
SECONDS: Final = (UNKNOWN, 0.005, 0.1, 0.5, 2.0)


@pytest.fixture
def memory() -> FiguresMemory:
    return FiguresMemory(LAYOUT)


@pytest.mark.parametrize(
    ("status", "is_complete", "outcome"),
    [(101, True, 0), (200, True, 1), (404, True, 3), (599, True, 4), (999, True, 4), (200, False, 5), (0, True, 6), (0, False, 6)],
)  # fmt: skip
def test_outcomes(status: int, is_complete: bool, outcome: int) -> None:
    assert outcome_of(status, is_complete=is_complete) == outcome


def test_a_request_is_counted_by_mount_method_and_outcome(memory: FiguresMemory) -> None:
    root, api = Recorders(memory, "/"), Recorders(memory, "/api")
    first, second = root.make(), root.make()
    first.record("GET", OK, 0, 12, SECONDS)
    second.record("GET", OK, 0, 12, SECONDS)
    api.make().record("POST", outcome_of(503, is_complete=True), 5, 40, SECONDS)
    api.shared.record("BREW", outcome_of(0, is_complete=False), 0, 0, (UNKNOWN,) * len(TIMES))
    times = {"frontend": 0, "queue": 2, "application": 2, "send": 2, "total": 2}
    assert recorded(memory) == ({("GET", "2xx"): 2}, 0, 24, times)
    requests, *bodies, measured = recorded(memory, "/api")
    assert requests == {("POST", "5xx"): 1, ("other", "none"): 1}
    assert bodies == [5, 40]
    assert measured["total"] == 1


def test_a_time_falls_into_the_range_that_its_bound_belongs_to(memory: FiguresMemory) -> None:
    Recorders(memory, "/").make().record("GET", OK, 0, 0, SECONDS)
    times = totals_of(memory).mount("/").times
    assert times["frontend"].counts == [0, 0, 0, 0]
    assert times["queue"].counts == [1, 0, 0, 0]
    assert times["application"].counts == [0, 1, 0, 0]  # 0.1 is not above 0.1
    assert times["send"].counts == [0, 0, 1, 0]
    assert times["total"].counts == [0, 0, 0, 1]
    assert times["total"].seconds == pytest.approx(2.0)


def test_an_answer_that_was_about_to_be_sent_counts_for_a_worker_that_was_killed(
    memory: FiguresMemory,
) -> None:
    recorder = Recorders(memory, "/").make()
    memory.make_arrival_cell()[0] += 3
    recorder.record("GET", OK, 0, 0, SECONDS)
    recorder.mark("GET", OK)
    assert recorded(memory)[0] == {("GET", "2xx"): 1}  # as long as the worker lives
    ended = totals_of(memory, has_ended=True)
    assert ended.mount("/").requests == {("GET", "2xx"): 2}
    assert ended.named == {"aborted": 1}


def test_an_answer_that_was_not_sent_whole_is_no_answer(memory: FiguresMemory) -> None:
    recorder = Recorders(memory, "/").make()
    recorder.mark("GET", OK)
    recorder.unmark()
    assert totals_of(memory, has_ended=True).mount("/").requests == {}


def test_a_mark_and_its_record_are_one_request(memory: FiguresMemory) -> None:
    recorder = Recorders(memory, "/").make()
    for _ in range(3):
        recorder.mark("GET", OK)
        recorder.record("GET", OK, 0, 0, SECONDS)
    assert totals_of(memory, has_ended=True).mount("/").requests == {("GET", "2xx"): 3}


def test_more_threads_than_foreseen_lose_no_count(memory: FiguresMemory) -> None:
    recorders = Recorders(memory, "/api")
    for _ in range(50):
        recorders.make().record("GET", OK, 0, 0, SECONDS)
        memory.make_arrival_cell()[0] += 1
    assert recorded(memory, "/api")[0] == {("GET", "2xx"): 50}
    assert totals_of(memory).arrived == 50


def test_what_belongs_to_no_mount_has_a_label_of_its_own(memory: FiguresMemory) -> None:
    Recorders(memory, "/unheard-of").make().record("GET", OK, 0, 0, SECONDS)
    assert recorded(memory, NO_MOUNT)[0] == {("GET", "2xx"): 1}


def test_named_counters(memory: FiguresMemory) -> None:
    memory.named.count("refusal/" + "x" * 60)
    memory.named.count("client_gone", 2)
    assert memory.named.value("client_gone") == 2
    assert totals_of(memory).named == {("refusal/" + "x" * 60)[:40]: 1, "client_gone": 2}


def test_too_many_names_are_one(memory: FiguresMemory) -> None:
    for number in range(NAMED + 10):
        memory.named.count(f"n{number}")
    assert sum(totals_of(memory).named.values()) == NAMED + 10
    assert totals_of(memory).named["other"] == 11


def test_pauses_of_the_garbage_collector_are_recorded(memory: FiguresMemory) -> None:
    before = list(gc.callbacks)
    try:
        memory.watch_collections()
        gc.collect()
    finally:
        gc.callbacks[:] = before
    assert sum(totals_of(memory).own["gc_2"].counts) == 1
    assert sum(totals_of(memory).own["gc_0"].counts) == 0


def test_a_wait_for_the_interpreters_lock_is_recorded(memory: FiguresMemory) -> None:
    memory.sample_gil_wait()
    assert sum(totals_of(memory).own["gil_wait"].counts) == 1


def test_memory_of_another_version_is_left_out() -> None:
    other = bytearray(LAYOUT.size_bytes)
    text = b'{"form": 999}'
    other[:4] = len(text).to_bytes(4, "little")
    other[4 : 4 + len(text)] = text
    for broken in (other, bytearray(len(other)), bytearray(b"\xff" * 100), bytearray()):
        totals = Totals(BOUNDS)
        totals.add_memory(memoryview(broken), has_ended=True)
        assert totals == Totals(BOUNDS)


def test_totals_go_on_through_an_upgrade_with_other_ranges(memory: FiguresMemory) -> None:
    Recorders(memory, "/").make().record("GET", OK, 3, 4, SECONDS)
    memory.named.count("client_gone")
    totals = totals_of(memory)
    told = json.loads(json.dumps(totals.bequeath()))
    assert Totals.of_heritage(told, BOUNDS) == totals
    other = Totals.of_heritage(told, (0.1, 5.0))
    assert other.mount("/").times["queue"].counts == [1, 0, 0]
    assert other.mount("/").times["total"].counts == [0, 0, 1]  # nobody knows how far above 1 s
    other.add_memory(memory.memory, has_ended=False)
    assert other.mount("/").requests == {("GET", "2xx"): 2}
    assert sum(other.mount("/").times["send"].counts) == 2


WRITER = """
import sys, os
from uwsgibridge.figures.layout import Layout
from uwsgibridge.figures.memory import FiguresMemory, Recorders
layout = Layout.plan(["", "/api"], (0.01, 0.1, 1.0), 1)
memory = FiguresMemory(layout, int(sys.argv[1]), 4096)
recorder = Recorders(memory, "/").make()
cell = memory.make_arrival_cell()
for number in range(1000):
    cell[0] += 1
    recorder.record("GET", 1, 1, 2, (-1.0, 0.0, 0.0, 0.0, 0.0))
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = make_memory_file("figures")
    os.ftruncate(made, 4096 + LAYOUT.size_bytes)
    yield made
    os.close(made)


def test_a_kill_loses_no_count(descriptor: int) -> None:
    command = [sys.executable, "-c", WRITER, str(descriptor)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True, pass_fds=[descriptor]) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "done\n"
        writer.send_signal(signal.SIGKILL)
    totals = Totals(BOUNDS)
    with (
        mmap.mmap(descriptor, LAYOUT.size_bytes, prot=mmap.PROT_READ, offset=4096) as mapped,
        memoryview(mapped) as view,
    ):
        totals.add_memory(view, has_ended=True)
    assert totals.arrived == 1000
    assert totals.mount("/").requests == {("GET", "2xx"): 1000}
    assert (totals.mount("/").received_bytes, totals.mount("/").sent_bytes) == (1000, 2000)
    assert totals.named == {}


def test_cpu_time_is_counted_once(memory: FiguresMemory) -> None:
    memory.note_cpu_time()
    first = memory.named.value(CPU_MILLISECONDS)
    memory.note_cpu_time()
    assert 0 <= first <= memory.named.value(CPU_MILLISECONDS) <= process_time() * 1000
