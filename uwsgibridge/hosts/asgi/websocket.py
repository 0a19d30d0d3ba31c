"""One WebSocket of an ASGI application (ASGI 3, WebSocket 2.5).

Frames are read as they arrive, into a bounded queue, whether or not the application asks: a ping has to
be answered, and a close noticed. While the queue is full nothing is read, and the client waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, MutableMapping
from enum import Enum, auto
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.connection.connection import CHUNK_BYTES, Connection, PeerGone
from uwsgibridge.hosts.asgi.exchange import AsgiContext, AsgiExchange, Message
from uwsgibridge.hosts.asgi.messages import kind_of, value_of
from uwsgibridge.hosts.asgi.tls import tls_extension
from uwsgibridge.hosts.exchange_states import Life, Step, follow
from uwsgibridge.loop.interface import Event, Task, Watch
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.answers import AnswerMaker
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.response import Response
from uwsgibridge.protocol.status import status_line
from uwsgibridge.protocol.websocket import (
    CLOSE_ABNORMAL,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
    Closed,
    PongReceived,
    WebSocket,
)
from uwsgibridge.protocol.websocket import Event as WebSocketEvent
from uwsgibridge.protocol.websocket import Message as WebSocketMessage
from uwsgibridge.telemetry.causes import is_due_to_disconnect

# How much may wait for the application before nothing more is read from the client; the bytes include the
# unfinished next message. A single message may be larger.
_MAX_QUEUED: Final = 16
_MAX_QUEUED_BYTES: Final = 1_048_576

# How much may wait to be sent, such as answers to pings, before nothing more is read.
_MAX_OUTBOX_BYTES: Final = 65_536

# After our close frame, for the client's. Then the connection goes without it.
_CLOSE_SECONDS: Final = 5.0

# The same where the server stops, and our frame has left: a client that is there answers at once, and
# one that sleeps, such as a laptop, is not to hold up the stop.
_RESTART_SECONDS: Final = 1.0

_NO_PONG: Final = "no pong"


class _State(Enum):
    """ASGI specification, "WebSocket": what may be sent when."""

    CONNECTING = auto()
    OPEN = auto()
    DENYING = auto()  # an HTTP answer in place of the handshake
    CLOSED = auto()


class _Received(dict[str, Any]):
    """A ``websocket.receive``: the key that has the data, and None for the other of the two.

    The specification lets a server leave the other key out or send None. Some applications ask
    which of the keys is there, and some read both.
    """

    __slots__ = ()

    def __missing__(self, key: str) -> None:
        if key not in {"bytes", "text"}:
            raise KeyError(key)


class WebSocketExchange(AsgiExchange):
    """One WebSocket: scope, `receive` and `send`.

    Raises:
        HandshakeRefused: on construction, where the request is no valid handshake.
    """

    _state = _State.CONNECTING
    _connect_given = False
    _queued_bytes = 0
    _is_suspended = False
    _is_restarting = False
    # Whether the client ever sent a byte, or the frontend is one that carries WebSockets.
    _is_heard = False
    _has_closed = False  # the application, and not the client
    _is_moving = False  # whether the client sent, or took, something since the last ping
    _ends_when_sent = False
    _status = 0  # of the answer to the handshake
    _watch: Watch | None = None
    _ping_timer: Task | None = None
    _pong_due = False
    _close_timer: Task | None = None
    _message_came: Event | None = None
    _flushing: Event | None = None

    def __init__(self, context: AsgiContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self._websocket = WebSocket(
            self.request,
            max_message_bytes=context.settings.websocket_max_message_bytes,
            deflate=context.settings.websocket_deflate,
        )
        self._is_heard = self._websocket.is_frontend_known
        self._denial = Response("GET")
        self._started_at = monotonic()
        self._queue: deque[WebSocketMessage | Closed] = deque()
        self._outbox = bytearray()

    async def receive(self) -> Message:
        """Give ``connect``, then messages, then ``disconnect``."""
        if not self._connect_given:
            self._connect_given = True
            return {"type": "websocket.connect"}
        if self._watch is None and not self._queue and self._state is _State.CONNECTING:
            # Before the handshake is answered there is nothing but the client's leaving to wait for.
            self._context.hangups.add(self.connection, self._mark_client_gone)
        if self._is_suspended:
            # To inflate what waits takes time, and the queue is never empty: others have their turn.
            await self._context.loop.checkpoint()
        while not self._queue:
            if self._message_came is None or self._message_came.is_set():
                self._message_came = self._context.loop.event()
            await self._message_came.wait()
        item = self._queue[0]
        if isinstance(item, Closed):
            # It stays: who asks again gets the same.
            self._disconnects += 1
            if self._disconnects > 1:
                await self._tell_disconnect_again()
            return {"type": "websocket.disconnect", "code": item.code, "reason": item.reason}
        self._queue.popleft()
        self._queued_bytes -= len(item.payload)
        self._read_on()
        key = "text" if item.is_text else "bytes"
        return _Received({"type": "websocket.receive", key: item.data})

    async def send(self, message: Message) -> None:
        """Take ``accept``, a message, ``close``, or an HTTP answer that denies the handshake."""
        if self._gone:
            await self._context.loop.checkpoint()  # an application that swallows this blocks nobody
            raise PeerGone("the client has gone away")
        match kind_of(message), self._state:
            case "websocket.accept", _State.CONNECTING:
                await self._accept(message)
            case "websocket.send", _State.OPEN:
                await self._send_message(message)
            case "websocket.close", _State.OPEN:
                await self._close(message.get("code", CLOSE_NORMAL), message.get("reason") or "")
            case "websocket.close", _State.CONNECTING:
                self._deny(answers.handshake_denied)
            case "websocket.http.response.start", _State.CONNECTING:
                status = value_of(message, "status")
                line = status_line(status)
                self._denial.start(int(status), line, message.get("headers", ()))
                self._state = _State.DENYING
            case "websocket.http.response.body", _State.DENYING:
                last = not message.get("more_body", False)
                await self._write_all(self._denial.send(message.get("body", b""), last=last))
                if last:
                    self._status = self._denial.status
                    self._finish(Closed(CLOSE_ABNORMAL, ""), complete=True)
            case (("websocket.send" | "websocket.close"), _State.CLOSED):
                await self._context.loop.checkpoint()
                raise PeerGone("the WebSocket is closed")
            case kind, state:
                raise InvalidResponse(f"{kind!r} is not expected while {state.name.lower()}")

    def restart(self) -> None:
        """Close with 1012: the server is stopping, and the client may come back."""
        self._is_restarting = True
        if self._state is _State.OPEN:
            self._begin_close(CLOSE_SERVICE_RESTART, "the server is restarting")
            if self._close_timer is not None:
                self._close_timer.cancel()
            self._close_timer = self._context.loop.call_later(_RESTART_SECONDS, self._end_if_told)

    def _end_if_told(self) -> None:
        """End a tunnel whose client has not answered our close frame; wait longer while that frame is still unsent."""
        if self._outbox:
            self._close_timer = self._context.loop.call_later(
                _CLOSE_SECONDS - _RESTART_SECONDS, self._end_tunnel
            )
        else:
            self._end_tunnel()

    def break_off(self) -> None:
        """End what waits for the client alone; the application's task is cancelled beside that."""
        if self._life is Life.RETURNED:
            self._end_tunnel()

    def _scope(self) -> MutableMapping[str, Any]:
        request = self.request
        scope = request.http_scope()
        del scope["method"]
        scope["type"] = "websocket"
        scope["asgi"]["spec_version"] = "2.5"  # the end has a reason, `send` after it raises
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = list(self._websocket.subprotocols)
        scope["state"] = self._context.state.copy()
        scope["extensions"] = extensions = {
            "websocket.http.response": {},
            # A copy: the application may do with it what it likes, and the request stays what it was.
            "uwsgi": {"vars": request.vars.copy()},
        }
        if "SSL_PROTOCOL" in request.vars:
            extensions["tls"] = tls_extension(request.vars)
        return scope

    async def _accept(self, message: Message) -> None:
        head = self._websocket.accept(message.get("subprotocol"), message.get("headers", ()))
        self._state = _State.OPEN
        self._status = 101
        self._context.hangups.remove(self.connection)
        self.connection.begin_tunnel()
        await self._write(head)
        self._watch = self._context.loop.watch(self.connection, self._read)
        self._schedule_ping()
        if self._is_restarting:
            self.restart()

    async def _send_message(self, message: Message) -> None:
        data = message.get("bytes")
        if data is None:
            data = message.get("text")
            if not isinstance(data, str):
                raise InvalidResponse("websocket.send needs 'bytes', or 'text' that is a str")
        elif isinstance(data, bytes | bytearray | memoryview):
            data = bytes(data)
        else:
            raise InvalidResponse(f"the 'bytes' of websocket.send are a {type(data).__name__}")
        if not self._websocket.is_open:
            raise PeerGone("the WebSocket is closing")
        self._outbox += self._websocket.send(data)
        await self._flush()

    async def _close(self, code: int, reason: str) -> None:
        self._has_closed = True
        self._begin_close(code, reason)
        await self._flush()

    def _begin_close(self, code: int, reason: str) -> None:
        self._outbox += self._websocket.close(code, reason)
        self._state = _State.CLOSED
        self._push(Closed(code, reason))
        self._close_timer = self._context.loop.call_later(_CLOSE_SECONDS, self._end_tunnel)
        self._flush_soon()
        if self._is_suspended and self._watch is not None:
            # For the client's close, which is behind what it sent before.
            self._is_suspended = False
            self._watch.resume()
            self._handle_events(self._websocket.receive_more())

    def _read(self) -> None:
        """Take what has arrived in the tunnel; called by the event loop."""
        try:
            data = self.connection.receive_tunnel(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._is_moving = True
        self._is_heard = self._is_heard or bool(data)
        self._handle_events(self._websocket.receive(data))

    def _handle_events(self, events: Iterator[tuple[WebSocketEvent | None, bytes]]) -> None:
        """Take what the client said, for as long as there is room for it.

        A few bytes may be the compressed form of many large messages: each of them is inflated when
        there is room for it, and not before.
        """
        for event, answer in events:
            self._outbox += answer
            if isinstance(event, Closed):
                self._finish_by_client(event)
                return
            if isinstance(event, PongReceived):
                self._pong_due = False
            elif event is not None and self._state is _State.OPEN:
                self._push(event)
            if self._is_full and self._state is _State.OPEN:
                break
        self._flush_soon()
        if self._is_full and self._state is _State.OPEN and not self._is_suspended:
            assert self._watch is not None
            self._is_suspended = True
            self._watch.suspend()

    @property
    def _is_full(self) -> bool:
        held_bytes = self._queued_bytes + self._websocket.unfinished_bytes
        return (
            len(self._queue) >= _MAX_QUEUED
            # A message that nothing waits in front of may be as large as the limit lets it.
            or (held_bytes >= _MAX_QUEUED_BYTES and len(self._queue) > 0)
            or len(self._outbox) >= _MAX_OUTBOX_BYTES
        )

    def _read_on(self) -> None:
        if self._is_suspended and not self._is_full and not self._ended:
            self._handle_events(self._websocket.receive_more())
        if self._is_suspended and not self._is_full and not self._ended:
            assert self._watch is not None
            self._is_suspended = False
            self._watch.resume()

    def _finish_by_client(self, closed: Closed) -> None:
        self._is_suspended = False  # nothing is to be read any more
        if closed.code == CLOSE_ABNORMAL and self._state is _State.OPEN:
            self._gone = True
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            self._push(closed)
        self._flush_soon()
        if not self._outbox or self._gone:
            self._end_tunnel()
            return
        # The answer to its close is behind much that it has not taken yet.
        self._ends_when_sent = True
        assert self._watch is not None
        self._watch.suspend()
        if self._close_timer is None:
            self._close_timer = self._context.loop.call_later(_CLOSE_SECONDS, self._end_tunnel)

    def _push(self, item: WebSocketMessage | Closed) -> None:
        self._queue.append(item)
        if isinstance(item, WebSocketMessage):
            self._queued_bytes += len(item.payload)
        if self._message_came is not None:
            self._message_came.set()

    def _flush_soon(self) -> None:
        """Send what fits; the rest follows with what is sent next, or in a task of its own."""
        if self._outbox and self._flushing is None and not self._ended:
            try:
                sent = self._send_some(bytes(self._outbox))
            except PeerGone:
                self._outbox.clear()
                return
            del self._outbox[:sent]
            if self._outbox:
                self.connection.closing_task = self._context.loop.spawn(self._flush_quietly)

    async def _flush_quietly(self) -> None:
        try:
            await self._flush()
        except PeerGone:
            return  # noted where it was noticed

    async def _flush(self) -> None:
        while self._flushing is not None:
            await self._flushing.wait()
        self._flushing = self._context.loop.event()
        try:
            # What was not sent stays: an application that is cancelled here leaves no broken frame.
            while self._outbox and not self._ended:
                piece = bytes(self._outbox[:CHUNK_BYTES])
                sent = self._send_some(piece)
                del self._outbox[:sent]
                if sent != len(piece) and not await self._wait_writable():
                    raise PeerGone("the client does not take the answer")
        finally:
            self._flushing.set()
            self._flushing = None
        self._read_on()
        if self._ends_when_sent and not self._outbox:
            self._end_tunnel()

    async def _wait_writable(self) -> bool:
        context = self._context
        if await context.loop.wait_writable(
            self.connection, context.settings.write_timeout_seconds
        ):
            # What the kernel takes at once says nothing of who reads it; that it takes more does.
            self._is_moving = True
            return True
        context.reporter.reader_stalled(self.request)
        self._mark_client_gone()
        return False

    def _schedule_ping(self) -> None:
        """Have a ping sent; before the first sign of life soon enough that an answer may come."""
        context = self._context
        seconds = context.settings.websocket_ping_seconds
        if not self._is_heard and context.settings.websocket_first_sign_seconds:
            soon = context.settings.websocket_first_sign_seconds / 2
            seconds = min(seconds, soon) if seconds else soon
        if seconds:
            self._ping_timer = context.loop.call_later(seconds, self._ping)

    def _ping(self) -> None:
        if self._state is not _State.OPEN:
            return
        if self._is_heard and not self._context.settings.websocket_ping_seconds:
            return  # it was the first sign of life alone that was waited for
        if self._pong_due and not self._is_suspended and not self._is_moving:
            # A whole interval without an answer, or anything else, either way: nobody is there.
            if not self._is_heard:
                self._context.reporter.websocket_unheard(self.request)
            self._gone = True
            self._finish(Closed(CLOSE_ABNORMAL, _NO_PONG), complete=self._say_farewell())
            return
        self._pong_due = True
        self._outbox += self._websocket.ping()
        self._flush_soon()
        self._is_moving = False
        self._schedule_ping()

    def _say_farewell(self) -> bool:
        """Send the close frame to a client that does not answer; True if all of it was sent."""
        rest = bytes(self._outbox) + self._websocket.close(CLOSE_INTERNAL_ERROR, _NO_PONG)
        try:
            return self.connection.send(rest) == len(rest)
        except OSError:
            return False

    def _deny(self, make_answer: AnswerMaker) -> None:
        answer = make_answer(self.request.method)
        self._status = answer.status
        try:
            answered = self.connection.send(answer.data) == len(answer.data)
        except OSError:
            self._gone, answered = True, False
        self._finish(Closed(CLOSE_ABNORMAL, ""), complete=answered)

    def _finish(self, closed: Closed, *, complete: bool) -> None:
        """End without a closing handshake."""
        self._state = _State.CLOSED
        self._push(closed)
        if not self._ended:
            self._end(complete=complete)

    def _end_tunnel(self) -> None:
        if not self._ended:
            self._end(complete=True)

    async def _after_return(self) -> None:
        if self._state is _State.OPEN:
            await self._close(CLOSE_NORMAL, "")
        elif self._state is _State.DENYING and self._denial.ends_here:
            await self._write_all(self._denial.finish())
            self._status = self._denial.status
            self._finish(Closed(CLOSE_ABNORMAL, ""), complete=True)
            self._context.reporter.unfinished_answer()
        elif self._state in {_State.CONNECTING, _State.DENYING}:
            self._application_failed(InvalidResponse("it returned without accepting or closing"))

    def _application_failed(self, error: BaseException) -> None:
        has_ended = self._gone or self._state is _State.CLOSED
        was_told = self._gone or not self._has_closed  # it did not end it itself
        if has_ended and (was_told or is_due_to_disconnect(error)):
            self._context.reporter.ended_after_client(self.request, error)
            return
        outcome = self._outcome_of_failure()
        self._context.reporter.websocket_failed(self.request, error, outcome=outcome)
        if self._state is _State.OPEN:
            self._begin_close(CLOSE_INTERNAL_ERROR, "the application failed")
        elif self._may_deny:
            self._deny(answers.application_failed)

    @property
    def _may_deny(self) -> bool:
        return self._state is _State.CONNECTING or (
            self._state is _State.DENYING and not self._denial.head_sent
        )

    def _outcome_of_failure(self) -> str:
        if self._may_deny:
            return "answered 500"
        return {
            _State.OPEN: "closed with 1011",
            _State.DENYING: "connection broken",
            _State.CLOSED: "the WebSocket was closed",
        }[self._state]

    def _was_cancelled(self, error: BaseException) -> bool:
        if self._is_cancelled:
            return True
        if not self._context.breaks_off and not isinstance(
            error, trio.Cancelled | BaseExceptionGroup
        ):
            return False
        if self._state is _State.OPEN:
            self._begin_close(CLOSE_SERVICE_RESTART, "the server is restarting")
            self._end_tunnel()
        elif self._may_deny:
            self._deny(answers.stopping)
        return True

    def _over(self) -> None:
        # The closing handshake may still be under way: it ends the connection, or its deadline does.
        waits_for_close = self._close_timer is not None and not self._ended
        if not waits_for_close:
            super()._over()
            return
        if self._gone:
            self._context.reporter.client_gone()
        self._return()

    def _release(self) -> None:
        if self._context.reporter.logs_access:
            self._context.reporter.over(
                self.request,
                status=self._status,
                body_bytes=self._denial.body_bytes,
                complete=self._status > 0,
                accepted_at=self.connection.accepted_at,
                started_at=self._started_at,
            )
        super()._release()

    def _mark_client_gone(self) -> None:
        super()._mark_client_gone()
        self._finish(Closed(CLOSE_ABNORMAL, ""), complete=False)

    def _end(self, *, complete: bool) -> None:
        self._context.hangups.remove(self.connection)
        for ending in (self._ping_timer, self._close_timer):
            if ending is not None:
                ending.cancel()
        if self._watch is not None:
            self._watch.close()
        if self._flushing is not None:
            self._context.loop.notify_closing(self.connection)
        if complete and self._watch is not None:
            # Frames of the client's may still be arriving: to close over them would take our last
            # frame from Nginx, which has not passed it on yet.
            self._life = follow(Step.END, self._life)
            self._context.lingering.discard(self.connection)
        else:
            super()._end(complete=complete)
        if self._life is Life.OVER:
            self._release()
