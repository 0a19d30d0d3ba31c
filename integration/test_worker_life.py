"""A worker's life: how it begins, what it tells when it crashes, why it is replaced, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from integration.workers import (
    EVERY_INTERFACE,
    EVERY_SOCKET,
    Load,
    distinct_workers,
    fetch,
    wait_gone,
    workers,
    write,
)
from uwsgibridge.client import ping, request
from uwsgibridge.protocol.packet import encode_packet
from uwsgibridge.testing import BridgeProcess, LocalStack, StackError, event_with
from uwsgibridge.testing.log_stream import LogEvent, LogStream

APPS = Path(__file__).parent / "apps"

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
EVERY_WAY_TO_LOAD = pytest.mark.parametrize("loading", [(), ("--preload",)], ids=["fork", "preload"])


class Gate:
    """What `/hold` waits for: the application's connections to it end when it is opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen(128)

    def open(self) -> None:
        """Let go of all that wait, and of all that come later."""
        self._listening.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with tempfile.TemporaryDirectory() as directory:
        gate = Gate(f"{directory}/gate")
        yield gate
        gate.open()


Start = Callable[..., LocalStack]


@pytest.fixture
def start(gate: Gate) -> Iterator[Start]:
    """Start two workers of `worker_life` behind an Nginx."""

    def start(interface: str, *arguments: str, **options: Any) -> LocalStack:
        environment = {"WORKER_LIFE_GATE": gate.path, **options.pop("environment", {})}
        stack = LocalStack(
            f"worker_life:{interface}",
            app_dir=APPS,
            socket=options.pop("kind_of_socket", "unix"),
            serve_args=("--workers", "2", "--lifespan", "off", *arguments),
            environment=environment,
            **options,
        )
        return stacks.enter_context(stack)

    with ExitStack() as stacks:
        yield start
        gate.open()


class Held:
    """Requests through Nginx that the application holds; a context manager that closes them."""

    def __init__(self, stack: LocalStack) -> None:
        self.workers: dict[str, int] = {}
        self._stack = stack
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def begin(self, path: str, method: str = "GET", *, tells: str = "holds") -> int:
        """Ask, and wait until the application has it; the worker it is in."""
        where = urlsplit(self._stack.url)
        assert where.hostname
        since = len(self._stack.log_events())
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
        self._connections[path] = connection
        connection.request(method, f"{path}?token=secret")
        event = self._stack.wait_for_event(event_with(event=f"app: {tells}", path=path), since=since)
        self.workers[path] = pid_in(event)
        return self.workers[path]

    def statuses(self) -> dict[str, int]:
        """Read all answers."""
        found = {}
        for path, connection in self._connections.items():
            with connection.getresponse() as answer:
                found[path] = answer.status
                answer.read()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        for connection in self._connections.values():
            connection.close()


def pid_in(event: LogEvent) -> int:
    pid = event["pid"]
    assert isinstance(pid, int)
    return pid


def facts(stack: LocalStack) -> dict[str, Any]:
    with urllib.request.urlopen(f"{stack.url}/facts", timeout=20) as answer:
        found = json.load(answer)
    assert isinstance(found, dict)
    return found


def held_count(report: LogEvent) -> int:
    held, more = report.get("held", []), report.get("held_more", 0)
    assert isinstance(held, list)
    assert isinstance(more, int)
    return len(held) + more


def events_of(stack: LocalStack, *names: str) -> list[LogEvent]:
    return [event for event in stack.log_events() if event["event"] in names]


# --- The report of a crash ------------------------------------------------------------------------


@EVERY_INTERFACE
@pytest.mark.parametrize("cause", ["SIGABRT", "SIGKILL"])
def test_report_of_a_crash_says_what_was_held(start, gate, interface, cause):
    stack = start(interface)
    with Held(stack) as held:
        fetch(f"{stack.url}/over?token=secret")
        held.begin("/hold/first", "POST")
        for number in range(4):
            held.begin(f"/hold/{number}")
        victim = held.workers["/hold/first"]
        if cause == "SIGKILL":
            os.kill(victim, signal.SIGKILL)
        else:
            victim = held.begin("/abort", tells="aborts")
        report = stack.wait_for_event(event_with(event="worker ended"))
        gate.open()
        statuses = held.statuses()
    assert (report["worker"], report["signal"]) == (victim, cause)
    lost = {path for path, worker in held.workers.items() if worker == victim}
    named = {("POST " if path == "/hold/first" else "GET ") + path for path in lost}
    assert set(report["held"]) == named
    assert len(report["held"]) == len(named)
    # What the other worker held is answered, and what was lost is seen to be.
    assert statuses == {path: 502 if path in lost else 200 for path in held.workers}
    assert "secret" not in stack.bridge_log
    assert ("abort_deliberately" in stack.bridge_log) == (cause == "SIGABRT")
    assert victim not in distinct_workers(stack, 2)


def address_to_connect_to(bridge):
    path = bridge.address.partition("unix:")[2]
    if path:
        return socket.AF_UNIX, path
    host, _, port = bridge.address.rpartition(":")
    return socket.AF_INET, (host, int(port))


def connect(bridge):
    family, address = address_to_connect_to(bridge)
    connection = socket.socket(family)
    connection.settimeout(20)
    connection.connect(address)
    return connection


@contextmanager
def one_worker(bind, gate, interface):
    with BridgeProcess(
        *(f"worker_life:{interface}", "--app-dir", str(APPS), "--bind", bind),
        *("--workers", "1", "--lifespan", "off"),
        environment={"WORKER_LIFE_GATE": gate.path},
    ) as bridge:
        yield bridge
        gate.open()


def vars_for(path):
    return encode_packet({"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "token=secret"})


@pytest.fixture(params=["tcp", "unix"])
def bind(request, gate):
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{gate.path}.bridge"


@EVERY_INTERFACE
def test_packet_that_came_in_pieces_is_reported_whole(bind, gate, interface):
    packet = vars_for("/hold/in-pieces")
    with one_worker(bind, gate, interface) as bridge, closing(connect(bridge)) as connection:
        for start, end in ((0, 3), (3, 20), (20, len(packet))):
            connection.sendall(packet[start:end])
            ping(bridge.address)  # who came before has been read
        event = bridge.wait_for_event(event_with(event="app: holds"))
        os.kill(pid_in(event), signal.SIGKILL)
        report = bridge.wait_for_event(event_with(event="worker ended"))
        assert report["held"] == ["GET /hold/in-pieces"]
        assert connection_ends_without_answer(connection)


def connection_ends_without_answer(connection):
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


@EVERY_INTERFACE
def test_packet_that_has_not_arrived_is_not_reported(bind, gate, interface):
    """Neither what came of it, nor what stood in the same memory before."""
    with one_worker(bind, gate, interface) as bridge:
        for path in ("/over/one", "/over/two", "/over/ten"):
            assert request(bridge.address, path, vars={"TOKEN": "0" * 40}).status == 200
        [victim] = {pid_in(it) for it in bridge.log_events() if it["event"] == "app: first request"}
        with closing(connect(bridge)) as connection:
            connection.sendall(vars_for("/not/yet")[:-10])
            ping(bridge.address)
            os.kill(victim, signal.SIGKILL)
            report = bridge.wait_for_event(event_with(event="worker ended"))
    assert report.get("held") is None
