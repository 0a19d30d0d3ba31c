"""The WSGI host: a pool of threads that call the application (PEP 3333).

The listener hands a connection over through a queue; the thread reads the body from it, writes the
answer to it and ends it, and nothing goes back but the release in the table of what is in flight.
"""

from __future__ import annotations

import contextvars
import io
import queue
import select
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from uwsgibridge.connection import Connection, PeerGone
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.reporting import Reporter, failure_answer
from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.response import Buffer, Response, parse_status

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication

    from uwsgibridge.config.settings import Settings
    from uwsgibridge.hosts.lingering import LingeringClose

# The time to accept a piece is bounded, so the piece must be.
_WRITE_PIECE_BYTES: Final = 262_144

_READ_BUFFER_BYTES: Final = 65_536


class WsgiHost:
    """Runs a WSGI application in threads.

    Args:
        app: the application.
        settings: the number of threads, and the deadlines.
        reporter: where failures are told.
        lingering: ends connections.
        wake: called when there is room again for a listener that paused.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        settings: Settings,
        reporter: Reporter,
        lingering: LingeringClose,
        wake: Callable[[], None],
    ) -> None:
        self.app = app
        self.reporter = reporter
        self.lingering = lingering
        self.body_timeout_seconds = settings.body_timeout_seconds
        self.write_timeout_seconds = settings.write_timeout_seconds
        limit = settings.threads + settings.accept_margin
        self.admission: Admission[Connection] = Admission(
            limit, limit - max(1, settings.accept_margin // 2), wake
        )
        self.base_environ: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": settings.threads > 1,
            "wsgi.multiprocess": settings.workers > 1,
            "wsgi.run_once": False,
            # Not in the PEP, but known to the frameworks: the input ends by itself.
            "wsgi.input_terminated": True,
        }
        self._queue: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self.submit = self._queue.put
        self._threads = [
            # Daemons: an application that never returns must not keep the process from exiting.
            threading.Thread(target=self._work, name=f"wsgi-{number}", daemon=True)
            for number in range(1, settings.threads + 1)
        ]

    async def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def break_off(self) -> None:
        """Break the connections under the threads that did not end; a thread can't be stopped."""
        for connection in list(self.admission.in_flight):
            connection.sever()
            self.admission.release(connection)

    async def stop(self) -> None:
        """Let the threads end; one that is stuck in the application ends with the process."""
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        take = self._queue.get
        while (connection := take()) is not None:
            # A new and empty context: nothing that one request sets is seen by the next.
            contextvars.Context().run(_Exchange(self, connection).run)
            # Else the last connection would live until the next one comes.
            del connection


