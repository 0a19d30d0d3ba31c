"""What the listener and the ASGI host need of an event loop, for trio and for asyncio.

With ``--loop trio`` everything is a trio task. With asyncio or uvloop, that loop runs the thread, and trio is its
guest. Trio does what is rare: start, stop, signals, deadlines of the shutdown. The loop that runs the application
does what every request needs: a guest waits by means of a helper thread, which would make each request slower.

Nothing of an application runs in a turn of trio as a guest. There, libraries would take the loop for trio
(sniffio and anyio look at trio's own mark), asyncio has no current task, and trio's current task is not the
application's. `AsyncioLoop` knows whose turn it is. Its callers need not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVarTuple


class Task(Protocol):
    """What an event loop runs, and what can be cancelled."""

    def cancel(self) -> object:
        """Ask the task to end."""


Ts = TypeVarTuple("Ts")


class Event(Protocol):
    """An event that is set once; those who wait for it then go on."""

    def set(self) -> object: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class HasFileno(Protocol):
    """An object with a descriptor that a loop can wait for."""

    def fileno(self) -> int: ...


class Watch(Protocol):
    """Has a callback called each time that a descriptor is readable.

    Where the loop can't wait for the descriptor, because the application has closed it, there is one last call.
    """

    def suspend(self) -> None:
        """Have the callback not called until `resume`."""

    def resume(self) -> None:
        """Have the callback called again."""

    def close(self) -> None:
        """End the watch; the descriptor may be closed afterwards."""


class Loop(Protocol):
    """An event loop as the bridge needs it. All but `run_threadsafe` belong to the loop's thread."""

    name: str

    def spawn(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Task:
        """Run a coroutine function as a task, in a context of its own.

        With asyncio, the context is a copy of the one that the loop was made in. So no request sees the
        context variables of another, also where the end of one has begun the other.

        Returns:
            The task, which the caller keeps alive: asyncio itself holds tasks only weakly.
        """

    def watch(
        self,
        source: HasFileno,
        callback: Callable[[], object],
        again: Callable[[], object] | None = None,
    ) -> Watch:
        """Call back whenever `source` is readable.

        A callback returns True where more may be there. Where asking the system again is dear, the loop then
        calls `again` without asking, after other tasks have had their turn, and once more after each True.

        Args:
            source: what is watched.
            callback: called when `source` is readable.
            again: called where nobody has looked whether it is; None for `callback` itself.
        """

    async def wait_readable(self, source: HasFileno, seconds: float) -> bool:
        """Wait until `source` is readable, or `notify_closing` was called; False when `seconds` have passed."""

    async def wait_writable(self, source: HasFileno, seconds: float) -> bool:
        """Wait until `source` is writable, as `wait_readable` does."""

    def notify_closing(self, source: HasFileno) -> None:
        """Wake those who wait for `source`, which is about to be closed."""

    async def checkpoint(self) -> None:
        """Let other tasks run."""

    def event(self) -> Event:
        """Make an event."""

    def current_task(self) -> object | None:
        """Give the task of the application or of the bridge that runs now; None in a callback."""

    def must_end(self, task: Task | None) -> bool:
        """Say whether a cancellation that has reached the end of a task, None for one in its first step, goes on in the loop.

        With trio, that is the cancellation of the task or of all of them. Any other one has no scope that ends it,
        and would end all tasks. With asyncio, a cancellation ends its task alone, and the answer is always False.
        """

    def call_later(self, seconds: float, function: Callable[[], object]) -> Task:
        """Have `function` called in so many seconds, unless the result is cancelled."""

    def run_threadsafe(self, function: Callable[[], object]) -> None:
        """Have `function` called soon in the loop's thread; from any thread."""


def nothing() -> None:
    """Replace the callback of a closed watch, which often refers back to the owner of the watch."""
