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

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVarTuple

import trio

from uwsgibridge.connection import Task

if TYPE_CHECKING:
    import outcome

Ts = TypeVarTuple("Ts")

# How asyncio starts a task: at once where Python can (3.12), or in a turn of the loop's own.
_AT_ONCE: Final[dict[str, Any]] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
_IN_A_TURN: Final[dict[str, Any]] = {}


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

    def watch(self, source: HasFileno, callback: Callable[[], None]) -> Watch:
        """Call back whenever `source` is readable."""

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


class TrioLoop:
    """Trio itself.

    Args:
        nursery: where tasks run; they end with it.
    """

    name = "trio"

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()

    def spawn(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Task:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*args)

        self._nursery.start_soon(run, name=function)
        return scope

    def watch(self, source: HasFileno, callback: Callable[[], None]) -> Watch:
        watch = _TrioWatch(source, callback)
        self._nursery.start_soon(watch.run)
        return watch

    async def wait_readable(self, source: HasFileno, seconds: float) -> bool:
        return await self._wait(trio.lowlevel.wait_readable, source, seconds)

    async def wait_writable(self, source: HasFileno, seconds: float) -> bool:
        return await self._wait(trio.lowlevel.wait_writable, source, seconds)

    def notify_closing(self, source: HasFileno) -> None:
        if source.fileno() >= 0:
            trio.lowlevel.notify_closing(source.fileno())

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    def event(self) -> Event:
        return trio.Event()

    def call_later(self, seconds: float, function: Callable[[], object]) -> Task:
        async def wait_and_call() -> None:
            await trio.sleep(seconds)
            function()

        return self.spawn(wait_and_call)

    def run_threadsafe(self, function: Callable[[], object]) -> None:
        # RunFinishedError: the worker is gone, and so is whoever wanted to know.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function)

    async def _wait(
        self, wait: Callable[[int], Awaitable[None]], source: HasFileno, seconds: float
    ) -> bool:
        descriptor = source.fileno()
        if descriptor < 0:
            return True  # closed meanwhile, as if `notify_closing` had come just now
        with trio.move_on_after(seconds) as scope:
            try:
                await wait(descriptor)
            except trio.ClosedResourceError:
                return True
        return not scope.cancelled_caught


class _TrioWatch:
    def __init__(self, source: HasFileno, callback: Callable[[], None]) -> None:
        self._source = source
        self._callback = callback
        self._scope = trio.CancelScope()
        self._running = trio.Event()
        self._running.set()

    async def run(self) -> None:
        with self._scope:
            while True:
                await self._running.wait()
                descriptor = self._source.fileno()
                if descriptor < 0:
                    return
                try:
                    await trio.lowlevel.wait_readable(descriptor)
                except trio.ClosedResourceError:
                    return
                except (OSError, trio.BusyResourceError):  # closed, or another file's by now
                    self._callback()
                    return
                # Closed meanwhile, in the same turn of the loop: the cancellation comes with the next wait.
                if self._running.is_set() and not self._scope.cancel_called:
                    self._callback()

    def suspend(self) -> None:
        self._running = trio.Event()

    def resume(self) -> None:
        self._running.set()

    def close(self) -> None:
        self._scope.cancel()
        self._callback = _nothing
        # Now, not when the task runs: the descriptor may be closed before that.
        if self._source.fileno() >= 0:
            trio.lowlevel.notify_closing(self._source.fileno())


