"""The event loop that a demo ASGI application finds itself on: its name, and how to wait on it.

The choice is the server's (`serve --loop`). Frameworks bring anyio for this; the page shall need no framework.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import trio


class Event(Protocol):
    """What the events of trio and asyncio have in common."""

    def set(self) -> None:
        """Let everybody go on who waits."""

    def wait(self) -> Awaitable[object]:
        """Wait until it is set."""


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
        BaseExceptionGroup: one of them has failed; the other was cancelled.
    """
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await second()
    else:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first())
            await second()
