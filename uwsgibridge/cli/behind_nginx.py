"""A bridge behind a private Nginx, for `dev` and `demo`: starts both, restarts on change, stops both.

This process makes the listening socket between Nginx and the bridge, and each bridge inherits it. So requests
wait in the kernel while a bridge is restarted, instead of being refused.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from uwsgibridge.cli.stand_in import refuse_requests
from uwsgibridge.client import PingError, ping
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.frontend.error_lines import ErrorLines
from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.system.watching import until_watched, watch_code
from uwsgibridge.telemetry.line_stream import standard_error
from uwsgibridge.worker.process import LIFELINE_VARIABLE

# How long requests may take at a restart or a stop, for which a person waits. Streams of any kind are told to end
# at once.
_GRACE_SECONDS: Final = 3.0

# The time between SIGTERM and SIGKILL: the bridge's own grace period, and its end.
_KILL_AFTER_SECONDS: Final = _GRACE_SECONDS + 2.0

_START_SECONDS: Final = 60.0

_NOT_LOADED: Final = (
    "The application is not running. The terminal says why; it starts again on a change."
)

# How long to read Nginx's last errors when it has ended.
_LAST_ERRORS_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """Code whose changes restart the bridge.

    Attributes:
        directories: watched with all files below them.
        includes: globs of files that count beside Python files.
        excludes: globs of files that do not count.
    """

    directories: Sequence[Path]
    includes: Sequence[str] = ()
    excludes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Development:
    """What `run` runs, and where.

    Attributes:
        arguments: for ``uwsgibridge serve``, without an address.
        port: of the private Nginx; 0 takes a free one.
        nginx: the Nginx to run, as for `choose_nginx`.
        watch: the code that restarts the bridge when it changes; None for none.
        ready: called with the URL when the first request can be answered.
        say: writes a line for the person at the terminal.
    """

    arguments: Sequence[str]
    port: int
    nginx: str | None
    watch: Watched | None
    ready: Callable[[str], None]
    say: Callable[[str], None]


async def run(development: Development) -> int:
    """Run until SIGINT or SIGTERM, and leave nothing behind.

    Returns:
        The exit status: 0 after a signal; that of the bridge where it ended by itself and no code is
        watched.

    Raises:
        NginxNotFoundError, NginxStartError: there is no Nginx, or it can't listen.
    """
    with tempfile.TemporaryDirectory(prefix="uwsgibridge-") as directory:
        socket_path = f"{directory}/bridge.sock"
        with open_sockets([f"unix:{socket_path}"], mode="0666", backlog=511) as sockets:
            async with _handed_on() as errors:
                nginx = PrivateNginx(
                    Site(upstreams=(f"unix:{socket_path}",)),
                    port=development.port,
                    binary=development.nginx,
                    errors_to=errors.descriptor,
                    # Nginx stops last, when no request runs: only idle connections of browsers are left.
                    grace_seconds=0,
                )
                async with nginx:
                    errors.close()
                    if nginx.program.note:
                        development.say(nginx.program.note)
                    return await _until_signal(_Runner(development, sockets[0], nginx.url, errors))


@contextlib.asynccontextmanager
async def _handed_on() -> AsyncIterator[ErrorLines]:
    """Copy what Nginx writes to standard error, to its last line."""
    errors = ErrorLines(standard_error().write)
    ended = trio.Event()

    async def relay() -> None:
        await errors.relay()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay)
        try:
            yield errors
        finally:
            errors.close()
            # Also where Nginx did not start, since its errors may say why.
            with trio.move_on_after(_LAST_ERRORS_SECONDS, shield=True):
                await ended.wait()
        nursery.cancel_scope.cancel()


async def _until_signal(runner: _Runner) -> int:
    status = 0
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            status = await runner.run()
            nursery.cancel_scope.cancel()
    return status


class _Runner:
    """Runs one bridge after the other on one listening socket."""

    def __init__(
        self,
        development: Development,
        listening: ListeningSocket,
        url: str,
        errors: ErrorLines,
    ) -> None:
        self._development = development
        self._errors = errors
        self._listening = listening
        self._url = url
        self._announced = False
        descriptor = listening.socket.fileno()
        self._command = (
            *(sys.executable, "-m", "uwsgibridge", "serve", *development.arguments),
            *("--bind", f"fd://{descriptor}"),
            *("--graceful-timeout-seconds", str(_GRACE_SECONDS)),
            *("--stream-drain-seconds", "0"),
            *("--frontend-buffer-bytes", str(Site().uwsgi_buffer_bytes)),
        )

    async def run(self) -> int:
        # A change that waits is enough: further changes are dropped meanwhile.
        found, changes = trio.open_memory_channel[str](1)

        def restart(reason: str) -> None:
            with contextlib.suppress(trio.WouldBlock):
                found.send_nowait(reason)

        async with trio.open_nursery() as nursery, changes:
            if self._development.watch:
                watch = self._development.watch
                nursery.start_soon(
                    watch_code, watch.directories, watch.includes, watch.excludes, restart
                )
                await until_watched()
            while True:
                status = await self._run_bridge(changes)
                if not self._development.watch:
                    break
                if status:
                    self._development.say("Waiting for a change ...")
                    await self._refuse_until_change(changes)
            nursery.cancel_scope.cancel()
        found.close()
        return status

    async def _run_bridge(self, changes: trio.MemoryReceiveChannel[str]) -> int:
        """Run one bridge until it ends or a file changes; its exit status, 0 after a change."""
        # The bridge stops when `held` is closed, which the kernel does however this process ends.
        lifeline, held = os.pipe()
        async with trio.open_nursery() as nursery:
            try:
                process = await trio.lowlevel.open_process(
                    self._command,
                    env={**os.environ, LIFELINE_VARIABLE: str(lifeline)},
                    pass_fds=[self._listening.socket.fileno(), lifeline],
                    # Ctrl-C reaches this process alone, which ends first the bridge and then Nginx.
                    start_new_session=True,
                )
            finally:
                os.close(lifeline)
            try:
                nursery.start_soon(self._announce)
                nursery.start_soon(self._stop_on_change, process, changes)
                status = await process.wait()
                nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop(process)
                os.close(held)
        return 0 if status == -signal.SIGTERM else status

    async def _announce(self) -> None:
        # The ping waits in the socket's backlog until the bridge answers it.
        address = str(self._listening.address)
        with contextlib.suppress(PingError):
            await trio.to_thread.run_sync(
                lambda: ping(address, timeout_seconds=_START_SECONDS), abandon_on_cancel=True
            )
            self._errors.breaks_off = False
            if not self._announced:
                self._announced = True
                self._development.ready(self._url)

    async def _refuse_until_change(self, changes: trio.MemoryReceiveChannel[str]) -> None:
        """Answer in the bridge's place, so that a browser says what the terminal says."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse_requests, self._listening, _NOT_LOADED)
            await changes.receive()
            nursery.cancel_scope.cancel()

    async def _stop_on_change(
        self, process: trio.Process, changes: trio.MemoryReceiveChannel[str]
    ) -> None:
        self._development.say(f"{await changes.receive()}: restarting ...")
        await self._stop(process)

    async def _stop(self, process: trio.Process) -> None:
        if process.returncode is None:
            # True until the next bridge answers: before that, only this stop breaks answers off.
            self._errors.breaks_off = True
            process.terminate()
            with trio.move_on_after(_KILL_AFTER_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
