"""What the listener takes, refuses and answers itself, and how much of it at once."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.bridge import Bridge, on_each_loop, on_each_socket, running
from tests.bridge_process import run_to_its_end, running_process
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask, connect, packet, read_answer, reset
from uwsgibridge.protocol.packet import PING, PONG, encode_packet
from uwsgibridge.worker.acceptor import Acceptor
from uwsgibridge.worker.held_back import HeldBack

# For a deadline that is meant to pass.
SHORT_SECONDS = 0.1

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc"
)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def connect_until(address: str, deadline: float) -> None:
    """Connect again and again, until that raises or it is too late."""
    while monotonic() < deadline:
        connect(address).close()


def read_raw(connection: socket.socket) -> bytes:
    """Read to the end of a connection that must not be reset."""
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received


# Pings.


@on_each_loop
@on_each_socket
def test_ping_is_answered(family: str, loop: str):
    with running(hello, family, loop=loop, lifespan="off") as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(PING)
            assert read_raw(connection) == PONG
        with connect(bridge.address) as connection:
            for position in range(len(PING)):
                connection.sendall(PING[position : position + 1])
            assert read_raw(connection) == PONG

    assert bridge.counters.requests == 0  # a ping is none
    assert bridge.events.find() == []


@on_each_socket
def test_ping_is_answered_while_every_thread_is_busy(family: str):
    busy, release = threading.Semaphore(0), threading.Event()

    def app(environ, start_response):
        busy.release()
        assert release.wait(PATIENCE_SECONDS)
        start_response("200 OK", [])
        return [b"late"]

    with running(app, family, threads=2, accept_margin=2) as bridge, ExitStack() as stack:
        requests = [stack.enter_context(connect(bridge.address)) for _ in range(3)]
        for connection in requests:
            connection.sendall(packet())
        for _ in range(2):
            assert busy.acquire(timeout=PATIENCE_SECONDS)
        with connect(bridge.address) as connection:
            connection.sendall(PING)
            assert read_raw(connection) == PONG
        release.set()
        assert [read_answer(connection).body for connection in requests] == [b"late"] * 3


# Refusals.


def many_vars(count: int) -> bytes:
    return encode_packet({f"HTTP_X_{number}": "" for number in range(count)})


REFUSALS: dict[str, tuple[bytes, int, str, str | None, str]] = {
    "http": (
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        400,
        "http_not_uwsgi",
        None,
        "uwsgi_pass (not proxy_pass)",
    ),
    "size-past-the-end": (b"\0\x05\0\0\xff\xffabc", 400, "malformed_packet", None, "past the end"),
    "empty-name": (b"\0\x04\0\0\0\0\0\0", 400, "malformed_packet", None, "empty name"),
    "too-many-vars": (many_vars(11), 431, "vars_over_limit", "--max-vars", "the limit is 10"),
    "too-many-bytes": (
        packet(HTTP_X="x" * 2000),
        431,
        "vars_over_limit",
        "--max-vars-bytes",
        "the limit is 1000",
    ),
    "length-is-no-number": (
        encode_packet({"CONTENT_LENGTH": "-1"}),
        400,
        "invalid_content_length",
        None,
        "not a decimal number",
    ),
    "body-too-large": (
        encode_packet({"CONTENT_LENGTH": "101"}),
        413,
        "body_over_limit",
        "--max-body-bytes",
        "the limit is 100",
    ),
}


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_is_answered_in_words_and_logged(name: str, family: str, loop: str):
    sent, status, reason, option, words = REFUSALS[name]
    limits: dict[str, Any] = (
        {} if name == "http" else {"max_vars_bytes": 1000, "max_vars": 10, "max_body_bytes": 100}
    )
    if name in {"length-is-no-number", "body-too-large"}:
        limits["max_vars"] = 100
    with (
        running(hello, family, loop=loop, lifespan="off", **limits) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(sent)
        answer = read_answer(connection)
        # A peer that has more to say finds somebody who listens, and then the end.
        connection.sendall(b"and more")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""

    assert answer.seen == status
    assert words in answer.body.decode()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "refused"
    assert event["reason"] == reason
    assert event["status"] == status
    assert event["detail"] == answer.body.decode().strip()
    assert event.get("option") == option
    # Where there is a request, which one.
    is_request = name in {"length-is-no-number", "body-too-large"}
    assert event.get("method") == ("GET" if is_request else None)
    assert event.get("path") == ("/" if is_request else None)
    assert bridge.counters.refused == {reason: 1}


@on_each_loop
@on_each_socket
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "tls_not_uwsgi"),
        (encode_packet({"UWSGI_FILE": "/evil.py"}, modifier1=22), "unsupported_modifier"),
        (b"\xff\xff\xff\xff", "unsupported_modifier"),
    ],
    ids=["tls", "eval", "reserved"],
)
def test_what_would_not_understand_an_answer_gets_none(
    sent: bytes, reason: str, family: str, loop: str
):
    with (
        running(hello, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(sent)
        answer = read_answer(connection)
        assert (answer.status, answer.body) == (0, b"")
        assert bridge.ask().body == b"hello"

    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "refused"
    assert event["reason"] == reason
    assert bridge.counters.refused == {reason: 1}


@on_each_socket
def test_path_below_no_mount_is_answered_404(family: str):
    with running(None, family, lifespan="off", mounts={"/api": hello}) as bridge:
        assert bridge.ask("/api").body == b"hello"
        answer = bridge.ask("/apis", method="POST", body=bytes(1_000_000))

    assert answer.seen == 404
    assert b"No application is mounted" in answer.body
    assert bridge.counters.refused == {"not_mounted": 1}


@on_each_loop
@on_each_socket
@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({"SCRIPT_NAME": "/api", "PATH_INFO": "/items", "CONTENT_LENGTH": "101"}, 413),
        ({"SCRIPT_NAME": "/api", "PATH_INFO": "/items", "CONTENT_LENGTH": "1e3"}, 400),
        ({"PATH_INFO": "/api/items"}, 404),
    ],
)
def test_refused_request_is_in_the_access_log(
    variables: dict[str, str],
    status: int,
    family: str,
    loop: str,
    capfd: pytest.CaptureFixture[str],
):
    with running(
        None,
        family,
        loop=loop,
        lifespan="off",
        mounts={"/mounted": hello},
        max_body_bytes=100,
        access_log=True,
        access_log_format="json",
    ) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(
                encode_packet(
                    {
                        "REQUEST_METHOD": "PUT",
                        "QUERY_STRING": "token=secret",
                        "REQUEST_URI": "/api/items?token=secret",
                        "REMOTE_ADDR": "203.0.113.7",
                        **variables,
                    }
                )
            )
            answer = read_answer(connection)
        assert bridge.ask("/mounted").body == b"hello"

    assert answer.seen == status
    lines = capfd.readouterr().err.splitlines()
    refused, served = sorted(map(json.loads, lines), key=lambda line: line["path"])
    assert served["status"] == 200
    assert 0 < refused.pop("queue_seconds") < PATIENCE_SECONDS
    assert 0 < refused.pop("total_seconds") < PATIENCE_SECONDS
    del refused["timestamp"]
    assert len(refused.pop("request_id")) == 32
    assert refused == {
        "event": "access",
        "client": "203.0.113.7",
        "user": None,
        "method": "PUT",
        "path": "/api/items",
        "protocol": "HTTP/1.1",
        "status": status,
        "bytes": len(answer.body),
        "complete": True,
        "referer": None,
        "user_agent": None,
        "application_seconds": 0.0,
        "worker": os.getpid(),
    }
    assert "secret" not in bridge.events.text()


@on_each_socket
def test_what_is_no_request_is_not_in_the_access_log(
    family: str, capfd: pytest.CaptureFixture[str]
):
    with running(
        hello, family, lifespan="off", max_vars=10, access_log=True, packet_timeout_seconds=0.1
    ) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(PING)
            assert read_raw(connection) == PONG
        for sent in (
            b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
            b"\0\x05\0\0\xff\xffabc",
            b"\xff\xff\xff\xff",
            many_vars(11),
            packet()[:-1],
        ):
            with connect(bridge.address) as connection:
                connection.sendall(sent)
                read_answer(connection)

    assert bridge.counters.requests == 0  # a ping is none
    assert sum(bridge.counters.refused.values()) == 5
    assert capfd.readouterr().err == ""


# Peers that are slow, or leave.


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("sent", [b"\0", packet()[:-1]], ids=["a-byte", "all-but-a-byte"])
def test_packet_that_does_not_arrive_in_time_is_refused(sent: bytes, family: str, loop: str):
    with (
        running(
            hello, family, loop=loop, lifespan="off", packet_timeout_seconds=SHORT_SECONDS
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(sent)
        assert read_answer(connection).status == 0

    (event,) = bridge.events.find(level="warning")
    assert "no whole packet arrived in time" in event["event"]
    assert event["option"] == "--packet-timeout-seconds"
    assert bridge.counters.refused == {"packet_timeout": 1}


@on_each_loop
def test_silent_connection_is_refused_in_time(loop: str):
    with (
        running(
            hello, "unix", loop=loop, lifespan="off", packet_timeout_seconds=SHORT_SECONDS
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        assert connection.recv(1) == b""

    assert bridge.counters.refused == {"packet_timeout": 1}


@on_each_socket
def test_trickle_does_not_extend_the_deadline(family: str):
    with (
        running(hello, family, lifespan="off", packet_timeout_seconds=SHORT_SECONDS) as bridge,
        connect(bridge.address) as connection,
    ):
        request = packet(HTTP_X="x" * 60_000)
        for position in range(len(request)):
            try:
                connection.sendall(request[position : position + 1])
            except OSError:
                break
            bridge.settle()
        else:
            raise AssertionError("all of it was taken")

    assert bridge.counters.refused == {"packet_timeout": 1}


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
@pytest.mark.parametrize("sent", [b"", packet()[:10]], ids=["nothing", "a-part"])
def test_peer_that_leaves_before_its_packet_is_no_news(
    sent: bytes, leave: Callable[[Any], None], family: str, loop: str
):
    with running(hello, family, loop=loop, lifespan="off") as bridge:
        for _ in range(5):
            connection = connect(bridge.address)
            connection.sendall(sent)
            leave(connection)
            assert bridge.ask().body == b"hello"

    assert bridge.events.find() == []
    assert bridge.counters.refused == {}
    assert bridge.counters.client_gone == 0


@on_each_loop
@on_each_socket
def test_connections_without_a_packet_are_closed_at_the_end(family: str, loop: str):
    # A silent TCP connection is not even there yet: the kernel defers it (TCP_DEFER_ACCEPT).
    sent = [packet()[:10]] if family == "tcp" else [packet()[:10], b""]
    with running(hello, family, loop=loop, lifespan="off") as bridge, ExitStack() as stack:
        connections = [stack.enter_context(connect(bridge.address)) for _ in sent]
        for connection, part in zip(connections, sent, strict=True):
            connection.sendall(part)
        bridge.settle()
        bridge.begin_stop()
        bridge.hurry()
        for connection in connections:
            answer = read_answer(connection)
            assert (answer.status, answer.body) == (0, b"")
        bridge.wait_stopped()

    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_packet_that_has_begun_when_the_end_comes_is_served(family: str, loop: str):
    with (
        running(hello, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet()[:10])
        bridge.settle()
        bridge.begin_stop()
        connection.sendall(packet()[10:])
        assert read_answer(connection).body == b"hello"
        bridge.wait_stopped()


@on_each_loop
@on_each_socket
def test_what_waits_in_the_backlog_when_the_end_comes_is_served(family: str, loop: str):
    with running(hello, family, loop=loop, lifespan="off") as bridge, ExitStack() as stack:
        with bridge.held():
            bridge.begin_stop()
            connections = [stack.enter_context(connect(bridge.address)) for _ in range(10)]
            for connection in connections:
                connection.sendall(packet())
        assert [read_answer(connection).body for connection in connections] == [b"hello"] * 10
        bridge.wait_stopped()


@on_each_loop
@on_each_socket
def test_new_connections_are_refused_while_it_drains(family: str, loop: str):
    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    with (
        running(app, family, loop=loop, lifespan="off") as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(method="POST", content_length=1))
        bridge.settle()
        bridge.begin_stop()
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            connect_until(bridge.address, monotonic() + PATIENCE_SECONDS)
        connection.sendall(b"x")
        assert read_answer(connection).body == b"hello"
        bridge.wait_stopped()


# Many at once, and no more than there is room for.


@on_each_loop
@on_each_socket
def test_burst_of_connections_is_served(family: str, loop: str):
    with running(hello, family, loop=loop, lifespan="off") as bridge, ExitStack() as stack:
        for _ in range(3):
            connections = [stack.enter_context(connect(bridge.address)) for _ in range(150)]
            for connection in connections:
                connection.sendall(packet())
            bodies = {read_answer(connection).body for connection in connections}
            assert bodies == {b"hello"}


def count_sockets() -> int:
    """Count the sockets that this process has open."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue  # the directory's own
    return count


