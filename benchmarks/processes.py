"""Start one process of the benchmark, wait until it says that it is ready, and be sure to stop all of it."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import threading
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.placement import on_cpus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

READY_SECONDS = 20.0
STOP_SECONDS = 10.0

_LOG_LINES = 25
"""How much of the end of a process's log is kept for an error message."""


@contextmanager
def running(
    name: str,
    argv: Sequence[str],
    *,
    cwd: Path,
    ready_text: str,
    cpus: Collection[int],
    env: Mapping[str, str] | None = None,
    ready_seconds: float = READY_SECONDS,
) -> Iterator[Process]:
    """Run a process from the line of its log that says it is ready until the end of the block.

    It gets a session of its own: a Ctrl-C on the terminal reaches the benchmark alone, which then stops it, and all
    that it has started can be found (`cpu_time`) and ended by the session's number.

    Args:
        name: what error messages call it.
        argv: the command line.
        cwd: its working directory.
        ready_text: part of the line, on stdout or stderr, that says it is ready.
        cpus: what it and all that it starts may run on.
        env: its environment; None means the benchmark's own.
        ready_seconds: the deadline for that line.

    Raises:
        BenchmarkError: it can't be started, or ended or said nothing of the kind before the deadline.
    """
    try:
        with on_cpus(cpus):
            popen = subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
    except OSError as error:
        raise BenchmarkError(f"{name} can't be started: {error}.") from error
    process = Process(name, popen, ready_text)
    try:
        process.wait_ready(ready_seconds)
        yield process
    finally:
        process.stop()


class Process:
    """A process that `running` has started."""

    def __init__(self, name: str, popen: subprocess.Popen[str], ready_text: str) -> None:
        self.name = name
        self._popen = popen
        # A descriptor of the process tells its end without reaping it: until it is reaped, its number is not given
        # to another process, and neither is the number of its session and process group.
        self._pidfd = os.pidfd_open(popen.pid)
        self._ready_text = ready_text
        self._ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        # Somebody has to read the log all the time: a full pipe would stop the server.
        self._reader = threading.Thread(target=self._read_log, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def session(self) -> int:
        """The number of its session, which all processes that it starts belong to."""
        return self._popen.pid

    @property
    def log_tail(self) -> str:
        """The last lines of its log."""
        return "".join(self._log).rstrip()

    def wait_ready(self, seconds: float) -> None:
        """Wait for the ready text, raise a BenchmarkError at the process's end or after so many seconds."""
        try:
            ready = self._ready.get(timeout=seconds)
        except queue.Empty:
            raise BenchmarkError(
                self.complaint(f"did not log {self._ready_text!r} within {seconds:g} s")
            ) from None
        if not ready:
            raise BenchmarkError(self.complaint("ended while starting"))

    def require_alive(self) -> None:
        """Raise a BenchmarkError if the process has ended."""
        if self._has_ended(within_seconds=0):
            raise BenchmarkError(self.complaint("ended during the run"))

    def complaint(self, what: str) -> str:
        """Return an error message with the end of the process's log under it."""
        return f"{self.name} {what}. Its log:\n{self.log_tail or '(empty)'}"

    def stop(self) -> None:
        """Ask the process to end, wait, and kill what is left of its session's process group."""
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
            self._has_ended(within_seconds=STOP_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait(STOP_SECONDS)
            os.close(self._pidfd)
            # The last writer of the pipe is gone, so the reader comes to its end.
            self._reader.join(STOP_SECONDS)
            if self._reader.is_alive():
                raise BenchmarkError(self.complaint("left a process behind that can't be found"))
            assert self._popen.stdout is not None
            self._popen.stdout.close()

    def _has_ended(self, *, within_seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(within_seconds * 1000))

    def _read_log(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._log.append(line)
            if self._ready_text in line:
                self._ready.put(item=True)
        self._ready.put(item=False)
