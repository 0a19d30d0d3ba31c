"""Opens the control socket of a supervisor: at ``--control-socket``, or where `uwsgibridge ctl` looks by itself."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import trio

from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.control.commands import Commands
from uwsgibridge.control.path import (
    default_control_path,
    directories_passed_over,
    remove_control_directory,
    remove_stale_sockets,
)
from uwsgibridge.control.server import answer_control, open_control, serve_control
from uwsgibridge.errors import BindError
from uwsgibridge.telemetry.logs import Logger


class ControlSocket:
    """The control socket of one supervisor.

    Args:
        settings: `control_socket` has the path, ``none`` for no socket, or nothing for the default place.
        commands: carries commands out.
        logger: where a missing socket, or an unusual place, is logged.
    """

    def __init__(self, settings: Settings, commands: Commands, logger: Logger) -> None:
        self._place = settings.control_socket
        self._commands = commands
        self._log = logger
        self._named: ListeningSocket | None = None

    def open_named(self, stack: contextlib.ExitStack, *, must_open: bool) -> None:
        """Listen at ``--control-socket``, before there is a worker that could lose its requests.

        Args:
            stack: closes the socket.
            must_open: whether the supervisor must not start without the socket.

        Raises:
            BindError: the socket can't be opened, and `must_open` is true.
        """
        if self._place in {"", "none"}:
            return
        try:
            self._named = stack.enter_context(open_control(Path(self._place)))
        except BindError as error:
            if must_open:
                raise
            self._log.warning("no control socket", reason=str(error), option="--control-socket")

    async def answer(self, nursery: trio.Nursery) -> None:
        """Begin to take commands; without a named path, at the place where ctl looks by itself."""
        named = self._named
        if named is not None:
            await nursery.start(
                lambda task_status: answer_control(
                    named, self._commands, logger=self._log, task_status=task_status
                )
            )
        elif not self._place:
            await self._serve_default(nursery)

    def remove_default(self) -> None:
        """Remove the directory of the default place, if it was made."""
        if not self._place:
            remove_control_directory()

    async def _serve_default(self, nursery: trio.Nursery) -> None:
        remove_stale_sockets()
        path = default_control_path(os.getpid())
        self._say_what_is_passed_over(path)
        if path is None:
            return
        try:
            await nursery.start(
                lambda task_status: serve_control(
                    path, self._commands, logger=self._log, task_status=task_status
                )
            )
        except BindError as error:
            self._log.warning("no control socket", reason=str(error), option="--control-socket")

    def _say_what_is_passed_over(self, path: Path | None) -> None:
        passed_over = directories_passed_over(os.getpid())
        if path is None:
            self._log.warning(
                "no control socket",
                reason="; ".join(passed_over) or "no directory for temporary files can be written",
                option="--control-socket",
            )
        elif passed_over:
            self._log.warning(
                "control socket is not in its usual place",
                path=str(path),
                reason="; ".join(passed_over),
                option="--control-socket",
            )
