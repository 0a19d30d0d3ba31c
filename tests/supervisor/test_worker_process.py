"""A worker as its supervisor knows it: what is sent to it, what is taken from it, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.link.figures import Figures
from uwsgibridge.link.flights import make_flight_file
from uwsgibridge.link.inquiries import Inquiry, write_answer
from uwsgibridge.link.messages import (
    DRAIN,
    DUMP_SIGNAL,
    LAST,
    MAX_BYTES,
    PING,
    STACKS,
    WorkerMessage,
)
from uwsgibridge.supervisor.recycling import WorkerLimits
from uwsgibridge.supervisor.worker_process import WorkerProcess

FIGURES = Figures(
    requests=7,
    in_flight=2,
    capacity=2,
    queue_seconds=0.25,
    app_errors=1,
    slow_requests=3,
    refused={"stopping": 2},
)

# Says that it is there, then what signals it gets, in the order of their numbers; ends with its input.
PROCESS = """
import faulthandler, os, signal, sys
faulthandler.register(int(sys.argv[2]), file=int(sys.argv[1]), all_threads=True)
# No print: the handler may run within another one, whose buffer is locked then.
def told(number, frame): os.write(1, signal.Signals(number).name.encode() + b"\\n")
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, told)
def where_it_waits():
    print("here", flush=True)
    sys.stdin.read()
where_it_waits()
"""


NO_LIMITS = WorkerLimits(0, 0.0)


class Peer:
    """The worker's ends of all that a supervisor has of it."""

    def __init__(self, *, limits: WorkerLimits = NO_LIMITS, **options: Any) -> None:
        self.changes = 0
        link, self.link = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link.setblocking(False)
        dumps, self.dumped_to = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(self.dumped_to), str(int(DUMP_SIGNAL))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that was read already would not be waited for
            pass_fds=[self.dumped_to],
        )
        self.line()
        self.known = WorkerProcess(
            self.process.pid,
            limits,
            [link.detach(), make_flight_file(), dumps],
            changed=self._note_change,
            **options,
        )

    def _note_change(self) -> None:
        self.changes += 1

    def line(self) -> str:
        """Wait for the next word of the process."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_SECONDS)[0], "it says nothing"
        return self.process.stdout.readline().decode().strip()

    async def question(self) -> bytes:
        """Wait for what the supervisor says next."""
        with trio.fail_after(PATIENCE_SECONDS):
            await trio.lowlevel.wait_readable(self.link)
        return self.link.recv(MAX_BYTES)

    def questions(self) -> list[bytes]:
        """Give all that it has said."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.link.recv(MAX_BYTES))
        return found

    def say(self, message: WorkerMessage) -> None:
        self.link.send(message.encode())

    def close_dumps(self) -> None:
        if self.dumped_to >= 0:
            os.close(self.dumped_to)
            self.dumped_to = -1

    def end(self) -> None:
        """End the process, and with it all that it holds."""
        self.close_dumps()
        with self.process:
            self.process.kill()

    def close(self) -> None:
        self.end()
        self.link.close()


@pytest.fixture
def make_peer() -> Iterator[Callable[..., Peer]]:
    # WorkerProcess has events of trio's, which can be made outside of its loop.
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Peer:
            peer = Peer(**options)
            stack.callback(peer.close)
            return peer

        yield make


@contextlib.asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[WorkerProcess]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.known.listen)
        try:
            yield peer.known
        finally:
            peer.known.close()


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not is_so():
            await trio.lowlevel.checkpoint()


async def in_background(nursery: trio.Nursery, function: Callable[[], Awaitable[Any]]) -> list[Any]:
    results: list[Any] = []

    async def run() -> None:
        results.append(await function())

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    return results


# Questions and answers.


async def heartbeat(peer: Peer) -> None:
    async with listening(peer) as worker, trio.open_nursery() as nursery:
        assert worker.describe()["queue_seconds"] is None
        nursery.start_soon(worker.heartbeat, PATIENCE_SECONDS)
        assert await peer.question() == PING
        assert worker.silent_seconds > 0
        worker.ask()
        assert peer.questions() == []  # one is enough
        peer.say(WorkerMessage(figures=FIGURES))
        await until(lambda: worker.figures is not None)
    assert worker.figures == FIGURES
    assert worker.silent_seconds == 0
    assert worker.answer_seconds > 0
    assert worker.heard_seconds_ago is not None
    assert worker.queue_seconds >= 0.25


