"""Tasks of trio that run one function after another.

To start a task of trio, with a cancel scope of its own, costs a quarter of the smallest request. So a task that has run
its function waits for the next one. To wake a task costs nearly as much as the rest of such a request. So, with the
accelerator, one task runs all functions that have come at once, one after the other, as long as none of them waits. When
one waits, each of the others gets a task. A function must not meet anything of an earlier one:

- **Cancellation.** A handle cancels the function that it was made for, and nothing when that has returned. A cancelled
  task runs no other function, also where its function has swallowed the cancellation.
- **Context variables.** Each function has a context of its own, a copy of the one that the pool was made in.
- **Waits.** A function that waits keeps no other one waiting.
- **Scopes.** A function may return with a nursery or a cancel scope open: an async generator that is dropped in the
  middle of one does that. The next function would run within it. So the task ends, with all that runs in that scope.
  Trio takes this for a failure of the task, and a failed task would end the worker.
- **Cancellations of others.** A function may raise a `Cancelled` of a scope that it has left open, or one that it has
  kept. No scope ends that one, and all tasks would end with the nursery. `Handle.must_end` tells such a function that
  it has to end it.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from uwsgibridge.fast import accelerator
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
        self.context = contextvars.copy_context()
        self.left_open = left_open
        self.idle: list[_Task] = []
        self.first_step: Any = None if accelerator is None else accelerator.FirstStep
        # Functions that one task will run, which is the runner.
        self.queue: deque[Handle] = deque()
        self._has_runner = False
        # Whether functions are queued: the last ones have ended without waiting.
        self.queues = False

    def run(self, function: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> Handle:
        """Run a coroutine function soon, from its beginning in a step that is not the caller's.

        What the function raises fails the nursery.

        Returns:
            A handle that cancels the function.
        """
        handle = Handle(function, args)
        if not self.queues:
            self._wake_task(handle, is_runner=False)
            return handle
        self.queue.append(handle)
        if not self._has_runner:
            self._has_runner = True
            self._wake_task(self.queue.popleft(), is_runner=True)
        return handle

    def end_runner(self) -> None:
        """Note that the runner has ended, or waits, and give each function that it has not begun a task of its own."""
        self._has_runner = False
        while self.queue:
            self._wake_task(self.queue.popleft(), is_runner=False)

    def replace_runner(self) -> None:
        """Have another task run what has come while the runner ran what there was before."""
        self._has_runner = bool(self.queue)
        if self._has_runner:
            self._wake_task(self.queue.popleft(), is_runner=True)

    def _wake_task(self, handle: Handle, *, is_runner: bool) -> None:
        if self.idle:
            task = self.idle.pop()
            task.take(handle, is_runner=is_runner)
            task.wake()
            return
        task = _Task(self)
        task.take(handle, is_runner=is_runner)
        # A name is given: else trio makes one of module and qualified name.
        start = partial(self._nursery.start_soon, task.run, name="task of the bridge")
        self.context.copy().run(start)


class Handle:
    """Cancels one function.

    Args:
        function: the coroutine function.
        args: its arguments.

    Attributes:
        is_cancelled: whether the function is to be cancelled when it begins.
    """

    __slots__ = ("_task", "args", "function", "is_cancelled")

    def __init__(self, function: _Function, args: tuple[Any, ...]) -> None:
        self.function, self.args = function, args
        self.is_cancelled = False
        self._task: _Task | None = None

    @property
    def lowlevel(self) -> trio.lowlevel.Task | None:
        """The task of trio that runs the function; None where it does not run."""
        return self._task.lowlevel if self._task is not None else None

    @property
    def must_end(self) -> bool:
        """Whether the function was cancelled by its handle, or by the nursery with all others."""
        return self._task is not None and self._task.must_end

    def cancel(self) -> None:
        """Cancel the function, unless it has returned."""
        self.is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    def begin(self, task: _Task) -> None:
        """Note the task that runs the function from now on."""
        self._task = task
        if self.is_cancelled:
            task.cancel()

    def end(self) -> None:
        """Cancel nothing any more, because the function has returned; and let go what it was."""
        self._task = None
        del self.function, self.args


class _Task:
    """One task; it is in `TrioTasks.idle` exactly while it waits for a function."""

    __slots__ = (
        "_handle",
        "_has_waited",
        "_innermost",
        "_is_cancelled",
        "_is_runner",
        "_scope",
        "_task",
        "_tasks",
    )

    _handle: Handle
    _has_waited: bool
    # What trio knows of the cancellation of the task's own scope. A function may have left others open within it.
    _innermost: Any
    _task: trio.lowlevel.Task

    def __init__(self, tasks: TrioTasks) -> None:
        self._tasks = tasks
        self._scope = trio.CancelScope()
        self._is_cancelled = False
        self._is_runner = False

    def take(self, handle: Handle, *, is_runner: bool) -> None:
        self._handle, self._is_runner = handle, is_runner

    @property
    def lowlevel(self) -> trio.lowlevel.Task:
        return self._task

    @property
    def must_end(self) -> bool:
        return not _TELLS_WHAT_IS_OPEN or bool(self._innermost.effectively_cancelled)

    def wake(self) -> None:
        trio.lowlevel.reschedule(self._task)

    def cancel(self) -> None:
        self._is_cancelled = True
        self._scope.cancel()

    async def run(self) -> None:
        left_scope_open = False
        try:
            with self._scope:
                left_scope_open = await self._run_functions()
        except RuntimeError:
            # Trio raises it where scopes are left in another order than they were entered.
            if not left_scope_open:
                raise
        finally:
            if self._is_runner:
                self._tasks.end_runner()

    async def _run_functions(self) -> bool:
        """Run one function after another; True where the last one has left something open."""
        self._task = task = trio.lowlevel.current_task()
        tasks = self._tasks
        queue = tasks.queue
        self._innermost = task._cancel_status if _TELLS_WHAT_IS_OPEN else None  # noqa: SLF001
        while True:
            # What comes while these run is for a later step: else functions that run others would never end.
            left = len(queue) if self._is_runner else 0
            while True:
                handle = self._handle
                # The wait for the next function must keep nothing of this one alive.
                del self._handle
                handle.begin(self)
                self._has_waited = tasks.first_step is None
                try:
                    await self._run(handle, task)
                except trio.Cancelled:
                    if self._ends_left_open(task):
                        return True
                    raise
                finally:
                    handle.end()
                    del handle
                if not _TELLS_WHAT_IS_OPEN:
                    return False
                if not self._has_waited:
                    tasks.queues = True
                if self._ends_left_open(task):
                    return True
                if self._is_cancelled:
                    return False
                if not (left and self._is_runner):
                    break
                left -= 1
                self._handle = queue.popleft()
            if self._is_runner:
                self._is_runner = False
                tasks.replace_runner()
            if len(tasks.idle) >= MOST_IDLE:
                return False
            task.context = tasks.context.copy()
            tasks.idle.append(self)
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _ends_left_open(self, task: trio.lowlevel.Task) -> bool:
        """End what the function has left open; False where there is nothing, or where that can't be seen."""
        if not _TELLS_WHAT_IS_OPEN:
            return False
        if task._cancel_status is self._innermost and not task._child_nurseries:  # noqa: SLF001
            return False
        self._tasks.left_open()
        self._scope.cancel()
        task._child_nurseries.clear()  # noqa: SLF001 - else trio fails the task (Runner.task_exited)
        return True

    def _run(self, handle: Handle, task: trio.lowlevel.Task) -> Awaitable[None]:
        """Begin a function; give what is to be awaited."""
        tasks = self._tasks
        coroutine = handle.function(*handle.args)
        if tasks.first_step is None:
            return coroutine
        # The step that trio does now has the context of the task's last wait, and later ones have this one.
        task.context = context = tasks.context.copy()
        awaited: Awaitable[None] = tasks.first_step(coroutine, context, self._note_wait)
        return awaited

    def _note_wait(self) -> None:
        """Note that a function waits in its first step."""
        self._has_waited = True
        if self._is_runner:
            self._is_runner = False
            tasks = self._tasks
            tasks.queues = not tasks.queue
            tasks.end_runner()

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._tasks.idle.remove(self)
        return trio.lowlevel.Abort.SUCCEEDED
