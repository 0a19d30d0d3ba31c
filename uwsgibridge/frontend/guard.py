"""Runs one command until standard input ends, then stops it and removes its directory.

    python guard.py DIRECTORY GRACE_SECONDS COMMAND [ARGUMENT...]

This is a program of its own, which needs the standard library alone. Its starter holds the other end of standard
input. The kernel closes that end however the starter ends, also by SIGKILL; to stop the command, the starter
closes it. One byte on standard output says that the command has ended. The directory, which has the command's
log, stays until standard input has ended, too.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time

# Signals to Nginx: SIGQUIT lets running requests end; SIGTERM closes connections.
_ASKING = (signal.SIGQUIT, signal.SIGTERM)

# How long closing may take where running requests get no time to end.
CLOSING_SECONDS = 2.0


def main(arguments: list[str]) -> None:
    """Run the command until it ends, or standard input ends."""
    directory, grace_seconds, *command = arguments
    events = _Events()
    child = _start(command)
    asked = False
    while not asked and child.poll() is None:
        asked = events.wait()
    seconds = float(grace_seconds)
    for number in _ASKING if seconds else _ASKING[1:]:
        deadline = time.monotonic() + (seconds or CLOSING_SECONDS)
        child.send_signal(number)
        while child.poll() is None and time.monotonic() < deadline:
            events.wait(deadline - time.monotonic())
    with contextlib.suppress(ProcessLookupError):
        # Kills the master, or the workers that it has left.
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), b".")
    while not asked:
        asked = events.wait()
    shutil.rmtree(directory, ignore_errors=True)


class _Events:
    """Waits for the end of standard input and for signals at once."""

    def __init__(self) -> None:
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        # Each signal with a Python handler, even an empty one, writes its number to the pipe.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._poll.register(sys.stdin.fileno(), select.POLLIN)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the next event; True where the event asks for the end."""
        asked = False
        for descriptor, _ in self._poll.poll(
            None if timeout_seconds is None else timeout_seconds * 1000
        ):
            if descriptor == self._woken:
                asked |= any(number != signal.SIGCHLD for number in os.read(self._woken, 4096))
            else:
                # An ended input would stay readable for ever.
                self._poll.unregister(descriptor)
                asked = True
        return asked


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    listeners = [int(number) for number in os.environ.get("NGINX", "").split(";") if number]
    child = subprocess.Popen(  # noqa: S603 - the starter's own command
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=listeners,
        # The group reaches workers also when their master is gone.
        process_group=0,
    )
    # Left open here, the sockets would hold connections that nobody serves after the command's end.
    for descriptor in listeners:
        os.close(descriptor)
    return child


if __name__ == "__main__":
    main(sys.argv[1:])
