"""What a worker finds out about itself: where its threads are, and which lines hold its memory."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gil import looks_at_frames
from uwsgibridge.worker import sampling, traced_memory

PATIENCE_SECONDS = 20


@looks_at_frames
def test_a_thread_of_the_application_is_sampled_and_idle_ones_are_not() -> None:
    stop = threading.Event()
    began = threading.Event()

    def outer() -> None:
        began.set()
        inner_of_the_test(stop)

    thread = threading.Thread(target=outer)
    thread.start()
    assert began.wait(PATIENCE_SECONDS)
    with ThreadPoolExecutor(1) as idle:
        idle.submit(int).result(PATIENCE_SECONDS)  # its thread is there, and waits
        try:
            found = sampling.sample(0.05)
        finally:
            stop.set()
    thread.join(PATIENCE_SECONDS)
    assert not any("_worker" in stack[-1] for stack, _ in found["stacks"])
    stacks = [stack for stack, _ in found["stacks"]]
    mine = [it for it in stacks if any("inner_of_the_test" in name for name in it)]
    assert mine
    names = [name.split(" ")[0] for name in mine[0]]
    assert names.index("inner_of_the_test") == next(
        number + 1 for number, name in enumerate(names) if name.endswith("outer")
    )
    assert all(f"({__file__}:" in it[-1] or "threading.py" in it[-1] for it in mine)
    assert found["samples"] >= 1
    assert not any("sampling.py" in name for stack in stacks for name in stack)


def inner_of_the_test(stop: threading.Event) -> None:
    assert stop.wait(PATIENCE_SECONDS)


@looks_at_frames
def test_one_profile_at_a_time() -> None:
    with sampling._one_at_a_time:
        assert sampling.sample(1) == {"error": "this worker is being profiled already"}


@looks_at_frames
def test_too_many_stacks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_MOST_STACKS", 0)
    stop = threading.Event()
    thread = threading.Thread(target=inner_of_the_test, args=(stop,))
    thread.start()
    try:
        found = sampling.sample(0.03)
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
    assert found["stacks"] == []
    assert found["left_out"] >= 1


def test_without_the_gil_nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "runs_without_gil", lambda: True)
    assert "py-spy" in sampling.sample(1)["error"]


@pytest.fixture(params=[1, 3])
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(traced_memory._Baseline, "snapshot", None)
    tracemalloc.start(request.param)
    yield request.param
    tracemalloc.stop()


def test_memory_is_told_by_the_line_that_holds_it(traced: int) -> None:
    first = traced_memory.describe_memory(lines=5, resets=False)
    assert first["since_seconds"] is None
    held = [bytearray(1_000) for _ in range(500)]
    second = traced_memory.describe_memory(lines=5, resets=False)
    assert second["since_seconds"] >= 0
    most = second["lines"][0]
    assert most["place"].startswith(f"{__file__}:")
    assert 500_000 <= most["more_bytes"] <= most["bytes"] + 1
    assert most["more_blocks"] >= 500
    assert bool(most["traceback"]) == (traced > 1)
    # What is held stays told until the baseline is taken anew.
    assert traced_memory.describe_memory(lines=5, resets=True)["lines"][0]["more_bytes"] >= 500_000
    after = traced_memory.describe_memory(lines=5, resets=False)
    assert all(it["more_bytes"] < 100_000 for it in after["lines"])
    assert len(held) == 500


def test_memory_that_is_not_traced_is_an_error() -> None:
    told = traced_memory.describe_memory(lines=5, resets=False)
    assert told == {"error": "memory is not traced: start the service with --tracemalloc 1"}
