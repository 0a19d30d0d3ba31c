"""The few things that the listener and the ASGI host want of an event loop, for trio and for asyncio.

With ``--loop trio`` everything is a trio task. With asyncio or uvloop, that loop runs the thread and
trio is its guest: trio keeps what is rare (start, stop, signals, deadlines of shutdown), and what
every request needs stays with the loop that runs the application. A guest's waiting goes through a
helper thread, so keeping the request path out of it is what makes one connection at a time quick.

Nothing of an application runs while trio has its turn as a guest. There, libraries would take the loop
for trio (sniffio and anyio ask trio's own mark), asyncio has no current task, and trio has one that is
not the application's. So `AsyncioLoop` knows whose turn it is; what calls it need not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVarTuple


class Task(Protocol):
    """What an event loop runs for a connection."""

    def cancel(self) -> object:
        """Ask it to end."""


Ts = TypeVarTuple("Ts")


class Event(Protocol):
    """Set once; what waits goes on."""

    def set(self) -> object: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class HasFileno(Protocol):
    """Something with a descriptor to wait for."""

    def fileno(self) -> int: ...


class Watch(Protocol):
    """A callback for each time that a descriptor is readable.

    Where it can't be waited for, since the application has closed it, there is one last call.
    """

    def suspend(self) -> None:
        """Stop calling, until `resume`."""

    def resume(self) -> None:
        """Call again."""

    def close(self) -> None:
        """Stop for good; the descriptor may be closed afterwards."""


class Loop(Protocol):
    """An event loop as the bridge needs it. All but `run_threadsafe` belong to the loop's thread."""

    name: str

    def spawn(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Task:
        """Run a coroutine function as a task, in a context of its own.

        With asyncio, the context is a copy of the one that the loop was made in: what one request has
        set is not seen by another, whichever of them made room for the other.

        Returns:
            What keeps the task alive; asyncio itself holds tasks only weakly.
        """

    def watch(self, source: HasFileno, callback: Callable[[], object]) -> Watch:
        """Call back whenever `source` is readable.

        A callback that returns True has left something: where asking the system again is dear, it is called
        again without that, after others had their turn.
        """

    async def wait_readable(self, source: HasFileno, seconds: float) -> bool:
        """Wait; False when `seconds` have passed. True also when `notify_closing` was called."""

    async def wait_writable(self, source: HasFileno, seconds: float) -> bool:
        """Wait; as `wait_readable`."""

    def notify_closing(self, source: HasFileno) -> None:
        """Wake what waits for `source`, which is about to be closed."""

    async def checkpoint(self) -> None:
        """Let others run."""

    def event(self) -> Event:
        """Make an event."""

    def call_later(self, seconds: float, function: Callable[[], object]) -> Task:
        """Have `function` called after a while, unless the result is cancelled."""

    def run_threadsafe(self, function: Callable[[], object]) -> None:
        """Have `function` called soon in the loop's thread; from any thread."""


def nothing() -> None:
    """Stand for the callback of a watch that is closed: most belong to what holds the watch."""
