"""Tells a demo ASGI application which event loop runs it, and waits on that loop.

The server chooses the loop (`serve --loop`). Frameworks have anyio for this, but the page must need no framework.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import trio


class Event(Protocol):
    """What the events of trio and asyncio have in common."""

    def set(self) -> None:
        """Wake everybody who waits."""

    def wait(self) -> Awaitable[object]:
        """Wait until the event is set."""


def loop_name() -> str:
    """Return "trio", "uvloop" or "asyncio"."""
    if trio.lowlevel.in_trio_task():
        return "trio"
    is_uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    return "uvloop" if is_uvloop else "asyncio"


async def sleep(seconds: float) -> None:
    """Sleep on the loop that runs the caller."""
    if trio.lowlevel.in_trio_task():
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def make_event() -> Event:
    """Return an event of the loop that runs the caller."""
    return trio.Event() if trio.lowlevel.in_trio_task() else asyncio.Event()


async def run_both(
    first: Callable[[], Coroutine[Any, Any, None]], second: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run two functions side by side until both are done.

    Raises:
        BaseExceptionGroup: one function has failed, and the other was cancelled.
    """
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await second()
    else:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first())
            await second()
