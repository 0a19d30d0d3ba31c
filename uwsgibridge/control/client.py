"""Asks a running supervisor over its control socket.

This module imports the standard library alone: a script that asks for the state of a service every few seconds
should not pay for a server's imports.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

DEFAULT_TIMEOUT_SECONDS: Final = 10.0

_CHUNK_BYTES: Final = 64 * 1024

# How long an answer may be; the stacks of a thousand workers fit.
_MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class ControlError(Exception):
    """There is no answer; the message is a sentence that says why."""


class ControlTimeoutError(ControlError):
    """Somebody listens at the socket, but the expected answer or end did not come in time."""


class CommandRefusedError(ControlError):
    """The supervisor answered that it did not carry the command out; the message is its reason.

    Attributes:
        answer: of the supervisor.
    """

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("error")))
        self.answer = answer


def ask(
    path: Path,
    command: str,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    **arguments: float | bool | str,
) -> dict[str, Any]:
    """Send one command over a connection of its own; see `ControlConnection.ask`."""
    with ControlConnection(path) as connection:
        return connection.ask(command, timeout_seconds=timeout_seconds, **arguments)


class ControlConnection:
    """A connection to a supervisor's control socket; a context manager that closes it.

    Args:
        path: of the socket.
        timeout_seconds: how long the connection may take.

    Raises:
        ControlError: no connection can be made.
    """

    def __init__(self, path: Path, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A full queue fails a connect with a timeout of Python's at once (it is non-blocking then);
            # a blocking one waits for SO_SNDTIMEO (Linux: unix_stream_connect).
            seconds, fraction = divmod(timeout_seconds, 1)
            timeval = struct.pack("@ll", int(seconds), max(1, int(fraction * 1_000_000)))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            if isinstance(error, BlockingIOError):
                raise ControlTimeoutError(
                    f"{path} accepted no connection within {timeout_seconds:g} s: "
                    "its supervisor is stuck"
                ) from error
            raise ControlError(_why_unreachable(path, error)) from error

    def ask(
        self,
        command: str,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        **arguments: float | bool | str,
    ) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Args:
            command: such as ``status``; docs/ctl.md has all of them.
            timeout_seconds: how long it may take until the answer is complete.
            arguments: of the command, such as ``workers`` of ``scale``.

        Returns:
            The answer, whose ``ok`` is true; docs/ctl.md has the forms.

        Raises:
            CommandRefusedError: the command was not carried out.
            ControlTimeoutError: no answer came in time; the command may still be carried out.
            ControlError: the connection ended without an answer, or the answer is no supervisor's.
        """
        deadline = time.monotonic() + timeout_seconds
        request = json.dumps({"command": command, **arguments}).encode() + b"\n"
        try:
            self._send(request, deadline)
            line = self._receive_line(deadline)
        except TimeoutError as error:
            raise ControlTimeoutError(
                f"{self._path} gave no answer to {command} within {timeout_seconds:g} s"
            ) from error
        except OSError as error:
            raise ControlError(
                f"{self._path} broke the connection off: {error.strerror}"
            ) from error
        return self._read(line)

    def wait_until_closed(self, timeout_seconds: float) -> None:
        """Wait until the supervisor closes the connection, because it ends or the connection is idle.

        Raises:
            ControlTimeoutError: it did not close it in time.
        """
        deadline = time.monotonic() + timeout_seconds
        try:
            while self._receive(deadline):
                pass
        except TimeoutError as error:
            raise ControlTimeoutError(f"{self._path} is still there") from error
        except OSError:
            pass  # a reset connection is closed, too

    def close(self) -> None:
        """Close the connection; a running command goes on."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, request: bytes, deadline: float) -> None:
        self._socket.settimeout(_remaining_seconds(deadline))
        # A supervisor that takes no more clients has sent its answer already, which can still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(request)

    def _receive_line(self, deadline: float) -> bytes:
        received = bytearray()
        while not received.endswith(b"\n"):
            piece = self._receive(deadline)
            if not piece:
                raise ControlError(
                    f"{self._path} closed the connection without an answer: its supervisor has ended"
                )
            received += piece
            if len(received) > _MAX_ANSWER_BYTES:
                raise ControlError(f"{self._path} gives an answer over {_MAX_ANSWER_BYTES} bytes")
        return bytes(received)

    def _receive(self, deadline: float) -> bytes:
        self._socket.settimeout(_remaining_seconds(deadline))
        return self._socket.recv(_CHUNK_BYTES)

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or "ok" not in answer:
            raise ControlError(
                f"{self._path} gave an answer that is none of a supervisor's: "
                "something else listens there"
            )
        if answer["ok"] is not True:
            raise CommandRefusedError(answer)
        return answer


def _remaining_seconds(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _why_unreachable(path: Path, error: OSError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return (
                f"There is no control socket {path}: no supervisor runs with it, or somebody has removed its file, which "
                "SIGUSR2 to the supervisor makes anew"
            )
        case PermissionError():
            return f"No permission for {path}: run this as the supervisor's user, or as root"
        case ConnectionRefusedError() if not path.is_socket():
            return f"{path} is no socket: name the one given to --control-socket"
        case ConnectionRefusedError():
            return f"Nobody listens at {path}: its supervisor is gone"
        case _:
            return f"{path} can't be reached: {error.strerror or error}"