class AsyncioLoop:
    """Asyncio, stock or uvloop.

    Args:
        loop: the loop that runs this thread.
    """

    name = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, dict[asyncio.Future[bool], Callable[[int], object]]] = {}
        self._context = contextvars.copy_context()
        self._start = _AT_ONCE

    async def run_guest(
        self,
        function: Callable[[*Ts], Awaitable[None]],
        *args: *Ts,
        has_wakeup_descriptor: bool,
    ) -> None:
        """Run a coroutine function under trio, as a guest of this loop, to its end.

        Tasks that are spawned in one of its turns begin in a later turn of this loop.

        Args:
            function: the main function of the trio run.
            args: for it.
            has_wakeup_descriptor: whether this loop sets the wake-up descriptor for signals itself.

        Raises:
            As the function.
        """
        loop = self._loop
        done: asyncio.Future[outcome.Outcome[None]] = loop.create_future()
        trio.lowlevel.start_guest_run(
            function,
            *args,
            run_sync_soon_threadsafe=lambda turn: loop.call_soon_threadsafe(self._give_turn, turn),
            run_sync_soon_not_threadsafe=lambda turn: loop.call_soon(self._give_turn, turn),
            done_callback=done.set_result,
            host_uses_signal_set_wakeup_fd=has_wakeup_descriptor,
        )
        (await done).unwrap()

    def _give_turn(self, turn: Callable[[], object]) -> None:
        self._start = _IN_A_TURN
        try:
            turn()
        finally:
            self._start = _AT_ONCE

    def spawn(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Task:
        # Not loop.create_task: naming a task costs as much as making it. Started at once where that is
        # possible, which saves the loop a round for each request.
        coroutine: Any = function(*args)
        return asyncio.Task(coroutine, loop=self._loop, context=self._context.copy(), **self._start)

    def watch(self, source: HasFileno, callback: Callable[[], None]) -> Watch:
        return _AsyncioWatch(self._loop, source, callback)

    async def wait_readable(self, source: HasFileno, seconds: float) -> bool:
        loop = self._loop
        return await self._wait(source, seconds, loop.add_reader, loop.remove_reader)

    async def wait_writable(self, source: HasFileno, seconds: float) -> bool:
        loop = self._loop
        return await self._wait(source, seconds, loop.add_writer, loop.remove_writer)

    def notify_closing(self, source: HasFileno) -> None:
        descriptor = source.fileno()
        # The number may soon belong to another connection, so nothing of this one may stay behind.
        for future, remove in self._waiting.pop(descriptor, {}).items():
            remove(descriptor)
            _resolve(future, True)

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def event(self) -> Event:
        return asyncio.Event()

    def call_later(self, seconds: float, function: Callable[[], object]) -> Task:
        return self._loop.call_later(seconds, function)

    def run_threadsafe(self, function: Callable[[], object]) -> None:
        # RuntimeError: the loop is closed, and so is whoever wanted to know.
        with contextlib.suppress(RuntimeError):
            # What it registers with the loop is not to keep the caller's context.
            self._loop.call_soon_threadsafe(function, context=self._context)

    async def _wait(
        self,
        source: HasFileno,
        seconds: float,
        add: Callable[..., object],
        remove: Callable[[int], object],
    ) -> bool:
        descriptor = source.fileno()
        if descriptor < 0:
            return True
        future: asyncio.Future[bool] = self._loop.create_future()
        self._waiting.setdefault(descriptor, {})[future] = remove
        add(descriptor, _resolve, future, True)
        timer = self._loop.call_later(seconds, _resolve, future, False)
        try:
            return await future
        finally:
            timer.cancel()
            waiting = self._waiting.get(descriptor, {})
            if waiting.pop(future, None):
                remove(descriptor)
                if not waiting:
                    del self._waiting[descriptor]


class _AsyncioWatch:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: HasFileno, callback: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._descriptor = source.fileno()
        self._callback = callback
        self.resume()

    def suspend(self) -> None:
        self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        try:
            self._loop.add_reader(self._descriptor, self._callback)
        except OSError:  # closed, or a file by now that there is no waiting for
            self._loop.call_soon(self._call_back)

    def _call_back(self) -> None:
        self._callback()

    def close(self) -> None:
        self.suspend()
        self._callback = _nothing


def _nothing() -> None:
    """Stand for the callback of a watch that is closed: most belong to what holds the watch."""


def _resolve(future: asyncio.Future[Any], value: bool) -> None:
    if not future.done():
        future.set_result(value)
