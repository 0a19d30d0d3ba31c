"""Tasks of trio that run one function after another: none meets anything of the one before it."""

from __future__ import annotations

import contextvars
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.bridge import running
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.loop import trio_tasks
from uwsgibridge.loop.trio_tasks import MOST_IDLE, TrioTasks

Main = Callable[[TrioTasks], Awaitable[None]]


def run(main: Main, left_open: Callable[[], object] = lambda: pytest.fail("something is open")):
    async def on_trio() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                await main(TrioTasks(nursery, left_open))
                nursery.cancel_scope.cancel()

    trio.run(on_trio)


async def task_of(tasks: TrioTasks, function: Callable[[], Awaitable[Any]] = trio.sleep_forever):
    """Have something run, and return its handle and its task once it runs."""
    begun: list[trio.lowlevel.Task] = []

    async def noting() -> None:
        begun.append(trio.lowlevel.current_task())
        await function()

    handle = tasks.run(noting)
    await trio.testing.wait_all_tasks_blocked()
    return handle, begun[0]


async def nothing() -> None:
    pass


def test_a_task_that_has_run_its_function_runs_the_next_one():
    async def main(tasks: TrioTasks) -> None:
        _, first = await task_of(tasks, nothing)
        _, second = await task_of(tasks, nothing)
        assert first is second

    run(main)


def test_with_a_trio_that_has_renamed_its_attributes_each_function_has_a_task(
    monkeypatch: pytest.MonkeyPatch,
):
    assert trio_tasks._TELLS_WHAT_IS_OPEN  # what the other tests are about
    monkeypatch.setattr(trio_tasks, "_TELLS_WHAT_IS_OPEN", False)

    async def main(tasks: TrioTasks) -> None:
        before = trio.lowlevel.current_statistics().tasks_living
        _, first = await task_of(tasks, nothing)
        handle, second = await task_of(tasks)
        assert first is not second
        handle.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before

    run(main)


def test_the_handle_of_a_function_that_has_returned_does_not_cancel_the_next_one():
    async def main(tasks: TrioTasks) -> None:
        before, first = await task_of(tasks, nothing)
        waiting, second = await task_of(tasks)
        assert first is second
        before.cancel()
        await trio.testing.wait_all_tasks_blocked()
        _, third = await task_of(tasks)
        assert third is not second  # which still waits
        waiting.cancel()

    run(main)


def test_a_task_that_was_cancelled_runs_no_other_function():
    async def main(tasks: TrioTasks) -> None:
        handle, first = await task_of(tasks)
        handle.cancel()
        await trio.testing.wait_all_tasks_blocked()
        _, second = await task_of(tasks)
        assert second is not first

    run(main)


def test_nor_does_one_whose_function_let_the_cancellation_pass():
    async def swallow() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return

    async def main(tasks: TrioTasks) -> None:
        handle, first = await task_of(tasks, swallow)
        handle.cancel()
        await trio.testing.wait_all_tasks_blocked()
        waited: list[None] = []

        async def wait() -> None:
            await trio.lowlevel.checkpoint()
            waited.append(None)

        _, second = await task_of(tasks, wait)
        assert second is not first
        assert waited

    run(main)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_function_that_is_cancelled_before_it_begins_runs_to_its_first_wait(is_first: bool):
    async def main(tasks: TrioTasks) -> None:
        if not is_first:
            await task_of(tasks, nothing)
        steps: list[str] = []

        async def function() -> None:
            steps.append("begun")
            await trio.lowlevel.checkpoint()
            steps.append("never")

        tasks.run(function).cancel()
        at_once = [*steps]
        await trio.testing.wait_all_tasks_blocked()
        assert (at_once, steps) == ([], ["begun"])

    run(main)


def test_each_function_has_a_context_of_its_own():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def function() -> None:
        seen.append(variable.get())
        variable.set("by another")
        await trio.lowlevel.checkpoint()
        assert variable.get() == "by another"

    async def main(tasks: TrioTasks) -> None:
        for _ in range(3):
            await task_of(tasks, function)
        variable.set("by the one who has it run")
        await task_of(tasks, function)

    run(main)
    assert seen == ["unset"] * 4


def test_what_a_function_held_is_let_go_while_its_task_waits():
    class Held:
        pass

    variable: contextvars.ContextVar[Held] = contextvars.ContextVar("variable")
    references: list[weakref.ref[Held]] = []

    async def hold(held: Held) -> None:
        references.append(weakref.ref(held))
        variable.set(held)

    async def main(tasks: TrioTasks) -> None:
        tasks.run(hold, Held())
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert references[0]() is None

    run(main)


