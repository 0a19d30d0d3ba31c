"""One HTTP request of an ASGI application (ASGI 3, HTTP 2.3)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import MutableMapping, Sequence
from time import monotonic
from typing import Any, Final

import trio

from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.hosts.asgi.answer import HttpAnswer
from uwsgibridge.hosts.asgi.exchange import Call, Message, Stop
from uwsgibridge.hosts.asgi.http_fields import HttpFields
from uwsgibridge.hosts.asgi.http_states import Input, Stream
from uwsgibridge.hosts.asgi.messages import kind_of, value_of
from uwsgibridge.hosts.asgi.tls import tls_extension
from uwsgibridge.hosts.asgi.unheard import Unheard
from uwsgibridge.hosts.exchange_states import Delivery, Life
from uwsgibridge.hosts.streams import Ending
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.errors import IncompleteBody, InvalidResponse
from uwsgibridge.protocol.status import status_line
from uwsgibridge.telemetry.stacks import await_stack

_CLOCK_SECONDS: Final = 0.002

# How long the application of a stream that has to end may take to call `receive`, which gives the disconnect. Then
# its task is cancelled.
_LISTEN_SECONDS: Final = 1.0

_BODY_TYPES: Final = (bytes, bytearray, memoryview)

# Messages that may be the last one of an answer.
_BODY_MESSAGES: Final = frozenset(
    {"http.response.body", "http.response.pathsend", "http.response.zerocopysend"}
)


# Module names for members of enums: to look a member up in its class costs more.
_RUNNING: Final = Life.RUNNING
_ARRIVING: Final = Input.ARRIVING
_WHOLE: Final = Input.WHOLE
_STALLED: Final = Input.STALLED
_NO_STREAM: Final = Stream.NONE
_TOLD: Final = Stream.TOLD


class HttpExchange(HttpFields, HttpAnswer):
    """Runs one request: makes the scope, and serves `receive` and `send`.

    With the accelerator, an application gets a `receive` and a `send` that do the plain case by themselves, and call
    those here for all else. They leave the fields as those here would.

    Args:
        context: shared by the exchanges of the host.
        connection: the connection with its request; owned from now on, and released at the end.
    """

    _body_wait_seconds = 0.0  # in all; this is the client's time and not the application's
    _early_links: Sequence[bytes] = ()
    _unheard: Unheard | None = None

    def begin_deadline(self) -> None:
        """Give the application the time that the settings allow; called once, where they have a limit."""
        self._set_deadline(self._context.settings.request_timeout_seconds)

    async def receive(self) -> Message:
        """Give the next piece of the body; after the body, wait until the client leaves."""
        connection = self.connection
        while self._input is _ARRIVING and self._may_receive:
            try:
                chunk = connection.receive_body()
            except BlockingIOError:
                await self._wait_for_body()
                continue
            except OSError:  # PeerGone, or an error of the kernel for the same
                self._mark_client_gone()
                break
            more_body = not connection.body_over
            if not more_body:
                self._input = _WHOLE
            return {"type": "http.request", "body": chunk, "more_body": more_body}
        if self._input is not _STALLED and self._may_receive:
            await self._wait_for_hangup()
        self._disconnects += 1
        if self._disconnects > 1:
            await self._tell_disconnect_again()
        return {"type": "http.disconnect"}

    @property
    def _may_receive(self) -> bool:
        """Whether `receive` has more to give than the disconnect."""
        return self._life is _RUNNING and self._stream is not _TOLD and not self._gone

    async def send(self, message: Message) -> None:
        """Send the head or a piece of the body; drop it after the client has left (see `Unheard`)."""
        if self._turn is not None or self._unwritten or self._is_file_cut:
            await self._write_earlier()
        if self._gone:
            await self._send_to_nobody(message)
            return
        response = self._response
        try:
            try:
                kind = message["type"]
            except (KeyError, TypeError):
                kind = kind_of(message)  # raises, and says what is wrong
            if kind == "http.response.body" and self._file_instead is None:
                last = not message.get("more_body", False)
                body = message.get("body", b"")
                if not isinstance(body, _BODY_TYPES):
                    raise InvalidResponse(f"the body is of type {type(body).__name__}, not bytes")
                buffers = response.send(body, last=last)
                if last and len(buffers) == 1 and response.ends_here:
                    self._expect_whole(self._context.recorder, response.status)
                try:
                    for data in buffers:
                        # What `_write_all` does, but without a coroutine for data that fits at once.
                        sent = self._send_some(data)
                        if sent != len(data):
                            await self._write_rest(memoryview(data)[sent:])
                except PeerGone:
                    self._record_unsent(buffers, data)
                    raise
                except (asyncio.CancelledError, trio.Cancelled):
                    self._keep_unwritten(buffers, data)
                    raise
                if not buffers and response.is_full and not last and self.connection.has_hung_up():
                    # Nothing is written to a client that has the whole answer, so no write tells that it left.
                    self._mark_client_gone()
                    raise PeerGone("the client has gone away")
                if last:
                    self._end(complete=True)
                    self._context.reporter.check_answer(self.request, response)
                else:
                    if self._stream is _NO_STREAM:
                        self._register_stream()
                    # One stream must not keep other tasks waiting.
                    await self._context.loop.checkpoint()
            elif kind == "http.response.start":
                self._start(message)
            else:
                await self._send_otherwise(kind, message)
        except PeerGone:
            await self._send_to_nobody(message)

    async def _send_rest(self, message: Message, body: bytes, sent: int) -> None:
        """Send what is left of an answer of which the accelerator has sent a part.

        Args:
            message: its last message, which is the first one of its body.
            body: what the message has of the body.
            sent: how many bytes of head and body were sent.
        """
        response = self._response
        buffers = response.send(body, last=True)
        try:
            rest = b"".join(buffers)[sent:]
            await self._write_all((rest,))
            self._end(complete=True)
            self._context.reporter.check_answer(self.request, response)
        except PeerGone:
            await self._send_to_nobody(message)

    async def _send_otherwise(self, kind: str, message: Message) -> None:
        """Send what a message of an extension says, or drop the body of an answer that has named a file."""
        if kind in _BODY_MESSAGES and self._file_instead is not None:
            if not message.get("more_body", False):
                with self._file_instead.open() as named:
                    self._file_instead = None
                    await self._send_file(named.fileno(), 0, None, last=True)
        elif kind == "http.response.pathsend":
            path = value_of(message, "path", (str, os.PathLike))
            with open(path, "rb") as file:  # noqa: ASYNC230, PTH123 - sendfile blocks as long
                await self._send_file(file.fileno(), 0, None, last=True)
        elif kind == "http.response.zerocopysend":
            file = value_of(message, "file")
            if not (isinstance(file, int) or hasattr(file, "fileno")):
                raise InvalidResponse(f"the 'file' of {kind} is of type {type(file).__name__}")
            descriptor = file if isinstance(file, int) else file.fileno()
            offset = value_of(message, "offset", int, default=None)
            count = value_of(message, "count", int, default=None)
            if offset is None:
                offset = os.lseek(descriptor, 0, os.SEEK_CUR)
            last = not message.get("more_body", False)
            offset = await self._send_file(descriptor, offset, count, last=last)
            if message.get("offset") is None:
                os.lseek(descriptor, offset, os.SEEK_SET)  # os.sendfile does the same
        elif kind == "http.response.early_hint":
            if self._response.status:
                raise InvalidResponse("http.response.early_hint comes before the head")
            # A uwsgi frontend passes no interim answer on. So the final head has the links.
            links = value_of(message, "links", (list, tuple))
            self._early_links = [*self._early_links, *links]
        else:
            raise InvalidResponse(f"{kind_of(message)!r} is not a message for an HTTP response")

    async def _send_to_nobody(self, message: Message) -> None:
        if self._unheard is None:
            context = self._context
            self._unheard = Unheard(context.loop, context.settings.gone_client_send_seconds)
        if kind_of(message) in _BODY_MESSAGES and not message.get("more_body", False):
            self._end(complete=False)  # the application now does its work after the answer
        await self._unheard.drop(self._cancel)

    def _start(self, message: Message) -> None:
        response = self._response
        if response.status:
            raise InvalidResponse("http.response.start was sent twice")
        try:
            status = message["status"]
        except KeyError:
            status = value_of(message, "status")  # raises, and says what is wrong
        line = status_line(status)
        headers = message.get("headers", ())
        if self._early_links:
            headers = [*headers, *((b"link", link) for link in self._early_links)]
        id_header = self._context.reporter.id_header
        if id_header is not None:
            headers = id_header.add_to(self.request, headers)
        offload = self._context.offload
        file = offload.find(int(status), list(headers)) if offload is not None else None
        response.start(int(status), line, headers if file is None else file.headers)
        if file is not None and file.is_sent_by_nginx:
            response.omit_body()
        else:
            self._file_instead = file
        if response.is_event_stream:
            self._register_stream()

    def _register_stream(self) -> None:
        """Register the answer as a stream, which is told to end at a stop."""
        streams = self._context.streams
        if self._stream is _NO_STREAM:
            self._stream = Stream.OPEN
            streams.add(self)
        if streams.ending is not Ending.NONE:
            # Later, not in the middle of a `send` of the application.
            self._context.loop.call_later(0, self.end_if_meant)

    def end_if_meant(self) -> None:
        """Tell the application that its stream ends, if `OpenStreams.ending` covers it; it may send the rest."""
        if self._stream is _TOLD or self._ended or not self._context.streams.means(self._response):
            return
        self._stream = _TOLD
        if not self._response.is_head_sent:
            # The head is sent first: a browser connects again to events that have begun, but not after a failure.
            with contextlib.suppress(PeerGone):
                self._send_head()
        if self._disconnected is not None:
            self._disconnected.set()
        elif self._body_wait is not None:
            self._context.loop.notify_closing(self.connection)
        self._end_timer = self._context.loop.call_later(_LISTEN_SECONDS, self._cancel_unlistening)

    def _cancel_unlistening(self) -> None:
        """Cancel the task of a stream whose application does not call `receive` and so does not learn of the end."""
        if not (self._ended or self._disconnects or self._disconnected is not None):
            self._cancel()

    def _scope(self) -> MutableMapping[str, Any]:
        request = self.request
        scope = request.http_scope()
        scope["state"] = self._context.state.copy()
        scope["extensions"] = extensions = {
            "http.response.pathsend": {},
            "http.response.zerocopysend": {},
            "http.response.early_hint": {},
            # A copy, so that the application may change it, and the request stays as it is.
            "uwsgi": {"vars": request.vars.copy()},
        }
        if "SSL_PROTOCOL" in request.vars:
            extensions["tls"] = tls_extension(request.vars)
        return scope

    async def _write_earlier(self) -> None:
        await super()._write_earlier()
        if self._is_file_cut:
            raise InvalidResponse(
                "the send of a file was cancelled, and this does not follow the rest of it"
            )
        if self._response.is_complete and not (self._ended or self._gone):
            self._end(complete=True)
            self._context.reporter.check_answer(self.request, self._response)

    async def _after_return(self) -> None:
        response = self._response
        is_writing = self._turn is not None and (response.is_complete or response.ends_here)
        if is_writing or self._unwritten:
            # The end of the answer waits for the client in another task, or in none since a `send` was cancelled.
            await self._write_earlier()
            if self._ended or self._gone:
                return
        if self._input is _STALLED:
            self._fail(answers.body_stalled)
        elif self._stream is _TOLD:
            self._end(complete=False)
        elif self._response.ends_here:
            await self._finish_for_application()
        elif not self._response.status:
            self._application_failed(InvalidResponse("it returned without sending a response"))
        else:
            self._application_failed(IncompleteBody("it returned before its response was complete"))

    def _application_failed(self, error: BaseException) -> None:
        if self._input is _STALLED:
            self._fail(answers.body_stalled)
        elif self._call is Call.OVERDUE:
            self._context.reporter.ended_after_deadline(self.request, error)
        elif self._gone or self._stream is _TOLD:
            # An exception that the disconnect caused is not logged.
            self._context.reporter.ended_after_client(self.request, error)
            if not self._ended:
                self._end(complete=False)
        else:
            if (
                self._response.is_full
                and self._delivery is Delivery.OPEN
                and not (self._ended or self._unsent_bytes)
            ):
                # The client has the whole answer, whatever the application has raised.
                self._response.finish()
                self._end(complete=True)
            self._context.reporter.application_failed(
                self.request, self._response, error, is_cut=self._unsent_bytes > 0
            )
            self._fail(answers.application_failed)

    def _was_cancelled(self, *, must_end: bool) -> bool:
        if self._call is not Call.RUNNING:
            # The body has stalled; in other cases the answer has begun or the exchange has ended, and no 408 is sent.
            self._fail(answers.body_stalled)
        elif must_end or self._stream is _TOLD or self._context.stop is Stop.BREAK_OFF:
            self._fail(answers.stopping)
        else:
            return False
        return True

    def _set_deadline(self, remaining_seconds: float) -> None:
        # A loop's clock may be early by its resolution.
        self._timer = self._context.loop.call_later(
            remaining_seconds + _CLOCK_SECONDS, self._time_out
        )

    @property
    def _remaining_seconds(self) -> float:
        """How long the application may still take; time in which the client sends its body does not count."""
        used_seconds = monotonic() - self._started_at - self._body_wait_seconds
        return self._context.settings.request_timeout_seconds - used_seconds

    def _time_out(self) -> None:
        """End the exchange at its deadline, and then the task, which may go on."""
        self._timer = None
        if self._ended or self._body_wait is not None:
            # Work after the answer has no deadline. A wait for the body sets the deadline anew when the wait
            # ends.
            return
        remaining_seconds = self._remaining_seconds
        if remaining_seconds > 0:
            self._set_deadline(remaining_seconds)
            return
        stack = await_stack(self.connection.task)
        waits_to_write = self._turn is not None
        was_gone, self._gone = self._gone, True
        if was_gone:
            self._end(complete=False)
        else:
            self._give_up()
        self._context.reporter.request_overdue(
            self.request,
            seconds=self._context.settings.request_timeout_seconds - remaining_seconds,
            thread="event loop",
            stack=stack,
            outcome=self._outcome(was_gone=was_gone),
            waits_to_write=waits_to_write,
        )
        self._cancel(Call.OVERDUE)

    def _give_up(self) -> None:
        """Answer 504, or break the connection, while the application still runs."""
        # The application may wait to write. That wait has to end before the descriptor is closed.
        self._context.loop.notify_closing(self.connection)
        self._gone = False
        self._fail(answers.overdue)
        self._gone = True  # further messages of the application are dropped

    def _outcome(self, *, was_gone: bool) -> str:
        if self._failure_status:
            return f"answered {self._failure_status}"
        return "the client had left" if was_gone else "connection broken"

    def _end_call(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._end_timer is not None:
            self._end_timer.cancel()
        super()._end_call()
        if self._gone and self._call is not Call.OVERDUE and self._response.is_head_sent:
            # Nginx leaves where the head does not fit its buffer.
            self._context.reporter.check_answer(self.request, self._response)
        if self._input is _STALLED:
            self._context.reporter.body_stalled(
                self.request, self._response, failure_status=self._failure_status
            )
        if self._context.reporter.logs_access:
            self._log_answer()

    def _expect_close(self) -> None:
        if not self._response.ends_here:
            self._mark(self._context.recorder, self._failure_status or self._response.status)

    def _record_end(self, *, complete: bool) -> None:
        recorder = self._context.recorder
        self._record(recorder, self._response, self._started_at, complete=complete)

    def _log_answer(self) -> None:
        self._log_access(self._response, self._started_at)

    def _end_complete(self) -> None:
        """End the exchange after the whole answer; called by the accelerator where that needs more than a close."""
        self._end(complete=True)

    def _check_answer(self) -> None:
        """Log what is wrong with an answer that was sent; called by the accelerator where something may be."""
        self._context.reporter.check_answer(self.request, self._response)

    async def _wait_for_body(self) -> None:
        if self._body_wait is not None:
            # Frameworks call `receive` in two tasks at once, and wait for the disconnect in one of them.
            await self._body_wait.wait()
            return
        context = self._context
        self._body_wait = context.loop.event()
        began_at = monotonic()
        try:
            seconds = context.settings.body_timeout_seconds
            if not await context.loop.wait_readable(self.connection, seconds):
                self._stall()
        finally:
            self._body_wait.set()
            self._body_wait = None
            self._body_wait_seconds += monotonic() - began_at
            if context.settings.request_timeout_seconds and self._timer is None and not self._ended:
                self._set_deadline(max(0.0, self._remaining_seconds))

    async def _wait_for_hangup(self) -> None:
        if self.connection.has_hung_up():
            # Frameworks ask in a scope that is cancelled already, where nothing can be waited for.
            self._mark_client_gone()
            return
        if self._disconnected is None:
            self._disconnected = self._context.loop.event()
            self._context.hangups.add(self.connection, self._mark_client_gone)
        await self._disconnected.wait()

    def _stall(self) -> None:
        self._input = _STALLED
        self._gone = self._response.is_head_sent

    def _mark_client_gone(self) -> None:
        super()._mark_client_gone()
        if self._disconnected is not None:
            self._disconnected.set()

    def _end(self, *, complete: bool) -> None:
        if self._disconnected is not None:
            self._context.hangups.remove(self.connection)
            self._disconnected.set()
        if self._body_wait is not None or self._turn is not None:
            self._context.loop.notify_closing(self.connection)
        if self._unsent_bytes and self._delivery is Delivery.OPEN:
            self._delivery = Delivery.CUT
        if self._stream is not _NO_STREAM:
            self._context.streams.remove(self)
        super()._end(complete=complete)
