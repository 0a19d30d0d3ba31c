"""One WebSocket of an ASGI application (ASGI 3, WebSocket 2.5): its handshake, its messages and its end."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from time import monotonic
from typing import Any, Final
from weakref import ref

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.hosts.asgi.exchange import AsgiContext, Call, Message, Stop
from uwsgibridge.hosts.asgi.messages import kind_of, value_of
from uwsgibridge.hosts.asgi.signs_of_life import FOLLOWING as SIGN_AFTER
from uwsgibridge.hosts.asgi.signs_of_life import Step as SignStep
from uwsgibridge.hosts.asgi.signs_of_life import seconds_to_ping
from uwsgibridge.hosts.asgi.tls import tls_extension
from uwsgibridge.hosts.asgi.tunnel import WebSocketTunnel
from uwsgibridge.hosts.asgi.unheard import Unheard
from uwsgibridge.hosts.asgi.websocket_states import AFTER_END, FOLLOWING, Reading, State, refusal
from uwsgibridge.hosts.exchange import record_own_answer
from uwsgibridge.hosts.exchange_states import Life, Step, follow
from uwsgibridge.loop.interface import Task, nothing
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
)
from uwsgibridge.telemetry.causes import is_due_to_disconnect

# How long to wait for the client's close frame after the bridge's own. Then the connection is closed without it.
_CLOSE_SECONDS: Final = 5.0

# How long to wait for it where the server stops and its own frame was sent. A present client answers at once. One that
# sleeps, such as a laptop, must not delay the stop.
_RESTART_SECONDS: Final = 1.0

_NO_PONG: Final = "no pong"

# A module name for a member of an enum: to look the member up in its class costs more.
_SUSPENDED: Final = Reading.SUSPENDED


class _Received(dict[str, Any]):
    """A ``websocket.receive`` message: one key has the data, and the other one reads as None.

    The specification lets a server leave the other key out or set it to None. Some applications check which key is
    there, and some read both.
    """

    __slots__ = ()

    def __missing__(self, key: str) -> None:
        if key not in {"bytes", "text"}:
            raise KeyError(key)


class WebSocketExchange(WebSocketTunnel):
    """Runs one WebSocket: makes the scope, and serves `receive` and `send`.

    Raises:
        HandshakeRefused: on construction, where the request is no valid handshake.
    """

    # A flag beside the states: an application may accept, or deny, before it receives the connect.
    _is_connect_given = False
    _listens = False  # whether the application has asked for more than the connect
    _status = 0  # of the answer to the handshake
    _ping_timer: Task | None = None
    _close_timer: Task | None = None
    _unheard: Unheard | None = None
    # Gives the task that was told of the end, unless that is over. A strong reference would make a cycle.
    _told_task: Callable[[], object | None] | None = None

    def __init__(self, context: AsgiContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self._denial = Response("GET")
        self._started_at = monotonic()

    async def receive(self) -> Message:
        """Give ``connect``, then messages, then ``disconnect``."""
        if not self._is_connect_given:
            self._is_connect_given = True
            return {"type": "websocket.connect"}
        self._listens = True
        if self._watch is None and not self._inbox and self._state is State.CONNECTING:
            # Before the handshake is answered, only the client's hang-up can be waited for.
            if self.connection.has_hung_up():
                self._mark_client_gone()
            else:
                self._context.hangups.add(self.connection, self._mark_client_gone)
        if self._reading is _SUSPENDED:
            # Inflating takes time, and keeps the queue from being empty. So other tasks get a turn here.
            await self._context.loop.checkpoint()
        while (item := self._inbox.take()) is None:
            await self._inbox.wait()
        if isinstance(item, Closed):
            self._disconnects += 1
            if self._disconnects > 1:
                await self._tell_disconnect_again()
            task = self._context.loop.current_task()
            self._told_task = nothing if task is None else ref(task)
            return {"type": "websocket.disconnect", "code": item.code, "reason": item.reason}
        self._read_on()
        self._context.recorder.count_messages(1, 0)
        key = "text" if item.is_text else "bytes"
        return _Received({"type": "websocket.receive", key: item.data})

    async def send(self, message: Message) -> None:
        """Send ``accept``, a message, ``close``, or an HTTP answer that denies the handshake."""
        kind = kind_of(message)
        try:
            if self._gone:
                raise PeerGone("the client has gone away")
            following = FOLLOWING[self._state].get(kind)
            if following is None:
                raise refusal(self._state, kind)
            match kind:
                case "websocket.send":
                    await self._send_message(message)
                case "websocket.accept":
                    await self._accept(message)
                case "websocket.close" if following is State.CLOSED_BY_APPLICATION:
                    code = message.get("code", CLOSE_NORMAL)
                    await self._close(code, message.get("reason") or "")
                case "websocket.close":
                    self._deny(answers.handshake_denied)
                case "websocket.http.response.start":
                    self._begin_denial(message)
                    self._state = following
                case "websocket.http.response.body":
                    await self._send_denial(message)
        except (PeerGone, InvalidResponse) as error:
            if isinstance(error, PeerGone) and self._learns_by_receive(kind):
                await self._drop()
                return
            if self._gone or self._state.is_closed:
                # An application that swallows the error must not block other tasks.
                await self._context.loop.checkpoint()
            raise

    def _learns_by_receive(self, kind: str) -> bool:
        """Whether the application is told of the end by `receive`, so that `send` need not raise.

        An exception of `send` would come first, and Channels, for one, would then skip a consumer's work at the end. What
        another task has received may not be known to this one yet. An application that has asked for no message may be
        one that only sends, and is told in no other way.
        """
        if self._told_task is not None and self._told_task() is self._context.loop.current_task():
            return False
        if self._status not in {0, 101}:
            return False  # the application has denied it
        if kind == "websocket.send" or self._state is State.CLOSED_BY_APPLICATION:
            return self._listens or self._unheard is not None
        return kind in {"websocket.accept", "websocket.close"}

    async def _drop(self) -> None:
        """Drop a message that nobody hears; raise after a while, for who does not call `receive` any more."""
        if self._unheard is None:
            context = self._context
            self._unheard = Unheard(context.loop, context.settings.gone_client_send_seconds)
        await self._unheard.drop(nothing)

    def restart(self) -> None:
        """Close with 1012: the server is stopping, and the client may connect again."""
        if self._state is State.OPEN:
            self._begin_close(CLOSE_SERVICE_RESTART, "the server is restarting")
            if self._close_timer is not None:
                self._close_timer.cancel()
            self._close_timer = self._context.loop.call_later(
                _RESTART_SECONDS, self._end_unless_unsent
            )

    def _end_unless_unsent(self) -> None:
        """End a tunnel whose client has not answered the close frame; wait longer while that frame is unsent."""
        if self._outbox:
            self._close_timer = self._context.loop.call_later(
                _CLOSE_SECONDS - _RESTART_SECONDS, self._end_tunnel
            )
        else:
            self._end_tunnel()

    def break_off(self) -> None:
        """End the wait for the client's close; the host cancels the application's task itself."""
        if self._life is Life.RETURNED:
            self._end_tunnel()

    def _scope(self) -> MutableMapping[str, Any]:
        request = self.request
        scope = request.http_scope()
        del scope["method"]
        scope["type"] = "websocket"
        # From this version on, a disconnect has a reason, and `send` after it raises.
        scope["asgi"]["spec_version"] = "2.5"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = list(self._websocket.subprotocols)
        scope["state"] = self._context.state.copy()
        scope["extensions"] = extensions = {
            "websocket.http.response": {},
            # A copy, so that the application may change it, and the request stays as it is.
            "uwsgi": {"vars": request.vars.copy()},
        }
        if "SSL_PROTOCOL" in request.vars:
            extensions["tls"] = tls_extension(request.vars)
        return scope

    def _begin_denial(self, message: Message) -> None:
        status = value_of(message, "status")
        line = status_line(status)
        self._denial.start(int(status), line, self._with_id(message.get("headers", ())))

    def _with_id(self, headers: Any) -> Any:
        id_header = self._context.reporter.id_header
        return headers if id_header is None else id_header.add_to(self.request, headers)

    def _is_open_ended(self) -> bool:
        return self._denial.is_open_ended

    async def _send_denial(self, message: Message) -> None:
        if self._turn is not None or self._unwritten:
            await self._write_earlier()
        last = not message.get("more_body", False)
        await self._write_all(self._denial.send(message.get("body", b""), last=last))
        if last:
            self._status = self._denial.status
            self._finish(Closed(CLOSE_ABNORMAL, ""), complete=True)

    async def _accept(self, message: Message) -> None:
        headers = self._with_id(message.get("headers", ()))
        head = self._websocket.accept(message.get("subprotocol"), headers)
        self._state = State.OPEN
        self._context.hangups.remove(self.connection)
        self.connection.begin_tunnel()
        await self._write(head)
        self._status = 101
        record_own_answer(self._context.recorder, self.connection, 101)
        self._watch = self._context.loop.watch(self.connection, self._read)
        self._schedule_ping()
        if self._context.stop is not Stop.NONE:
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
        await self._wait_for_room()
        if self._gone or not self._websocket.is_open:
            raise PeerGone("the WebSocket is closing")
        self._context.recorder.count_messages(0, 1)
        self._outbox += self._websocket.send(data)
        await self._flush()

    async def _close(self, code: int, reason: str) -> None:
        self._begin_close(code, reason, State.CLOSED_BY_APPLICATION)
        await self._flush()

    def _begin_close(self, code: int, reason: str, following: State = State.CLOSED) -> None:
        self._outbox += self._websocket.close(code, reason)
        self._state = following
        self._inbox.put(Closed(code, reason))
        self._close_timer = self._context.loop.call_later(_CLOSE_SECONDS, self._end_tunnel)
        self._flush_soon()
        if self._reading is Reading.SUSPENDED and self._watch is not None:
            # Read on for the client's close, which comes after all that the client sent before.
            self._reading = Reading.FLOWING
            self._watch.resume()
            self._handle_events(self._websocket.receive_more())

    def _finish_by_client(self, closed: Closed) -> None:
        self._reading = Reading.OVER
        if closed.code == CLOSE_ABNORMAL and self._state is State.OPEN:
            self._gone = True
        if not self._state.is_closed:
            self._state = AFTER_END[self._state]
            self._inbox.put(closed)
        self._flush_soon()
        if not self._outbox or self._gone:
            self._end_tunnel()
            return
        # The answer to the client's close waits behind much that the client has not taken yet.
        assert self._watch is not None
        self._watch.suspend()
        if self._close_timer is None:
            self._close_timer = self._context.loop.call_later(_CLOSE_SECONDS, self._end_tunnel)

    def _schedule_ping(self) -> None:
        settings = self._context.settings
        seconds = seconds_to_ping(
            self._sign, settings.websocket_ping_seconds, settings.websocket_first_sign_seconds
        )
        if seconds:
            self._ping_timer = self._context.loop.call_later(seconds, self._ping)

    def _ping(self) -> None:
        if self._state is not State.OPEN:
            return
        if not self._sign.is_unheard and not self._context.settings.websocket_ping_seconds:
            return  # there are no pings: only the first sign of life was waited for
        if self._sign.is_missing and self._reading is not Reading.SUSPENDED:
            # The client has neither answered nor taken anything for a whole interval, so it is gone.
            if self._sign.is_unheard:
                self._context.reporter.websocket_unheard(self.request)
            self._gone = True
            self._finish(Closed(CLOSE_ABNORMAL, _NO_PONG), complete=self._send_last_close())
            return
        self._outbox += self._websocket.ping()
        self._flush_soon()
        self._sign = SIGN_AFTER[SignStep.PING][self._sign]
        self._schedule_ping()

    def _send_last_close(self) -> bool:
        """Send the close frame to a client that does not answer; True if the whole frame was sent."""
        rest = bytes(self._outbox) + self._websocket.close(CLOSE_INTERNAL_ERROR, _NO_PONG)
        try:
            return self.connection.send(rest) == len(rest)
        except OSError:
            return False

    def _deny(self, make_answer: AnswerMaker) -> None:
        answer = self._context.reporter.with_id(self.request, make_answer(self.request.method))
        try:
            answered = self.connection.send(answer.data) == len(answer.data)
        except OSError:
            self._gone, answered = True, False
        if answered:
            self._status = answer.status
        self._finish(Closed(CLOSE_ABNORMAL, ""), complete=answered)

    def _finish(self, closed: Closed, *, complete: bool) -> None:
        """End the WebSocket without a closing handshake."""
        self._state = AFTER_END[self._state]
        self._inbox.put(closed)
        if not self._ended:
            self._end(complete=complete)

    async def _after_return(self) -> None:
        if self._state is State.OPEN:
            await self._close(CLOSE_NORMAL, "")
        elif self._state is State.DENYING and (self._denial.is_complete or self._denial.ends_here):
            await self._write_earlier()
            if not self._denial.is_complete:
                await self._write_all(self._denial.finish())
                self._context.reporter.unfinished_answer()
            self._status = self._denial.status
            self._finish(Closed(CLOSE_ABNORMAL, ""), complete=True)
        elif not self._state.is_closed:
            self._application_failed(InvalidResponse("it returned without accepting or closing"))

    def _application_failed(self, error: BaseException) -> None:
        # After a close by the application, its exception is a failure unless the close has caused it.
        is_late = self._state is State.CLOSED_BY_APPLICATION and is_due_to_disconnect(error)
        if self._gone or self._state is State.CLOSED or is_late:
            self._context.reporter.ended_after_client(self.request, error)
            return
        outcome = self._outcome_of_failure()
        self._context.reporter.websocket_failed(self.request, error, outcome=outcome)
        if self._state is State.OPEN:
            self._begin_close(CLOSE_INTERNAL_ERROR, "the application failed")
        elif self._may_deny:
            self._deny(answers.application_failed)

    @property
    def _may_deny(self) -> bool:
        return self._state is State.CONNECTING or (
            self._state is State.DENYING and not self._denial.is_head_sent
        )

    def _outcome_of_failure(self) -> str:
        if self._may_deny:
            return "answered 500"
        if self._state is State.OPEN:
            return "closed with 1011"
        return "connection broken" if self._state is State.DENYING else "the WebSocket was closed"

    def _was_cancelled(self, *, must_end: bool) -> bool:
        if self._call is not Call.RUNNING:
            return True
        if not must_end and self._context.stop is not Stop.BREAK_OFF:
            return False
        if self._state is State.OPEN:
            self._begin_close(CLOSE_SERVICE_RESTART, "the server is restarting")
            self._end_tunnel()
        elif self._may_deny:
            self._deny(answers.stopping)
        return True

    def _end_call(self) -> None:
        # The closing handshake may still be under way. Its end, or its deadline, ends the connection.
        waits_for_close = self._close_timer is not None and not self._ended
        if not waits_for_close:
            super()._end_call()
            return
        if self._gone:
            self._context.reporter.client_gone()
        self._return()

    def _record_end(self, *, complete: bool) -> None:
        if self._status != 101:  # which is recorded when the handshake is answered
            self._failure_status = self._status
            self._record(self._context.recorder, self._denial, self._started_at, complete=complete)

    def _release(self) -> None:
        if self._context.reporter.logs_access:
            self._context.reporter.log_access(
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
        for timer in (self._ping_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        if self._watch is not None:
            self._watch.close()
        if self._flushing is not None:
            self._context.loop.notify_closing(self.connection)
        if complete and self._watch is not None:
            # The client's frames may still arrive. A close with unread input would be a reset, and Nginx would lose the
            # last frame, which it has not passed on yet.
            self._life = follow(Step.END, self._life)
            self._context.lingering.discard(self.connection)
        else:
            super()._end(complete=complete)
        if self._life is Life.OVER:
            self._release()
