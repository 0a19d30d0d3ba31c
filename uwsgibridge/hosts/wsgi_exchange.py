"""One WSGI request in a thread: environ in, answer out, and every way in which that can fail."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from uwsgibridge.connection import Connection, PeerGone
from uwsgibridge.hosts.error_stream import ErrorStream
from uwsgibridge.hosts.exchange import Exchange
from uwsgibridge.hosts.files import CANT_SEND_FILE, FileWrapper, OpenFile, regular_file
from uwsgibridge.hosts.lingering import LingeringClose
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.hosts.reporting import Reporter, failure_answer
from uwsgibridge.hosts.wsgi_input import BodyStalled, open_input, wait_for
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.response import Buffer, Response, parse_status, refusal
from uwsgibridge.protocol.websocket import HandshakeRefused, wants_websocket

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication

# The time to accept a piece is bounded, so the piece must be.
_WRITE_PIECE_BYTES: Final = 262_144

# Of a file: sent together with the head. What is larger goes on by sendfile.
_FIRST_PIECE_BYTES: Final = 65_536


class _ReaderStalled(TimeoutError):
    """The frontend stopped taking the answer."""


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """What the requests of one host share.

    Attributes:
        app: the application.
        base_environ: what is the same in each environ.
        errors: what `wsgi.errors` is in it.
        reporter: where failures are told.
        lingering: ends connections.
        offload: leaves files to Nginx; None where no directory is mapped.
        release: called when a request is over.
        body_timeout_seconds: how long the next piece of a body may take to arrive.
        write_timeout_seconds: how long the next piece of an answer may take to be accepted.
        has_deadline: whether a request may be given up under its thread.
        answer_lock: decides who answers a request: its thread, or its deadline.
    """

    app: WSGIApplication
    base_environ: dict[str, Any]
    errors: ErrorStream
    reporter: Reporter
    lingering: LingeringClose
    offload: Offload | None
    release: Callable[[Connection], None]
    body_timeout_seconds: float
    write_timeout_seconds: float
    has_deadline: bool
    answer_lock: threading.Lock = field(default_factory=threading.Lock)


class WsgiExchange(Exchange):
    """One request in a thread: environ in, answer out."""

    _failure_status = 0  # of the answer that was sent in the application's place
    _failure_bytes = 0  # of its body
    _answering = False  # the head has left, or is about to
    overdue = False  # the listener has ended the connection under us

    def __init__(self, context: ExchangeContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self.started_at = monotonic()
        self._context = context
        self._response = Response(self.request.vars["REQUEST_METHOD"])

    def run(self) -> None:
        """Call the application and answer; raises nothing."""
        context = self._context
        try:
            self._call_application()
        except HandshakeRefused as error:
            context.reporter.refused(self.request, error)
            self._answer(refusal(error), 400)
        except BodyStalled:
            self._fail(408)
        except _ReaderStalled:
            context.reporter.reader_stalled(self.request)
            self._end(complete=False)
        except BaseException as error:  # noqa: BLE001 - SystemExit of an application ends its request only
            if self.overdue:
                pass  # said already
            elif self.connection.input_stalled:
                self._fail(408)
            elif self.connection.peer_gone:
                # What an application raises because its client left is no news.
                context.reporter.client_gone()
            else:
                context.reporter.application_failed(self.request, self._response, error)
            self._fail(500)
        if self.connection.input_stalled:
            context.reporter.body_stalled(
                self.request, self._response, failure_status=self._failure_status
            )
        if context.errors.has_unfinished:
            context.errors.flush()
        self._returned = True
        self._release_when_over()
        if context.reporter.logs_access and not self.overdue:
            self._log_access()

    def give_up(self) -> bool:
        """End the connection under the thread, which goes on without it; from another thread.

        Returns:
            Whether the head had left, so that the connection was broken; else the client gets a 504.
        """
        with self._context.answer_lock:
            self.overdue = True
            answering = self._answering
        if answering:
            self.connection.sever()
        else:
            with contextlib.suppress(OSError):  # nobody is there any more
                answer = failure_answer(self.request, 504)
                self.connection.send(answer)
                self._failure_status = 504
                self._failure_bytes = len(answer.partition(b"\r\n\r\n")[2])
            self.connection.sever(complete=True)
        if self._context.reporter.logs_access:
            self._log_access()  # the thread may never come to it
        return answering

    def _log_access(self) -> None:
        self._context.reporter.over(
            self.request,
            self._response,
            failure_status=self._failure_status,
            failure_bytes=self._failure_bytes,
            accepted_at=self.connection.accepted_at,
            started_at=self.started_at,
        )

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        /,
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """Take the head as PEP 3333 has it, which may be replaced until it has left."""
        response = self._response
        if exc_info:
            try:
                if response.head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # the PEP's own advice against a reference cycle
        elif response.status:
            raise InvalidResponse("start_response was called twice without exc_info")
        code, line = parse_status(status)
        encoded = _encode_headers(headers)
        offload = self._context.offload
        redirected = offload.apply(encoded) if offload is not None else None
        response.start(code, line, redirected or encoded)
        if redirected:
            response.leave_body_out()
        return self._write_from_application

    def _call_application(self) -> None:
        if "HTTP_UPGRADE" in self.request.vars and wants_websocket(self.request.vars):
            raise HandshakeRefused("this application is WSGI, which has no WebSockets")
        iterable = self._context.app(self._environ(), self.start_response)
        try:
            self._send(iterable)
            # Before close(), where applications do what may take long after the answer.
            self._end(complete=True)
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    def _environ(self) -> dict[str, Any]:
        context = self._context
        # A copy: the application may do with it what it likes, and the request stays what it was.
        environ: dict[str, Any] = self.request.vars | context.base_environ
        environ["wsgi.url_scheme"] = self.request.scheme
        environ["wsgi.input"] = open_input(self.connection, context.body_timeout_seconds)
        return environ

    def _send(self, iterable: Any) -> None:
        response = self._response
        if type(iterable) is list and len(iterable) == 1 and iterable[0] is not None:
            self._write(response.send(_checked(iterable[0]), last=True))
        elif isinstance(iterable, bytes):
            # By the letter a sequence of integers; nginx's own test applications return it.
            self._context.reporter.bare_bytes()
            self._write(response.send(iterable, last=True))
        elif iterable is None or isinstance(iterable, str):
            raise InvalidResponse(
                f"the application returned {iterable!r}, not an iterable of bytes"
            )
        elif isinstance(iterable, FileWrapper) and (file := regular_file(iterable.filelike)):
            self._send_file(file)
        else:
            for chunk in iterable:
                if chunk is None:
                    # uWSGI passes over it, so there are applications that yield it.
                    self._context.reporter.none_item()
                    continue
                # An empty one keeps the head back, which may still be replaced (the PEP,
                # "Handling the start_response callable").
                if _checked(chunk):
                    self._write(response.send(chunk))
            self._write(response.finish())
        self._context.reporter.check_answer(self.request, response)

    def _write_from_application(self, data: bytes) -> None:
        """Serve the `write` callable, which the PEP keeps for old frameworks."""
        self._write(self._response.send(_checked(data)))

    def _send_file(self, file: OpenFile) -> None:
        response = self._response
        left = response.allow(file.size_bytes)
        first = file.read(file.offset, min(left, _FIRST_PIECE_BYTES))
        self._write(response.send(first))
        offset, left = file.offset + len(first), left - len(first)
        while left and (sent := self._send_piece(file, offset, min(left, _WRITE_PIECE_BYTES))):
            response.sent_elsewhere(sent)
            offset, left = offset + sent, left - sent
        # Where the file has shrunk meanwhile, the body is seen to be incomplete here.
        self._write(response.finish())

    def _send_piece(self, file: OpenFile, offset: int, size_bytes: int) -> int:
        deadline = monotonic() + self._context.write_timeout_seconds
        while True:
            try:
                return self.connection.send_file(file.descriptor, offset, size_bytes)
            except BlockingIOError:
                if not wait_for(self.connection, select.POLLOUT, deadline - monotonic()):
                    raise _ReaderStalled from None
            except OSError as error:
                if error.errno not in CANT_SEND_FILE:
                    raise
                piece = file.read(offset, size_bytes)
                self._write((piece,))
                return len(piece)

    def _write(self, buffers: tuple[Buffer, ...]) -> None:
        if self._context.has_deadline and not self._answering:
            self._begin_answer()
        for data in buffers:
            try:
                sent = self.connection.send(data)
            except BlockingIOError:
                sent = 0
            if sent != len(data):
                self._write_slowly(memoryview(data)[sent:])

    def _begin_answer(self) -> None:
        # Either the answer is the application's, or the 504 of `give_up`; never both.
        with self._context.answer_lock:
            if self.overdue:
                raise PeerGone("the request took too long, and was refused")
            self._answering = True

    def _write_slowly(self, rest: memoryview) -> None:
        for start in range(0, len(rest), _WRITE_PIECE_BYTES):
            piece = rest[start : start + _WRITE_PIECE_BYTES]
            deadline = monotonic() + self._context.write_timeout_seconds
            while piece:
                try:
                    piece = piece[self.connection.send(piece) :]
                except BlockingIOError:
                    if not wait_for(self.connection, select.POLLOUT, deadline - monotonic()):
                        raise _ReaderStalled from None

    def _fail(self, status: int) -> None:
        """Answer with a failure where that is still possible; else break the connection."""
        if self._ended:
            return
        if self._response.head_sent or self.connection.peer_gone:
            self._end(complete=False)
        else:
            self._answer(failure_answer(self.request, status), status)

    def _answer(self, answer: bytes, status: int) -> None:
        """Answer in the application's place."""
        answered = False
        with contextlib.suppress(OSError):  # nobody is there any more, or nobody reads
            self._write((answer,))
            answered = True
            self._failure_status = status
            self._failure_bytes = len(answer.partition(b"\r\n\r\n")[2])
        self._end(complete=answered)


def _checked(chunk: bytes) -> bytes:
    if not isinstance(chunk, bytes):
        raise InvalidResponse(f"the body has an item of type {type(chunk).__name__}, not bytes")
    return chunk


def _encode_headers(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    if not isinstance(headers, list):
        raise InvalidResponse(f"the headers are a {type(headers).__name__}, not a list")
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    except (AttributeError, TypeError, ValueError):
        for item in headers:
            if not (
                isinstance(item, tuple) and len(item) == 2 and all(type(x) is str for x in item)
            ):
                raise InvalidResponse(f"{item!r} is not a header: a pair of str") from None
        raise InvalidResponse("a header has characters beyond latin-1") from None
