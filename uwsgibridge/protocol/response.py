"""Turns what an application says into an answer: bytes for the frontend.

The answer is HTTP/1.1. Its end is marked by a Content-Length or by closing. The rules are those of
nginx's ``ngx_http_uwsgi_process_header``, of RFC 9110 and of PEP 3333:

- a status or header has no control character but the tab;
- hop-by-hop headers are dropped, since they are the frontend's. With Transfer-Encoding, which nginx drops as
  well, chunk marks would count as body;
- there is no interim status, since a uwsgi frontend takes the first head for the final one;
- answers to HEAD, 204 and 304 have no body, and nginx must not cache an answer to HEAD of unknown length;
- nginx does not hold back streams whose readers take them line by line, unless their length is known;
- the body is exactly as long as its Content-Length, or the connection is broken visibly;
- head and first bytes of body are one buffer: nginx before 1.31.0 mishandles a split status line.

`protocol.response_states` has the states of an answer. An `IncompleteBody` at the end tells the host to
break the connection instead of closing it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from uwsgibridge.protocol.errors import IncompleteBody, InvalidResponse
from uwsgibridge.protocol.response_headers import EVENTS, Head, encode_head
from uwsgibridge.protocol.response_states import FOLLOWING, Body, State, Step, refusal

# Up to this size, a piece is joined with the head. To copy a larger one costs more than to send two buffers.
_JOIN_BYTES: Final = 16_384

# So much of a larger piece is joined with the head nevertheless: nginx before 1.31.0 wants bytes of the body with it.
_FIRST_BYTES: Final = 4096

Buffer: TypeAlias = bytes | memoryview

# Module names for members of enums: to look a member up in its class costs more.
_NO_HEAD: Final = State.NO_HEAD
_HEAD: Final = State.HEAD
_COMPLETE: Final = State.COMPLETE
_AFTER_START: Final = FOLLOWING[Step.START]
_AFTER_PIECE: Final = FOLLOWING[Step.PIECE]
_AFTER_LAST: Final = FOLLOWING[Step.LAST]
_SENT: Final = Body.SENT
_MEASURED: Final = Body.MEASURED
_NONE: Final = Body.NONE

# Statuses whose answers have no body, and no length that HEAD could tell.
_BODILESS: Final = frozenset({204, 304})


class Response:
    """One answer in the making.

    Attributes:
        status: the HTTP status once `start` was called, else 0.
        excess_bytes: body bytes beyond the Content-Length, which were cut off.
        is_event_stream: whether the content type is ``text/event-stream``.
    """

    # Defaults on the class: an answer that never changes them pays nothing for them.
    status = 0
    excess_bytes = 0
    is_event_stream = False  # no state, but a property of the head: each `start` sets it
    _body = Body.SENT
    _head = b""
    _promised: int | None = None
    _if_unmeasured = b""  # a further header, sent only where the head has no Content-Length

    def __init__(self, method: str) -> None:
        # Set on the instance, since each answer changes them, and attributes of the class cost more to read.
        self._state = _NO_HEAD
        self._sent = 0
        # How a body is treated where the status allows one.
        self._body_of_method = _MEASURED if method == "HEAD" else _SENT

    def start(self, status: int, line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Set status and headers; a head that has not been sent is replaced.

        Args:
            status: the code, 200 to 999.
            line: the code with its reason, as `protocol.status` gives it.
            headers: names and values; they are validated here.

        Raises:
            InvalidResponse: the head can't be sent; the message tells the application's developer why.
        """
        state = self._state
        try:
            following = _AFTER_START[state]
        except KeyError:
            raise refusal(Step.START, state) from None
        if status < 200:
            raise InvalidResponse(
                f"status {status} is interim: a uwsgi frontend would take it for the final answer"
            )
        encoded = encode_head(status, line, headers)
        self._state = following
        self._take_head(status, encoded, state)

    @classmethod
    def resume(cls, method: str, status: int, encoded: Head, sent_bytes: int | None) -> Response:
        """Make an answer that has come as far as the accelerator has brought it.

        Args:
            method: of the request.
            status: the code, which allows a body.
            encoded: the head, as `encode_head` gives it.
            sent_bytes: how many bytes of body the whole answer had that was sent; None where nothing was sent.
        """
        response = cls(method)
        response._state = _HEAD
        response._take_head(status, encoded, _NO_HEAD)
        if sent_bytes is not None:
            response._state, response._sent = _COMPLETE, sent_bytes
        return response

    def _take_head(self, status: int, encoded: Head, state: State) -> None:
        """Set status and head; `state` is the one before that."""
        head, promised, stream_kind, sets_buffering, sets_expires = encoded
        self.status = status
        self._head = head
        self._promised = promised
        self._body = body = _NONE if status in _BODILESS else self._body_of_method
        if stream_kind or body is _MEASURED or state is _HEAD:
            self.is_event_stream = stream_kind == EVENTS
            self._if_unmeasured = b""
            if body is _MEASURED:
                if not sets_expires:
                    # nginx would cache the empty body and serve it to GET: ngx_http_uwsgi_module has no
                    # convert_head, and its cache key has no method.
                    self._if_unmeasured = b"\r\nX-Accel-Expires: 0"
            elif stream_kind and not sets_buffering and body is _SENT:
                # nginx would hold the stream back until uwsgi_buffers are full.
                self._if_unmeasured = b"\r\nX-Accel-Buffering: no"

    def send(self, chunk: Buffer | bytearray, *, last: bool = False) -> tuple[Buffer, ...]:
        """Turn a piece of the body into buffers to write in this order; the head is the first of them.

        Args:
            chunk: bytes of the body, or another buffer; it may be empty.
            last: whether this is the last piece. If it is also the first piece, a missing Content-Length is
                added; for HEAD only if the piece is not empty, since an application may have left the
                body out.

        Returns:
            Up to two buffers, none of which is empty; the first one begins with the head if that has not been sent.

        Raises:
            IncompleteBody: with `last`, the body is shorter than its Content-Length. This piece is lost.
            InvalidResponse: there is no head yet, or the answer was already complete.
        """
        state = self._state
        try:
            following = (_AFTER_LAST if last else _AFTER_PIECE)[state]
        except KeyError:
            raise refusal(Step.LAST if last else Step.PIECE, state) from None
        if type(chunk) is not bytes:
            # len() of a memoryview counts items, which may be larger than bytes.
            view = memoryview(chunk)
            chunk = view.cast("B") if view.c_contiguous else view.tobytes()
        size = len(chunk)
        promised = self._promised
        carries_body = self._body is _SENT
        if not carries_body:
            if last and size and promised is None:
                self._tell_head_request(size)
            chunk, size = b"", 0
        elif promised is not None and self._sent + size > promised:
            allowed = promised - self._sent
            self.excess_bytes += size - allowed
            chunk, size = chunk[:allowed], allowed
        self._sent += size
        if last and promised is not None and carries_body and self._sent != promised:
            self._sent -= size
            raise IncompleteBody(
                f"the body has {self._sent + size} bytes, its Content-Length is {promised}"
            )
        self._state = following
        if state is not _HEAD:
            return (chunk,) if size else ()
        if last and promised is None and carries_body:
            self._promised = size
            head = b"%b\r\nContent-Length: %d\r\n\r\n" % (self._head, size)
        else:
            if self._if_unmeasured and promised is None:
                self._head += self._if_unmeasured
            head = self._head + b"\r\n\r\n"
        if size <= _JOIN_BYTES:
            return (head + chunk if size else head,)
        view = memoryview(chunk)
        return (head + view[:_FIRST_BYTES], view[_FIRST_BYTES:])

    def allow(self, available_bytes: int, *, last: bool = True) -> int:
        """Tell how much of a piece of known length may be sent by other means than `send`.

        If this is the only piece and there is no Content-Length, its length becomes the Content-Length.

        Args:
            available_bytes: the length of the piece.
            last: whether this is the last piece.

        Raises:
            InvalidResponse: as `send`.
        """
        state = self._state
        if state not in _AFTER_PIECE:
            raise refusal(Step.PIECE, state)
        if self._body is not _SENT:
            if last and self._promised is None:
                self._tell_head_request(available_bytes)
            return 0
        if self._promised is None:
            if last and state is _HEAD:
                self._promised = available_bytes
                self._head += b"\r\nContent-Length: %d" % available_bytes
            return available_bytes
        return min(available_bytes, self._promised - self._sent)

    def sent_elsewhere(self, size_bytes: int) -> None:
        """Count body bytes that were sent by other means, after the head."""
        self._sent += size_bytes

    def omit_body(self) -> None:
        """Send no body, whatever the application gives, because Nginx sends a file in its place."""
        self._body = Body.ELSEWHERE
        self._if_unmeasured = b""

    def finish(self) -> tuple[Buffer, ...]:
        """End the answer after streaming.

        Returns:
            As `send`: the head, if it has not been sent.

        Raises:
            IncompleteBody: the body is shorter than its Content-Length.
        """
        return self.send(b"", last=True)

    def largest_header(self) -> tuple[int, str, int]:
        """Measure the head for a warning about the frontend's buffer.

        Returns:
            The bytes of the whole head, and the name and the bytes of its largest header.
        """
        lines = self._head.split(b"\r\n")
        largest = max(lines[1:], key=len, default=b"")
        name = largest.partition(b":")[0].decode("latin-1")
        return len(self._head) + 4, name, len(largest)

    def _tell_head_request(self, size_bytes: int) -> None:
        """Give an answer to HEAD the length that the answer to GET has (RFC 9110, section 9.3.2)."""
        if self._body is _MEASURED and self._state is _HEAD:
            self._head += b"\r\nContent-Length: %d" % size_bytes
            self._if_unmeasured = b""

    @property
    def is_head_sent(self) -> bool:
        """Whether the head was sent. After that, only the connection's end can tell the client of a failure."""
        state = self._state
        return state is not _NO_HEAD and state is not _HEAD

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer was sent."""
        return self._state is _COMPLETE

    @property
    def is_full(self) -> bool:
        """Whether the head was sent, and as much of the body as may follow it."""
        return self.is_head_sent and (self._body is not _SENT or self._sent == self._promised)

    @property
    def is_open_ended(self) -> bool:
        """Whether more of the body may come, of unknown length; False before `start`."""
        may_follow = self._state in _AFTER_PIECE and self._body is _SENT
        return may_follow and self._promised is None

    @property
    def ends_here(self) -> bool:
        """Whether the answer is complete by its framing, though its end was not announced.

        It has a head, and no further body may follow: after HEAD, 204, 304, or a whole Content-Length.
        """
        return self.status > 0 and (self._body is not _SENT or self._sent == self._promised)

    @property
    def is_cut_visible(self) -> bool:
        """Whether the frontend itself can notice an incomplete body."""
        return not self.is_head_sent or self._promised is not None

    @property
    def body_bytes(self) -> int:
        """How many bytes of the body were sent."""
        return self._sent

    @property
    def head(self) -> bytes:
        """The head without its end, and without the Content-Length that a body of one piece gets; empty for none."""
        return self._head

    @property
    def head_bytes(self) -> int:
        """How many bytes the head has; 0 where there is none yet."""
        return len(self._head)
