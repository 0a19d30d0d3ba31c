"""A reader that stands still: nothing waits for it, what is over the limit is dropped, and that is said."""

from __future__ import annotations

import _thread
import contextlib
import errno
import json
import os
import pty
import select
import socket
import subprocess
import sys
import tempfile
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.telemetry import outlet
from uwsgibridge.telemetry.line_buffer import Gap, LineBuffer, keep_to_one_thread
from uwsgibridge.telemetry.outlet import Outlet

LINE = b"%0999d\n"


class Ends:
    """Both ends of what lines are written to."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer
        self._buffers: list[LineBuffer] = []

    def buffer(self) -> LineBuffer:
        self._buffers.append(LineBuffer(Outlet(self.writer)))
        return self._buffers[-1]

    def close(self) -> None:
        """Close both, when no thread of a buffer's can take their numbers for the next test's."""
        with contextlib.suppress(OSError):
            os.close(self.reader)
        for buffer in self._buffers:
            buffer.look_again()
            assert not buffer._pending
        os.close(self.writer)

    def read_lines(self, until: Callable[[bytes], bool]) -> list[bytes]:
        """Read up to the line that is named; a terminal has line ends of its own."""
        received = b""
        deadline = monotonic() + PATIENCE_SECONDS
        while not received.endswith(b"\n") or not until(received.splitlines()[-1]):
            assert monotonic() < deadline
            # What is asked of the line may become true after the last one was read.
            if select.select([self.reader], [], [], 0.01)[0]:
                received += os.read(self.reader, 100_000)
        return received.splitlines()


def _pipe(directory: Path) -> Ends:
    return Ends(*os.pipe())


def _fifo(directory: Path) -> Ends:
    path = directory / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.set_blocking(reader, True)
    return Ends(reader, writer)


def _terminal(directory: Path) -> Ends:
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return Ends(reader, writer)


def _socket(directory: Path) -> Ends:
    reader, writer = socket.socketpair()
    return Ends(reader.detach(), writer.detach())


KINDS = {"pipe": _pipe, "fifo": _fifo, "terminal": _terminal, "socket": _socket}


def without_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 6.4, for pipes."""
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)


def without_flag_and_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems, or a pipe of another user's."""
    without_flag(monkeypatch)
    monkeypatch.setattr(outlet, "_open_once_more", lambda _descriptor: -1)


WAYS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "with-all": lambda _monkeypatch: None,
    "without-flag": without_flag,
    "without-flag-and-proc": without_flag_and_proc,
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    WAYS[request.param](monkeypatch)
    return str(request.param)


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest, way: str) -> Iterator[Ends]:
    if request.param == "terminal" and way == "without-flag-and-proc":
        pytest.skip("a terminal has a name, by which it is opened again")
    with tempfile.TemporaryDirectory() as directory:
        made = KINDS[request.param](Path(directory))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def plain() -> Iterator[Ends]:
    made = Ends(*os.pipe())
    yield made
    made.close()


