"""Where an application is, shown without our own frames."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType

import pytest

import uwsgibridge
from uwsgibridge.hosts.stacks import await_stack, own_stack, own_traceback

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
    file = Path(uwsgibridge.__file__).parent / "hosts" / "in_a_test.py"
    namespace: dict[str, Callable[..., FrameType | None]] = {}
    exec(compile("def call(function):\n    return function()\n", file, "exec"), namespace)
    return namespace["call"](function)


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
            file = Path(uwsgibridge.__file__).parent / "hosts" / "in_a_test.py"
            namespace: dict[str, Callable[..., Coroutine[None, None, None]]] = {}
            exec(compile("async def run(app):\n    await app()\n", file, "exec"), namespace)

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

    def test_other_libraries_tell_nothing(self) -> None:
        assert await_stack(object()) == ""
