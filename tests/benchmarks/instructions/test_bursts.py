"""Bursts of requests, sent to a small server of the test's own that says how many it found at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.instructions.bursts import send_burst, thread_states, wait_for_rest

SERVER = """
import select, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen(64)
listening.setblocking(False)
print("ready", flush=True)
while True:
    select.select([listening], [], [])
    connections = []
    while True:
        try:
            connections.append(listening.accept()[0])
        except BlockingIOError:
            break
    print(len(connections), flush=True)
    for connection in connections:
        connection.recv(65536)
        connection.sendall(sys.argv[2].encode().decode("unicode_escape").encode())
        connection.close()
"""
GOOD = r"HTTP/1.1 200 OK\r\n\r\nHello, world"


@contextmanager
def server(path: Path, answer: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path), answer], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_server_finds_all_requests_of_a_burst_when_it_wakes_up(directory: Path) -> None:
    path = directory / "s"
    with server(path, GOOD) as process:
        for requests in (16, 1, 16):
            send_burst(process.pid, str(path), requests)
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == ["16\n", "1\n", "16\n"]


@pytest.mark.parametrize(
    "answer", [r"HTTP/1.1 500 No\r\n\r\nHello, world", r"HTTP/1.1 200 OK\r\n\r\nHello", ""]
)
def test_another_answer_than_the_right_one_is_an_error(answer: str, directory: Path) -> None:
    path = directory / "s"
    with (
        server(path, answer) as process,
        pytest.raises(BenchmarkError, match="in place of 200"),
    ):
        send_burst(process.pid, str(path), 1)


def test_a_server_that_does_not_listen_goes_on_and_is_an_error(directory: Path) -> None:
    with server(directory / "s", GOOD) as process:
        with pytest.raises(BenchmarkError, match="can't be asked"):
            send_burst(process.pid, str(directory / "other"), 1)
        wait_for_rest(process.pid)  # not stopped: "T"


def test_a_process_that_has_ended_is_not_waited_for(directory: Path) -> None:
    with server(directory / "s", GOOD) as process:
        assert thread_states(process.pid) <= {"S", "R"}
    with pytest.raises(BenchmarkError, match="has ended"):
        wait_for_rest(process.pid)