class Told:
    """The gaps that were told."""

    def __init__(self, buffer: LineBuffer) -> None:
        self.gaps: list[Gap] = []
        self._come = threading.Event()
        buffer.tell_gap = self._tell

    def _tell(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self._come.set()

    def wait(self) -> Gap:
        assert self._come.wait(PATIENCE_SECONDS)
        (gap,) = self.gaps
        return gap


def write_lines(buffer: LineBuffer, count: int) -> None:
    for number in range(count):
        buffer.write(LINE % number)


def in_time(function: Callable[[], None]) -> None:
    """Fail instead of waiting for ever."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "it waits for the reader"


def test_no_write_waits_for_a_reader_that_stands_still(ends: Ends):
    buffer = ends.buffer()
    buffer.buffer_bytes = 50_000
    told = Told(buffer)
    count = 2_000
    in_time(lambda: write_lines(buffer, count))
    assert not told.gaps
    # The flags of the open file, which others share, are what they were.
    assert os.get_blocking(ends.writer)

    kept = threading.Event()

    def end() -> None:
        told.wait()
        buffer.write(b"the end\n")
        kept.set()

    ender = threading.Thread(target=end)
    ender.start()
    lines = ends.read_lines(lambda line: line == b"the end")
    ender.join(PATIENCE_SECONDS)
    assert kept.is_set()
    numbers = [int(line) for line in lines[:-1]]
    # What was kept is in its order, and what is missing was counted.
    assert numbers == sorted(set(numbers))
    assert told.wait().lines == count - len(numbers)
    assert len(numbers) >= 50
    assert told.wait().seconds > 0


def test_nothing_is_lost_below_the_limit(ends: Ends):
    buffer = ends.buffer()
    told = Told(buffer)
    in_time(lambda: write_lines(buffer, 1_000))
    lines = ends.read_lines(lambda line: int(line) == 999)
    assert [int(line) for line in lines] == list(range(1_000))
    assert not told.gaps


def test_line_longer_than_the_limit_is_kept_whole_where_nothing_else_waits(ends: Ends):
    buffer = ends.buffer()
    buffer.buffer_bytes = 10
    in_time(lambda: buffer.write(b"x" * 400_000 + b"\n"))
    in_time(lambda: buffer.write(b"dropped\n"))
    (line,) = ends.read_lines(lambda line: len(line) == 400_000)
    assert set(line) == {ord("x")}


def test_reader_that_goes_while_lines_wait_is_no_failure(ends: Ends):
    buffer = ends.buffer()
    write_lines(buffer, 400)
    os.close(ends.reader)
    in_time(lambda: buffer.write(b"nobody reads this\n"))
    in_time(lambda: buffer.finish(PATIENCE_SECONDS))


def test_finish_waits_no_longer_than_it_may(ends: Ends):
    buffer = ends.buffer()
    write_lines(buffer, 400)
    in_time(lambda: buffer.finish(0.05))


def test_one_thread_writes_what_is_kept_and_ends(plain: Ends, monkeypatch: pytest.MonkeyPatch):
    started: list[object] = []
    real = _thread.start_new_thread

    def start(function: Callable[..., object], arguments: tuple[object, ...]) -> int:
        started.append(function)
        return real(function, arguments)

    monkeypatch.setattr(_thread, "start_new_thread", start)
    buffer = plain.buffer()
    buffer.buffer_bytes = 1_000
    told = Told(buffer)
    write_lines(buffer, 200)
    assert len(started) == 1
    # It is none that an application would find, or wait for.
    assert len(threading.enumerate()) == threading.active_count()
    assert not [it for it in threading.enumerate() if "flush" in it.name]
    lines = plain.read_lines(lambda line: buffer._flusher is None and int(line) >= 64)
    assert told.wait().lines + len(lines) == 200


def test_without_a_thread_the_next_line_brings_what_is_kept(plain: Ends):
    buffer = plain.buffer()
    buffer.buffer_bytes = 3_000
    told = Told(buffer)
    keep_to_one_thread(True)
    try:
        for number in range(100):
            buffer.write(LINE % number)
        assert buffer._flusher is None
        received = os.read(plain.reader, 1_000_000)
        buffer.write(b"and this\n")
        received += os.read(plain.reader, 1_000_000)
    finally:
        keep_to_one_thread(False)
    *lines, last = received.splitlines()
    assert [int(line) for line in lines] == list(range(len(lines)))
    assert last == b"and this"
    assert told.wait().lines == 100 - len(lines)


def test_no_thread_to_be_had_is_no_failure(plain: Ends, monkeypatch: pytest.MonkeyPatch):

    def none_to_be_had(*_arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", none_to_be_had)
    buffer = plain.buffer()
    in_time(lambda: write_lines(buffer, 200))


def test_another_file_takes_what_the_old_one_did_not():
    reader, writer = os.pipe()
    fresh_reader, fresh_writer = os.pipe()
    buffer = LineBuffer(Outlet(writer))
    write_lines(buffer, 100)
    os.dup2(fresh_writer, writer)
    buffer.look_again()
    buffer.write(b"new\n")
    lines = Ends(fresh_reader, fresh_writer).read_lines(lambda line: line == b"new")
    # The reader of the old one has the rest.
    assert [int(line) for line in lines[-30:-1]] == list(range(71, 100))
    for descriptor in (reader, writer, fresh_reader, fresh_writer):
        os.close(descriptor)


def test_regular_file_that_cannot_grow_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with (tmp_path / "log").open("ab") as file:
        buffer = LineBuffer(Outlet(file.fileno()))

        def full(_descriptor: int, _data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            buffer.write(b"lost\n")
        buffer.write(b"there\n")
    assert (tmp_path / "log").read_bytes() == b"there\n"


class SmallDisk:
    """Has room for so many bytes; what is over it does not fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 0
        self._write = os.write
        monkeypatch.setattr(os, "write", self._take)

    def _take(self, descriptor: int, data: bytes | memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self._write(descriptor, data[: self.room])
        self.room -= taken
        return taken


def test_lines_for_which_the_disk_has_no_room_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with (tmp_path / "log").open("ab") as file:
        buffer = LineBuffer(Outlet(file.fileno()))
        told = Told(buffer)
        disk = SmallDisk(monkeypatch)
        disk.room = len(b"whole\nha")
        for line in (b"whole\n", b"half\n", b"lost\n", b"lost\n"):
            buffer.write(line)
        assert not told.gaps
        disk.room = 1_000
        buffer.write(b"there\n")
        buffer.write(b"and there\n")
    (gap,) = told.gaps
    assert (gap.lines, gap.reason) == (3, "No space left on device")
    assert gap.seconds > 0
    # The next line begins with its own beginning, however many were lost after the half one.
    assert (tmp_path / "log").read_bytes() == b"whole\nha\nthere\nand there\n"


def test_line_end_alone_that_fits_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with (tmp_path / "log").open("ab") as file:
        buffer = LineBuffer(Outlet(file.fileno()))
        disk = SmallDisk(monkeypatch)
        disk.room = 2
        buffer.write(b"half\n")
        disk.room = 1
        buffer.write(b"lost\n")
        disk.room = 1_000
        buffer.write(b"there\n")
        buffer.finish(0)
    assert (tmp_path / "log").read_bytes() == b"ha\nthere\n"


def test_gap_is_told_again_where_there_was_no_room_to_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[Gap] = []
    with (tmp_path / "log").open("ab") as file:
        buffer = LineBuffer(Outlet(file.fileno()))

        def tell(gap: Gap) -> None:
            told.append(gap)
            buffer.write(b"%d lost\n" % gap.lines)

        buffer.tell_gap = tell
        disk = SmallDisk(monkeypatch)
        buffer.write(b"lost\n")
        buffer.write(b"lost\n")
        disk.room = len(b"there\n")
        buffer.write(b"there\n")
        disk.room = 1_000
        buffer.finish(0)
    assert [it.lines for it in told] == [2, 2]
    assert told[1].seconds >= told[0].seconds
    assert (tmp_path / "log").read_bytes() == b"there\n2 lost\n"


FULL = """
import json, resource, sys
from pathlib import Path
from uwsgibridge.telemetry.line_stream import own_standard_error
from uwsgibridge.telemetry.log_file import open_log_file
from uwsgibridge.telemetry.logs import make_logger

own_standard_error()
open_log_file(Path(sys.argv[1]))
log = make_logger("json")
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, most))
for number in range(100):
    log.info("line", number=number)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
"""


def test_process_tells_at_its_end_what_it_has_lost(tmp_path: Path):
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", FULL, path], check=True, timeout=PATIENCE_SECONDS)
    written = [json.loads(it) for it in path.read_text().splitlines() if it.endswith("}")]
    *lines, last = written
    assert last["event"] == "log lines are lost: they could not be written"
    assert last["reason"] == "File too large"
    assert last["lines"] == 100 - len(lines)


EXITING = """
import os, sys
from uwsgibridge.telemetry.line_stream import own_standard_error, say

own_standard_error()
for number in range(200):
    say(f"{number:0999}")
os.write(1, b".")
"""


@pytest.mark.parametrize("reads", [True, False])
def test_process_that_ends_writes_what_it_keeps_if_that_is_read(reads: bool):
    with subprocess.Popen(
        [sys.executable, "-c", EXITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"."
        lines = process.stderr.read().splitlines() if reads else []
        assert process.wait(PATIENCE_SECONDS) == 0
    assert [int(line) for line in lines] == (list(range(200)) if reads else [])
