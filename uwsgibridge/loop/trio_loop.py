"""The event loop of trio, as the listener and the ASGI host use it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import trio

from uwsgibridge.loop.interface import Event, HasFileno, Task, Ts, Watch, nothing
from uwsgibridge.loop.trio_tasks import Handle, TrioTasks


class TrioLoop:
    """The event loop of trio, which runs tasks in a nursery.

    Args:
        nursery: where tasks run; they end with its cancellation.
        left_open: called when what a task ran has left a nursery or a cancel scope open.
    """

    name = "trio"

    def __init__(self, nursery: trio.Nursery, left_open: Callable[[], object] = nothing) -> None:
        self._nursery = nursery
        self._tasks = TrioTasks(nursery, left_open)
        self._token = trio.lowlevel.current_trio_token()

    def spawn(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Task:
        return self._tasks.run(function, *args)

    def watch(
        self,
        source: HasFileno,
        callback: Callable[[], object],
        again: Callable[[], object] | None = None,
    ) -> Watch:
        watch = _TrioWatch(source, callback, again or callback)
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

    def current_task(self) -> object | None:
        return trio.lowlevel.current_task()

    def must_end(self, task: Task | None) -> bool:
        return isinstance(task, Handle) and task.must_end

    def call_later(self, seconds: float, function: Callable[[], object]) -> Task:
        async def wait_and_call() -> None:
            await trio.sleep(seconds)
            function()

        return self.spawn(wait_and_call)

    def run_threadsafe(self, function: Callable[[], object]) -> None:
        # RunFinishedError: the run is over, and nobody waits for the call any more.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function)

    async def _wait(
        self, wait: Callable[[int], Awaitable[None]], source: HasFileno, seconds: float
    ) -> bool:
        descriptor = source.fileno()
        if descriptor < 0:
            return True  # closed meanwhile: the same as `notify_closing` at this moment
        with trio.move_on_after(seconds) as scope:
            try:
                await wait(descriptor)
            except trio.ClosedResourceError:
                return True
        return not scope.cancelled_caught


class _TrioWatch:
    def __init__(
        self, source: HasFileno, callback: Callable[[], object], again: Callable[[], object]
    ) -> None:
        self._source = source
        self._callback = callback
        self._again = again
        self._scope = trio.CancelScope()
        self._running = trio.Event()
        self._running.set()

    async def run(self) -> None:
        with self._scope:
            while True:
                if not self._running.is_set():  # else the wait would be a needless checkpoint
                    await self._running.wait()
                if (
                    self._scope.cancel_called
                ):  # closed before the task has run, and so may the source be
                    return
                descriptor = self._source.fileno()
                if descriptor < 0:
                    return
                try:
                    await trio.lowlevel.wait_readable(descriptor)
                except trio.ClosedResourceError:
                    return
                except (
                    OSError,
                    trio.BusyResourceError,
                ):  # the descriptor is closed, or another file's by now
                    self._callback()
                    return
                # Where the watch was closed in this turn of the loop, the callback does nothing.
                may_have_more = self._running.is_set() and self._callback() is True
                while may_have_more:
                    # Trying again costs less than asking the system. Other tasks run first.
                    await trio.lowlevel.checkpoint()
                    may_have_more = self._running.is_set() and self._again() is True

    def suspend(self) -> None:
        self._running = trio.Event()

    def resume(self) -> None:
        self._running.set()

    def close(self) -> None:
        self._scope.cancel()
        self._callback = self._again = nothing
        # Wake the waiting task now: the descriptor may be closed before its cancellation is seen.
        if self._source.fileno() >= 0:
            trio.lowlevel.notify_closing(self._source.fileno())
