"""The trial run of the program that is installed now, before it takes this process over.

It goes all the way that the real start goes, up to a worker that has answered: with the listening sockets,
on which that worker accepts nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from uwsgibridge.config.address import parse_address
from uwsgibridge.connection.sockets import ListeningSocket, adopt_socket
from uwsgibridge.supervisor.heritage import FORM, REHEARSAL_VARIABLE
from uwsgibridge.system.memory_file import make_memory_file
from uwsgibridge.system.signals import SERVER_SIGNALS

# For two Pythons to start, and to check options; beside what the application may take.
REHEARSAL_SECONDS: Final = 30.0

# For a rehearsal that is broken off to take its template and its worker with it.
_BREAK_OFF_SECONDS: Final = 1.0

# How much is kept of the end of its output, where the error stands; a character has up to four bytes.
_OUTPUT_CHARACTERS: Final = 2000
_OUTPUT_BYTES: Final = 4 * _OUTPUT_CHARACTERS

_PART_VARIABLE: Final = "UWSGIBRIDGE_REHEARSAL_PART"
_DONE: Final = b"done"


class Rehearsal:
    """Runs this process's command line anew, as a program that brings a worker up and leaves.

    Args:
        sockets: the listening sockets of each address.
        seconds: how long it may take.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self, sockets: Mapping[str, Sequence[ListeningSocket]], seconds: float) -> None:
        self._limit = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._seconds = seconds
        told = {
            text: [[it.socket.fileno(), str(it.address)] for it in all_]
            for text, all_ in sockets.items()
        }
        # No pipe: what the application leaves running would hold that open.
        self._output = make_memory_file("uwsgibridge-rehearsal")
        self._word = make_memory_file("uwsgibridge-rehearsal-word")
        part = json.dumps({"sockets": told, "word": self._word})
        # It inherits the mask: a signal to all processes is not for this one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, REHEARSAL_VARIABLE: FORM, _PART_VARIABLE: part},
                pass_fds=[
                    self._word,
                    *(it.socket.fileno() for all_ in sockets.values() for it in all_),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
            )
        except OSError:
            self._close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    async def wait(self) -> tuple[int, str]:
        """Wait for its end; the exit status, and what it has written at last."""
        process = os.pidfd_open(self._process.pid)
        try:
            with self._limit:
                await trio.lowlevel.wait_readable(process)
        finally:
            os.close(process)
            self._process.kill()
            status = self._process.wait()
            output = self._read_output()
            is_done = os.pread(self._word, len(_DONE), 0) == _DONE
            self._close()
        if self._limit.cancelled_caught:
            return 1, f"{output}\ntimed out after {self._seconds:g} s".strip()
        if not (status or is_done):
            return 1, f"{output}\nit ended without having done anything".strip()
        return status, output

    def break_off(self) -> None:
        """End it soon, wherever it is; `wait` then returns."""
        self._process.terminate()
        self._limit.deadline = min(self._limit.deadline, trio.current_time() + _BREAK_OFF_SECONDS)

    def _close(self) -> None:
        os.close(self._output)
        os.close(self._word)

    def _read_output(self) -> str:
        size = os.fstat(self._output).st_size
        written = os.pread(self._output, _OUTPUT_BYTES, max(0, size - _OUTPUT_BYTES))
        return written.decode("utf-8", "replace")[-_OUTPUT_CHARACTERS:]


@dataclass(frozen=True, slots=True)
class Part:
    """What the trial run has of the supervisor that asks for it.

    Attributes:
        sockets: the listening sockets of each address; it owns no file of them.
        word: a descriptor, where it says that it has gone all the way.
    """

    sockets: dict[str, Sequence[ListeningSocket]]
    word: int

    @staticmethod
    def from_environment() -> Part:
        """Read the part from the environment and remove it there, so that no process started later inherits it."""
        os.environ.pop(REHEARSAL_VARIABLE, None)
        told = json.loads(os.environ.pop(_PART_VARIABLE))
        os.set_inheritable(told["word"], False)
        return Part(
            {
                text: [adopt_socket(descriptor, parse_address(it), None) for descriptor, it in all_]
                for text, all_ in told["sockets"].items()
            },
            told["word"],
        )

    def say_done(self) -> None:
        """Say that it has gone all the way: a program that did nothing has status 0 as well."""
        os.write(self.word, _DONE)
