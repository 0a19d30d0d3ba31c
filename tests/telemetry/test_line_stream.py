"""Lines on their way: whole, whoever else writes; and nothing fails where they can't be written."""

from __future__ import annotations

import errno
import io
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.telemetry.line_stream import LineStream
from uwsgibridge.telemetry.outlet import Outlet

# What four threads write fits what is kept for a reader that is slow.
LINES_EACH = 50

# Four threads, each with lines of a letter of its own; all but the last byte is that letter.
WRITE_MANY = f"""
import sys, threading
from uwsgibridge.telemetry.line_stream import LineStream

stream = LineStream(sys.stderr)
size = int(sys.argv[2])

def write(letter):
    for _ in range({LINES_EACH}):
        stream.write(letter * (size - 1) + "\\n")

threads = [threading.Thread(target=write, args=(letter,)) for letter in sys.argv[1]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.fixture
def pipe() -> Iterator[tuple[io.FileIO, io.TextIOWrapper]]:
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb", buffering=0) as out,
        os.fdopen(writer, "w", encoding="utf-8") as into,
    ):
        yield out, into


def start(code: str, writer: int, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=writer)


@pytest.mark.parametrize(
    ("letters", "size"),
    [
        (("abcd",), 5_000),
        (("abcd", "efgh", "ijkl"), min(select.PIPE_BUF, 4096)),
    ],
    ids=["one-process", "three-processes"],
)
def test_lines_are_whole_for_a_reader_that_is_slow(letters: tuple[str, ...], size: int):
    reader, writer = os.pipe()
    processes = [start(WRITE_MANY, writer, some, str(size)) for some in letters]
    os.close(writer)
    # Nothing is read before the pipe is full, and then less at a time than one line has.
    found: Counter[str] = Counter()
    with os.fdopen(reader, "rb", buffering=0) as out:
        received = bytearray()
        while piece := out.read(max(1000, size // 100)):
            received += piece
        for line in received.decode().splitlines():
            assert len(line) == size - 1, f"{line[:20]}...{line[-20:]}"
            assert len(set(line)) == 1
            found[line[0]] += 1
    for process in processes:
        assert process.wait(PATIENCE_SECONDS) == 0
    assert found == dict.fromkeys("".join(letters), LINES_EACH)


def test_line_is_one_write(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[io.FileIO, io.TextIOWrapper]
):
    sent = []
    real = Outlet.send

    def send(outlet: Outlet, data: bytes | memoryview) -> int:
        sent.append(bytes(data))
        return real(outlet, data)

    monkeypatch.setattr(Outlet, "send", send)
    LineStream(pipe[1]).write("one\n")
    assert sent == [b"one\n"]
    assert pipe[0].read(100) == b"one\n"


def test_write_that_was_partial_goes_on(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[io.FileIO, io.TextIOWrapper]
):
    real = Outlet.send
    monkeypatch.setattr(Outlet, "send", lambda outlet, data: real(outlet, data[:3]))
    LineStream(pipe[1]).write("in four pieces\n")
    LineStream(pipe[1]).write("another\n")
    assert pipe[0].read(100) == b"in four pieces\nanother\n"


def test_disk_that_is_full_cuts_no_line_but_the_last(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[io.FileIO, io.TextIOWrapper]
):
    real, room = Outlet.send, [9, -1, 100, 100, 100]

    def send(outlet: Outlet, data: bytes | memoryview) -> int:
        bytes_left = room.pop(0)
        if bytes_left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(outlet, data[:bytes_left])

    monkeypatch.setattr(Outlet, "send", send)
    stream = LineStream(pipe[1])
    for line in ("the first line\n", "the second\n", "the third\n"):
        stream.write(line)
    assert pipe[0].read(100) == b"the first\nthe second\nthe third\n"


def test_reader_that_has_gone_is_no_failure(pipe: tuple[io.FileIO, io.TextIOWrapper]):
    reader, writer = pipe
    reader.close()
    LineStream(writer).write("nobody reads this\n")


def test_stream_that_is_closed_is_no_failure(pipe: tuple[io.FileIO, io.TextIOWrapper]):
    pipe[1].close()
    LineStream(pipe[1]).write("nobody reads this\n")
    closed = io.StringIO()
    closed.close()
    LineStream(closed).write("nor this\n")


def test_stream_without_a_descriptor_is_written_to():
    stream = io.StringIO()
    LineStream(stream).write("a line\n")
    assert stream.getvalue() == "a line\n"


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", b"\xc3\xa9\\udcff\n"), ("ascii", b"\\xe9\\udcff\n")]
)
def test_what_can_not_be_encoded_is_escaped(encoding: str, expected: bytes):
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb", buffering=0) as out,
        os.fdopen(writer, "w", encoding=encoding) as into,
    ):
        LineStream(into).write("\xe9\udcff\n")
        assert out.read(100) == expected


FORK = """
import os, sys
from uwsgibridge.telemetry.line_stream import LineStream

