"""Processes that an application forks in a request: they hold up neither an answer nor a stop."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from integration.connecting import connect
from tests.processes import wait_gone
from uwsgibridge.client import request
from uwsgibridge.protocol.packet import encode_packet
from uwsgibridge.testing import BridgeProcess, event_with

APPLICATION = """
import json, multiprocessing, os, signal, sys, time

context = multiprocessing.get_context("fork")


def square(number):
    return number * number


def answer(what):
    if what == "fork":
        pid = os.fork()
        while not pid:
            signal.pause()
        return pid
    if what == "fork_and_leave":
        pid = os.fork()
        if not pid:
            sys.exit(3)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if what == "fork_and_raise":
        pid = os.fork()
        if not pid:
            raise RuntimeError("raised in a child")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if what == "fork_and_return":
        pid = os.fork()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else "of the child"
    if what == "process":
        process = context.Process(target=signal.pause)
        process.start()
        return process.pid
    if what == "terminate":
        process = context.Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join()
        return process.exitcode
    if what == "pool":
        with context.Pool(2) as pool:
            return pool.map(square, range(3))
    return os.getpid()


def fork_in_hook():
    pid = os.fork()
    while not pid:
        signal.pause()
    sys.stderr.write(json.dumps({"event": "app: forked", "pid": pid}) + "\\n")


def wsgi(environ, start_response):
    what = environ["PATH_INFO"].strip("/")
    if what == "stream":
        return stream(start_response)
    if what == "body":
        sys.stderr.write('{"event": "app: reads"}\\n')
        environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    if what == "close":
        return ForksInClose([b"answered"])
    # In two pieces, and so without a Content-Length: it ends with the connection.
    return (it for it in (json.dumps(answer(what)).encode(), b" "))


class ForksInClose(list):
    def close(self):
        pid = os.fork()
        if pid:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            sys.stderr.write(json.dumps({"event": "app: closed", "status": status}) + "\\n")


def stream(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun, "
    pid = os.fork()
    yield b"goes on, "
    yield b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

EVERY_COUNT = pytest.mark.parametrize("workers", ["0", "1"], ids=["unsupervised", "forked"])


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path / 's'}"


@contextmanager
def running(directory: Path, bind: str, workers: str, *options: str):
    (directory / "forks.py").write_text(APPLICATION)
    with BridgeProcess(
        *("forks:wsgi", "--app-dir", str(directory), "--bind", bind, "--workers", workers),
        *options,
    ) as bridge:
        yield bridge


@contextmanager
def child_of(bridge: BridgeProcess, path: str = "/fork") -> Iterator[None]:
    """Have a request fork a process that lives as long as this; it holds the log open."""
    with child_to_end(int(ask(bridge, path))):
        yield


@contextmanager
def child_to_end(child: int) -> Iterator[None]:
    try:
        yield
        os.kill(child, 0)  # it still is there: what was found was found beside it
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def ask(bridge: BridgeProcess, path: str) -> str:
    answer = request(bridge.address, path)
    assert answer.status == 200
    return answer.body.decode()


@EVERY_COUNT
@pytest.mark.parametrize("path", ["/fork", "/process"])
def test_answer_ends_while_the_child_lives(tmp_path, bind, workers, path):
    with running(tmp_path, bind, workers) as bridge, child_of(bridge, path):
        assert ask(bridge, "/pid")


@EVERY_COUNT
def test_answer_to_another_request_ends_while_the_child_lives(tmp_path, bind, workers):
    with running(tmp_path, bind, workers) as bridge, closing(connect(bridge.address)) as connection:
        variables = {"REQUEST_METHOD": "POST", "PATH_INFO": "/body", "CONTENT_LENGTH": "1"}
        connection.sendall(encode_packet(variables))
        bridge.wait_for_event(event_with(event="app: reads"))
        with child_of(bridge):
            connection.sendall(b"x")
            received = b""
            while piece := connection.recv(65_536):
                received += piece
        assert received.startswith(b"HTTP/1.1 200 ")


