"""Answers one request with a file.

A thread looks for the file, reads it and writes, and never waits for the client: where the socket takes no more, the event loop
waits, and then a thread goes on. So a slow client takes no thread, and a slow disk holds up no event loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.hosts.exchange import Exchange
from uwsgibridge.hosts.exchange_states import Delivery
from uwsgibridge.hosts.files import CANT_SEND_FILE, begin_file
from uwsgibridge.hosts.static.content_types import content_type
from uwsgibridge.hosts.static.finding import FoundFile, StaticFiles
from uwsgibridge.protocol import answers
from uwsgibridge.protocol.conditions import Part, choose_part
from uwsgibridge.protocol.errors import IncompleteBody
from uwsgibridge.protocol.response import Buffer, Response
from uwsgibridge.protocol.status import status_line

if TYPE_CHECKING:
    from uwsgibridge.config.settings import Settings
    from uwsgibridge.connection.lingering import LingeringClose
    from uwsgibridge.hosts.offload import Offload
    from uwsgibridge.loop.interface import Loop
    from uwsgibridge.telemetry.reporting import Reporter
from uwsgibridge.telemetry.request_ids import fields_of

# How much is sent at once.
_PIECE_BYTES: Final = 262_144

# How much a thread sends of one file before others have their turn.
_TURN_BYTES: Final = 4_194_304


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticContext:
    """What the exchanges of a worker share.

    Attributes:
        files: finds the files.
        offload: has Nginx send files; None where no directory is mapped.
        reporter: logs failures.
        recorders: make what records requests.
        lingering: ends connections.
        settings: the deadlines.
        loop: waits for clients.
        put: has a thread call a function soon; from any thread.
        pass_on: called with a connection where there is no file for its request; from any thread.
        release: called when an exchange is over.
    """

    files: StaticFiles
    offload: Offload | None
    reporter: Reporter
    recorders: Recorders
    lingering: LingeringClose
    settings: Settings
    loop: Loop
    put: Callable[[Callable[[], None]], None]
    pass_on: Callable[[Connection], None]
    release: Callable[[Connection], None]


class StaticExchange(Exchange[StaticContext]):
    """One request for a file. At any time, either one thread or the event loop has it.

    Args:
        context: shared by the exchanges of the worker.
        connection: the connection with its request.

    Attributes:
        has_begun: whether a thread has looked for the file.
        is_cut: set from outside where the answer is to be broken off.
    """

    has_begun = False
    is_cut = False

    def __init__(self, context: StaticContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self._started_at = monotonic()
        self._response = Response(self.request.method)
        self._descriptor = -1
        self._offset = 0
        self._left = 0  # bytes of the file that are sent after the buffers
        self._buffers: list[Buffer] = []

    def begin(self) -> None:
        """Look for the file, and begin to answer; in a thread."""
        self.has_begun = True
        self._started_at = monotonic()
        self._step(self._find)

    def go_on(self) -> None:
        """Send what can be sent; in a thread."""
        self._step(self._send)

    def _step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except PeerGone:
            self._context.reporter.client_gone()
            self._delivery = Delivery.CUT
            self._finish(complete=False)
        except IncompleteBody as error:
            self._context.reporter.log.warning(
                "file became shorter while it was sent", **self._about(), detail=str(error)
            )
            self._finish(complete=False)
        except Exception as error:  # noqa: BLE001 - the thread serves others, too
            self._context.reporter.log.error(  # noqa: TRY400 - no defect of the bridge
                "file can't be sent", **self._about(), detail=f"{type(error).__name__}: {error}"
            )
            self._fail()

    def _find(self) -> None:
        context = self._context
        if self.is_cut:
            self._answer(answers.stopping(self.request.method))
            return
        try:
            found = context.files.find(self.request.vars["PATH_INFO"])
        except PermissionError as error:
            context.reporter.log.warning(
                "file can't be opened: the application answers",
                **self._about(),
                reason=error.strerror,
                hint="let the user of the bridge read the file, and search its directories",
            )
            found = None
        if found is None:
            context.pass_on(self.connection)
            return
        self._descriptor = found.descriptor
        if context.reporter.logs_access and self.connection.has_hung_up():
            raise PeerGone("the client has gone away")
        if not self._offload(found):
            self._begin_file(found)
        self._send()

    def _offload(self, found: FoundFile) -> bool:
        """Have Nginx send the file, where a directory of ``--offload`` has it."""
        offload = self._context.offload
        url = offload.url_of(os.fsdecode(os.path.realpath(found.path))) if offload else None
        if url is None:
            return False
        # Nginx looks at conditions and ranges itself.
        headers = [_type_of(found), (b"X-Accel-Redirect", url), *self._id_header()]
        self._response.start(200, status_line(200), headers)
        self._response.omit_body()
        self._buffers = [*self._response.finish()]
        return True

    def _begin_file(self, found: FoundFile) -> None:
        response = self._response
        part = choose_part(self.request.vars, found.validators, found.size_bytes)
        response.start(
            part.status, status_line(part.status), [*_headers(found, part), *self._id_header()]
        )
        count = response.allow(part.size_bytes) if part.size_bytes else 0
        if not count:
            self._buffers = [*response.finish()]
            return
        first = begin_file(self._descriptor, part.first).first_piece[:count]
        self._offset, self._left = part.first + len(first), count - len(first)
        self._buffers = [*response.send(first, last=not self._left)]

    def _id_header(self) -> list[tuple[bytes, bytes]]:
        id_header = self._context.reporter.id_header
        return [] if id_header is None else id_header.add_to(self.request, [])

    def _send(self) -> None:
        """Send until all is sent, the socket takes no more, or others have their turn."""
        context, turn = self._context, _TURN_BYTES
        while self._buffers or self._left:
            if self.is_cut:
                self._finish(complete=False)
                return
            try:
                turn -= self._send_some()
            except BlockingIOError:
                context.loop.run_threadsafe(self._begin_wait)
                return
            if turn <= 0:
                context.put(self.go_on)
                return
        response = self._response
        if not response.is_complete:
            response.finish()
        context.reporter.check_answer(self.request, response)
        self._finish(complete=True)

    def _send_some(self) -> int:
        if self._buffers:
            first = self._buffers[0]
            sent = self.connection.send(first)
            self._has_written = True
            self._buffers[:1] = [memoryview(first)[sent:]] if sent < len(first) else []
            return sent
        wanted = min(self._left, _PIECE_BYTES)
        try:
            sent = self.connection.send_file(self._descriptor, self._offset, wanted)
        except BlockingIOError:
            raise
        except OSError as error:  # `PeerGone` has no errno
            if error.errno not in CANT_SEND_FILE:
                raise
            piece = os.pread(self._descriptor, wanted, self._offset)
            self._buffers = [piece] if piece else []
            sent = len(piece)
        self._response.sent_elsewhere(sent)
        self._offset += sent
        # At the end of a file that has become shorter, the answer ends, too.
        self._left = self._left - sent if sent else 0
        return sent

    def _begin_wait(self) -> None:
        self.connection.task = self._context.loop.spawn(self._wait)

    async def _wait(self) -> None:
        """Wait on the event loop until the client takes more."""
        context = self._context
        seconds = context.settings.write_timeout_seconds
        if await context.loop.wait_writable(self.connection, seconds) or self.is_cut:
            context.put(self.go_on)
            return
        context.reporter.reader_stalled(self.request)
        self._delivery = Delivery.STALLED
        self._finish(complete=False)

    def _fail(self) -> None:
        if self._has_written:
            self._finish(complete=False)
        else:
            self._answer(answers.file_failed(self.request.method))

    def _answer(self, answer: answers.OwnAnswer) -> None:
        """Answer without a file."""
        answer = self._context.reporter.with_id(self.request, answer)
        is_sent = False
        try:
            is_sent = self.connection.send(answer.data) == len(answer.data)
            self._record_failure_answer(answer)
        except OSError:  # the client is gone
            pass
        self._finish(complete=is_sent)

    def _finish(self, *, complete: bool) -> None:
        """End the exchange, whoever has it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._unsent_bytes = sum(map(len, self._buffers))
        self._end(complete=complete)
        # Before its place is free: a drain waits for no request without one.
        self._log_access(self._response, self._started_at)
        self._return()

    def _record_end(self, *, complete: bool) -> None:
        recorder = self._context.recorders.shared
        self._record(recorder, self._response, self._started_at, complete=complete)

    def _is_seen_to_be_cut(self) -> bool:
        return self._response.is_cut_visible

    def _about(self) -> dict[str, object]:
        request = self.request
        return {"method": request.method, "path": request.path, **fields_of(request)}


def _headers(found: FoundFile, part: Part) -> list[tuple[bytes, bytes]]:
    validators = found.validators
    headers = [
        (b"Last-Modified", validators.last_modified.encode("ascii")),
        (b"ETag", validators.etag.encode("ascii")),
    ]
    if part.status == 304:
        return headers
    headers.append((b"Content-Length", b"%d" % part.size_bytes))
    if part.status in {200, 206}:
        headers += [(b"Accept-Ranges", b"bytes"), _type_of(found)]
    if part.status == 206:
        last = part.first + part.size_bytes - 1
        headers.append((b"Content-Range", b"bytes %d-%d/%d" % (part.first, last, found.size_bytes)))
    elif part.status == 416:
        headers.append((b"Content-Range", b"bytes */%d" % found.size_bytes))
    return headers


def _type_of(found: FoundFile) -> tuple[bytes, bytes]:
    return b"Content-Type", content_type(os.fsdecode(found.path)).encode("latin-1")
