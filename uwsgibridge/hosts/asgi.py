"""The ASGI host: calls the application on the worker's event loop (ASGI 3, HTTP 2.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from uwsgibridge.connection import Connection, PeerGone
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.reporting import Reporter, failure_answer
from uwsgibridge.protocol.errors import IncompleteBody, InvalidResponse
from uwsgibridge.protocol.response import Buffer, Response, status_line

if TYPE_CHECKING:
    from uwsgibridge.config.settings import Settings
    from uwsgibridge.hosts.hangup import HangupWatcher
    from uwsgibridge.hosts.lifespan import Lifespan
    from uwsgibridge.hosts.lingering import LingeringClose
    from uwsgibridge.hosts.loops import Event, Loop
    from uwsgibridge.hosts.offload import Offload

Message: TypeAlias = MutableMapping[str, Any]
AsgiApplication: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]

_BODY_TYPES: Final = (bytes, bytearray, memoryview)

# The time to accept a piece is bounded, so the piece must be.
_WRITE_PIECE_BYTES: Final = 262_144


class AsgiHost:
    """Runs an ASGI application.

    Args:
        app: the application.
        settings: the number of requests at once, and the deadlines.
        loop: where the application runs.
        hangups: tells when a client has gone.
        lifespan: startup and shutdown, and the state shared with each request.
        reporter: where failures are told.
        lingering: ends connections.
        offload: leaves files to Nginx; None where no directory is mapped.
        wake: called when there is room again for a listener that paused.
    """

    def __init__(
        self,
        app: AsgiApplication,
        *,
        settings: Settings,
        loop: Loop,
        hangups: HangupWatcher,
        lifespan: Lifespan,
        reporter: Reporter,
        lingering: LingeringClose,
        offload: Offload | None,
        wake: Callable[[], None],
    ) -> None:
        self.app = app
        self.loop = loop
        self.breaks_off = False
        self.hangups = hangups
        self.lifespan = lifespan
        self.reporter = reporter
        self.lingering = lingering
        self.offload = offload
        self.body_timeout_seconds = settings.body_timeout_seconds
        self.write_timeout_seconds = settings.write_timeout_seconds
        limit = settings.max_concurrency
        self.admission: Admission[Connection] = Admission(limit, limit - limit // 16 - 1, wake)

    async def start(self, nursery: trio.Nursery) -> None:  # noqa: ARG002 - nothing else runs here
        """Wait for the application's startup."""
        await self.lifespan.startup()

    def break_off(self) -> None:
        """Cancel the tasks in flight: what has not begun its answer gives a 503."""
        self.breaks_off = True
        for connection in list(self.admission.in_flight):
            connection.task.cancel()

    async def stop(self) -> None:
        """Wait for the application's shutdown."""
        await self.lifespan.shutdown()

    def submit(self, connection: Connection) -> None:
        """Start a task for the request."""
        connection.task = self.loop.spawn(_HttpExchange(self, connection).run)


