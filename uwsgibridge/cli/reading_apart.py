"""Reads gunicorn's configuration in a process of its own.

The configuration file is code. It may import an application, start threads, or replace parts of the standard library,
and nothing of that may be in the supervisor.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

from uwsgibridge.migration.errors import ConfigurationError
from uwsgibridge.migration.gunicorn.given import Reading
from uwsgibridge.system.forking import fork_process

# How many seconds a configuration file may take. A file that waits for a service has to come to an end as well.
READING_SECONDS: Final = 300.0
_LENGTH_BYTES: Final = 8
_PIECE_BYTES: Final = 65_536


class ReadingApart:
    """A reading that goes on in a child while this process does something else.

    Owns the child and its pipe until `wait` returns.

    Args:
        arguments: of gunicorn.
        start: the directory of this process; an absolute path.
    """

    def __init__(self, arguments: Sequence[str], start: str) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._deadline = time.monotonic() + READING_SECONDS
        self._receiving, sending = os.pipe()
        self._child = fork_process()
        if self._child == 0:
            os.close(self._receiving)
            _read_and_exit(arguments, start, sending)
        os.close(sending)

    def wait(self) -> Reading:
        """Wait for what the child has read, and end the child.

        Returns:
            What was read, in its portable form.

        Raises:
            ConfigurationError: gunicorn would not start, or the file takes more than `READING_SECONDS`.
        """
        try:
            content = _receive(self._receiving, self._deadline)
        finally:
            os.close(self._receiving)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)  # it has nothing to do any more
            os.waitpid(self._child, 0)
        if content is None:
            raise ConfigurationError(
                "the configuration file of gunicorn has ended its process, or took more than "
                f"{READING_SECONDS:.0f} seconds"
            )
        found = pickle.loads(content)  # noqa: S301 - it comes from this program
        if isinstance(found, ConfigurationError):
            raise found
        assert isinstance(found, Reading)
        return found


def _read_and_exit(arguments: Sequence[str], start: str, sending: int) -> NoReturn:
    status = 1
    try:
        gc.disable()  # this process ends at once
        # Imported here: only this process needs it.
        from uwsgibridge.migration.gunicorn.reading import read_configuration

        found: Reading | ConfigurationError
        try:
            found = read_configuration(arguments, os.environ, start).portable()
        except ConfigurationError as error:
            found = error
        content = pickle.dumps(found)
        sys.stdout.flush()
        sys.stderr.flush()
        with open(sending, "wb") as file:
            file.write(len(content).to_bytes(_LENGTH_BYTES) + content)
        status = 0
    finally:
        if status:
            traceback.print_exc()  # else nobody would know why
        os._exit(status)


def _receive(receiving: int, deadline: float) -> bytes | None:
    """Receive the child's message; None where it ends, or is late.

    The end of the message is known by its length: a process that the file has started may hold the pipe open.
    """
    content = b""
    while True:
        whole = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES])
        if len(content) >= max(whole, _LENGTH_BYTES + 1):
            return content[_LENGTH_BYTES:whole]
        ready, _, _ = select.select([receiving], [], [], max(deadline - time.monotonic(), 0))
        piece = os.read(receiving, _PIECE_BYTES) if ready else b""
        if not piece:
            return None
        content += piece
