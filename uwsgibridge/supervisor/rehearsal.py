"""The rehearsal of an upgrade: a trial run of the program that is installed now.

The trial run does all that a real start does, until a worker has answered. It has the listening sockets, but its
worker accepts nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from uwsgibridge.config.address import parse_address
from uwsgibridge.connection.sockets import ListeningSocket, adopt_socket
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.supervisor.heritage import FORM, REHEARSAL_VARIABLE
from uwsgibridge.system import held_secret, starting_place
from uwsgibridge.system.memory_file import make_memory_file
from uwsgibridge.system.signals import SERVER_SIGNALS

# How long two Pythons may take to start and to check options; the application may take longer.
REHEARSAL_SECONDS: Final = 30.0

# How long a rehearsal that is broken off has to end its template and its worker.
_BREAK_OFF_SECONDS: Final = 1.0

# How many characters of the output's end are kept, which has the error. A character has up to four bytes.
_OUTPUT_CHARACTERS: Final = 2000
_OUTPUT_BYTES: Final = 4 * _OUTPUT_CHARACTERS

_PART_VARIABLE: Final = "UWSGIBRIDGE_REHEARSAL_PART"
_DONE: Final = b"done"


class Rehearsal:
    """Runs the command line of this process as another process, which brings one worker up and exits.

    It begins in the directory and with the environment that this process began with.

    Args:
        sockets: the listening sockets of each address.
        seconds: how long the process may take.

    Raises:
        OSError: the process can't be started.
    """

    def __init__(self, sockets: Mapping[str, Sequence[ListeningSocket]], seconds: float) -> None:
        self._limit = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._seconds = seconds
        told = {
            text: [[it.socket.fileno(), str(it.address)] for it in all_]
            for text, all_ in sockets.items()
        }
        # A file, because processes that the application leaves behind would hold a pipe open.
        self._output = make_memory_file("uwsgibridge-rehearsal")
        self._word = make_memory_file("uwsgibridge-rehearsal-word")
        part = json.dumps({"sockets": told, "word": self._word})
        # The process inherits the mask: signals to all processes of the service are not for the rehearsal.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVER_SIGNALS)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, *sys.orig_argv[1:]],
                cwd=starting_place.original_directory(),
                env={
                    **starting_place.original_environment(),
                    REHEARSAL_VARIABLE: FORM,
                    _PART_VARIABLE: part,
                    **held_secret.variables(),
                },
                pass_fds=[
                    self._word,
                    *held_secret.descriptors(),
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
        """Wait for the end of the process.

        Returns:
            Its exit status, and the end of its output.
        """
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
        """Have the process end soon; `wait` then returns."""
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
    """What the trial run has got from the supervisor that has started it.

    Attributes:
        sockets: the listening sockets of each address; their files belong to the supervisor.
        word: a descriptor, to which the trial run writes when it has succeeded.
    """

    sockets: dict[str, Sequence[ListeningSocket]]
    word: int

    @staticmethod
    def from_environment() -> Part:
        """Take the part out of the environment, so that no process started later inherits it."""
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
        """Tell the supervisor that the trial run has succeeded; exit status 0 would not prove it."""
        os.write(self.word, _DONE)