class _Exchange:
    """One request in a thread: environ in, answer out."""

    # On the class: what most requests never change costs them nothing.
    _ended = False  # the connection is not ours any more
    _closed = False  # and is closed
    _returned = False  # the application is done

    def __init__(self, host: WsgiHost, connection: Connection) -> None:
        self._host = host
        self._connection = connection
        self._request = connection.request
        self._response = Response(connection.request.method)

    def run(self) -> None:
        host = self._host
        try:
            self._call_application()
        except PeerGone:
            host.reporter.client_gone()
            self._end(complete=False)
        except _BodyStalled:
            self._fail(408)
            host.reporter.body_stalled(self._request, head_sent=self._response.head_sent)
        except _ReaderStalled:
            host.reporter.reader_stalled(self._request)
            self._end(complete=False)
        except BaseException as error:  # noqa: BLE001 - SystemExit of an application ends its request only
            host.reporter.application_failed(self._request, self._response, error)
            self._fail(500)
        self._returned = True
        self._release_when_over()

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: OptExcInfo | None = None,
        /,
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
        response.start(code, line, _encode_headers(headers))
        return self._write_from_application

    def _call_application(self) -> None:
        iterable = self._host.app(self._environ(), self.start_response)
        try:
            self._send(iterable)
            # Before close(), where applications do what may take long after the answer.
            self._end(complete=True)
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    def _environ(self) -> dict[str, Any]:
        connection, request = self._connection, self._request
        # A copy: the application may do with it what it likes, and the request stays what it was.
        environ: dict[str, Any] = request.vars | self._host.base_environ
        environ["wsgi.url_scheme"] = request.scheme
        body = connection.take_whole_body()
        environ["wsgi.input"] = (
            io.BytesIO(body)
            if body is not None
            else io.BufferedReader(
                _BodyReader(connection, self._host.body_timeout_seconds), _READ_BUFFER_BYTES
            )
        )
        return environ

    def _send(self, iterable: Any) -> None:
        response = self._response
        if type(iterable) is list and len(iterable) == 1:
            self._write(response.send(_checked(iterable[0]), last=True))
        elif isinstance(iterable, bytes):
            # By the letter a sequence of integers; nginx's own test applications return it.
            self._write(response.send(iterable, last=True))
        elif iterable is None or isinstance(iterable, str):
            raise InvalidResponse(
                f"the application returned {iterable!r}, not an iterable of bytes"
            )
        else:
            for chunk in iterable:
                # An empty one keeps the head back, which may still be replaced (the PEP,
                # "Handling the start_response callable").
                if _checked(chunk):
                    self._write(response.send(chunk))
            self._write(response.finish())
        self._host.reporter.check_answer(self._request, response)

    def _write_from_application(self, data: bytes) -> None:
        """Serve the `write` callable, which the PEP keeps for old frameworks."""
        self._write(self._response.send(_checked(data)))

    def _write(self, buffers: tuple[Buffer, ...]) -> None:
        for data in buffers:
            try:
                sent = self._connection.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._write_slowly(memoryview(data)[sent:])

    def _write_slowly(self, rest: memoryview) -> None:
        for start in range(0, len(rest), _WRITE_PIECE_BYTES):
            piece = rest[start : start + _WRITE_PIECE_BYTES]
            deadline = monotonic() + self._host.write_timeout_seconds
            while piece:
                try:
                    piece = piece[self._connection.send(piece) :]
                except BlockingIOError:
                    if not _wait(self._connection, select.POLLOUT, deadline - monotonic()):
                        raise _ReaderStalled from None

    def _fail(self, status: int) -> None:
        """Answer with a failure where that is still possible; else break the connection."""
        if self._ended:
            return
        answered = False
        if not self._response.head_sent:
            try:
                self._write((failure_answer(self._request, status),))
                answered = True
            except (PeerGone, _ReaderStalled):
                self._host.reporter.client_gone()
        self._end(complete=answered)

    def _end(self, *, complete: bool) -> None:
        """Close the connection after a complete answer, break it after any other; once."""
        if not self._ended:
            self._ended = True
            lingering = self._host.lingering
            end = lingering.close if complete else lingering.abort
            if end(self._connection, self._connection_closed):
                self._closed = True

    def _connection_closed(self, _: Connection) -> None:
        self._closed = True
        self._release_when_over()

    def _release_when_over(self) -> None:
        if self._closed and self._returned:
            self._host.admission.release(self._connection)


class _BodyReader(io.RawIOBase):
    """What `io.BufferedReader` reads the body from."""

    def __init__(self, connection: Connection, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        while True:
            try:
                chunk = self._connection.receive_body(len(view))
            except BlockingIOError:
                if not _wait(self._connection, select.POLLIN, self._timeout_seconds):
                    raise _BodyStalled from None
            else:
                view[: len(chunk)] = chunk
                return len(chunk)


class _BodyStalled(TimeoutError):
    """The client stopped sending its body; frameworks see an OSError from `wsgi.input`."""


class _ReaderStalled(TimeoutError):
    """The frontend stopped taking the answer."""


def _wait(connection: Connection, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), event)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _checked(chunk: bytes) -> bytes:
    if not isinstance(chunk, bytes):
        raise InvalidResponse(f"the body has an item of type {type(chunk).__name__}, not bytes")
    return chunk


def _encode_headers(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    except (AttributeError, TypeError, ValueError):
        for item in headers:
            if not (
                isinstance(item, tuple) and len(item) == 2 and all(type(x) is str for x in item)
            ):
                raise InvalidResponse(f"{item!r} is not a header: a pair of str") from None
        raise InvalidResponse("a header has characters beyond latin-1") from None
