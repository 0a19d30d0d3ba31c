"""What every ASGI exchange does, be it HTTP or a WebSocket: call, write, notice a hang-up, end once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from enum import Enum, auto
from time import monotonic
from typing import Any, Final, TypeAlias

import trio

from uwsgibridge.application.forked_child import exit_if_copy, exit_if_copy_raised
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.connection import Connection, PeerGone
from uwsgibridge.connection.hangup import HangupWatcher
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.hosts.exchange import Exchange
from uwsgibridge.hosts.exchange_states import FOLLOWING, Life, Step
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.hosts.streams import OpenStreams
from uwsgibridge.loop.interface import Loop
from uwsgibridge.protocol.response import Buffer
from uwsgibridge.telemetry.reporting import Reporter
from uwsgibridge.telemetry.stacks import await_stack

Message: TypeAlias = MutableMapping[str, Any]
AsgiApplication: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[object],
]

# Names of our own: to look a member up in its class costs more.
_RUNNING: Final = Life.RUNNING
_AFTER_END: Final = FOLLOWING[Step.END]

# So often an application may ask what came after the end, and be told that it has ended, before it is
# taken for one that does nothing else. In a tight loop that is less than a second.
_MOST_DISCONNECTS: Final = 10_000

# A task that is cancelled ends at once, unless the application holds on to it: then it is lost.
_LOST_SECONDS: Final = 1.0

# The time to accept a piece is bounded, so the piece must be.
_WRITE_PIECE_BYTES: Final = 262_144


class Stop(Enum):
    """How far a host has come with its end.

    Attributes:
        NONE: it serves.
        DRAIN: its WebSockets are closed, and those that open from now on. Requests end by themselves.
        BREAK_OFF: what still runs is cancelled.
    """

    NONE = auto()
    DRAIN = auto()
    BREAK_OFF = auto()


@dataclass(slots=True)
class AsgiContext:
    """What the exchanges of one host share.

    Attributes:
        app: the application.
        state: of the lifespan; each scope gets a shallow copy.
        loop: where the application runs.
        hangups: tells when a client has gone.
        reporter: where failures are told.
        lingering: ends connections.
        offload: leaves files to Nginx; None where no directory is mapped.
        streams: the answers that go on without a known end.
        release: called when an exchange is over.
        lose: called when a task goes on a second after it was cancelled; its request holds no place any
            more.
        settings: the deadlines, and what a WebSocket may do.
        stop: how far the host has come with its end.
    """

    app: AsgiApplication
    state: dict[str, Any]
    loop: Loop
    hangups: HangupWatcher
    reporter: Reporter
    lingering: LingeringClose
    offload: Offload | None
    streams: OpenStreams
    release: Callable[[Connection], None]
    lose: Callable[[Connection], None]
    settings: Settings
    stop: Stop = Stop.NONE


class AsgiExchange(Exchange):
    """One call of the application; the base of the HTTP and the WebSocket exchange.

    Args:
        context: what is shared.
        connection: with its request; owned from now on, and released at the end.
    """

    _gone = False
    _is_cancelled = False  # by ourselves, this exchange alone
    _overdue = False  # it was ended at its deadline, whatever the application does
    _is_lost = False  # and goes on, although its task was cancelled
    _disconnects = 0  # that the application was told of

    def __init__(self, context: AsgiContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self._context = context

    async def run(self) -> None:
        """Call the application and end the connection; only cancellation leaves here."""
        try:
            returned = await self._context.app(self._scope(), self.receive, self.send)
            if returned is not None:
                self._context.reporter.returned_value(returned)
            if self._life is _RUNNING and not self._gone:
                await self._after_return()
        except (asyncio.CancelledError, trio.Cancelled) as error:
            if not self._was_cancelled(error):
                # Nobody cancelled this task: the application awaited something that was.
                self._application_failed(error)
            elif isinstance(error, trio.Cancelled) or self._context.stop is Stop.BREAK_OFF:
                raise
        except BaseExceptionGroup as group:
            cancelled, failures = group.split(trio.Cancelled)
            if failures is not None:
                self._application_failed(failures)
            if cancelled is not None:
                self._was_cancelled(cancelled)
                raise cancelled from None
        except BaseException as error:  # noqa: BLE001 - SystemExit of an application ends its request only
            exit_if_copy_raised(error)
            self._application_failed(error)
        finally:
            self._over()

    async def receive(self) -> Message:
        """Give the application the next message."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """Take a message from the application."""
        raise NotImplementedError

    def _scope(self) -> MutableMapping[str, Any]:
        raise NotImplementedError

    async def _after_return(self) -> None:
        """End what the application left open."""
        raise NotImplementedError

    def _application_failed(self, error: BaseException) -> None:
        """Report what the application raised, and tell the client."""
        raise NotImplementedError

    def _was_cancelled(self, error: BaseException) -> bool:
        """Tell the client of a cancellation of ours; False where it was none."""
        raise NotImplementedError

    def _over(self) -> None:
        exit_if_copy()
        if self._life in _AFTER_END:
            self._end(complete=False)
        if self._gone and not self._overdue:
            self._context.reporter.client_gone()
        if self._is_lost:
            self._context.reporter.lost_request_ended(self.request)
        self._return()

    async def _tell_disconnect_again(self) -> None:
        """Let others run before an application is told what it knows; cancel one that only asks."""
        await self._context.loop.checkpoint()
        if self._disconnects == _MOST_DISCONNECTS:
            self._context.reporter.keeps_receiving(self.request, times=_MOST_DISCONNECTS)
            self._cancel()

    def _cancel(self) -> None:
        if not self._is_cancelled:
            self._is_cancelled = True
            self._context.loop.call_later(_LOST_SECONDS, self._lose)
        self.connection.task.cancel()

    def _lose(self) -> None:
        """Give the place back of an application that holds on to its task, and say so."""
        if self._life not in {Life.RETURNED, Life.OVER}:
            self._is_lost = True
            self._context.reporter.request_lost(
                self.request, stack=await_stack(self.connection.task)
            )
            self._context.lose(self.connection)

    async def _write(self, data: Buffer) -> None:
        """Write all of it, with backpressure.

        Raises:
            PeerGone: there is nobody to read it, or nobody reads.
        """
        sent = self._send_some(data)
        if sent != len(data):
            await self._write_rest(memoryview(data)[sent:])

    async def _write_all(self, buffers: tuple[Buffer, ...]) -> None:
        """Write one after the other, and note what could not be written; raises as `_write`."""
        try:
            for data in buffers:
                # As `_write` does; here without a coroutine for what fits at once.
                sent = self._send_some(data)
                if sent != len(data):
                    await self._write_rest(memoryview(data)[sent:])
        except PeerGone:
            self._record_unsent(buffers, data)
            raise

    def _send_some(self, data: Buffer) -> int:
        try:
            sent = self.connection.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._mark_client_gone()
            raise PeerGone("the client has gone away") from None
        self._has_written = True
        return sent

    async def _write_rest(self, rest: memoryview) -> None:
        context = self._context
        left = len(rest)
        try:
            for start in range(0, len(rest), _WRITE_PIECE_BYTES):
                piece = rest[start : start + _WRITE_PIECE_BYTES]
                deadline = monotonic() + context.settings.write_timeout_seconds
                while (sent := self._send_some(piece)) < len(piece):
                    piece, left = piece[sent:], left - sent
                    seconds = max(0.0, deadline - monotonic())
                    if not await context.loop.wait_writable(self.connection, seconds):
                        context.reporter.reader_stalled(self.request)
                        self._mark_client_gone()
                        raise PeerGone("the client does not take the answer")
                    if self._ended:
                        raise PeerGone("the request was ended at its deadline")
                left -= sent
        except PeerGone:
            self._unsent_bytes = left
            raise

    def _mark_client_gone(self) -> None:
        """Note that the client has gone."""
        self._gone = True
