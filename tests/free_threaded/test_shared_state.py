"""What several threads change at once: nothing is lost, and nothing is done twice.

Without the GIL, each of these tests fails where its lock is taken away; with it, they hold anyway.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any, Final

from tests.log_events import PATIENCE_SECONDS, LogEvents
from uwsgibridge.connection.connection import Connection
from uwsgibridge.link.flights import SLOTS, FlightRecorder, make_flight_file
from uwsgibridge.system.interpreter import runs_without_gil
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.telemetry.reporting import Reporter

THREADS: Final = 2
# With the GIL, there is not much to be found.
TIMES: Final = 1000 if runs_without_gil() else 100


def at_once(do: Callable[[int], object], times: int = TIMES) -> None:
    """Do something in two threads, so many times, and each time at the same moment."""
    arrived = [-1] * THREADS

    def run(thread: int) -> None:
        other = THREADS - 1 - thread
        deadline = monotonic() + 6 * PATIENCE_SECONDS
        for number in range(times):
            arrived[thread] = number
            # No lock: who waits at one is woken later than the other goes on.
            while arrived[other] < number:
                assert monotonic() < deadline
                os.sched_yield()
            do(number)
        arrived[thread] = times

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, range(THREADS)))


def test_each_event_is_counted() -> None:
    counters = Counters()

    def count(_number: int) -> None:
        for _ in range(20):
            counters.count_app_error()
            counters.count_client_gone()
            counters.count_refusal("one")

    at_once(count)
    every = THREADS * TIMES * 20
    assert (counters.app_errors, counters.client_gone, counters.refused) == (
        every,
        every,
        {"one": every},
    )


def test_a_warning_of_several_threads_is_logged_once() -> None:
    events = LogEvents()
    logger = make_logger("json", "info", events)
    reporters = [Reporter(None, logger, Counters(), 0) for _ in range(TIMES)]
    at_once(lambda number: reporters[number].bare_bytes())
    assert len(events.find(level="warning")) == TIMES


def test_a_slot_is_freed_once() -> None:
    descriptor = make_flight_file()
    recorder = FlightRecorder(descriptor)
    os.close(descriptor)
    recorded: list[Any] = [SimpleNamespace(slot=None) for _ in range(TIMES)]

    def end_one(ending: list[Any], number: int) -> None:
        recorder.end(ending[number])

    # All slots are taken, and then two threads end each of these requests.
    for begin in range(0, TIMES, SLOTS - 1):
        ending = recorded[begin : begin + SLOTS - 1]
        for one in ending:
            recorder.keep_packet(one)
        at_once(partial(end_one, ending), len(ending))
    assert len({id(slot) for slot in recorder.free_slots}) == len(recorder.free_slots) == SLOTS - 1


def test_slices_of_slots_do_not_disturb_each_other() -> None:
    descriptor = make_flight_file()
    recorder = FlightRecorder(descriptor)
    os.close(descriptor)
    own = deque(recorder.for_another_thread().scratch for _ in range(THREADS * TIMES // 20))

    def slice_own(_number: int) -> None:
        slot = own.popleft()
        for end in range(200):
            assert len(bytes(slot[:end])) == end

    at_once(slice_own, TIMES // 20)


def test_the_fields_of_a_connection_are_read_while_they_change() -> None:
    """A reader gets one of the values that there were, and no object that is deleted already."""
    with_slot = Connection.__new__(Connection)

    def change(number: int) -> None:
        for _ in range(50):
            with_slot.slot = memoryview(bytes(number))
            slot = with_slot.slot
            assert slot is not None
            assert len(slot) <= TIMES

    at_once(change)
