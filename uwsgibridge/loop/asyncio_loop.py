"""The event loop of asyncio or uvloop, with trio as its guest."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from uwsgibridge.loop.interface import Event, HasFileno, Task, Ts, Watch, nothing

if TYPE_CHECKING:
    import outcome


class AsyncioLoop:
    """The event loop of asyncio, or uvloop.

    Args:
        loop: the loop that runs this thread.
    """

    name = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, dict[asyncio.Future[bool], Callable[[int], object]]] = {}
        self._context = contextvars.copy_context()
        # From Python 3.12 on; before that, a task starts in a later turn of the loop.
        self._starts_at_once = True

    def run_guest(
        self,
        function: Callable[[*Ts], Awaitable[None]],
        *args: *Ts,
        has_wakeup_descriptor: bool,
        ended_early: Callable[[BaseException], object] = lambda _error: None,
    ) -> None:
        """Run this loop, and a coroutine function under trio as its guest, until the function returns.

        It is no task of this loop. Many applications cancel all other tasks at their end and await them, and would end
        the worker, or wait for themselves. Tasks that are spawned in a turn of trio begin in a later turn of this loop.

        Args:
            function: the main function of the trio run.
            args: arguments of `function`.
            has_wakeup_descriptor: whether this loop sets the wake-up descriptor for signals itself.
            ended_early: called where something ends this loop before the function returns: a task or a callback by
                SystemExit or KeyboardInterrupt, or `loop.stop()`.

        Raises:
            What the function raises, or what has ended the loop.
        """
        loop = self._loop
        done: asyncio.Future[outcome.Outcome[None]] = loop.create_future()

        def begin() -> None:
            try:
                trio.lowlevel.start_guest_run(
                    function,
                    *args,
                    run_sync_soon_threadsafe=lambda turn: loop.call_soon_threadsafe(
                        self._give_turn, turn
                    ),
                    run_sync_soon_not_threadsafe=lambda turn: loop.call_soon(self._give_turn, turn),
                    done_callback=done.set_result,
                    host_uses_signal_set_wakeup_fd=has_wakeup_descriptor,
                )
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                done.set_exception(error)

        loop.call_soon(begin)
        try:
            loop.run_until_complete(done)
        except BaseException as error:
            if not done.done():
                ended_early(error)
            raise
        done.result().unwrap()

    def _give_turn(self, turn: Callable[[], object]) -> None:
        self._starts_at_once = False
        try:
            turn()
        finally:
            self._starts_at_once = True

    def spawn(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Task:
        # Not loop.create_task, which names the task: that costs as much as making it. A task that starts at
        # once saves the loop a round for each request.
        begin: Any = function
        coroutine = begin(*args) if args else begin()
        if sys.version_info >= (3, 12):
            return asyncio.Task(
                coroutine,
                loop=self._loop,
                context=self._context.copy(),
                eager_start=self._starts_at_once,
            )
        return asyncio.Task(coroutine, loop=self._loop, context=self._context.copy())

    def watch(
        self,
        source: HasFileno,
        callback: Callable[[], object],
        again: Callable[[], object] | None = None,  # noqa: ARG002 - this loop asks each time
    ) -> Watch:
        return _AsyncioWatch(self._loop, self._context, source, callback)

    async def wait_readable(self, source: HasFileno, seconds: float) -> bool:
        loop = self._loop
        return await self._wait(source, seconds, loop.add_reader, loop.remove_reader)

    async def wait_writable(self, source: HasFileno, seconds: float) -> bool:
        loop = self._loop
        return await self._wait(source, seconds, loop.add_writer, loop.remove_writer)

    def notify_closing(self, source: HasFileno) -> None:
        descriptor = source.fileno()
        # The number may soon be that of another connection, so the loop must forget this one.
        for future, remove in self._waiting.pop(descriptor, {}).items():
            remove(descriptor)
            _resolve(future, True)

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def event(self) -> Event:
        return asyncio.Event()

    def current_task(self) -> object | None:
        return asyncio.current_task(self._loop)

    def must_end(self, task: Task | None) -> bool:  # noqa: ARG002 - what ends a task of asyncio is an exception like others
        return False

    def call_later(self, seconds: float, function: Callable[[], object]) -> Task:
        # In the loop's own context: a timer that was cancelled stays with the loop up to its time, and so does its context.
        return self._loop.call_later(seconds, function, context=self._context)

    def run_threadsafe(self, function: Callable[[], object]) -> None:
        # RuntimeError: the loop is closed, and nobody waits for the call any more.
        with contextlib.suppress(RuntimeError):
            # In the loop's own context: a reader that `function` registers would keep the caller's for ever.
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
        timer = self._loop.call_later(seconds, _resolve, future, False, context=self._context)
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
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        source: HasFileno,
        callback: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._context = context
        self._descriptor = source.fileno()
        self._callback = callback
        self.resume()

    def suspend(self) -> None:
        self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        try:
            # A reader keeps the context that it is added in, and whoever resumes a watch may be a request.
            add = partial(self._loop.add_reader, self._descriptor, self._callback)
            self._context.copy().run(add)
        except OSError:  # closed, or by now the number of a file that can't be waited for
            self._loop.call_soon(self._call_back)

    def _call_back(self) -> None:
        self._callback()

    def close(self) -> None:
        self.suspend()
        self._callback = nothing


def _resolve(future: asyncio.Future[Any], value: bool) -> None:
    if not future.done():
        future.set_result(value)
