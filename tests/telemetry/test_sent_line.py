"""The line of an answer that the accelerator has sent: it is the one that Python writes, wherever it goes."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.telemetry.test_access_log import access, request_with
from tests.ways import go
from uwsgibridge.fast import PURE_VARIABLE
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.access_log import AccessLog
from uwsgibridge.telemetry.line_stream import BufferedLines
from uwsgibridge.telemetry.outlet import Outlet
from uwsgibridge.telemetry.request_ids import KEPT_AS, request_ids
from uwsgibridge.telemetry.tracing import Trace, Traces, keep_trace


@pytest.fixture(autouse=True)
def accelerated() -> Iterator[None]:
    yield from go("c")


ROOT: Final = Path(__file__).parents[2]

# When a connection was accepted and its application called; the end is later than both.
ACCEPTED_AT: Final = 5.0
STARTED_AT: Final = 5.25


def write(log: AccessLog, request: Request, status: int = 200, body_bytes: int = 12) -> None:
    writer = log.sent_writer
    assert writer is not None
    writer(request, status, body_bytes, ACCEPTED_AT, STARTED_AT)


def line_of(request: Request, **told: int) -> dict[str, Any]:
    stream = io.StringIO()
    write(AccessLog("json", stream), request, **told)
    text = stream.getvalue()
    assert text.endswith("\n")
    line: dict[str, Any] = json.loads(text)
    return line


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {name: it for name, it in line.items() if name not in {"timestamp", *SECONDS}}


SECONDS: Final = ("application_seconds", "total_seconds")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"REQUEST_ID": "7f"},
        {"HTTP_X_REQUEST_ID": "Root=1-67891233-abcdef012345678912345678"},
        {"REQUEST_ID": "forged\nline", "HTTP_X_REQUEST_ID": "7f"},
        {"REQUEST_ID": "x" * 201},
        {KEPT_AS: "not an id", "REQUEST_ID": "7f"},
        {"HTTP_USER_AGENT": 'a "quoted" agent'},
        {"PATH_INFO": "/caf\xc3\xa9"},
        {"HTTP_REFERER": "/" + "x" * 5000},
    ],
    ids=str,
)
def test_it_is_the_line_of_python(variables: dict[str, str]) -> None:
    request = request_with(**variables)
    made = line_of(request, status=404, body_bytes=2**40)
    stream = io.StringIO()
    AccessLog("json", stream).write(
        access(request, status=404, body_bytes=2**40, queue_seconds=STARTED_AT - ACCEPTED_AT)
    )
    assert without_times(made) == without_times(json.loads(stream.getvalue()))
    assert made["request_id"] == request_ids.of(request)
    assert made["total_seconds"] == pytest.approx(made["application_seconds"] + 0.25)


def test_it_has_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Traces, "are_kept", Traces.are_kept)
    request = request_with()
    keep_trace(request, Trace("1" * 32, "2" * 16))
    assert line_of(request)["trace_id"] == "1" * 32


@given(st.floats(min_value=0, max_value=1e7))
@example(2.5e-6)
@example(0.0000015)
@example(999_999.9999995)
def test_seconds_are_rounded_as_in_python(seconds: float) -> None:
    it = access(request_with(REQUEST_ID="7f"), queue_seconds=seconds, application_seconds=0.0)
    assert f'"queue_seconds": {seconds:.6f}, ' in AccessLog("json", io.StringIO()).line(it)


@pytest.fixture(params=["pipe", "FIFO"])
def pipe(request: pytest.FixtureRequest) -> Iterator[tuple[int, BufferedLines]]:
    """Give the end of a pipe to read from, and a file for the other one.

    Linux has ``RWF_NOWAIT`` for pipes that pipe(2) has made, and not for those that were opened by a name.
    """
    reader, writer = os.pipe()
    try:
        if request.param == "FIFO":
            opened = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY)
            os.dup2(opened, writer)
            os.close(opened)
        yield reader, BufferedLines(Outlet(writer))
    finally:
        os.close(reader)
        os.close(writer)


def test_lines_go_through_a_pipe_in_their_order(pipe: tuple[int, BufferedLines]) -> None:
    reader, file = pipe
    log = AccessLog("json", file)
    for number in range(20):
        if number % 3:
            write(log, request_with(PATH_INFO=f"/{number}"))
        else:
            log.write(access(request_with(PATH_INFO=f"/{number}")))
    lines = os.read(reader, 1 << 20).splitlines()
    assert [json.loads(it)["path"] for it in lines] == [f"/{number}" for number in range(20)]


def write_and_read(
    file: BufferedLines, lines: int, agent_bytes: int, read_some: Callable[[], bytes]
) -> None:
    """Write numbered lines that nobody reads meanwhile, and look that all of them come in their order."""
    log = AccessLog("json", file)
    for number in range(lines):
        write(log, request_with(PATH_INFO=f"/{number}", HTTP_USER_AGENT="x" * agent_bytes))
    read = b""
    while read.count(b"\n") < lines:
        read += read_some()
    assert [json.loads(it)["path"] for it in read.splitlines()] == [f"/{it}" for it in range(lines)]


def test_lines_that_a_pipe_does_not_take_are_kept(pipe: tuple[int, BufferedLines]) -> None:
    reader, file = pipe
    write_and_read(file, 400, 900, lambda: os.read(reader, 1 << 16))


def test_rest_of_a_line_that_is_begun_comes_before_the_next_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.socket()
        # So small that the kernel takes lines in parts.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        ours.connect(listening.getsockname())
        theirs, _ = listening.accept()
    with ours, theirs:
        file = BufferedLines(Outlet(ours.fileno()))
        write_and_read(file, 40, 3000, lambda: theirs.recv(1 << 16))


def test_line_comes_behind_those_that_are_kept(pipe: tuple[int, BufferedLines]) -> None:
    reader, file = pipe
    kept = b"a line that the reader did not take\n"
    file.buffer._pending.append(kept)
    file.buffer._pending_bytes += len(kept)
    write(AccessLog("json", file), request_with())
    assert os.read(reader, 1 << 20).startswith(kept)


def test_failure_of_the_reader_ends_no_request(pipe: tuple[int, BufferedLines]) -> None:
    reader, file = pipe
    log = AccessLog("json", file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, reader)  # nobody reads the pipe any more
    os.close(null)
    write(log, request_with())


FORKING: Final = """
import io, json, os
from tests.telemetry.test_sent_line import AccessLog, request_with

stream = io.StringIO()
writer = AccessLog("json", stream).sent_writer
writer(request_with(), 200, 0, 1.0, 1.0)
child = os.fork()
writer(request_with(), 200, 0, 1.0, 1.0)
line = json.loads(stream.getvalue().splitlines()[-1])
assert line["worker"] == os.getpid()
os.write(1, f"{line['request_id']} ".encode())  # at once: both write to one pipe
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_child_has_its_own_number_and_makes_its_own_ids() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        cwd=ROOT,
        # Tests of processes may have been told to go without the accelerator.
        env={**os.environ, PURE_VARIABLE: ""},
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    )
    ids = done.stdout.split()
    assert len(ids) == len(set(ids)) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", it) for it in ids)