def test_heartbeat_is_a_question_and_its_answer(make_peer: Callable[..., Peer]) -> None:
    trio.run(heartbeat, make_peer(is_ready=True))


async def no_answer(peer: Peer) -> None:
    async with listening(peer) as worker:
        await worker.heartbeat(0.02)
        assert worker.silent_seconds >= 0.02
        assert worker.queue_seconds >= 0.02
        assert worker.figures is None


def test_heartbeat_without_an_answer_has_its_deadline(make_peer: Callable[..., Peer]) -> None:
    trio.run(no_answer, make_peer(is_ready=True))


async def heartbeat_of_one_that_ends(peer: Peer) -> None:
    async with listening(peer) as worker:
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.heartbeat, 10 * PATIENCE_SECONDS)
                await peer.question()
                peer.end()


def test_heartbeat_ends_with_the_worker(make_peer: Callable[..., Peer]) -> None:
    trio.run(heartbeat_of_one_that_ends, make_peer(is_ready=True))


async def several_words(peer: Peer) -> None:
    async with listening(peer) as worker:
        for junk in (b"", b"junk", b"[]"):
            peer.link.send(junk)
        peer.say(WorkerMessage(has_enough=True))
        await until(lambda: worker.has_enough)
        assert peer.changes == 1


def test_having_enough_is_a_change_and_junk_is_none(make_peer: Callable[..., Peer]) -> None:
    trio.run(several_words, make_peer())


async def unfit(peer: Peer) -> None:
    async with listening(peer) as worker:
        peer.say(WorkerMessage(unfit="the first reason"))
        peer.say(WorkerMessage(unfit="another reason"))
        await until(lambda: peer.changes == 2)
        assert worker.unfit == "the first reason"
        assert not worker.has_enough


def test_being_unfit_is_a_change_with_a_reason(make_peer: Callable[..., Peer]) -> None:
    trio.run(unfit, make_peer())


# Its stacks.


async def own_stacks(peer: Peer) -> None:
    async with listening(peer) as worker, trio.open_nursery() as nursery:
        first = await in_background(nursery, worker.stacks)
        second = await in_background(nursery, worker.stacks)
        assert [await peer.question(), await peer.question()] == [STACKS, STACKS]
        peer.say(WorkerMessage(stacks="in a request"))
        await until(lambda: [*first, *second] == ["in a request"] * 2)


def test_worker_that_answers_tells_its_stacks_itself(make_peer: Callable[..., Peer]) -> None:
    trio.run(own_stacks, make_peer(is_ready=True))


async def dumps(peer: Peer) -> None:
    async with listening(peer) as worker, trio.open_nursery() as nursery:
        every = [await in_background(nursery, worker.stacks) for _ in range(3)]
        await until(lambda: all(every))
        for [stack] in every:
            assert stack.count("in where_it_waits") == 1


def test_worker_that_is_not_ready_is_asked_from_outside(make_peer: Callable[..., Peer]) -> None:
    trio.run(dumps, make_peer())


async def dump_of_nobody(peer: Peer) -> None:
    async with listening(peer) as worker:
        peer.end()
        with trio.fail_after(PATIENCE_SECONDS):
            assert await worker.dump() == ""


def test_dump_of_one_that_has_ended_is_empty(make_peer: Callable[..., Peer]) -> None:
    trio.run(dump_of_nobody, make_peer())


@pytest.mark.parametrize("closing", [Peer.end, lambda peer: peer.known.close()])
def test_end_or_close_breaks_a_dump_off(
    make_peer: Callable[..., Peer], closing: Callable[[Peer], None]
) -> None:
    async def run(peer: Peer) -> None:
        async with listening(peer) as worker, trio.open_nursery() as nursery:
            peer.process.send_signal(signal.SIGSTOP)  # so that nothing comes
            result = await in_background(nursery, worker.dump)
            closing(peer)
            await until(lambda: result == [""])

    trio.run(run, make_peer())


