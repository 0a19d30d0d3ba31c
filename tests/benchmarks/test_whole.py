"""The whole benchmark with the bridge behind a real Nginx, and a stand-in for wrk that makes no load."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0

REPORT = """\
     50%    2.79ms
     99%    6.41ms
  41669 requests in 2.00s, 6.36MB read
  {errors}
Requests/sec:  20803.42
"""


def benchmark(directory: Path, wrk: str, *options: str) -> subprocess.Popen[str]:
    """Start the benchmark of the bridge with this Python code in place of wrk."""
    programs = directory / "bin"
    programs.mkdir()
    (programs / "wrk").write_text(f"#!{sys.executable}\n{wrk}")
    (programs / "wrk").chmod(0o755)
    temporary = directory / "tmp"
    temporary.mkdir()
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks", "--only", "bridge-wsgi"),
            *("--rounds", "2", "--seconds", "1", *options),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TMPDIR": str(temporary),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def opened_before_the_end_of(pid: int, fifo: Path) -> bool:
    """Wait until somebody has opened a pipe for writing; not beyond the end of a process, nor for ever."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        return reader in dict(poll.poll(DEADLINE_SECONDS * 1000))
    finally:
        os.close(reader)
        os.close(pidfd)


def started_by(directory: Path) -> list[str]:
    """Return the command lines of all processes that have to do with this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = os.fsdecode((entry / "cmdline").read_bytes().replace(b"\0", b" "))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(directory) in command:
                found.append(command)
    return found


def test_it_reports_figures_and_leaves_nothing_behind(directory: Path) -> None:
    report = directory / "report.json"
    with benchmark(
        directory,
        f"print({REPORT.format(errors='')!r})",
        *("--connections", "8", "--json", str(report)),
    ) as process:
        output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors
    assert "20,803" in output
    assert "bridge-wsgi" in output
    everything = json.loads(report.read_text())
    assert everything["options"]["pace"]["rounds"] == 2
    assert [run["round"] for run in everything["runs"]] == [1, 2]
    assert all(run["figures"]["requests/s"] == 20803.42 for run in everything["runs"])
    assert all(run["figures"]["CPU us/request"] >= 0 for run in everything["runs"])
    assert everything["environment"]["uwsgibridge"]
    assert list((directory / "tmp").iterdir()) == []
    assert started_by(directory) == []


def test_errors_are_no_figures_and_the_exit_status_says_so(directory: Path) -> None:
    report = REPORT.format(errors="Non-2xx or 3xx responses: 54321")
    with benchmark(directory, f"print({report!r})", "--connections", "8") as process:
        output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "FAILED: 54321 errors beside 41669 answers" in errors
    assert "failed: 54321 errors" in output
    assert "20,803" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_that_was_started(directory: Path, number: signal.Signals) -> None:
    fifo = directory / "under-load"
    os.mkfifo(fifo)
    wrk = f"""
import signal, sys
if "--duration" in sys.argv:
    open({str(fifo)!r}, "w").close()
    signal.pause()
"""
    with benchmark(directory, wrk) as process:
        assert opened_before_the_end_of(process.pid, fifo)
        assert started_by(directory)
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert errors.strip() == "Aborted!"
    assert list((directory / "tmp").iterdir()) == []
    assert started_by(directory) == []


def test_a_temporary_directory_with_too_long_a_path_is_refused_in_words(directory: Path) -> None:
    directory /= "long" * 20
    directory.mkdir()
    with benchmark(directory, f"print({REPORT.format(errors='')!r})") as process:
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "TMPDIR" in errors