class UwsgiVars(Mapping[bytes, bytes]):
    """All vars of the packet as bytes, encoded when they are looked at.

    Args:
        variables: the vars as text in latin-1.
    """

    __slots__ = ("_vars",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._vars = variables

    def __getitem__(self, key: bytes) -> bytes:
        return self._vars[key.decode("latin-1")].encode("latin-1")

    def __iter__(self) -> Iterator[bytes]:
        return (key.encode("latin-1") for key in self._vars)

    def __len__(self) -> int:
        return len(self._vars)

    def __repr__(self) -> str:
        # Not the values: a scope that is printed would show cookies.
        return f"<{len(self)} uwsgi vars>"


class _HttpExchange:
    """One request: scope, `receive` and `send`."""

    # On the class: what most requests never change costs them nothing.
    _body_over = False
    _disconnected: Event | None = None  # made when somebody waits for it
    _waits_for_body = False
    _gone = False
    _failure_status = 0  # of the answer that was sent in the application's place
    _stalled = False
    _ended = False  # the connection is not ours any more
    _closed = False  # and is closed
    _returned = False  # the application is done

    def __init__(self, host: AsgiHost, connection: Connection) -> None:
        self._host = host
        self._connection = connection
        self._request = connection.request
        self._response = Response(connection.request.method)
        self._started_at = monotonic()

    async def run(self) -> None:
        try:
            await self._host.app(self._scope(), self.receive, self.send)
            if not self._ended and not self._gone:
                self._returned_early()
        except (asyncio.CancelledError, trio.Cancelled) as error:
            if isinstance(error, trio.Cancelled) or self._host.breaks_off:
                self._fail(503)
                raise
            # Nobody cancelled this task: the application awaited something that was.
            self._application_failed(error)
        except BaseExceptionGroup as group:
            cancelled, failures = group.split(trio.Cancelled)
            if failures is not None:
                self._application_failed(failures)
            if cancelled is not None:
                self._fail(503)
                raise cancelled from None
        except BaseException as error:  # noqa: BLE001 - SystemExit of an application ends its request only
            self._application_failed(error)
        finally:
            if not self._ended:
                self._end(complete=False)
            if self._gone:
                self._host.reporter.client_gone()
            self._returned = True
            self._release_when_over()
            if self._host.reporter.logs_access:
                self._host.reporter.over(
                    self._request,
                    self._response,
                    failure_status=self._failure_status,
                    accepted_at=self._connection.accepted_at,
                    started_at=self._started_at,
                )

    async def receive(self) -> Message:
        """Give the next piece of the body, then wait for the client to leave."""
        connection = self._connection
        while not (self._body_over or self._gone or self._ended):
            try:
                chunk = connection.receive_body()
            except BlockingIOError:
                seconds = self._host.body_timeout_seconds
                self._waits_for_body = True
                if not await self._host.loop.wait_readable(connection, seconds):
                    self._stall()
                self._waits_for_body = False
                continue
            except OSError:  # PeerGone, or the kernel's own word for it
                self._leave()
                break
            self._body_over = connection.body_over
            return {"type": "http.request", "body": chunk, "more_body": not self._body_over}
        if not (self._gone or self._ended or self._stalled):
            await self._wait_for_hangup()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the head or a piece of the body."""
        if self._gone:
            # An OSError, so that applications which stream for ever come to an end (ASGI HTTP 2.4,
            # "Disconnected Client - send exception").
            raise PeerGone("the client has gone away")
        response = self._response
        kind = message["type"]
        if kind == "http.response.body":
            last = not message.get("more_body", False)
            body = message.get("body", b"")
            if not isinstance(body, _BODY_TYPES):
                raise InvalidResponse(f"the body is of type {type(body).__name__}, not bytes")
            for data in response.send(body, last=last):
                sent = self._send_some(data)
                if sent != len(data):
                    await self._write_rest(memoryview(data)[sent:])
            if last:
                self._end(complete=True)
                self._host.reporter.check_answer(self._request, response)
            else:
                await self._host.loop.checkpoint()  # one stream does not keep the others waiting
        elif kind == "http.response.start":
            if response.status:
                raise InvalidResponse("http.response.start was sent twice")
            status = message["status"]
            line = status_line(status)
            headers = message.get("headers", ())
            offload = self._host.offload
            redirected = offload.apply(list(headers)) if offload is not None else None
            response.start(int(status), line, redirected or headers)
            if redirected:
                response.leave_body_out()
        else:
            raise InvalidResponse(f"{kind!r} is not a message for an HTTP response")

    def _scope(self) -> MutableMapping[str, Any]:
        request = self._request
        scope = request.http_scope()
        scope["state"] = self._host.lifespan.state.copy()
        scope["extensions"] = {"uwsgi": {"vars": UwsgiVars(request.vars)}}
        return scope

    def _returned_early(self) -> None:
        if self._stalled:
            self._fail(408)
        elif not self._response.status:
            self._application_failed(InvalidResponse("it returned without sending a response"))
        else:
            self._application_failed(IncompleteBody("it returned before its response was complete"))

    def _application_failed(self, error: BaseException) -> None:
        if self._stalled:
            self._fail(408)
        elif self._gone:
            # What an application raises because its client left is no news, and a defect that shows
            # only then is told in one line.
            self._host.reporter.log.debug(
                "application ended after its client had gone", error=type(error).__name__
            )
        else:
            self._host.reporter.application_failed(self._request, self._response, error)
            self._fail(500)

    def _send_some(self, data: Buffer) -> int:
        try:
            return self._connection.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._leave()
            raise PeerGone("the client has gone away") from None

    async def _write_rest(self, rest: memoryview) -> None:
        for start in range(0, len(rest), _WRITE_PIECE_BYTES):
            piece = rest[start : start + _WRITE_PIECE_BYTES]
            deadline = monotonic() + self._host.write_timeout_seconds
            while (sent := self._send_some(piece)) < len(piece):
                piece = piece[sent:]
                seconds = max(0.0, deadline - monotonic())
                if not await self._host.loop.wait_writable(self._connection, seconds):
                    self._host.reporter.reader_stalled(self._request)
                    self._leave()
                    raise PeerGone("the client does not take the answer")

    async def _wait_for_hangup(self) -> None:
        if self._disconnected is None:
            self._disconnected = self._host.loop.event()
            self._host.hangups.add(self._connection, self._leave)
        await self._disconnected.wait()

    def _stall(self) -> None:
        self._host.reporter.body_stalled(self._request, head_sent=self._response.head_sent)
        self._stalled = True
        self._body_over = True
        self._gone = self._response.head_sent

    def _leave(self) -> None:
        self._gone = True
        if self._disconnected is not None:
            self._disconnected.set()

    def _fail(self, status: int) -> None:
        """Answer with a failure where that is still possible; else break the connection."""
        if self._ended:
            return
        answered = False
        if not self._response.head_sent and not self._gone:
            answer = failure_answer(self._request, status)
            try:
                # Nothing was sent yet, so a short answer fits without a wait.
                answered = self._connection.send(answer) == len(answer)
                self._failure_status = status
            except OSError:
                self._gone = True
        self._end(complete=answered)

    def _end(self, *, complete: bool) -> None:
        """Close the connection after a complete answer, break it after any other; once."""
        self._ended = True
        host, connection = self._host, self._connection
        if self._disconnected is not None:
            host.hangups.remove(connection)
            self._disconnected.set()
        if self._waits_for_body:
            host.loop.notify_closing(connection)
        end = host.lingering.close if complete else host.lingering.abort
        if end(connection, self._connection_closed):
            self._closed = True

    def _connection_closed(self, _: Connection) -> None:
        self._closed = True
        self._release_when_over()

    def _release_when_over(self) -> None:
        # An application may go on long after its answer (background tasks): it still counts.
        if self._closed and self._returned:
            self._host.admission.release(self._connection)
