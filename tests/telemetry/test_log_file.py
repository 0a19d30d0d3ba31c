"""The log file: all of standard error is in it, and no line is lost when it is rotated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.telemetry.log_file import open_log_file

BEGIN = """
import sys
from pathlib import Path
from uwsgibridge.errors import LogFileError
from uwsgibridge.telemetry.log_file import open_log_file
from uwsgibridge.telemetry.logs import make_logger

path = Path(sys.argv[1])
open_log_file(path)
log = make_logger()
"""

# Three threads and the main one, which the signals interrupt, write as quickly as they can.
ROTATED = (
    BEGIN
    + """
import json, os, signal, threading

written = [0, 0, 0, 0]
done = threading.Event()

def write(writer):
    while not done.is_set():
        log.info("line", writer=writer, number=written[writer], padding="x" * 100 * writer)
        written[writer] += 1

def reopen(number, frame):
    open_log_file(path)
    os.write(1, b"reopened\\n")

signal.signal(signal.SIGUSR1, reopen)
signal.signal(signal.SIGTERM, lambda number, frame: done.set())
log.info("begun")
threads = [threading.Thread(target=write, args=(writer,)) for writer in (1, 2, 3)]
for thread in threads:
    thread.start()
os.write(1, b"ready\\n")
write(0)
for thread in threads:
    thread.join()
log.info("ended", written=written)
"""
)


def run(code: str, path: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        **options,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def standard_error() -> Iterator[int]:
    """Descriptor 2, which is put back afterwards."""
    kept = os.dup(2)
    yield 2
    os.dup2(kept, 2)
    os.close(kept)


def test_rotation_loses_and_cuts_no_line(tmp_path: Path) -> None:
    path = tmp_path / "bridge.log"
    process = subprocess.Popen(
        [sys.executable, "-c", ROTATED, str(path)], stdout=subprocess.PIPE, text=True
    )
    deadline = threading.Timer(PATIENCE_SECONDS, process.kill)
    deadline.start()
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        moved = [path.rename(f"{path}.0")]
        for number in range(1, 6):
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "reopened\n"
            moved.append(path.rename(f"{path}.{number}"))
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "reopened\n"
        process.terminate()
    deadline.cancel()
    deadline.join()
    assert process.returncode == 0

    oldest, *middle, newest = (lines(file) for file in (*moved, path))
    assert oldest[0]["event"] == "begun"
    assert newest[-1]["event"] == "ended"
    found: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    for line in (*oldest[1:], *(it for file in middle for it in file), *newest[:-1]):
        found[line["writer"]].append(line["number"])
    for writer, count in enumerate(newest[-1]["written"]):
        assert found[writer] == list(range(count))


def test_everything_on_standard_error_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "bridge.log"
    finished = run(
        """
import ctypes, faulthandler, os, subprocess
log.info("of the bridge")
print("of the application", file=sys.stderr)
subprocess.run(["sh", "-c", "echo of another program >&2"], check=True)
if os.fork() == 0:
    print("of a fork", file=sys.stderr)
    os._exit(0)
os.wait()
faulthandler.dump_traceback()
raise RuntimeError("the last words")
""",
        path,
        stderr=subprocess.PIPE,
    )
    assert finished.stderr == ""
    first, *rest = path.read_text().splitlines()
    assert json.loads(first)["event"] == "of the bridge"
    assert rest[:3] == ["of the application", "of another program", "of a fork"]
    assert "(most recent call first):" in rest[3]
    assert rest[-1] == "RuntimeError: the last words"


def test_log_events_are_not_written_for_the_terminal_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "bridge.log"
    terminal, its_end = os.openpty()
    with os.fdopen(terminal, "rb"):
        try:
            finished = run("log.info('listening')", path, stderr=its_end)
        finally:
            os.close(its_end)
    assert finished.returncode == 0
    (line,) = lines(path)
    assert line["event"] == "listening"


def test_file_is_made_for_owner_and_group_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "bridge.log"
    for _ in range(2):
        finished = run("log.info('listening')", path, umask=0)
        assert finished.returncode == 0
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(lines(path)) == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_the_stream_still_holds_is_not_lost(tmp_path: Path, unbuffered: str) -> None:
    path = tmp_path / "bridge.log"
    run(
        """
sys.stderr.write("a line in ")
path.rename(f"{path}.1")
open_log_file(path)
sys.stderr.write("two steps\\n")
""",
        path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert Path(f"{path}.1").read_text() + path.read_text() == "a line in two steps\n"


def test_reopening_takes_no_descriptor(tmp_path: Path, standard_error: int) -> None:
    def lowest_free() -> int:
        descriptor = os.dup(standard_error)
        os.close(descriptor)
        return descriptor

    before = lowest_free()
    open_log_file(tmp_path / "bridge.log")
    open_log_file(tmp_path / "bridge.log")
    assert lowest_free() == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/bridge.log", ": there is no directory {tmp_path}/missing; create it first"),
        ("dangling", ": there is no directory {tmp_path}/missing; create it first"),
        ("directory", ": it is a directory"),
        ("file/bridge.log", ": {tmp_path}/file is no directory"),
        ("loop", ": Too many levels of symbolic links"),
        ("fifo", ": it is a FIFO that nobody reads, or a socket"),
        ("forbidden/bridge.log", ": no permission to open or create it in {tmp_path}/forbidden"),
        ("/proc/bridge.log", ": nothing can be made in /proc"),
    ],
)
def test_what_can_not_be_opened_leaves_standard_error_alone(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "dangling").symlink_to("missing/bridge.log")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "forbidden").mkdir(mode=0o500)
    if name.startswith("forbidden") and os.access(tmp_path / "forbidden", os.W_OK):
        pytest.skip("nothing is forbidden to root")
    os.mkfifo(tmp_path / "fifo")
    finished = run(
        f"""
try:
    open_log_file(path.parent / {name!r})
except LogFileError as error:
    print(error)
print("still here", file=sys.stderr)
""",
        tmp_path / "bridge.log",
    )
    assert finished.stdout == f"--log-file {tmp_path / name}{reason.format(tmp_path=tmp_path)}\n"
    assert (tmp_path / "bridge.log").read_text() == "still here\n"


def test_writes_to_a_fifo_wait_for_its_reader(tmp_path: Path, standard_error: int) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        open_log_file(fifo)
        assert os.get_blocking(standard_error)
        os.write(standard_error, b"through\n")
        assert os.read(reader, 100) == b"through\n"
    finally:
        os.close(reader)
