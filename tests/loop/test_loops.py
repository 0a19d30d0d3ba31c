"""The loop interface: the same promises on trio, asyncio and uvloop."""

from __future__ import annotations

import asyncio
import contextvars
import os
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from tests.bridge import on_each_loop
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.loop.asyncio_loop import AsyncioLoop
from uwsgibridge.loop.interface import Loop, nothing
from uwsgibridge.loop.trio_loop import TrioLoop

# For a deadline that is meant to pass.
SHORT_SECONDS = 0.02


def run(name: str, main: Callable[[Loop], Awaitable[None]]) -> None:
    """Run a test on a loop; what is left running at its end is ended."""
    if name == "trio":

        async def on_trio() -> None:
            with trio.fail_after(PATIENCE_SECONDS):
                async with trio.open_nursery() as nursery:
                    await main(TrioLoop(nursery))
                    nursery.cancel_scope.cancel()

        trio.run(on_trio)
        return
    factory: Any = asyncio.new_event_loop
    if name == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop

    async def on_asyncio() -> None:
        await asyncio.wait_for(main(AsyncioLoop(asyncio.get_running_loop())), PATIENCE_SECONDS)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(on_asyncio())


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    with one, other:
        yield one, other


def fill(connection: socket.socket) -> None:
    try:
        while True:
            connection.send(bytes(65_536))
    except BlockingIOError:
        pass


async def rounds(loop: Loop) -> None:
    """Let everything that is ready happen."""
    for _ in range(20):
        await loop.checkpoint()


# Waiting for a descriptor.