@EVERY_COUNT
def test_port_is_free_after_the_stop(tmp_path, workers):
    with running(tmp_path, "127.0.0.1:0", workers) as bridge, child_of(bridge):
        host, _, port = bridge.address.rpartition(":")
        bridge.signal(signal.SIGTERM)
        assert bridge.wait_ended(10) == 0
        socket.create_server((host, int(port))).close()


@pytest.mark.parametrize(
    ("workers", "loading"),
    [("0", ()), ("1", ()), ("1", ("--preload",))],
    ids=["alone", "supervised", "preloaded"],
)
def test_port_is_free_though_a_child_was_forked_before_all_requests(tmp_path, workers, loading):
    hook = ("--on-fork", "forks:fork_in_hook")
    with running(tmp_path, "127.0.0.1:0", workers, *hook, *loading) as bridge:
        child = bridge.wait_for_event(event_with(event="app: forked"))["pid"]
        assert isinstance(child, int)
        with child_to_end(child):
            host, _, port = bridge.address.rpartition(":")
            bridge.signal(signal.SIGTERM)
            assert bridge.wait_ended(10) == 0
            socket.create_server((host, int(port))).close()


@EVERY_COUNT
@pytest.mark.parametrize(
    ("path", "status"), [("/fork_and_leave", 3), ("/fork_and_raise", 1), ("/fork_and_return", 0)]
)
def test_child_in_which_the_application_comes_to_its_end(tmp_path, bind, workers, path, status):
    with running(tmp_path, bind, workers) as bridge:
        server = ask(bridge, "/pid")
        for _ in range(3):
            assert int(ask(bridge, path)) == status
        assert {ask(bridge, "/pid") for _ in range(10)} == {server}
        assert bridge.stop() == 0
    told = bridge.log.text().count("RuntimeError: raised in a child")
    assert told == (3 if path == "/fork_and_raise" else 0)
    assert "uwsgibridge/hosts" not in bridge.log.text()


@EVERY_COUNT
def test_child_in_the_middle_of_an_answer(tmp_path, bind, workers):
    with running(tmp_path, bind, workers) as bridge:
        assert ask(bridge, "/stream") == "begun, goes on, 0"


@EVERY_COUNT
def test_child_behind_an_answer(tmp_path, bind, workers):
    with running(tmp_path, bind, workers) as bridge:
        server = ask(bridge, "/pid")
        assert ask(bridge, "/close") == "answered"
        assert bridge.wait_for_event(event_with(event="app: closed"))["status"] == 0
        assert {ask(bridge, "/pid") for _ in range(10)} == {server}


@EVERY_COUNT
def test_child_ends_by_a_signal(tmp_path, bind, workers):
    with running(tmp_path, bind, workers) as bridge:
        for _ in range(5):
            assert int(ask(bridge, "/terminate")) == -signal.SIGTERM
        assert bridge.stop() == 0


@EVERY_COUNT
def test_signal_to_a_child_is_not_the_servers(tmp_path, bind, workers):
    with running(tmp_path, bind, workers) as bridge:
        server = ask(bridge, "/pid")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            os.kill(int(ask(bridge, "/fork")), number)
        assert ask(bridge, "/pid") == server
        assert not [it for it in bridge.log_events() if "stop" in str(it["event"])]


@EVERY_COUNT
def test_pools_can_be_used_in_requests(tmp_path, bind, workers):
    with running(tmp_path, bind, workers) as bridge:
        for _ in range(20):
            assert ask(bridge, "/pool") == "[0, 1, 4] "


def test_worker_that_crashes_is_replaced_while_its_child_lives(tmp_path, bind):
    with running(tmp_path, bind, "1") as bridge, child_of(bridge):
        worker = int(ask(bridge, "/pid"))
        os.kill(worker, signal.SIGKILL)
        ended = bridge.wait_for_event(event_with(event="worker ended"))
        assert ended["worker"] == worker
        assert int(ask(bridge, "/pid")) != worker
        assert wait_gone(worker, 5)
