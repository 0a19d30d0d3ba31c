"""Which threads hold up the end of a process: the application's own, and pools that are at work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Iterator

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.worker.holding_threads import threads_holding_exit


def _wait_by_queue(done: threading.Event) -> None:
    waiting: queue.Queue[None] = queue.Queue()
    while not done.is_set():
        try:
            waiting.get(timeout=0.01)
        except queue.Empty:
            continue


def _wait_in_c(done: threading.Event) -> None:
    while not done.is_set():
        time.sleep(0.01)


# How a thread may be at work: in Python, in the waiting of Python's own modules, and in C.
WORK: dict[str, Callable[[threading.Event], object]] = {
    "python": lambda done: [None for _ in iter(done.is_set, True)],
    "event": lambda done: done.wait(PATIENCE_SECONDS),
    "queue": _wait_by_queue,
    "c": _wait_in_c,
}

on_each_work = pytest.mark.parametrize("work", WORK.values(), ids=WORK)


# Those of fixtures that other tests have left running.
_others: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_others() -> Iterator[None]:
    _others.update(threads_holding_exit())
    yield
    _others.clear()


def names() -> list[str]:
    return sorted(it.name for it in threads_holding_exit() if it not in _others)


def until(expected: list[str]) -> None:
    """Wait until these threads hold; a thread is not at its work as soon as it is started."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while names() != expected:
        assert time.monotonic() < deadline, names()
        time.sleep(0)


@pytest.fixture
def done() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@on_each_work
def test_thread_of_the_application_holds_unless_it_is_a_daemon(
    work: Callable[[threading.Event], object], done: threading.Event
):
    threads = [
        threading.Thread(target=work, args=[done], name=name, daemon=name == "daemon")
        for name in ("own", "daemon")
    ]
    for thread in threads:
        thread.start()
    until(["own"])
    done.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    until([])


@looks_at_frames
@on_each_work
def test_thread_of_an_executor_holds_while_it_works(
    work: Callable[[threading.Event], object], done: threading.Event
):
    with concurrent.futures.ThreadPoolExecutor(2, "pool") as executor:
        executor.submit(lambda: None).result(PATIENCE_SECONDS)
        until([])
        running = executor.submit(work, done)
        until(["pool_0"])
        done.set()
        running.result(PATIENCE_SECONDS)
        until([])


@looks_at_frames
@on_each_work
def test_thread_of_anyio_holds_while_it_works(
    work: Callable[[threading.Event], object], done: threading.Event
):
    async def main() -> None:
        await anyio.to_thread.run_sync(lambda: None)
        until([])
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, work, done)
            with anyio.fail_after(PATIENCE_SECONDS):
                while names() != ["AnyIO worker thread"]:
                    await anyio.lowlevel.checkpoint()
            done.set()
        until([])

    asyncio.run(main())


def test_thread_of_trio_is_none_that_python_waits_for(done: threading.Event):
    async def main() -> None:
        await trio.to_thread.run_sync(lambda: None)
        began = threading.Event()

        def work() -> None:
            began.set()
            done.wait(PATIENCE_SECONDS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, work)
            with trio.fail_after(PATIENCE_SECONDS):
                while not began.is_set():
                    await trio.lowlevel.checkpoint()
            assert names() == []
            done.set()

    trio.run(main)