@contextmanager
def ten_requests(bridge: Bridge, which: int = 0) -> Iterator[list[socket.socket]]:
    """Send ten requests at once to one of the sockets."""
    address = bridge.addresses[which]
    with ExitStack() as stack:
        with bridge.held():
            connections = [stack.enter_context(connect(address)) for _ in range(10)]
            for connection in connections:
                connection.sendall(packet())
        yield connections


@needs_proc
@on_each_socket
@pytest.mark.parametrize(("threads", "margin"), [(2, 1), (1, 0), (1, 4)])
def test_wsgi_accepts_as_many_as_run_plus_the_margin(family: str, threads: int, margin: int):
    started, go_on = threading.Semaphore(0), threading.Semaphore(0)
    lock, running_now, most = threading.Lock(), 0, 0

    def app(environ, start_response):
        nonlocal running_now, most
        with lock:
            running_now += 1
            most = max(most, running_now)
        started.release()
        assert go_on.acquire(timeout=PATIENCE_SECONDS)
        with lock:
            running_now -= 1
        start_response("200 OK", [])
        return [b"served"]

    with (
        running(app, family, threads=threads, accept_margin=margin) as bridge,
        ExitStack() as stack,
    ):
        before = count_sockets()
        # First, so that no thread is left that accepts by itself: it would not wait for the packet.
        busy = [stack.enter_context(connect(bridge.address)) for _ in range(threads)]
        for connection in busy:
            connection.sendall(packet())
            assert started.acquire(timeout=PATIENCE_SECONDS)
        with ten_requests(bridge) as others:
            connections = busy + others
            # Where threads accept by themselves, the loop sees a moment later that they don't get on.
            deadline = time.monotonic() + PATIENCE_SECONDS
            while count_sockets() - before - len(connections) < threads + margin:
                assert time.monotonic() < deadline
            bridge.settle()
            accepted = count_sockets() - before - len(connections)
            assert not started.acquire(blocking=False)
            for _ in connections:
                go_on.release()
            answers = [read_answer(connection) for connection in connections]

    assert accepted == threads + margin
    assert most == threads
    assert [(answer.seen, answer.body) for answer in answers] == [(200, b"served")] * len(
        connections
    )