async def unasked_dumps(peer: Peer) -> None:
    os.set_blocking(peer.dumped_to, True)
    async with listening(peer):
        with trio.fail_after(PATIENCE_SECONDS):
            for _ in range(40):  # more than a pipe holds
                await trio.to_thread.run_sync(os.write, peer.dumped_to, b"x" * 50_000)


def test_dumps_that_nobody_has_asked_for_block_nobody(make_peer: Callable[..., Peer]) -> None:
    trio.run(unasked_dumps, make_peer())


# Its end.


async def end(peer: Peer) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.known.listen)
            await trio.testing.wait_all_tasks_blocked()
            assert (peer.known.has_ended, peer.changes) == (False, 0)
            peer.end()
    assert (peer.known.has_ended, peer.changes) == (True, 0)
    peer.known.close()


def test_listening_ends_with_the_worker(make_peer: Callable[..., Peer]) -> None:
    trio.run(end, make_peer())


async def close(peer: Peer) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.known.listen)
            await trio.testing.wait_all_tasks_blocked()
            peer.known.close()
            peer.known.close()
    assert not peer.known.has_ended
    with pytest.raises(OSError, match="refused"):
        peer.link.send(b"anybody there?")


def test_listening_ends_with_close(make_peer: Callable[..., Peer]) -> None:
    trio.run(close, make_peer())


def test_what_takes_it_over_knows_all_of_it(make_peer: Callable[..., Peer]) -> None:
    async def run(peer: Peer) -> None:
        peer.known.mark_ready(7.5)
        # It goes to another program, in one file.
        heritage = json.loads(json.dumps(peer.known.bequeath()))
        del peer.known
        again = WorkerProcess.adopt(heritage, changed=lambda: None)
        assert (again.pid, again.limits) == (peer.process.pid, WorkerLimits(5, 9.0))
        assert (again.is_ready, again.is_stopping, again.end_seconds) == (True, False, 7.5)
        assert again.age_seconds > 60
        again.ask()
        assert await peer.question() == PING
        again.close()

    trio.run(run, make_peer(limits=WorkerLimits(5, 9.0), age_seconds=60))


def test_it_is_ready_when_it_says_so(make_peer: Callable[..., Peer]) -> None:
    async def run(peer: Peer) -> None:
        assert (peer.known.is_ready, peer.known.ready_seconds, peer.known.end_seconds) == (
            False,
            0,
            0,
        )
        peer.known.mark_ready(42.5)
        assert (peer.known.is_ready, peer.known.end_seconds) == (True, 42.5)
        assert 0 < peer.known.ready_seconds < peer.known.age_seconds
        peer.known.close()

    trio.run(run, make_peer())


# Signals.


def test_stop_is_a_sigterm(make_peer: Callable[..., Peer]) -> None:
    async def run(peer: Peer) -> None:
        assert peer.known.stopping_seconds == 0
        peer.known.stop()
        assert peer.known.is_stopping
        assert peer.line() == "SIGTERM"
        assert peer.known.stopping_seconds > 0
        assert peer.questions() == [DRAIN]
        peer.known.close()

    trio.run(run, make_peer(is_ready=True))


def test_last_one_is_told_so_before_the_signal(make_peer: Callable[..., Peer]) -> None:
    async def run(peer: Peer) -> None:
        peer.known.tell_last()
        peer.known.stop()
        assert peer.line() == "SIGTERM"
        assert peer.questions() == [LAST, DRAIN]
        peer.known.close()

    trio.run(run, make_peer(is_ready=True))


@pytest.mark.parametrize(("is_ready", "name"), [(True, "SIGINT"), (False, "SIGTERM")])
def test_hurry_does_not_wait_for_the_stop(
    make_peer: Callable[..., Peer], is_ready: bool, name: str
) -> None:
    async def run(peer: Peer) -> None:
        peer.known.hurry()
        assert peer.line() == name
        assert peer.known.is_stopping
        peer.known.close()

    trio.run(run, make_peer(is_ready=is_ready))


