"""The only thread of a WSGI host accepts by itself, while its requests are short, and the loop does all else."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.bridge import Bridge, on_each_socket, running
from tests.gil import lends_the_socket
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask, connect, packet, read_answer
from tests.ways import go
from uwsgibridge.errors import WorkerUnfit
from uwsgibridge.protocol.packet import PING, PONG
from uwsgibridge.system.backlog import connections_waiting
from uwsgibridge.worker.lending import Lending

pytestmark = lends_the_socket

MOMENT_SECONDS = 0.001
SOME_SECONDS = 0.2


@pytest.fixture(autouse=True)
def _accelerated() -> Iterator[None]:
    yield from go("c")


def hello(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


class Gate:
    """An application whose ``/wait`` runs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Semaphore(0)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/wait":
            self.entered.release()
            assert self.release.acquire(timeout=PATIENCE_SECONDS)
        return hello(environ, start_response)


def is_lent(bridge: Bridge) -> bool:
    lending = bridge._worker._listener._lending
    return isinstance(lending, Lending) and lending.is_lent


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(MOMENT_SECONDS)


def wait_until_lent(bridge: Bridge, *, wanted: bool = True) -> None:
    wait_until(lambda: is_lent(bridge) is wanted)


@contextmanager
def lending(app: Any, family: str = "unix", **options: Any) -> Iterator[Bridge]:
    with running(app, family, **{"threads": 1, **options}) as bridge:
        wait_until_lent(bridge)
        yield bridge


@contextmanager
def in_background(bridge: Bridge, path: str) -> Iterator[list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(bridge.ask(path)))
    thread.start()
    yield answers
    thread.join(PATIENCE_SECONDS)
    assert answers


def answers_without_the_loop(bridge: Bridge, *, sent_after_seconds: float = 0.0) -> bool:
    """Whether a request is answered while the loop stands still.

    On a busy machine, its packet may come too late for a thread, which hands the connection to the loop. So there are
    some attempts.
    """
    for _ in range(50):
        with ExitStack() as stack:
            with bridge.held():
                connection = stack.enter_context(connect(bridge.address))
                time.sleep(sent_after_seconds)
                connection.sendall(packet("/x"))
                is_answered, _, _ = select.select([connection], [], [], SOME_SECONDS)
            assert read_answer(connection).body == b"/x"
        if is_answered:
            return True
    return False


@on_each_socket
@pytest.mark.parametrize("threads", [1, 3])
def test_short_requests_do_without_the_loop(family: str, threads: int) -> None:
    with lending(hello, family, threads=threads) as bridge:
        assert answers_without_the_loop(bridge)
        assert bridge.figures().in_flight == 0


@on_each_socket
def test_a_packet_that_comes_a_moment_later_needs_no_loop(family: str) -> None:
    """As from Nginx, which connects, and sends when the kernel has told it so."""
    with lending(hello, family) as bridge:
        assert answers_without_the_loop(bridge, sent_after_seconds=0.00005)


@on_each_socket
def test_the_loop_accepts_beside_a_long_request(family: str) -> None:
    gate = Gate()
    with lending(gate, family) as bridge, in_background(bridge, "/wait") as answers:
        assert gate.entered.acquire(timeout=PATIENCE_SECONDS)
        with connect(bridge.address) as connection:
            connection.sendall(PING)
            assert connection.recv(100) == PONG
        assert not is_lent(bridge)
        with connect(bridge.address) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert read_answer(connection).status == 400
        with in_background(bridge, "/next") as later:
            gate.release.release()
        wait_until_lent(bridge)
        assert answers_without_the_loop(bridge)
    assert [answers[0].body, later[0].body] == [b"/wait", b"/next"]


@on_each_socket
def test_the_loop_serves_what_is_not_plain(family: str) -> None:
    whole = packet("/bytewise")
    with lending(hello, family) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(PING)
            assert connection.recv(100) == PONG
        with connect(bridge.address) as connection:
            connection.sendall(whole[:10])
            # The thread waits no more: the loop has the connection.
            wait_until(lambda: bool(bridge._worker._listener.connections))
            connection.sendall(whole[10:])
            assert read_answer(connection).body == b"/bytewise"
        with connect(bridge.address) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert read_answer(connection).status == 400
        assert ask(bridge.address, "/head", method="HEAD").status == 200
        assert ask(bridge.address, "/post", method="POST", body=b"x" * 300_000).status == 200
        connect(bridge.address).close()
        assert bridge.ask("/last").body == b"/last"
        wait_until_lent(bridge)
        assert bridge.counters.requests == 4


