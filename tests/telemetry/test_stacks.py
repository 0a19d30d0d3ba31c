"""Where an application is, shown without our own frames."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import uwsgibridge
from tests.gil import looks_at_frames
from uwsgibridge.telemetry.stacks import await_stack, own_stack, own_traceback, stacks_of_threads

PATIENCE_SECONDS = 20.0


def test_a_traceback_of_nothing_but_others_frames_is_only_the_error() -> None:
    error = ValueError("why")
    assert own_traceback(error) == "ValueError: why"
    try:
        raise error
    except ValueError:
        assert own_traceback(error).startswith("Traceback (most recent call last):\n  File")


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_chain_may_be_longer_than_calls_may_be_deep(link: str) -> None:
    error = ValueError("first")
    for number in range(sys.getrecursionlimit() + 200):
        following = ValueError(number)
        setattr(following, link, error)
        error = following
    text = own_traceback(error)
    assert text.startswith("ValueError: first\n")
    assert text.endswith(f"ValueError: {number}")


def call_through_our_package(function: Callable[[], FrameType | None]) -> FrameType | None:
    """Call it from a frame that has its code in the package, as a host does."""
    call = code_in_our_package("def call(function):\n    return function()\n")["call"]
    frame: FrameType | None = call(function)
    return frame


def code_in_our_package(code: str) -> dict[str, Callable[..., Any]]:
    """Execute code as if its file were one of the package."""
    file = Path(uwsgibridge.__file__).parent / "hosts" / "in_a_test.py"
    namespace: dict[str, Callable[..., Any]] = {}
    exec(compile(code, file, "exec"), namespace)
    return namespace


class TestStacks:
    """Where an application is that does not come back."""

    def test_a_thread_is_shown_from_the_applications_first_frame(self) -> None:
        def view() -> FrameType | None:
            return query_of_the_view()

        def query_of_the_view() -> FrameType | None:
            return inspect.currentframe()

        frame = call_through_our_package(view)
        assert frame is not None
        lines = own_stack(frame).splitlines()
        assert [line.split()[-1] for line in lines if line.startswith("  File ")] == [
            "view",
            "query_of_the_view",
        ]
        assert all(__file__ in line for line in lines if line.startswith("  File "))

    def test_a_thread_that_none_of_ours_has_started_is_shown_whole(self) -> None:
        frame = inspect.currentframe()
        assert frame is not None
        text = own_stack(frame)
        assert text.endswith("text = own_stack(frame)")
        assert "pytest" in text

    def test_a_thread_that_is_in_our_code_is_shown_whole(self) -> None:
        frames = []

        def keep() -> FrameType | None:
            frame = inspect.currentframe()
            assert frame is not None
            frames.append(frame.f_back)
            return frame

        call_through_our_package(keep)
        (frame,) = frames
        assert frame is not None
        text = own_stack(frame)
        assert "in_a_test.py" in text.splitlines()[-1]
        assert __file__ in text

    def test_a_task_of_asyncio_is_shown_where_it_waits(self) -> None:
        async def view(event: asyncio.Event) -> None:
            await query_of_the_view(event)

        async def query_of_the_view(event: asyncio.Event) -> None:
            await event.wait()

        async def main() -> str:
            event = asyncio.Event()
            async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                task = group.create_task(view(event))
                await asyncio.sleep(0)
                text = await_stack(task)
                event.set()
            assert await_stack(task) == ""
            return text

        lines = asyncio.run(main()).splitlines()
        names = [line.split()[-1] for line in lines if line.startswith("  File ")]
        assert names[:2] == ["view", "query_of_the_view"]
        assert "await event.wait()" in lines[3]

    def test_frames_of_ours_are_left_out_of_a_task(self) -> None:
        async def main() -> str:
            event = asyncio.Event()
            namespace = code_in_our_package("async def run(app):\n    await app()\n")

            async def application() -> None:
                await event.wait()

            async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                task = group.create_task(namespace["run"](application))
                await asyncio.sleep(0)
                text = await_stack(task)
                event.set()
            return text

        text = asyncio.run(main())
        assert "in application" in text.splitlines()[0]
        assert "in_a_test.py" not in text

    @looks_at_frames
    def test_threads_that_do_the_same_share_an_entry_and_idle_ones_come_last(self) -> None:
        """What is too long is cut at its end: that may not be the thread that hangs."""
        gate = threading.Lock()

        def hang_in_the_application() -> None:
            gate.acquire()
            gate.release()

        def hangs(thread: threading.Thread) -> bool:
            frame = sys._current_frames().get(thread.ident or 0)
            return frame is not None and frame.f_code.co_name in {"call", "hang_in_the_application"}

        # The innermost frame is one of ours, as in a thread that waits for a request.
        namespace = code_in_our_package("def call(gate):\n    gate.acquire()\n    gate.release()\n")
        idle = [
            threading.Thread(target=namespace["call"], args=[gate], name=f"idle-{n}")
            for n in range(2)
        ]
        busy = threading.Thread(target=hang_in_the_application, name="busy")
        everyone = [*idle, busy]
        with gate:
            for thread in everyone:
                thread.start()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not all(hangs(thread) for thread in everyone):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            entries = stacks_of_threads()
        for thread in everyone:
            thread.join(PATIENCE_SECONDS)
        heads = [entry.splitlines()[0] for entry in entries]
        assert "Threads idle-0, idle-1:" in heads
        assert heads.index("Thread busy:") < heads.index("Threads idle-0, idle-1:")

    def test_other_libraries_tell_nothing(self) -> None:
        assert await_stack(object()) == ""