full, other = os.pipe()
stream = LineStream(open(other, "w"))
stream.write("x" * 1_000_000 + "\\n")
# The parent keeps what is left of it, and a thread of its own waits to write that.
if os.fork() == 0:
    LineStream(sys.stderr).write("of the fork\\n")
    # Whatever the parent holds at the moment of the fork, the child has a lock of its own.
    stream.write("lost\\n")
    os._exit(0)
_, status = os.wait()
assert len(os.read(full, 1_000_000)) == 65_536
os._exit(status)
"""


def test_fork_of_a_process_that_is_writing_can_write():
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        stderr=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert finished.stderr == b"of the fork\n"


INTERRUPTED = """
import os, signal, sys
from uwsgibridge.telemetry.line_stream import LineStream
from uwsgibridge.telemetry.outlet import Outlet

stream = LineStream(sys.stderr)

def handle(number, frame):
    stream.write("of the handler\\n")

signal.signal(signal.SIGUSR1, handle)
real = Outlet.send

def send(outlet, data):
    if bytes(data[:1]) == b"x":
        signal.raise_signal(signal.SIGUSR1)
        {fails}
    return real(outlet, data[:10])

Outlet.send = send
stream.write("x" * 40 + "\\n")
"""


def interrupted(fails: str) -> list[bytes]:
    finished = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(fails=fails)],
        stderr=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return finished.stderr.splitlines()


def test_line_of_a_signal_handler_comes_behind_the_one_that_it_interrupts():
    lines = interrupted("pass")
    assert lines[0] == b"x" * 40
    assert set(lines[1:]) == {b"of the handler"}


def test_line_of_a_signal_handler_is_not_lost_with_the_one_that_it_interrupts():
    assert interrupted("raise OSError(28, 'No space left on device')") == [b"of the handler"]


OWN = """
import os, sys
from uwsgibridge.telemetry.line_stream import log_to_descriptor_two, own_standard_error, say, standard_error

own_standard_error()
stream = standard_error()
say("one")
{happens}
stream.write("two\\n")
assert standard_error() is stream
"""


@pytest.mark.parametrize(
    "happens",
    [
        "sys.stderr.close()",
        "sys.stderr = None",
        "sys.stderr = open(os.devnull, 'w')",
        "os.close(2); taken = os.open(os.devnull, os.O_RDWR); assert taken == 2",
        "os.dup2(os.open(os.devnull, os.O_RDWR), 2)",
    ],
)
def test_log_goes_on_whatever_becomes_of_standard_error(happens: str):
    finished = subprocess.run(
        [sys.executable, "-c", OWN.format(happens=happens)],
        stderr=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert finished.stderr == b"one\ntwo\n"


def test_child_that_gives_it_up_has_nothing_of_it_but_descriptor_2():
    # The reader sees the end while the child goes on, for it has closed that.
    happens = (
        "log_to_descriptor_two(); stream.write('child\\n'); os.close(2); "
        "stream.write('not in whatever is number 2 now\\n'); "
        "os.write(1, b'.'); os.read(0, 1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", OWN.format(happens=happens).replace('stream.write("two', "#")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"."
        assert process.stderr.read() == b"one\nchild\n"
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0