@needs_proc
@on_each_loop
@on_each_socket
@pytest.mark.parametrize("limit", [1, 3])
def test_asgi_accepts_as_many_as_may_run(family: str, loop: str, limit: int):
    started = threading.Semaphore(0)

    async def app(scope, receive, send):
        started.release()
        # The client's byte lets it go on.
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    with (
        running(app, family, loop=loop, lifespan="off", max_concurrency=limit) as bridge,
        ExitStack() as stack,
    ):
        before = count_sockets()
        with bridge.held():
            connections = [stack.enter_context(connect(bridge.address)) for _ in range(10)]
            for connection in connections:
                connection.sendall(packet(method="POST", content_length=1))
        for _ in range(limit):
            assert started.acquire(timeout=PATIENCE_SECONDS)
        bridge.settle()
        accepted = count_sockets() - before - len(connections)
        assert not started.acquire(blocking=False)
        for connection in connections:
            connection.sendall(b"x")
        answers = [read_answer(connection) for connection in connections]

    assert accepted == limit
    assert [(answer.seen, answer.body) for answer in answers] == [(200, b"hello")] * 10


@on_each_loop
def test_connections_that_were_taken_before_their_packets_keep_to_the_limit(loop: str):
    # On a unix socket a connection may be there, and accepted, before its packet is.
    started = threading.Semaphore(0)

    async def app(scope, receive, send):
        started.release()
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    with (
        running(app, "unix", loop=loop, lifespan="off", max_concurrency=1) as bridge,
        ExitStack() as stack,
    ):
        connections = [stack.enter_context(connect(bridge.address)) for _ in range(5)]
        bridge.settle()
        for connection in connections:
            connection.sendall(packet(method="POST", content_length=1))
        assert started.acquire(timeout=PATIENCE_SECONDS)
        bridge.settle()
        running_too_much = started.acquire(blocking=False)
        for connection in connections:
            connection.sendall(b"x")
        bodies = [read_answer(connection).body for connection in connections]

    assert bodies == [b"hello"] * 5
    assert not running_too_much


