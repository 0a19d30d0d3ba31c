"""Writes the answer of one WSGI request, in pieces or from files, each within its time."""

from __future__ import annotations

import select
from time import monotonic
from typing import Final

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.hosts.exchange import Exchange
from uwsgibridge.hosts.exchange_states import Delivery
from uwsgibridge.hosts.files import CANT_SEND_FILE, OpenFile, begin_file
from uwsgibridge.hosts.offload import NamedFile
from uwsgibridge.hosts.wsgi.context import ExchangeContext
from uwsgibridge.hosts.wsgi.fields import WsgiFields
from uwsgibridge.protocol.response import Buffer, Response
from uwsgibridge.protocol.response_headers import Head

# How large a piece is at the most. The time to write a piece is bounded, so its size has to be.
_WRITE_PIECE_BYTES: Final = 262_144

# A last piece up to this size is mostly sent by one call, so that its answer counts as sent once that call has begun.
_MARKED_BYTES: Final = 65_536

# A module name for a member of an enum: to look the member up in its class costs more.
_OPEN: Final = Delivery.OPEN

# How long after its deadline a request is given up at the latest.
_GIVE_UP_SECONDS: Final = 0.05


class ReaderStalled(TimeoutError):
    """The frontend stopped taking the answer."""


class WsgiAnswer(WsgiFields, Exchange[ExchangeContext]):
    """Writes to the client, and waits for it; `WsgiExchange` decides what to write.

    Args:
        context: shared by the requests of the host.
        connection: the connection with its request.
    """

    # When the thread's present wait for the client's body began.
    body_wait_began: float | None = None
    _body_wait_seconds = 0.0  # of earlier waits
    # Whether the thread waits for the client to take the answer. That time counts as the application's.
    waits_to_write = False
    # The end of the time that the application has set for this request; see `OwnLimits`.
    own_deadline: float | None = None

    def __init__(self, context: ExchangeContext, connection: Connection) -> None:
        super().__init__(context, connection)
        self.recorder = context.recorders.shared
        self.started_at = monotonic()
        self._response = Response(self.request.vars["REQUEST_METHOD"])

    def _make_response(
        self,
        status: int = 0,
        head: Head | None = None,
        sent: bytes | None = None,
        whole_bytes: int = -1,
    ) -> Response:
        """Make the answer; for the accelerator, which keeps what is known of it until the answer is asked for.

        Args:
            status: of the head.
            head: as `encode_head` gives it; None for none.
            sent: the piece of the body that was sent with the head; None where the head was not sent.
            whole_bytes: how many bytes the body had, where the whole answer was sent; else -1.
        """
        method = self.request.vars["REQUEST_METHOD"]
        if head is None:
            return Response(method)
        self._has_written = sent is not None
        if whole_bytes >= 0:
            return Response.resume(method, status, head, whole_bytes)
        response = Response.resume(method, status, head, None)
        if sent is not None:
            response.send(sent)
        return response

    def _write(self, buffers: tuple[Buffer, ...]) -> None:
        if self._delivery is not _OPEN:
            # Raised again for an application that has caught it: else its answer would have a gap.
            raise ReaderStalled if self._delivery is Delivery.STALLED else PeerGone
        if self._context.logs_access and not self._has_written:
            try:
                self._look_for_client()
            except PeerGone:
                if buffers:
                    self._record_unsent(buffers, buffers[0])
                raise
        response = self._response
        if not self._answer_began:
            self._answer_began = monotonic()
            if response.is_open_ended:
                self.connection.break_if_killed()
        if buffers and response.ends_here and sum(map(len, buffers)) <= _MARKED_BYTES:
            # After a send that fails, the mark is replaced by what is recorded then.
            self._expect_whole(self.recorder, response.status)
        try:
            if len(buffers) == 2:
                data = buffers[0]
                buffers = self._write_pair(buffers)
            for data in buffers:
                try:
                    sent = self.connection.send(data)
                except BlockingIOError:
                    sent = 0
                if sent:
                    self._has_written = True
                if sent != len(data):
                    self._write_slowly(memoryview(data)[sent:])
        except (PeerGone, ReaderStalled):
            self._record_unsent(buffers, data)
            raise

    def _write_behind(self, buffers: tuple[Buffer, ...], sent_bytes: int) -> None:
        """Write what follows the bytes that the accelerator has sent, which are fewer than there are."""
        self._has_written = True
        left = _behind(buffers, sent_bytes)
        try:
            for data in left:
                self._write_slowly(memoryview(data))
        except (PeerGone, ReaderStalled):
            self._record_unsent(left, data)
            raise

    def _write_rest(self, piece: bytes, sent_bytes: int) -> None:
        """Write the rest of a piece that the accelerator has begun; the numbers are those of `WsgiExchange._send_rest`."""
        self._has_written = True
        is_stalled = sent_bytes < 0
        rest = memoryview(piece)[~sent_bytes if is_stalled else sent_bytes :]
        try:
            if is_stalled:
                self._unsent_bytes = len(rest)
                self._delivery = Delivery.STALLED
                raise ReaderStalled
            self._write_slowly(rest)
        except (PeerGone, ReaderStalled):
            self._record_unsent((rest,), rest)
            raise

    def _write_pair(self, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Write what fits of two buffers; give what is left."""
        try:
            sent = self.connection.send_pair(*buffers)
        except BlockingIOError:
            return buffers
        self._has_written = True
        left = _behind(buffers, sent)
        if left:
            self.recorder.unmark()
        return left

    def _look_for_client(self) -> None:
        """Look whether the client has left, since the first write to a TCP peer that is gone still succeeds."""
        if self.connection.has_hung_up():
            self.connection.peer_gone = True
            self._delivery = Delivery.CUT
            raise PeerGone("the client has gone away")

    def _write_slowly(self, rest: memoryview) -> None:
        self.recorder.unmark()
        left = len(rest)
        try:
            for start in range(0, len(rest), _WRITE_PIECE_BYTES):
                piece = rest[start : start + _WRITE_PIECE_BYTES]
                deadline = monotonic() + self._context.settings.write_timeout_seconds
                while piece:
                    try:
                        sent = self.connection.send(piece)
                    except BlockingIOError:
                        self._wait_to_write(deadline)
                    else:
                        self._has_written = True
                        piece, left = piece[sent:], left - sent
        except (PeerGone, ReaderStalled):
            self._unsent_bytes = left
            raise

    def _wait_to_write(self, deadline: float) -> None:
        self.waits_to_write = True
        try:
            if not self._wait(select.POLLOUT, deadline):
                self._delivery = Delivery.STALLED
                raise ReaderStalled
        finally:
            self.waits_to_write = False

    def _send_file_instead(self, named: NamedFile) -> None:
        with named.open() as file:
            self._send_file(begin_file(file.fileno(), 0))

    def _send_file(self, file: OpenFile) -> None:
        response = self._response
        left = response.allow(file.size_bytes)
        first = file.first_piece[:left]
        self._write(response.send(first))
        self._send_file_from(file, file.offset + len(first), left - len(first))

    def _send_file_behind(self, file: OpenFile, sent_bytes: int) -> None:
        """Send what is left of a file whose beginning the accelerator has sent.

        Args:
            file: what it was.
            sent_bytes: how many bytes were sent behind its first piece; or of the head with that piece, where these were
                not sent completely.
        """
        response = self._response
        if response.is_head_sent:
            response.sent_elsewhere(sent_bytes)
        else:
            self._write_behind(response.send(file.first_piece), sent_bytes)
            sent_bytes = 0
        begin = len(file.first_piece) + sent_bytes
        self._send_file_from(file, file.offset + begin, file.size_bytes - begin)

    def _send_file_from(self, file: OpenFile, offset: int, left: int) -> None:
        """Have the kernel send so many bytes of a file, and end the answer."""
        response = self._response
        while left and (sent := self._send_piece(file, offset, min(left, _WRITE_PIECE_BYTES))):
            response.sent_elsewhere(sent)
            offset, left = offset + sent, left - sent
        # Where the file has shrunk meanwhile, this notices that the body is incomplete.
        self._write(response.finish())

    def _send_piece(self, file: OpenFile, offset: int, size_bytes: int) -> int:
        deadline = monotonic() + self._context.settings.write_timeout_seconds
        while True:
            try:
                return self.connection.send_file(file.descriptor, offset, size_bytes)
            except BlockingIOError:
                self._wait_to_write(deadline)
            except OSError as error:  # `PeerGone` has no errno
                if error.errno not in CANT_SEND_FILE:
                    raise
                piece = file.read(offset, size_bytes)
                self._write((piece,))
                return len(piece)

    def used_seconds(self, now: float) -> float:
        """Tell how long the application has taken, without its waits for the client's body."""
        waiting_seconds = self._body_wait_seconds
        if (began := self.body_wait_began) is not None:
            waiting_seconds += now - began
        return now - self.started_at - waiting_seconds

    def _wait_for_body(self) -> bool:
        began = self.body_wait_began = monotonic()
        try:
            return self._wait(select.POLLIN, began + self._context.settings.body_timeout_seconds)
        finally:
            self._body_wait_seconds += monotonic() - began
            self.body_wait_began = None

    def _wait(self, event: int, deadline: float) -> bool:
        """Block this thread until the connection is ready; False when the deadline has passed."""
        poll = select.poll()
        poll.register(self.connection.fileno(), event)
        limit = self._context.settings.request_timeout_seconds
        while True:
            now = monotonic()
            seconds = max(0.0, deadline - now)
            if limit:
                # Nothing wakes a thread whose connection was taken away, so that it has to look by itself.
                given_up_seconds = max(0.0, limit - self.used_seconds(now)) + _GIVE_UP_SECONDS
                seconds = min(seconds, given_up_seconds)
            if self.own_deadline is not None:
                seconds = min(seconds, max(0.0, self.own_deadline - now) + _GIVE_UP_SECONDS)
            if poll.poll(seconds * 1000):
                return True
            if monotonic() >= deadline:
                return False

    def _is_seen_to_be_cut(self) -> bool:
        return self._response.is_cut_visible


def _behind(buffers: tuple[Buffer, ...], sent_bytes: int) -> tuple[Buffer, ...]:
    """Give what follows so many bytes of the buffers."""
    left = []
    for data in buffers:
        if sent_bytes < len(data):
            left.append(memoryview(data)[sent_bytes:])
        sent_bytes = max(0, sent_bytes - len(data))
    return tuple(left)
