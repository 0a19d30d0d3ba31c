"""The trial run of the program that is installed now, before it takes this process over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Final

import trio

from uwsgibridge.server_signals import SERVER_SIGNALS
from uwsgibridge.supervisor.heritage import FORM, REHEARSAL_VARIABLE

# For a Python to start and to check its options.
_REHEARSAL_SECONDS: Final = 30.0

# Of what it has written, the end, where the error stands.
_OUTPUT_CHARACTERS: Final = 2000


class Rehearsal:
    """Runs this process's command line anew, as a program that checks its options and leaves.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self) -> None:
        # It inherits the mask: a signal to all processes is not for this one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, REHEARSAL_VARIABLE: FORM},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    async def wait(self) -> tuple[int, str]:
        """Wait for its end; the exit status, and what it has written at last."""
        return await trio.to_thread.run_sync(self._communicate)

    def break_off(self) -> None:
        """End it at once, wherever it is; `wait` then returns."""
        self._process.kill()

    def _communicate(self) -> tuple[int, str]:
        # This is a thread: signals are for the main one, which has them wait while the process is handed on.
        signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
        with self._process as process:
            try:
                output, _ = process.communicate(timeout=_REHEARSAL_SECONDS)
            except subprocess.TimeoutExpired as error:
                process.kill()
                return 1, str(error)
        return process.returncode, output.decode("utf-8", "replace")[-_OUTPUT_CHARACTERS:]