def waits_for(go_on: threading.Semaphore) -> Any:
    """Make an application whose answers wait to be let go, one by one."""

    def app(environ, start_response):
        assert go_on.acquire(timeout=PATIENCE_SECONDS)
        start_response("200 OK", [])
        return [b"served"]

    return app


@on_each_socket
def test_what_waits_in_the_kernel_is_taken_as_soon_as_there_is_room(family: str):
    go_on = threading.Semaphore(0)

    with (
        running(waits_for(go_on), family, threads=1, accept_margin=0) as bridge,
        ten_requests(bridge) as connections,
    ):
        # One by one: each answer makes room for the next, with nothing else to wake the listener. Threads that accept by themselves
        # take connections before their packets have come, so that these come in any order.
        left = {*connections}
        while left:
            go_on.release()
            (answered, *_), _, _ = select.select(left, [], [], PATIENCE_SECONDS)
            left.remove(answered)
            assert read_answer(answered).body == b"served"


def settle_until(bridge: Bridge, condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline
        bridge.settle()


@on_each_socket
def test_room_that_is_made_just_after_the_look_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, family: str
):
    """A thread may end its request before the listener has asked to be woken for that."""
    go_on, ended = threading.Semaphore(0), threading.Semaphore(0)
    resume, waits = HeldBack.resume, waits_for(go_on)

    def app(environ, start_response):
        answer = waits(environ, start_response)
        ended.release()
        return answer

    def resume_and_end_what_began(held: HeldBack) -> None:
        before = len(held.connections)
        resume(held)
        if held and len(held.connections) < before:
            (admission,) = {host.admission for host, _ in held._waiting}
            go_on.release()
            deadline = monotonic() + PATIENCE_SECONDS
            while admission.in_flight:
                assert monotonic() < deadline
                time.sleep(0)  # the thread of the request needs the interpreter

    monkeypatch.setattr(HeldBack, "resume", resume_and_end_what_began)

    with (
        running(app, family, threads=1, accept_margin=0) as bridge,
        ExitStack() as stack,
    ):
        # What comes in pieces is accepted before it is known where it goes: so all but one are held back.
        connections = [stack.enter_context(connect(bridge.address)) for _ in range(4)]
        data = packet()
        for connection in connections:
            connection.sendall(data[:9])
        listener = bridge._worker._listener
        settle_until(bridge, lambda: len(listener.connections) == 4)
        for connection in connections:
            connection.sendall(data[9:])
        # All but the one that runs.
        settle_until(bridge, lambda: len(listener._held_back.connections) == 3)
        go_on.release()  # of the first; the next ones end above
        for _ in connections[1:]:
            assert ended.acquire(timeout=PATIENCE_SECONDS)
        go_on.release()  # of the last
        answers = [read_answer(connection).body for connection in connections]

    assert answers == [b"served"] * 4


