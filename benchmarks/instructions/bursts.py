"""Bursts of requests to a unix socket that a server meets in the same way each time, on a busy machine, too.

The server is asked by the uwsgi protocol itself, without Nginx. It is let come to rest first, and is stopped while
the connections are made and the packets are sent: when it goes on, all of them are there. How often it wakes up does
then not depend on which process the kernel has let run first.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.apps import BODY
from benchmarks.errors import BenchmarkError
from benchmarks.packet import make_packet

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWER_SECONDS = 60.0
_REST_SECONDS = 60.0

_LOOKS = 3
"""So many times in a row all threads of the server have to be asleep: one that is woken up runs a moment later."""

_LOOK_SECONDS = 0.001

_PACKET = make_packet("/")


def send_burst(pid: int, path: str, requests: int) -> None:
    """Send so many requests at once, each on a connection of its own, and wait for all answers.

    Args:
        pid: of the server, whose backlog has room for the burst.
        path: of its unix socket.
        requests: at least 1.

    Raises:
        BenchmarkError: an answer isn't the one of the smallest application, or doesn't come.
    """
    wait_for_rest(pid)
    with ExitStack() as stack:
        with _stopped(pid):
            connections = [stack.enter_context(_asked(path)) for _ in range(requests)]
        for connection in connections:
            _take_answer(connection)


def wait_for_rest(pid: int) -> None:
    """Wait until all threads of a process are asleep.

    Raises:
        BenchmarkError: they never are, or the process has ended.
    """
    deadline = time.monotonic() + _REST_SECONDS
    seen = 0
    while seen < _LOOKS:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"process {pid} was not at rest within {_REST_SECONDS:g} s.")
        seen = seen + 1 if thread_states(pid) == {"S"} else 0
        time.sleep(_LOOK_SECONDS)


def thread_states(pid: int) -> set[str]:
    """Return the states of a process's threads: letters of proc_pid_stat(5), such as "S" for asleep.

    Raises:
        BenchmarkError: the process has ended.
    """
    states = set()
    try:
        for task in Path("/proc", str(pid), "task").iterdir():
            states.add((task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0])
    except (FileNotFoundError, ProcessLookupError) as error:
        if not Path("/proc", str(pid)).exists():
            raise BenchmarkError(f"process {pid} has ended.") from error
        return {"ended"}  # a thread has: look again
    return states


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _asked(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(_PACKET)
        except OSError as error:
            raise BenchmarkError(f"the server at {path} can't be asked: {error}.") from error
        yield connection


def _take_answer(connection: socket.socket) -> None:
    answer = b""
    try:
        while data := connection.recv(65536):
            answer += data
    except OSError as error:
        raise BenchmarkError(f"the server did not answer: {error}.") from error
    if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n" + BODY)):
        raise BenchmarkError(f"the server answered {answer[:200]!r} in place of 200 with {BODY!r}.")
