"""The base of HTTP and WebSocket exchanges: calls the application, writes, notices a hang-up, ends once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum, auto
from time import monotonic
from typing import Any, Final, TypeAlias

import trio

from uwsgibridge.application.forked_child import exit_if_copy, exit_if_copy_raised
from uwsgibridge.config.settings import Settings
from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.hangup import HangupWatcher
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.figures.recorder import Recorder
from uwsgibridge.hosts.exchange import Exchange
from uwsgibridge.hosts.exchange_states import FOLLOWING, Life, Step
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.hosts.streams import OpenStreams
from uwsgibridge.loop.interface import Event, Loop
from uwsgibridge.protocol.response import Buffer
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.reporting import Reporter
from uwsgibridge.telemetry.request_ids import Begin, current_request
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

# Module names for members of enums: to look a member up in its class costs more.
_RUNNING: Final = Life.RUNNING
_STATE_AFTER_END: Final = FOLLOWING[Step.END]

# How often an application may call `receive` after the disconnect before its task is cancelled, since it does nothing
# else. A tight loop takes less than a second for that.
_MOST_DISCONNECTS: Final = 10_000

# How many of them in a row are given without a wait. Frameworks ask in a scope that is cancelled already, to learn
# whether the client is there, and a wait would end without an answer there.
_DISCONNECTS_IN_A_ROW: Final = 16

# How long a cancelled task may take to end, which it does at once unless the application refuses. Then it is lost.
_LOST_SECONDS: Final = 1.0

# How large a piece is at the most. The time to write a piece is bounded, so its size has to be.
_WRITE_PIECE_BYTES: Final = 262_144


class Stop(Enum):
    """The stage of a host's end.

    Attributes:
        NONE: the host serves.
        DRAIN: open WebSockets are closed, and so are those that open later. Requests end by themselves.
        BREAK_OFF: tasks that still run are cancelled.
    """

    NONE = auto()
    DRAIN = auto()
    BREAK_OFF = auto()


class Call(Enum):
    """What has become of the application's task.

    Attributes:
        RUNNING: nothing, and a cancellation that it meets is none of this exchange's.
        CANCELLED: this exchange has cancelled it.
        OVERDUE: this exchange has cancelled it at the request's deadline.
    """

    RUNNING = auto()
    CANCELLED = auto()
    OVERDUE = auto()


@dataclass(slots=True)
class AsgiContext:
    """The context that the exchanges of one host share.

    Attributes:
        app: the application.
        state: of the lifespan; each scope gets a shallow copy.
        loop: the event loop that the application runs on.
        hangups: tells when a client has gone.
        reporter: logs failures.
        lingering: ends connections.
        offload: has Nginx send files; None where no directory is mapped.
        streams: the answers without a known end.
        recorders: make what records requests.
        recorder: of the event loop's thread.
        release: called when an exchange is over.
        lose: called when a task still runs a second after it was cancelled; its request then holds no place
            any more.
        settings: the deadlines, and what a WebSocket may do.
        begin: called with each request in its own context, before the application is.
        stop: the stage of the host's end.
        plan: what the accelerator has to know of all this; None without it.
    """

    app: AsgiApplication
    state: dict[str, Any]
    loop: Loop
    hangups: HangupWatcher
    reporter: Reporter
    lingering: LingeringClose
    offload: Offload | None
    streams: OpenStreams
    recorders: Recorders
    recorder: Recorder
    release: Callable[[Connection], None]
    lose: Callable[[Connection], None]
    settings: Settings
    begin: Begin = current_request.set
    stop: Stop = Stop.NONE
    plan: object = None


class AsgiExchange(Exchange[AsgiContext]):
    """One call of the application; the base of the HTTP and the WebSocket exchange.

    Args:
        context: shared by the exchanges of the host.
        connection: the connection with its request; owned from now on, and released at the end.
    """

    # Flags beside the states. The client may leave at any time, and what nobody may hear is treated alike.
    _gone = False
    _is_lost = False  # a task that goes on after its cancellation may have been cancelled for either reason
    _call = Call.RUNNING
    _disconnects = 0  # how often the application was told of the disconnect
    # There while a task writes and waits for the client; set when it has ended.
    _turn: Event | None = None
    # What was left of a piece when the `send` that wrote it was cancelled. It comes before all that follows.
    _unwritten: bytes = b""

    async def run(self) -> None:
        """Call the application and end the connection; raise nothing but cancellations."""
        self._context.begin(self.request)
        try:
            returned = await self._call_application()
            if returned is not None:
                self._context.reporter.returned_value(returned)
            if self._life is _RUNNING and not self._gone:
                await self._after_return()
        except (asyncio.CancelledError, trio.Cancelled) as error:
            must_end = self._must_end()
            if not self._was_cancelled(must_end=must_end):
                # Nobody has cancelled this task: the application awaited something that was cancelled, or has left
                # a scope open that was, or has kept a cancellation.
                self._application_failed(error)
            elif must_end or (
                self._context.stop is Stop.BREAK_OFF and isinstance(error, asyncio.CancelledError)
            ):
                raise
        except BaseExceptionGroup as group:
            cancelled, failures = group.split(trio.Cancelled)
            if cancelled is None or not self._must_end():
                self._application_failed(failures or group)
            else:
                if failures is not None:
                    self._application_failed(failures)
                self._was_cancelled(must_end=True)
                raise cancelled from None
        except BaseException as error:  # noqa: BLE001 - SystemExit of an application ends its request only
            exit_if_copy_raised(error)
            self._application_failed(error)
        finally:
            if not self._return_plainly():
                self._end_call()

    async def receive(self) -> Message:
        """Give the application the next message."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """Send what a message of the application says."""
        raise NotImplementedError

    def _call_application(self) -> Awaitable[object]:
        """Call the application; give what is to be awaited."""
        return self._context.app(self._scope(), self.receive, self.send)

    def _scope(self) -> MutableMapping[str, Any]:
        raise NotImplementedError

    async def _after_return(self) -> None:
        """End an answer or a WebSocket that the application has left open."""
        raise NotImplementedError

    def _application_failed(self, error: BaseException) -> None:
        """Report what the application raised, and tell the client."""
        raise NotImplementedError

    def _must_end(self) -> bool:
        # From Python 3.12 on, asyncio runs the first step of a task before anybody has the task.
        return self._context.loop.must_end(getattr(self.connection, "task", None))

    def _was_cancelled(self, *, must_end: bool) -> bool:
        """Tell the client, if the bridge has cancelled the task.

        Args:
            must_end: what `Loop.must_end` says of the task.

        Returns:
            False where it has not.
        """
        raise NotImplementedError

    def _return_plainly(self) -> bool:
        """Do the work of `_end_call` in the plain case; False, with nothing done, in other cases."""
        return False  # the accelerator's

    def _end_call(self) -> None:
        exit_if_copy()
        if self._life in _STATE_AFTER_END:
            self._end(complete=False)
        if self._gone and self._call is not Call.OVERDUE:
            self._context.reporter.client_gone()
        if self._is_lost:
            self._context.reporter.lost_request_ended(self.request)
        self._return()

    async def _tell_disconnect_again(self) -> None:
        """Let other tasks run now and then, and cancel an application that only asks for the disconnect."""
        if self._disconnects % _DISCONNECTS_IN_A_ROW == 0:
            await self._context.loop.checkpoint()
        if self._disconnects == _MOST_DISCONNECTS:
            self._context.reporter.keeps_receiving(self.request, times=_MOST_DISCONNECTS)
            self._cancel()

    def _cancel(self, call: Call = Call.CANCELLED) -> None:
        if self._call is Call.RUNNING:
            self._context.loop.call_later(_LOST_SECONDS, self._lose)
        if self._call is not Call.OVERDUE:
            self._call = call
        self.connection.task.cancel()

    def _lose(self) -> None:
        """Free the place of a task that goes on although it was cancelled, and log that."""
        if self._life not in {Life.RETURNED, Life.OVER}:
            self._is_lost = True
            self._context.reporter.request_lost(
                self.request, stack=await_stack(self.connection.task)
            )
            self._context.lose(self.connection)

    async def _write(self, data: Buffer) -> None:
        """Write all of the data, with backpressure.

        Raises:
            PeerGone: the client is gone, or does not read.
        """
        sent = self._send_some(data)
        if sent != len(data):
            await self._write_rest(memoryview(data)[sent:])

    async def _write_all(self, buffers: tuple[Buffer, ...]) -> None:
        """Write one buffer after another, and record what could not be written; raises as `_write`."""
        try:
            for data in buffers:
                # What `_write` does, but without a coroutine for data that fits at once.
                sent = self._send_some(data)
                if sent != len(data):
                    await self._write_rest(memoryview(data)[sent:])
        except PeerGone:
            self._record_unsent(buffers, data)
            raise
        except (asyncio.CancelledError, trio.Cancelled):
            self._keep_unwritten(buffers, data)
            raise

    def _keep_unwritten(self, buffers: tuple[Buffer, ...], cut: Buffer) -> None:
        """Keep what a cancelled task has not written: the end of `cut`, and the buffers after it.

        An application may go on after it has given up a `send`. What it sends then must not follow half a piece.
        """
        rest = [memoryview(cut)[len(cut) - self._unsent_bytes :]]
        if cut is buffers[0]:
            rest += map(memoryview, buffers[1:])
        self._unwritten = b"".join(rest)
        self._unsent_bytes = len(self._unwritten)

    async def _write_earlier(self) -> None:
        """Wait until no other task writes, and write what a cancelled one has left."""
        while self._turn is not None:
            await self._turn.wait()
        if self._unwritten and not (self._gone or self._ended):
            rest, self._unwritten, self._unsent_bytes = self._unwritten, b"", 0
            with contextlib.suppress(PeerGone):  # `_gone` tells it
                await self._write_all((rest,))

    def _is_open_ended(self) -> bool:
        """Whether the end of the connection alone will tell the frontend that the answer is complete."""
        return False

    def _send_some(self, data: Buffer) -> int:
        if not self._answer_began:
            self._answer_began = monotonic()
            if self._is_open_ended():
                self.connection.break_if_killed()
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
        context.recorder.unmark()
        left = len(rest)
        # A file that is being sent has the turn already.
        turn = self._take_turn() if self._turn is None else None
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
        except (PeerGone, asyncio.CancelledError, trio.Cancelled):
            self._unsent_bytes = left
            raise
        finally:
            if turn is not None:
                self._pass_turn(turn)

    def _take_turn(self) -> Event:
        """Have other tasks that send wait, until `_pass_turn`."""
        self._turn = turn = self._context.loop.event()
        return turn

    def _pass_turn(self, turn: Event) -> None:
        self._turn = None
        turn.set()

    def _mark_client_gone(self) -> None:
        """Record that the client is gone."""
        self._gone = True