@on_each_socket
def test_what_is_not_plain_is_accepted_as_there_is_room(family: str) -> None:
    gate = Gate()
    not_plain = packet("/wait", SERVER_PORT="")
    with (
        lending(gate, family, accept_margin=1) as bridge,
        ExitStack() as stack,
    ):
        connections = [stack.enter_context(connect(bridge.address)) for _ in range(8)]
        for connection in connections:
            connection.sendall(not_plain)
        assert gate.entered.acquire(timeout=PATIENCE_SECONDS)
        listener = bridge._worker._listener
        [listening] = [it.listening.socket for it in listener._acceptors]
        wait_until(lambda: not is_lent(bridge) and bridge.figures().in_flight == 2)
        bridge.settle()
        assert connections_waiting(listening) in {5, 6}
        for _ in connections:
            gate.release.release()
        assert [read_answer(it).body for it in connections] == [b"/wait"] * 8


def test_silent_connections_are_no_more_than_the_backlog() -> None:
    with lending(hello, backlog=3) as bridge, ExitStack() as stack:
        listener = bridge._worker._listener
        silent = [stack.enter_context(connect(bridge.address)) for _ in range(3)]
        # For a moment, the socket is not lent after each of them either.
        wait_until(lambda: len(listener.connections) == 3 and not is_lent(bridge))
        bridge.settle()
        assert len(listener.connections) == 3
        assert not is_lent(bridge)
        for connection in silent:
            connection.close()
        assert bridge.ask("/after").body == b"/after"
        wait_until_lent(bridge)


