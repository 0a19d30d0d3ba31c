"""Tasks of trio that run one function after another.

To start a task of trio, with a cancel scope of its own, costs a quarter of the smallest request. So a task that has run
its function waits for the next one. A function must not meet anything of an earlier one:

- **Cancellation.** A handle cancels the function that it was made for, and nothing when that has returned. A cancelled
  task runs no other function, also where its function has swallowed the cancellation.
- **Context variables.** Each function has a context of its own, a copy of the one that the pool was made in.
- **Scopes.** A function may return with a nursery or a cancel scope open: an async generator that is dropped in the
  middle of one does that. The next function would run within it. So the task ends, with all that runs in that scope.
  Trio takes this for a failure of the task, and a failed task would end the worker.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

import trio

from uwsgibridge.loop.interface import Ts, nothing

# How many tasks wait for a function at the most. Further ones, which a burst has left, end instead.
MOST_IDLE: Final = 64

# Private attributes of a task, which trio may rename: there is no public way to see that a function has left something
# open. Without them a task runs one function, and trio itself fails a task that leaves something open.
_TELLS_WHAT_IS_OPEN: Final = all(
    hasattr(trio.lowlevel.Task, name) for name in ("_cancel_status", "_child_nurseries")
)

_Function: TypeAlias = Callable[..., Awaitable[None]]


class TrioTasks:
    """Runs functions in tasks.

    Args:
        nursery: where the tasks run. They end with its cancellation, and without it they never end.
        left_open: called when a function has returned and left a nursery or a cancel scope open.
    """

    def __init__(self, nursery: trio.Nursery, left_open: Callable[[], object] = nothing) -> None:
        self._nursery = nursery
        self._context = contextvars.copy_context()
        self._left_open = left_open
        self._idle: list[_Task] = []

    def run(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Handle:
        """Run a coroutine function soon, from its beginning in a turn of its own.

        What the function raises fails the nursery.

        Returns:
            A handle that cancels the function.
        """
        if self._idle:
            task = self._idle.pop()
            return task.reuse(function, args)
        task = _Task(self._idle, self._context, self._left_open)
        handle = task.take(function, args)
        # A name is given: else trio makes one of module and qualified name.
        start = partial(self._nursery.start_soon, task.run, name="task of the bridge")
        self._context.copy().run(start)
        return handle


class Handle:
    """Cancels one function."""

    __slots__ = ("_scope",)

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope: trio.CancelScope | None = scope

    def cancel(self) -> None:
        """Cancel the function, unless it has returned."""
        if self._scope is not None:
            self._scope.cancel()

    def forget_task(self) -> None:
        """Cancel nothing any more, because the function has returned."""
        self._scope = None


class _Task:
    """One task; it is in `idle` exactly while it waits for a function."""

    __slots__ = (
        "_args",
        "_context",
        "_function",
        "_handle",
        "_idle",
        "_left_open",
        "_scope",
        "_task",
    )

    _function: _Function
    _args: tuple[object, ...]
    _handle: Handle
    _task: trio.lowlevel.Task

    def __init__(
        self, idle: list[_Task], context: contextvars.Context, left_open: Callable[[], object]
    ) -> None:
        self._idle = idle
        self._context = context
        self._left_open = left_open
        self._scope = trio.CancelScope()

    def take(self, function: _Function, args: tuple[object, ...]) -> Handle:
        self._function, self._args = function, args
        self._handle = handle = Handle(self._scope)
        return handle

    def reuse(self, function: _Function, args: tuple[object, ...]) -> Handle:
        handle = self.take(function, args)
        trio.lowlevel.reschedule(self._task)
        return handle

    async def run(self) -> None:
        left_scope_open = False
        try:
            with self._scope:
                left_scope_open = await self._run_functions()
        except RuntimeError:
            # Trio raises it where scopes are left in another order than they were entered.
            if not left_scope_open:
                raise

    async def _run_functions(self) -> bool:
        """Run one function after another; True where the last one has left something open."""
        self._task = task = trio.lowlevel.current_task()
        scope, idle = self._scope, self._idle
        innermost = task._cancel_status if _TELLS_WHAT_IS_OPEN else None  # noqa: SLF001
        while True:
            try:
                await self._function(*self._args)
            finally:
                self._handle.forget_task()
            # The wait for the next function must keep nothing of the last one alive.
            del self._function, self._args, self._handle
            if not _TELLS_WHAT_IS_OPEN:
                return False
            if task._cancel_status is not innermost or task._child_nurseries:  # noqa: SLF001
                self._left_open()
                scope.cancel()
                task._child_nurseries.clear()  # noqa: SLF001 - else trio fails the task (Runner.task_exited)
                return True
            if scope.cancel_called or len(idle) >= MOST_IDLE:
                return False
            task.context = self._context.copy()
            idle.append(self)
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._idle.remove(self)
        return trio.lowlevel.Abort.SUCCEEDED