def test_no_more_than_so_many_wait_for_a_function():
    async def main(tasks: TrioTasks) -> None:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        for _ in range(MOST_IDLE + 20):
            tasks.run(trio.lowlevel.checkpoint)
        await trio.testing.wait_all_tasks_blocked()
        statistics = trio.lowlevel.current_statistics()
        before = statistics.tasks_living
        for _ in range(MOST_IDLE):
            tasks.run(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        tasks.run(trio.sleep_forever)
        assert trio.lowlevel.current_statistics().tasks_living == before + 1

    run(main)


def test_what_a_function_raises_fails_the_nursery():
    async def fail() -> None:
        raise RuntimeError("a fault of the bridge")

    async def main(tasks: TrioTasks) -> None:
        await task_of(tasks, nothing)
        tasks.run(fail)
        await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert caught.group_contains(RuntimeError, match="a fault of the bridge")


KEPT: list[Any] = []


async def in_a_nursery():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await trio.lowlevel.checkpoint()
        yield 1


async def leave_scope() -> None:
    trio.CancelScope().__enter__()
    await trio.lowlevel.checkpoint()


async def leave_nursery() -> None:
    generator = in_a_nursery()
    KEPT.append(generator)
    async for _ in generator:
        break


@pytest.mark.parametrize("leave", [leave_scope, leave_nursery])
def test_a_function_that_leaves_something_open_ends_its_task_alone(leave: Any):
    reports: list[None] = []

    async def main(tasks: TrioTasks) -> None:
        before = trio.lowlevel.current_statistics().tasks_living
        _, first = await task_of(tasks, leave)
        assert len(reports) == 1
        assert trio.lowlevel.current_statistics().tasks_living == before  # nothing runs in there
        waiting, second = await task_of(tasks)
        assert second is not first
        waiting.cancel()

    run(main, lambda: reports.append(None))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_application_that_leaves_something_open_does_not_end_the_worker():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await (leave_scope if scope["path"] == "/scope" else leave_nursery)()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"served"})

    with running(app, loop="trio", lifespan="off") as bridge:
        for path in ("/scope", "/nursery", "/scope"):
            assert bridge.ask(path).body == b"served"
    events = bridge.events.find(level="error")
    assert len(events) == 3
    assert {event["event"] for event in events} == {
        "application left a nursery or a cancel scope open: what runs in it is cancelled"
    }


async def leave_scope_that_is_cancelled() -> None:
    scope = trio.CancelScope()
    KEPT.append(scope)
    scope.__enter__()
    scope.cancel()
    await trio.lowlevel.checkpoint()


