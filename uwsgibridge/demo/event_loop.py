"""The event loop that a demo ASGI application finds itself on: its name, and how to sleep on it.

The choice is the server's (`serve --loop`). Frameworks bring anyio for this; the page shall need no framework.
"""

import asyncio

import trio


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