def test_signal_to_nobody_is_no_error(make_peer: Callable[..., Peer]) -> None:
    async def run(peer: Peer) -> None:
        assert peer.known.signal(signal.SIGTERM)
        peer.end()
        assert not peer.known.signal(signal.SIGTERM)
        peer.known.tell_last()
        peer.known.stop()
        peer.known.close()

    trio.run(run, make_peer())


@pytest.mark.parametrize(
    ("options", "figures", "state"),
    [
        ({}, None, "starting"),
        ({"is_ready": True}, None, "ready"),
        ({"is_ready": True}, Figures(in_flight=1, capacity=2), "ready"),
        ({"is_ready": True}, FIGURES, "busy"),
        ({"is_ready": True, "is_stopping": True}, FIGURES, "stopping"),
    ],
)
def test_state_is_told(
    make_peer: Callable[..., Peer], options: dict[str, bool], figures: Figures | None, state: str
) -> None:
    async def run(peer: Peer) -> None:
        peer.known.figures = figures
        told = peer.known.describe()
        assert (told["pid"], told["state"]) == (peer.process.pid, state)
        for name in ("requests", "app_errors", "client_gone", "slow_requests", "refused"):
            assert told[name] == (getattr(figures, name) if figures else None)
        peer.known.close()

    trio.run(run, make_peer(**options))


def test_close_before_it_is_listened_to_is_no_error(make_peer: Callable[..., Peer]) -> None:
    """As when the reports of its fork and of its end come together."""

    async def run(peer: Peer) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.known.listen)
                peer.known.close()

    trio.run(run, make_peer())


async def question_to_one_that_has_ended(peer: Peer) -> None:
    async with listening(peer) as worker:
        peer.say(WorkerMessage(figures=FIGURES))
        peer.link.close()
        worker.ask()
        worker.read_last_messages()
        assert worker.figures == FIGURES


def test_a_question_to_a_worker_that_has_ended_costs_no_figures(
    make_peer: Callable[..., Peer],
) -> None:
    trio.run(question_to_one_that_has_ended, make_peer(is_ready=True))


# Questions with long answers.


async def long_answer(peer: Peer) -> None:
    async with listening(peer) as worker, trio.open_nursery() as nursery:
        ask = partial(worker.inquire, "requests", {"limit": 3}, seconds=PATIENCE_SECONDS)
        found = await in_background(nursery, ask)
        with trio.fail_after(PATIENCE_SECONDS):
            await trio.lowlevel.wait_readable(peer.link)
        question, [file], _, _ = socket.recv_fds(peer.link, MAX_BYTES, 1)
        inquiry = Inquiry.decode(question)
        assert inquiry == Inquiry(1, "requests", {"limit": 3})
        write_answer(file, {"requests": ["x" * 200_000]})
        os.close(file)
        peer.say(WorkerMessage(answered=7))  # of another question
        peer.say(WorkerMessage(answered=1))
        await until(lambda: bool(found))
        assert found == [{"requests": ["x" * 200_000]}]


def test_a_long_answer_comes_in_a_file(make_peer: Callable[..., Peer]) -> None:
    trio.run(long_answer, make_peer(is_ready=True))


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def no_long_answer(peer: Peer) -> None:
    async with listening(peer) as worker:
        open_before = open_descriptors()
        assert await worker.inquire("requests", {}, seconds=0.01) is None
        assert await worker.inquire("requests", {}, seconds=0.01) is None
        peer.questions()
        assert open_descriptors() == open_before


def test_a_long_answer_that_does_not_come_has_its_deadline(make_peer: Callable[..., Peer]) -> None:
    trio.run(no_long_answer, make_peer(is_ready=True))


async def not_ready_yet(peer: Peer) -> None:
    async with listening(peer) as worker:
        assert await worker.inquire("requests", {}, seconds=PATIENCE_SECONDS) is None
        assert peer.questions() == []


def test_a_worker_that_is_not_ready_is_not_asked(make_peer: Callable[..., Peer]) -> None:
    trio.run(not_ready_yet, make_peer())