@on_each_loop
def test_wait_ends_when_it_is_ready(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            theirs.send(b"x")
            assert await loop.wait_readable(ours, PATIENCE_SECONDS)
            assert await loop.wait_writable(ours, PATIENCE_SECONDS)

    run(loop, main)


@on_each_loop
def test_wait_ends_when_it_becomes_ready(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            done = loop.event()

            async def wait() -> None:
                assert await loop.wait_readable(ours, PATIENCE_SECONDS)
                done.set()

            task = loop.spawn(wait)
            await rounds(loop)
            assert not done.is_set()
            theirs.send(b"x")
            await done.wait()
            del task

    run(loop, main)


@on_each_loop
def test_wait_ends_in_time(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, _):
            assert not await loop.wait_readable(ours, SHORT_SECONDS)
            fill(ours)
            assert not await loop.wait_writable(ours, SHORT_SECONDS)
            # And leaves nothing behind that would keep others from waiting.
            assert not await loop.wait_readable(ours, 0)

    run(loop, main)


@on_each_loop
def test_reading_and_writing_can_be_waited_for_at_once(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            fill(ours)
            events = {"readable": loop.event(), "writable": loop.event()}

            async def wait(kind: str) -> None:
                assert await getattr(loop, f"wait_{kind}")(ours, PATIENCE_SECONDS)
                events[kind].set()

            tasks = [loop.spawn(wait, kind) for kind in events]
            await rounds(loop)
            theirs.send(b"x")
            await events["readable"].wait()
            assert not events["writable"].is_set()
            theirs.setblocking(False)
            try:
                while theirs.recv(65_536):
                    pass
            except BlockingIOError:
                pass
            await events["writable"].wait()
            del tasks

    run(loop, main)


@on_each_loop
@pytest.mark.parametrize("kind", ["readable", "writable"])
def test_closing_wakes_what_waits(loop: str, kind: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, _):
            fill(ours)
            woken = loop.event()

            async def wait() -> None:
                assert await getattr(loop, f"wait_{kind}")(ours, PATIENCE_SECONDS)
                woken.set()

            task = loop.spawn(wait)
            await rounds(loop)
            loop.notify_closing(ours)
            await woken.wait()
            del task

    run(loop, main)


@on_each_loop
def test_number_of_a_closed_descriptor_can_be_waited_for_again(loop: str):
    async def main(loop: Loop) -> None:
        woken = loop.event()
        with pair() as (ours, theirs):
            number = ours.fileno()

            async def wait() -> None:
                assert await loop.wait_readable(ours, PATIENCE_SECONDS)
                woken.set()

            task = loop.spawn(wait)
            await rounds(loop)
            loop.notify_closing(ours)
        with pair() as (ours, theirs):
            assert ours.fileno() == number
            theirs.send(b"x")
            assert await loop.wait_readable(ours, PATIENCE_SECONDS)
            await woken.wait()
        del task

    run(loop, main)


@on_each_loop
def test_closing_what_nobody_waits_for_is_harmless(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, _):
            loop.notify_closing(ours)

    run(loop, main)


@on_each_loop
def test_cancelled_wait_leaves_nothing_behind(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):

            async def wait() -> None:
                await loop.wait_readable(ours, PATIENCE_SECONDS)

            task = loop.spawn(wait)
            await rounds(loop)
            task.cancel()
            await rounds(loop)
            theirs.send(b"x")
            assert await loop.wait_readable(ours, PATIENCE_SECONDS)

    run(loop, main)


# Watching.


@on_each_loop
def test_watch_calls_as_long_as_it_is_readable(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            calls: list[bytes] = []
            watch = loop.watch(ours, lambda: calls.append(ours.recv(1)))
            theirs.send(b"abc")
            await rounds(loop)
            assert calls == [b"a", b"b", b"c"]
            theirs.send(b"d")
            await rounds(loop)
            assert calls == [b"a", b"b", b"c", b"d"]
            watch.close()

    run(loop, main)


@on_each_loop
@pytest.mark.parametrize("by", ["itself", "another"])
def test_suspended_watch_is_silent_until_it_is_resumed(loop: str, by: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            calls: list[bytes] = []

            def callback() -> None:
                calls.append(ours.recv(1))
                if by == "itself":
                    watch.suspend()

            watch = loop.watch(ours, callback)
            if by == "another":
                await rounds(loop)
                watch.suspend()
                theirs.send(b"ab")
                await rounds(loop)
                assert calls == []
            else:
                theirs.send(b"ab")
                await rounds(loop)
                assert calls == [b"a"]
            before = len(calls)
            watch.resume()
            await rounds(loop)
            assert len(calls) > before
            watch.close()

    run(loop, main)


@on_each_loop
def test_a_call_without_a_look_is_another_function(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            steps: list[str] = []

            def take(by: str) -> bool:
                steps.append(by + ours.recv(1).decode())
                return steps[-1][-1] in "ab"

            watch = loop.watch(ours, lambda: take("asked "), lambda: take("again "))
            theirs.send(b"abcd")
            await rounds(loop)
            kinds = ["asked", "again", "again", "asked"] if loop.name == "trio" else ["asked"] * 4
            assert steps == [f"{kind} {one}" for kind, one in zip(kinds, "abcd", strict=True)]
            watch.close()

    run(loop, main)


@on_each_loop
@pytest.mark.parametrize("ends", ["by itself", "suspended", "closed"])
def test_watch_whose_callback_has_left_something_is_called_again_after_others(loop: str, ends: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            steps: list[str] = []

            async def another(number: int) -> None:
                steps.append(f"task {number}")

            def callback() -> bool:
                taken = ours.recv(1).decode()
                steps.append(taken)
                loop.spawn(another, len(steps))
                if taken == "c" and ends == "suspended":
                    watch.suspend()
                elif taken == "c" and ends == "closed":
                    watch.close()
                return taken != "e"

            watch = loop.watch(ours, callback)
            theirs.send(b"abcde")
            await rounds(loop)
            taken = [step for step in steps if not step.startswith("task")]
            assert taken == list("abcde" if ends == "by itself" else "abc")
            # Each task had its turn; trio runs those of one turn in any order.
            waiting = 0
            for step in steps:
                waiting += -1 if step.startswith("task") else 1
                assert 0 <= waiting <= 2, steps
            assert waiting == 0
            watch.close()

    run(loop, main)


@on_each_loop
@pytest.mark.parametrize("suspended", [False, True])
def test_closed_watch_is_silent(loop: str, suspended: bool):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            calls: list[None] = []
            watch = loop.watch(ours, lambda: calls.append(None))
            await rounds(loop)
            if suspended:
                watch.suspend()
            watch.close()
            theirs.send(b"x")
            await rounds(loop)
            assert calls == []
            # The descriptor is free for others.
            assert await loop.wait_readable(ours, PATIENCE_SECONDS)

    run(loop, main)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="Linux alone has epoll")
@on_each_loop
def test_a_watch_that_is_closed_at_once_does_not_look_at_what_it_watched(loop: str):
    async def main(loop: Loop) -> None:
        # A closed epoll has no number any more, where a closed socket gives -1.
        with select.epoll() as source:
            loop.watch(source, nothing).close()
        await rounds(loop)

    run(loop, main)


@on_each_loop
def test_watch_of_a_descriptor_that_something_has_closed_calls_once_and_ends(loop: str):
    async def main(loop: Loop) -> None:
        with pair() as (ours, theirs):
            calls: list[None] = []

            def callback() -> None:
                calls.append(None)
                watch.suspend()

            watch = loop.watch(ours, callback)
            theirs.send(b"x")
            await rounds(loop)
            assert len(calls) == 1
            os.close(ours.fileno())
            watch.resume()
            await rounds(loop)
            assert len(calls) == 2
            watch.close()
            ours.detach()

    run(loop, main)


# Tasks, events and time.


@on_each_loop
def test_tasks_have_contexts_of_their_own(loop: str):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main(loop: Loop) -> None:
        seen: list[str] = []
        done = loop.event()

        async def task(value: str) -> None:
            seen.append(variable.get())
            variable.set(value)
            await loop.checkpoint()
            assert variable.get() == value
            if len(seen) == 2:
                done.set()

        tasks = [loop.spawn(task, "one"), loop.spawn(task, "two")]
        await done.wait()
        await rounds(loop)
        assert seen == ["unset", "unset"]
        assert variable.get() == "unset"
        del tasks

    run(loop, main)


@on_each_loop
def test_task_that_is_cancelled_ends_where_it_waits(loop: str):
    async def main(loop: Loop) -> None:
        ended = loop.event()

        async def wait() -> None:
            try:
                await loop.event().wait()
            finally:
                ended.set()

        task = loop.spawn(wait)
        await rounds(loop)
        assert not ended.is_set()
        task.cancel()
        await ended.wait()

    run(loop, main)


@on_each_loop
def test_event_wakes_all_that_wait(loop: str):
    async def main(loop: Loop) -> None:
        event = loop.event()
        woken: list[None] = []

        async def wait() -> None:
            await event.wait()
            woken.append(None)

        tasks = [loop.spawn(wait) for _ in range(3)]
        await rounds(loop)
        assert woken == []
        assert not event.is_set()
        event.set()
        event.set()
        await event.wait()
        await rounds(loop)
        assert event.is_set()
        assert len(woken) == 3
        del tasks

    run(loop, main)


@on_each_loop
def test_call_later_calls_once_and_not_at_once(loop: str):
    async def main(loop: Loop) -> None:
        called = loop.event()
        loop.call_later(SHORT_SECONDS, called.set)
        cancelled = loop.call_later(SHORT_SECONDS / 2, lambda: pytest.fail("it was cancelled"))
        assert not called.is_set()
        cancelled.cancel()
        await called.wait()

    run(loop, main)


@on_each_loop
def test_functions_from_other_threads_run_in_the_loops(loop: str):
    async def main(loop: Loop) -> None:
        threads: list[threading.Thread] = []
        done = loop.event()

        def in_the_loop() -> None:
            threads.append(threading.current_thread())
            done.set()

        other = threading.Thread(target=loop.run_threadsafe, args=[in_the_loop])
        other.start()
        await done.wait()
        other.join()
        assert threads == [threading.current_thread()]

    run(loop, main)


@on_each_loop
def test_functions_for_a_loop_that_has_ended_are_dropped(loop: str):
    loops: list[Loop] = []

    async def main(loop: Loop) -> None:
        loops.append(loop)

    run(loop, main)
    loops[0].run_threadsafe(lambda: pytest.fail("it ran"))
