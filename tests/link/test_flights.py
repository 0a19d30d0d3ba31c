"""What a worker held: recorded where its supervisor finds it, however the worker ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from uwsgibridge.link.flights import (
    SLOT_BYTES,
    SLOTS,
    Flight,
    FlightRecorder,
    Held,
    make_flight_file,
    read_flights,
)
from uwsgibridge.protocol.packet import PING, encode_packet

NOTHING = Held([], 0)


class Connection:
    """What knows its slot."""

    slot: memoryview | None = None


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = make_flight_file()
    yield descriptor
    os.close(descriptor)


def packet(path: str = "/", **variables: str) -> bytes:
    return encode_packet({"REQUEST_METHOD": "GET", "PATH_INFO": path, **variables})


def receive(recorder: FlightRecorder, data: bytes) -> Connection:
    """Do what the listener does with a packet."""
    recorder.await_packet()
    recorder.scratch[: len(data)] = data
    connection = Connection()
    recorder.keep_packet(connection)
    return connection


def test_request_is_held_until_it_is_over(descriptor: int) -> None:
    recorder = FlightRecorder(descriptor)
    first = receive(recorder, packet("/first", QUERY_STRING="token=secret"))
    second = receive(recorder, packet("/second", REQUEST_METHOD="POST"))
    held = read_flights(descriptor)
    assert sorted(held.requests, key=lambda it: it.path) == [
        Flight("GET", "/first"),
        Flight("POST", "/second"),
    ]
    recorder.end(first)
    assert read_flights(descriptor) == Held([Flight("POST", "/second")], 0)
    recorder.end(second)
    assert read_flights(descriptor) == NOTHING


def test_only_slots_that_were_used_take_memory(descriptor: int) -> None:
    recorder = FlightRecorder(descriptor)
    recorder.count_connections(0)
    recorder.end(receive(recorder, packet()))
    # One or two slots and the count; a page for each of the slots would be more.
    assert os.fstat(descriptor).st_blocks * 512 < SLOTS * os.sysconf("SC_PAGE_SIZE") / 4
    assert read_flights(descriptor) == NOTHING


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (packet("/x", SCRIPT_NAME="/app"), "/app/x"),
        # With this modifier PATH_INFO begins with SCRIPT_NAME, which is not said twice.
        (
            encode_packet({"SCRIPT_NAME": "/app", "PATH_INFO": "/app/x"}, modifier1=30),
            "/app/x",
        ),
        (packet("/caf\xc3\xa9"), "/café"),
        (encode_packet([(f"HTTP_X_{number}", "") for number in range(2000)]), "/"),
    ],
    ids=["mounted", "modifier 30", "utf-8", "many vars"],
)
def test_path_is_the_whole_one(descriptor: int, data: bytes, path: str) -> None:
    receive(FlightRecorder(descriptor), data)
    assert read_flights(descriptor) == Held([Flight("GET", path)], 0)


@pytest.mark.parametrize(
    "data",
    [PING, b"GET / HTTP/1.1\r\n\r\n", b"\x05\x01\x00\x00"],
    ids=["ping", "http", "unknown modifier"],
)
def test_what_is_no_request_is_not_told(descriptor: int, data: bytes) -> None:
    receive(FlightRecorder(descriptor), data)
    assert read_flights(descriptor) == NOTHING


def test_slot_is_used_again_without_a_trace_of_what_it_held(descriptor: int) -> None:
    recorder = FlightRecorder(descriptor)
    for path in ("/" + "x" * 1000, "/short"):
        connection = receive(recorder, packet(path))
        assert read_flights(descriptor).requests == [Flight("GET", path)]
        recorder.end(connection)
        recorder.end(connection)  # once is enough
        assert connection.slot is None
        assert read_flights(descriptor) == NOTHING
    # One is received into, and no slot is there twice.
    slots = [receive(recorder, packet()).slot for _ in range(SLOTS - 1)]
    assert len({id(slot) for slot in slots}) == SLOTS - 1
    assert receive(recorder, packet()).slot is None


def test_connections_without_a_request_are_counted(descriptor: int) -> None:
    recorder = FlightRecorder(descriptor)
    recorder.count_connections(3)
    assert read_flights(descriptor) == Held([], 3)
    recorder.await_packet()
    assert read_flights(descriptor) == Held([], 4)
    recorder.count_connections(0)
    assert read_flights(descriptor) == Held([], 1)
    recorder.drop_packet()
    assert read_flights(descriptor) == NOTHING


def test_packet_that_is_dropped_is_not_told(descriptor: int) -> None:
    recorder = FlightRecorder(descriptor)
    recorder.await_packet()
    data = packet("/dropped")
    recorder.scratch[: len(data)] = data
    recorder.drop_packet()
    assert read_flights(descriptor) == NOTHING
    receive(recorder, packet("/kept"))
    assert read_flights(descriptor) == Held([Flight("GET", "/kept")], 0)


def test_more_than_there_are_slots_is_received_elsewhere(descriptor: int) -> None:
    recorder = FlightRecorder(descriptor)
    for number in range(SLOTS + 5):
        receive(recorder, packet(f"/{number}"))
    held = read_flights(descriptor)
    assert {it.path for it in held.requests} == {f"/{number}" for number in range(SLOTS - 1)}


def test_without_memory_nothing_is_recorded() -> None:
    recorder = FlightRecorder()
    assert len(recorder.scratch) == SLOT_BYTES
    recorder.count_connections(3)
    connection = receive(recorder, packet())
    assert connection.slot is None
    recorder.end(connection)
    recorder.drop_packet()


WORKER = """
import os, signal, sys
from uwsgibridge.protocol.packet import encode_packet
from uwsgibridge.link.flights import FlightRecorder

data = encode_packet({"REQUEST_METHOD": "PUT", "PATH_INFO": "/last"})
recorder = FlightRecorder(int(sys.argv[1]))
recorder.await_packet()
recorder.scratch[: len(data)] = data
recorder.count_connections(2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_memory_outlives_a_worker_that_is_killed(descriptor: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WORKER, str(descriptor)], pass_fds=[descriptor], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert read_flights(descriptor) == Held([Flight("PUT", "/last")], 2)


@pytest.mark.parametrize("size_bytes", [0, 100, SLOTS * SLOT_BYTES + 1000])
def test_memory_of_another_version_tells_nothing(descriptor: int, size_bytes: int) -> None:
    receive(FlightRecorder(descriptor), packet())
    os.truncate(descriptor, size_bytes)
    assert read_flights(descriptor) == NOTHING
