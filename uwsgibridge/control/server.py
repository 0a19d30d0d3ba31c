"""The control socket for ``uwsgibridge ctl``: each request and each answer is a JSON object in a line.

A request names a command and its arguments, ``{"command": "scale", "workers": 4}``. The answer is
``{"ok": true, ...}`` with the command's result, or ``{"ok": false, "error": "one sentence"}``. Everybody who may
connect may do everything. The mode of the socket file (0600) says who may connect.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from uwsgibridge.config.address import AddressError
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.control.commands import COMMANDS, CommandFailed, Commands, read_arguments
from uwsgibridge.errors import BindError
from uwsgibridge.telemetry.logs import Logger

# A request has some forty bytes. A longer one comes from somebody who takes this for another port.
MAX_REQUEST_BYTES: Final = 65_536

# How many clients at a time: enough for an operator, some dashboards, and clients that were left open.
MAX_CLIENTS: Final = 16

# How long a client may take to send its next request, or to read an answer. `top` asks every second.
CLIENT_TIMEOUT_SECONDS: Final = 60.0


async def serve_control(
    path: Path,
    commands: Commands,
    *,
    logger: Logger,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer at a control socket until cancelled, then remove it.

    A socket that nobody listens on any more is replaced. A command goes on when its client leaves.

    Args:
        path: of the socket.
        commands: what carries the commands out.
        logger: where commands that change something, and failures, are logged.
        task_status: started when clients can connect.

    Raises:
        BindError: the socket can't be made; the message says why.
    """
    with open_control(path) as listening:
        await answer_control(listening, commands, logger=logger, task_status=task_status)


@contextlib.contextmanager
def open_control(path: Path) -> Iterator[ListeningSocket]:
    """Listen at a control socket, and remove it at the end; clients wait until `answer_control` runs.

    Raises:
        BindError: the socket can't be made; the message says why.
    """
    with contextlib.ExitStack() as stack:
        try:
            [listening] = stack.enter_context(
                open_sockets((f"unix:{path}",), mode="0600", backlog=MAX_CLIENTS)
            )
        except (AddressError, BindError) as error:
            raise BindError(f"--control-socket: {error}") from None
        yield listening


async def answer_control(
    listening: ListeningSocket,
    commands: Commands,
    *,
    logger: Logger,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer at a socket that `open_control` has opened, as `serve_control` does."""
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.socket))
    task_status.started()
    await trio.serve_listeners(_Clients(commands, logger).serve, [listener])


class _Clients:
    def __init__(self, commands: Commands, logger: Logger) -> None:
        self._commands = commands
        self._log = logger
        self._count = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        # TooSlowError: the client stalls. BrokenResourceError: the client is gone. Both only end its connection.
        with contextlib.suppress(trio.TooSlowError, trio.BrokenResourceError):
            if self._count >= MAX_CLIENTS:
                await _send(
                    stream,
                    _refusal(f"{MAX_CLIENTS} clients are connected, which is the most; end one"),
                )
                return
            self._count += 1
            try:
                await self._converse(stream)
            finally:
                self._count -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        received = bytearray()
        while True:
            try:
                with trio.fail_after(CLIENT_TIMEOUT_SECONDS):
                    line = await _read_line(stream, received)
            except CommandFailed as error:
                await _send(stream, _refusal(str(error)))
                return  # the beginning of the next request is not known
            if line is None:
                return
            await _send(stream, await self._answer(line))

    async def _answer(self, line: bytes) -> bytes:
        try:
            name, arguments = _parse(line)
            if COMMANDS[name].is_logged:
                self._log.info("control command", command=name, **arguments)
            return _encode({"ok": True, **await getattr(self._commands, name)(**arguments)})
        except CommandFailed as error:
            return _refusal(str(error))
        except Exception:  # noqa: BLE001 - a fault in a command must not end the supervisor
            self._log.exception("control command failed")
            return _refusal("the command failed for a reason that was not foreseen: see the log")


async def _read_line(stream: trio.SocketStream, received: bytearray) -> bytes | None:
    """Receive a line, and remove it from the received bytes; None at the end of the stream."""
    while (end := received.find(b"\n")) < 0:
        if len(received) > MAX_REQUEST_BYTES:
            raise CommandFailed(f"a request is one line of at most {MAX_REQUEST_BYTES} bytes")
        piece = await stream.receive_some(MAX_REQUEST_BYTES)
        if not piece:
            return None
        received += piece
    line = bytes(received[:end])
    del received[: end + 1]
    return line


async def _send(stream: trio.SocketStream, answer: bytes) -> None:
    with trio.fail_after(CLIENT_TIMEOUT_SECONDS):
        await stream.send_all(answer)


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict) or not isinstance(request.get("command"), str):
        raise CommandFailed('a request is one line of JSON such as {"command": "status"}')
    name = request.pop("command")
    if name not in COMMANDS:
        raise CommandFailed(f"there is no command {name[:40]!r}; there are {', '.join(COMMANDS)}")
    return name, read_arguments(name, request)


def _refusal(sentence: str) -> bytes:
    return _encode({"ok": False, "error": sentence})


def _encode(answer: Mapping[str, object]) -> bytes:
    return json.dumps(answer, allow_nan=False).encode() + b"\n"
