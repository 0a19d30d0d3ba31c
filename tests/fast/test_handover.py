"""The accelerator's queue between threads: items keep their order, none is lost, and no thread sleeps while there are some."""

from __future__ import annotations

import gc
import queue
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.log_events import PATIENCE_SECONDS
from tests.ways import go
from uwsgibridge import fast


@pytest.fixture
def handover() -> Iterator[Any]:
    way = go("accelerated")
    next(way)
    assert fast.accelerator is not None
    yield fast.accelerator.Handover()
    next(way, None)


def test_items_keep_their_order(handover: Any) -> None:
    for start in range(0, 3000, 1000):
        for number in range(start, start + 1000):
            handover.put(number)
        assert [handover.get() for _ in range(500)] == list(range(start, start + 500))
        assert [handover.get_nowait() for _ in range(500)] == list(range(start + 500, start + 1000))
    with pytest.raises(queue.Empty):
        handover.get_nowait()


def test_each_waiting_thread_gets_one(handover: Any) -> None:
    """Although one thread alone is woken by the listener: each has the next one come."""
    everybody = threading.Barrier(9)
    threads = [
        threading.Thread(target=lambda: (handover.get(), everybody.wait(PATIENCE_SECONDS)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for number in range(8):
        handover.put(number)
    everybody.wait(PATIENCE_SECONDS)  # each holds its item until all have one
    for thread in threads:
        thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("interval", [1e-6, 0.005])
def test_nothing_is_lost_among_threads(handover: Any, interval: float) -> None:
    taken: list[int] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:

        def work() -> None:
            while (number := handover.get()) is not None:
                taken.append(number)
                if number % 7 == 0:
                    time.sleep(0)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(20_000):
            handover.put(number)
            if number % 100 == 0:
                time.sleep(0)
        for _ in threads:
            handover.put(None)
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(before)
    assert sorted(taken) == list(range(20_000))


def test_a_queue_in_a_cycle_is_collected() -> None:
    if fast.accelerator is None:
        pytest.skip("there is no accelerator")

    class Item:
        pass

    handover, item = fast.accelerator.Handover(), Item()
    kept = weakref.ref(item)
    handover.put(item)
    handover.put([handover])
    del item, handover
    gc.collect()
    assert kept() is None
