"""Lines on a pipe: whole, whoever else writes; and nothing fails where they can't be written."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.telemetry.line_stream import LineStream

LINES_EACH = 100

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
        (("abcd",), 200_000),
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
    written = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        written.append(bytes(data))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    LineStream(pipe[1]).write("one\n")
    assert written == [b"one\n"]
    assert pipe[0].read(100) == b"one\n"


def test_write_that_was_partial_goes_on(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[io.FileIO, io.TextIOWrapper]
):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    LineStream(pipe[1]).write("in four pieces\n")
    LineStream(pipe[1]).write("another\n")
    assert pipe[0].read(100) == b"in four pieces\nanother\n"


def test_what_does_not_fit_a_nonblocking_pipe_is_lost_and_nothing_else(
    pipe: tuple[io.FileIO, io.TextIOWrapper],
):
    reader, writer = pipe
    os.set_blocking(writer.fileno(), False)
    stream = LineStream(writer)
    for number in range(10_000):
        stream.write(f"{number:099}\n")
    received = (reader.read(1_000_000) or b"").splitlines()
    assert 100 < len(received) < 10_000
    assert received == [b"%099d" % number for number in range(len(received))]
    stream.write("is there\n")
    assert reader.read(1_000_000) == b"is there\n"


def test_line_after_one_that_was_cut_off_is_whole(pipe: tuple[io.FileIO, io.TextIOWrapper]):
    reader, writer = pipe
    os.set_blocking(writer.fileno(), False)
    stream = LineStream(writer)
    stream.write("x" * 1_000_000 + "\n")
    received = reader.read(1_000_000) or b""
    assert set(received) == {ord("x")}
    for line in ("one\n", "two\n"):
        LineStream(writer).write(line)
    assert reader.read(1_000_000) == b"\none\ntwo\n"


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
import os, sys, threading, time
from uwsgibridge.telemetry.line_stream import LineStream

full, other = os.pipe()
threading.Thread(target=LineStream(open(other, "w")).write, args=("x" * 1_000_000,), daemon=True).start()
# Once there is something in the pipe, that thread is in its write, and stays there.
os.set_blocking(full, True)
os.read(full, 1)
if os.fork() == 0:
    LineStream(sys.stderr).write("of the fork\\n")
    os._exit(0)
_, status = os.wait()
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

stream = LineStream(sys.stderr)

def handle(number, frame):
    os.write(1, b"handled")
    stream.write("of the handler\\n")

signal.signal(signal.SIGUSR1, handle)
os.write(1, b"ready")
stream.write("x" * 1_000_000 + "\\n")
"""


def test_signal_handler_can_write_while_its_thread_does():
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        deadline = threading.Timer(PATIENCE_SECONDS, process.kill)
        deadline.start()
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == b"ready"
        received = process.stderr.read(1)  # it has begun, and can't end
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.read(7) == b"handled"
        while piece := process.stderr.read(100_000):
            received += piece
        deadline.cancel()
        deadline.join()
    assert process.returncode == 0
    assert received.count(b"of the handler\n") == 1
    assert received.count(b"x") == 1_000_000