@on_each_socket
def test_a_host_that_is_full_again_at_once_has_no_socket_watched(
    monkeypatch: pytest.MonkeyPatch, family: str
):
    """To watch it costs several turns of the loop, for each time that a busy host makes room."""
    go_on = threading.Semaphore(0)
    watched: list[Acceptor] = []
    resume = Acceptor.resume

    def note_and_resume(acceptor: Acceptor) -> None:
        watched.append(acceptor)
        resume(acceptor)

    monkeypatch.setattr(Acceptor, "resume", note_and_resume)

    with (
        running(waits_for(go_on), family, threads=1, accept_margin=0) as bridge,
        ten_requests(bridge) as connections,
    ):
        bridge.settle()
        watched.clear()
        for connection in connections[:-1]:
            go_on.release()
            assert read_answer(connection).body == b"served"
        assert not watched
        go_on.release()
        read_answer(connections[-1])


@pytest.mark.parametrize("busy", [0, 1])
def test_a_socket_on_which_many_wait_leaves_places_to_the_other_one(busy: int):
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def app(environ, start_response):
        begun.release()
        assert go_on.acquire(timeout=PATIENCE_SECONDS)
        start_response("200 OK", [])
        return [b"served"]

    with (
        running(app, "both", threads=1, accept_margin=0) as bridge,
        ten_requests(bridge, busy) as connections,
        connect(bridge.addresses[1 - busy]) as other,
    ):
        other.sendall(packet())
        waiting, order = [*connections, other], []
        while waiting:
            assert begun.acquire(timeout=PATIENCE_SECONDS)
            bridge.settle()  # else the request could end while the listener still looks at the other socket
            go_on.release()
            answered, _, _ = select.select(waiting, [], [], PATIENCE_SECONDS)
            assert [read_answer(it).body for it in answered] == [b"served"]
            waiting.remove(answered[0])
            order.append(answered[0])
    assert order.index(other) < 4