def test_the_request_that_reaches_the_limit_is_told_once() -> None:
    from uwsgibridge.worker.worker import Companion

    told: list[int] = []

    class Counting(Companion):
        max_requests = 5

        def enough(self) -> None:
            told.append(bridge.counters.requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uwsgibridge.worker.worker.Companion", Counting)
        with running(hello, "unix", threads=1) as bridge:
            wait_until_lent(bridge)
            for _ in range(8):
                bridge.ask("/")
    assert told == [5]
    assert bridge.counters.requests == 8


@on_each_socket
def test_a_stop_serves_what_the_thread_has_and_what_waits(family: str) -> None:
    gate = Gate()
    with lending(gate, family) as bridge, in_background(bridge, "/wait") as answers:
        assert gate.entered.acquire(timeout=PATIENCE_SECONDS)
        with connect(bridge.address) as waiting:
            waiting.sendall(packet("/waiting"))
            bridge.begin_stop()
            gate.release.release()
            assert read_answer(waiting).body == b"/waiting"
    assert answers[0].body == b"/wait"


@on_each_socket
def test_a_stop_of_an_idle_thread_refuses_what_comes(family: str) -> None:
    with lending(hello, family) as bridge:
        bridge.stop()
        with pytest.raises(OSError):
            connect(bridge.address)


def ends_unfit() -> AbstractContextManager[object]:
    return pytest.raises(WorkerUnfit, match="can be accepted")


def test_an_application_that_closes_the_socket_has_the_worker_replaced() -> None:
    def closing(environ: Any, start_response: Any) -> Any:
        os.close(bridge._worker._listener._acceptors[0].listening.socket.fileno())
        return hello(environ, start_response)

    with ends_unfit(), lending(closing) as bridge:
        assert bridge.ask("/").body == b"/"
        bridge.wait_stopped()


def test_another_socket_in_the_place_of_ours_is_left_alone() -> None:
    """What waits there is not for the bridge. With nothing there, accept(2) would wait for ever, if that socket blocks."""
    with (
        socket.create_server(("127.0.0.1", 0)) as others,
        socket.create_connection(others.getsockname()) as theirs,
    ):
        theirs.sendall(packet("/not-ours"))

        def swapping(environ: Any, start_response: Any) -> Any:
            ours = bridge._worker._listener._acceptors[0].listening.socket.fileno()
            os.dup2(others.fileno(), ours)
            return hello(environ, start_response)

        with ends_unfit(), lending(swapping) as bridge:
            assert bridge.ask("/").body == b"/"
            bridge.wait_stopped()
        assert bridge.counters.requests == 1
        others.settimeout(PATIENCE_SECONDS)
        others.accept()[0].close()


@on_each_socket
def test_the_loop_accepts_where_requests_take_long_and_other_threads_are_free(family: str) -> None:
    gate = Gate()
    with lending(gate, family, threads=3) as bridge:
        with in_background(bridge, "/wait") as answers:
            assert gate.entered.acquire(timeout=PATIENCE_SECONDS)
            # Nobody waits at the socket now, until the alarm of the loop.
            assert bridge.ask("/beside").body == b"/beside"
            assert not is_lent(bridge)
            gate.release.release()
        assert answers[0].body == b"/wait"


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@on_each_socket
@pytest.mark.parametrize("pass_time", [time.sleep, compute])
def test_the_loop_accepts_where_many_requests_take_long_and_other_threads_are_free(
    pass_time: Callable[[float], None], family: str
) -> None:
    """One that takes long shows it by itself, be it as short as a few milliseconds."""

    def slow(environ: Any, start_response: Any) -> Any:
        pass_time(0.002)
        return hello(environ, start_response)

    with lending(slow, family, threads=3) as bridge:
        # A single one may have been kept from the processor. The loop may get some, where their packets come late.
        asked = (bridge.ask("/") for _ in range(16))
        assert any(not is_lent(bridge) for _ in asked)


def test_the_loop_sleeps_while_a_thread_finds_one_connection_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rings = 0
    ring = Lending._on_alarm

    def counted(self: Lending) -> None:
        nonlocal rings
        rings += 1
        ring(self)

    monkeypatch.setattr(Lending, "_on_alarm", counted)
    waiting: list[socket.socket] = []

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/first":
            for _ in range(60):
                waiting.append(connect(bridge.address))
                waiting[-1].sendall(packet("/next"))
        else:
            compute(0.0005)
        return hello(environ, start_response)

    with lending(app, threads=3) as bridge, ExitStack() as stack:
        fewest = 60
        for _ in range(8):
            before = rings
            waiting.clear()
            bridge.ask("/first")
            for connection in waiting:
                assert read_answer(stack.enter_context(connection)).body == b"/next"
            fewest = min(fewest, rings - before)
            if fewest < 3:
                break
        # 30 ms are six alarms. On a busy machine, the thread may be kept for as long as one, and for several at times.
        assert fewest < 3


BUSY = """
print("", flush=True)
while True:
    pass
"""


@contextmanager
def on_a_busy_cpu() -> Iterator[None]:
    """Keep what is begun here, threads included, on a CPU that another process computes on all the time."""
    before = os.sched_getaffinity(0)
    cpu = {min(before)}
    try:
        os.sched_setaffinity(0, cpu)
        with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as busy:
            try:
                assert busy.stdout is not None
                assert busy.stdout.read(1)
                yield
            finally:
                busy.kill()
    finally:
        os.sched_setaffinity(0, before)


def test_the_thread_goes_on_where_others_keep_it_from_the_processor() -> None:
    """Other threads would get on no better. The alarm of the loop may ring once or twice."""
    computed: list[float] = []

    def kept(environ: Any, start_response: Any) -> Any:
        before = time.thread_time()
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            os.sched_yield()
        computed.append(time.thread_time() - before)
        return hello(environ, start_response)

    def stays_lent(bridge: Bridge) -> bool:
        wait_until_lent(bridge)
        for _ in range(8):
            bridge.ask("/")
        return is_lent(bridge)

    with on_a_busy_cpu(), lending(kept, threads=3) as bridge:
        assert any(stays_lent(bridge) for _ in range(12))
        assert max(computed) < 0.001


def eventfds() -> set[int]:
    found = set()
    for it in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing has closed its own descriptor
            if it.readlink().name == "anon_inode:[eventfd]":
                found.add(int(it.name))
    return found


def test_an_application_that_closes_what_the_thread_waits_for_is_served_on() -> None:
    before = eventfds()
    with lending(hello) as bridge:
        [bell] = eventfds() - before
        os.close(bell)
        bridge.ask("/")  # the thread waits for the closed one as long as nothing comes
        wait_until(lambda: bool(eventfds() - before))
        wait_until_lent(bridge)
        assert answers_without_the_loop(bridge)


def test_two_sockets_leave_the_loop_in_charge() -> None:
    with running(hello, "both", threads=1) as bridge:
        assert bridge._worker._listener._lending is None
        assert bridge.ask("/").body == b"/"