async def leave_nursery_whose_task_fails() -> None:
    await leave_nursery()

    async def fail() -> None:
        raise ValueError("in the background")

    trio.lowlevel.current_task().child_nurseries[0].start_soon(fail)
    await trio.sleep_forever()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_application_that_is_cancelled_by_what_it_left_open_does_not_end_the_worker():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        match scope["path"]:
            case "/scope":
                await leave_scope_that_is_cancelled()
            case "/nursery":
                await leave_nursery_whose_task_fails()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    with running(app, loop="trio", lifespan="off") as bridge:
        for path in ("/scope", "/nursery", "/scope"):
            assert bridge.ask(path).status == 500
            assert bridge.ask().body == b"served"
    events = [event["event"] for event in bridge.events.find(level="error")]
    assert events == 3 * [
        "application failed",
        "application left a nursery or a cancel scope open: what runs in it is cancelled",
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("leave", [leave_scope, leave_nursery])
def test_a_deadline_ends_an_application_that_has_left_something_open(leave: Any):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await leave()
            await trio.sleep_forever()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    with running(app, loop="trio", lifespan="off", request_timeout_seconds=0.05) as bridge:
        for _ in range(2):
            assert bridge.ask("/slow").status == 504
            assert bridge.ask().body == b"served"


# Functions that have come at once.


async def settle_without_waits(tasks: TrioTasks) -> None:
    """Have a function end without waiting, as those of a burst of plain requests do."""
    await task_of(tasks, nothing)


def test_functions_that_have_come_at_once_have_contexts_of_their_own_and_keep_their_order():
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    seen: list[tuple[int, int | None, int]] = []

    async def function(number: int, waits: bool) -> None:
        before = variable.get(None)
        variable.set(number)
        if waits:
            await trio.lowlevel.checkpoint()
        seen.append((number, before, variable.get()))

    async def main(tasks: TrioTasks) -> None:
        await settle_without_waits(tasks)
        for number in range(5):
            tasks.run(function, number, False)
        assert seen == []
        await trio.testing.wait_all_tasks_blocked()
        if fast_ways(tasks):
            assert [number for number, _, _ in seen] == [0, 1, 2, 3, 4]
        for number in range(5, 10):
            tasks.run(function, number, number != 7)
        await trio.testing.wait_all_tasks_blocked()

    run(main)
    assert sorted(seen) == [(number, None, number) for number in range(10)]


def fast_ways(tasks: TrioTasks) -> bool:
    """Whether one task may run what has come at once; the accelerator does that."""
    return tasks.first_step is not None


def test_functions_that_do_not_wait_share_a_task():
    used: list[trio.lowlevel.Task] = []

    async def function() -> None:
        used.append(trio.lowlevel.current_task())

    async def main(tasks: TrioTasks) -> None:
        await settle_without_waits(tasks)
        for _ in range(5):
            tasks.run(function)
        await trio.testing.wait_all_tasks_blocked()
        assert len(set(used)) == (1 if fast_ways(tasks) else 5)
        # After functions that wait, each has a task of its own, until one has not waited.
        for _ in range(3):
            tasks.run(trio.lowlevel.checkpoint)
        await trio.testing.wait_all_tasks_blocked()
        for shared in (False, fast_ways(tasks)):
            used.clear()
            for _ in range(4):
                tasks.run(function)
            await trio.testing.wait_all_tasks_blocked()
            assert len(set(used)) == (1 if shared else 4)

    run(main)


def test_a_function_that_waits_keeps_no_other_one_waiting():
    async def main(tasks: TrioTasks) -> None:
        await settle_without_waits(tasks)
        ended: list[int] = []

        async def function(number: int) -> None:
            if number != 2:
                await trio.sleep_forever()
            ended.append(number)

        for number in range(4):
            tasks.run(function, number)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [2]
        assert trio.lowlevel.current_statistics().tasks_runnable == 0

    run(main)


def test_a_function_that_was_cancelled_among_others_is_cancelled_alone():
    async def main(tasks: TrioTasks) -> None:
        await settle_without_waits(tasks)
        steps: list[str] = []

        async def function(name: str) -> None:
            steps.append(f"{name} begins")
            await trio.lowlevel.checkpoint()
            steps.append(f"{name} ends")

        for name in ("first", "cancelled", "last"):
            handle = tasks.run(function, name)
            if name == "cancelled":
                handle.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(steps) == [
            "cancelled begins",
            "first begins",
            "first ends",
            "last begins",
            "last ends",
        ]

    run(main)


@pytest.mark.parametrize("leave", [leave_scope, leave_nursery, trio.lowlevel.checkpoint, nothing])
def test_what_one_function_does_to_its_task_does_nothing_to_others(leave: Any):
    """The second one leaves something open, or cancels itself."""
    ended: list[int] = []

    async def main(tasks: TrioTasks) -> None:
        await settle_without_waits(tasks)
        handles: list[trio_tasks.Handle] = []

        async def function(number: int) -> None:
            if number == 1:
                if leave in {trio.lowlevel.checkpoint, nothing}:
                    handles[1].cancel()
                await leave()
            if number > 1:
                await trio.lowlevel.checkpoint()
            ended.append(number)

        for number in range(4):
            handles.append(tasks.run(function, number))
        await trio.testing.wait_all_tasks_blocked()

    run(main, lambda: None)
    assert sorted(ended) == ([0, 2, 3] if leave is trio.lowlevel.checkpoint else [0, 1, 2, 3])


def test_what_came_with_a_function_that_raises_runs_all_the_same():
    begun: list[int] = []

    async def function(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise RuntimeError("a fault of the bridge")
        await trio.sleep_forever()

    async def main(tasks: TrioTasks) -> None:
        await settle_without_waits(tasks)
        for number in range(3):
            tasks.run(function, number)
        await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert caught.group_contains(RuntimeError, match="a fault of the bridge")
    assert sorted(begun) == [0, 1, 2]


def test_functions_that_run_others_for_ever_keep_no_task_from_running():
    async def main(tasks: TrioTasks) -> None:
        await settle_without_waits(tasks)
        count = 0

        async def run_another() -> None:
            nonlocal count
            count += 1
            if count < 1000:
                tasks.run(run_another)

        tasks.run(run_another)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert 1 < count < 100
        await trio.testing.wait_all_tasks_blocked()
        assert count == 1000

    run(main)


def test_the_frames_of_a_function_are_seen_in_its_task():
    async def main(tasks: TrioTasks) -> None:
        _, task = await task_of(tasks)
        names = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
        assert names[names.index("_run_functions") + 1 :][:2] == ["noting", "sleep_forever"]

    run(main)