@needs_proc
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts differently elsewhere")
@pytest.mark.parametrize(
    ("family", "loop"), [("tcp", "trio"), ("unix", "asyncio"), ("tcp", "auto")]
)
def test_running_out_of_descriptors_is_logged_and_overcome(tmp_path: Path, family: str, loop: str):
    (tmp_path / "app.py").write_text(
        "import os, resource\n"
        "async def app(scope, receive, send):\n"
        "    if scope['path'] == '/limit':\n"
        # Room for this connection, and three more.
        "        top = max(map(int, os.listdir('/proc/self/fd')))\n"
        "        while os.open('/dev/null', os.O_RDONLY) < top:\n"  # no numbers are free below it
        "            pass\n"
        "        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 4, top + 4))\n"
        "    while (await receive())['more_body']:\n"
        "        pass\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    bind = "127.0.0.1:0" if family == "tcp" else "unix:s"
    with (
        running_process(
            "serve", "app:app", "--bind", bind, "--loop", loop, "--lifespan", "off",
            "--log-format", "json", directory=tmp_path,
        ) as process,
        ExitStack() as stack,
    ):  # fmt: skip
        address = process.address
        if family == "unix":
            address = f"unix:{tmp_path / 's'}"
        assert ask(address, "/limit").body == b"hello"
        connections = [stack.enter_context(connect(address)) for _ in range(10)]
        began = monotonic()
        for connection in connections:
            connection.sendall(packet(method="POST", content_length=1))
        event = process.events.wait(level="error")
        for connection in connections:
            connection.sendall(b"x")
        assert [read_answer(connection).body for connection in connections] == [b"hello"] * 10
        seconds = monotonic() - began
        assert process.stop() == 0

    # Each connection that ends makes room for one, and then there is none again.
    assert len(process.events.find(level="error")) <= 1 + seconds
    assert event["event"] == "can't accept connections: waiting for some to end"
    assert event["reason"] == "Too many open files"
    assert "ulimit -n" in event["hint"]
    assert process.events.other_text() == ""


# Sockets that something has closed.

CLOSES = """
import os, signal, socket
def closes():
    for number in map(int, os.listdir('/proc/self/fd')):
        try:
            one = socket.socket(fileno=number)
        except OSError:
            continue
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            one.close()
            return number
        one.detach()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are found in /proc")
@on_each_loop
@on_each_socket
@pytest.mark.parametrize("is_replaced", [False, True], ids=["closed", "replaced"])
def test_stop_right_after_the_application_has_closed_the_socket(
    family: str, loop: str, is_replaced: bool, tmp_path: Path
):
    """Before anybody has looked: it ends as ever, and leaves the number's new owner alone."""
    (tmp_path / "sitecustomize.py").write_text(
        "from uwsgibridge.worker import embedded as serving\nserving._LOOK_SECONDS = 1000\n"
    )
    (tmp_path / "app.py").write_text(
        f"{CLOSES}\n"
        "import anyio\n"
        "async def app(scope, receive, send):\n"
        "    for _ in range(10):\n"  # until the listener waits for the next connection
        "        await anyio.lowlevel.checkpoint()\n"
        "    number = closes()\n"
        f"    if {is_replaced}:\n"
        "        other = socket.create_server(('127.0.0.1', 0))\n"
        "        if other.fileno() != number:\n"
        "            os.dup2(other.fileno(), number)\n"
        "        globals()['kept'] = other\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello'})\n"
        "def tell():\n"
        "    if 'kept' in globals():\n"
        "        is_there = kept.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)\n"
        "        print('listens' if is_there else 'does not listen', flush=True)\n"
    )
    bind = "127.0.0.1:0" if family == "tcp" else f"unix:{tmp_path}/s"
    with running_process(
        *("serve", "app:app", "--bind", bind, "--loop", loop, "--lifespan", "off"),
        *("--log-format", "json", "--on-worker-exit", "app:tell"),
        directory=tmp_path,
        environment={"PYTHONPATH": str(tmp_path)},
    ) as process:
        assert ask(process.address).body == b"hello"
        assert process.wait() == 0

    assert process.events.find(level="error") == []
    assert process.events.other_text() == ("listens" if is_replaced else "")


@needs_proc
@pytest.mark.parametrize(("app", "loop"), [("wsgi", "auto"), ("asgi", "trio"), ("asgi", "asyncio")])
def test_application_that_closes_the_socket_as_it_is_imported(app: str, loop: str, tmp_path: Path):
    (tmp_path / "app.py").write_text(
        f"{CLOSES}\n"
        "closes()\n"
        "def wsgi(environ, start_response): ...\n"
        "async def asgi(scope, receive, send): ...\n"
    )
    status, said = run_to_its_end(
        *("serve", f"app:{app}", "--bind", "127.0.0.1:0", "--loop", loop, "--lifespan", "off"),
        directory=tmp_path,
    )
    assert status == 1
    assert "nothing can be accepted at 127.0.0.1:" in said
    assert "can't accept connections" not in said  # as for what a moment later may be otherwise
    assert "Traceback" not in said
