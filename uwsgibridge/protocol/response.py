"""An answer, from what an application says to bytes for the frontend.

The answer is HTTP/1.1 with the end marked by Content-Length or by closing. The rules are those of
nginx's ``ngx_http_uwsgi_process_header``, of RFC 9110 and of PEP 3333:

- no control character but the tab leaves in a status or header;
- hop-by-hop headers are the frontend's affair and are dropped, Transfer-Encoding above all: nginx
  drops it as well, and the chunk marks would be taken for the body;
- no interim status: a uwsgi frontend takes the first head for the final one;
- HEAD, 204 and 304 carry no body, and nginx keeps no answer to HEAD whose length is unknown;
- what its readers take line by line is not held back, unless its length is known;
- the body is exactly as long as its Content-Length, or is seen to be broken;
- head and first bytes of body are one buffer: nginx before 1.31.0 mishandles a split status line.

`protocol.response_states` has the states of an answer. An `IncompleteBody` at the end tells the host to
break the connection instead of closing it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from uwsgibridge.protocol.errors import IncompleteBody, InvalidResponse
from uwsgibridge.protocol.response_headers import EVENTS, encode_head
from uwsgibridge.protocol.response_states import FOLLOWING, Body, State, Step, refusal

# Up to here a copy is cheaper than a second system call.
_JOIN_BYTES: Final = 65_536

Buffer: TypeAlias = bytes | memoryview

# Names of our own: to look a member up in its class costs more.
_NO_HEAD: Final = State.NO_HEAD
_HEAD: Final = State.HEAD
_COMPLETE: Final = State.COMPLETE
_AFTER_START: Final = FOLLOWING[Step.START]
_AFTER_PIECE: Final = FOLLOWING[Step.PIECE]
_AFTER_LAST: Final = FOLLOWING[Step.LAST]
_SENT: Final = Body.SENT
_MEASURED: Final = Body.MEASURED
_NONE: Final = Body.NONE

# Statuses whose answers have no body, and neither a length that HEAD would tell.
_BODILESS: Final = frozenset({204, 304})


class Response:
    """One answer in the making.

    Attributes:
        status: the HTTP status once `start` was called, else 0.
        excess_bytes: body bytes beyond the Content-Length, which were cut off.
        is_event_stream: whether its type is ``text/event-stream``.
    """

    # On the class: what most answers never change costs them nothing.
    status = 0
    excess_bytes = 0
    is_event_stream = False  # a fact about the head, and no state: each `start` sets it
    _body = Body.SENT
    _head = b""
    _promised: int | None = None
    _if_unmeasured = b""  # a further header, sent only where the head has no Content-Length

    def __init__(self, method: str) -> None:
        # Here, since each answer changes them: an attribute of the class costs more to read.
        self._state = _NO_HEAD
        self._sent = 0
        # What becomes of a body where the status allows one.
        self._body_of_method = _MEASURED if method == "HEAD" else _SENT

    def start(self, status: int, line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take status and headers; a head that has not left yet is replaced.

        Args:
            status: the code, 200 to 999.
            line: the same with its reason, as `protocol.status` gives it.
            headers: names and values; validated here.

        Raises:
            InvalidResponse: what can't be sent, in words for the application's developer.
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
        head, promised, stream_kind, sets_buffering, sets_expires = encode_head(
            status, line, headers
        )
        self._state = following
        self.status = status
        self._head = head
        self._promised = promised
        self._body = body = _NONE if status in _BODILESS else self._body_of_method
        if stream_kind or body is _MEASURED or state is _HEAD:
            self.is_event_stream = stream_kind == EVENTS
            self._if_unmeasured = b""
            if body is _MEASURED:
                if not sets_expires:
                    # nginx would keep the empty body and give it to GET: ngx_http_uwsgi_module has no
                    # convert_head, and its key no method.
                    self._if_unmeasured = b"\r\nX-Accel-Expires: 0"
            elif stream_kind and not sets_buffering and body is _SENT:
                # nginx would hold it back until uwsgi_buffers are full.
                self._if_unmeasured = b"\r\nX-Accel-Buffering: no"

    def send(self, chunk: Buffer | bytearray, *, last: bool = False) -> tuple[Buffer, ...]:
        """Turn a piece of the body into what is to be written, in this order, head included.

        Args:
            chunk: bytes of the body, or another buffer of them; may be empty.
            last: whether nothing follows. Where no Content-Length was given and this is also the
                first piece, it is added; for HEAD only if the piece is not empty, since an
                application may have left the body out.

        Returns:
            Buffers, none empty; the first one starts with the head where it had not left.

        Raises:
            IncompleteBody: with `last`, fewer bytes than promised. What was given is lost.
            InvalidResponse: there is no head yet, or the answer was already complete.
        """
        state = self._state
        try:
            following = (_AFTER_LAST if last else _AFTER_PIECE)[state]
        except KeyError:
            raise refusal(Step.LAST if last else Step.PIECE, state) from None
        if type(chunk) is not bytes:
            # len() of a memoryview counts items, whatever their size.
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
            head = b"%b\r\nContent-Length: %d\r\n\r\n" % (self._head, size)
        else:
            if self._if_unmeasured and promised is None:
                self._head += self._if_unmeasured
            head = self._head + b"\r\n\r\n"
        if size <= _JOIN_BYTES:
            return (head + chunk if size else head,)
        view = memoryview(chunk)
        return (head + view[:_JOIN_BYTES], view[_JOIN_BYTES:])

    def allow(self, available_bytes: int, *, last: bool = True) -> int:
        """Ask how much of a piece of known length may be sent by other means than `send`.

        Where nothing follows, no Content-Length was given and the head has not left, this length
        becomes it.

        Args:
            available_bytes: what there is.
            last: whether nothing follows.

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
        """Send no body, whatever the application gives: Nginx sends the file in its place."""
        self._body = Body.ELSEWHERE
        self._if_unmeasured = b""

    def finish(self) -> tuple[Buffer, ...]:
        """End the answer after streaming.

        Returns:
            As `send`: the head, where nothing of the answer had left yet.

        Raises:
            IncompleteBody: fewer bytes than promised.
        """
        return self.send(b"", last=True)

    def largest_header(self) -> tuple[int, str, int]:
        """Measure the head for a warning about the frontend's buffer.

        Returns:
            Bytes of the whole head; name and bytes of its largest header.
        """
        lines = self._head.split(b"\r\n")
        largest = max(lines[1:], key=len, default=b"")
        name = largest.partition(b":")[0].decode("latin-1")
        return len(self._head) + 4, name, len(largest)

    def _tell_head_request(self, size_bytes: int) -> None:
        """Give HEAD the length that the answer to GET has (RFC 9110, section 9.3.2)."""
        if self._body is _MEASURED and self._state is _HEAD:
            self._head += b"\r\nContent-Length: %d" % size_bytes
            self._if_unmeasured = b""

    @property
    def head_sent(self) -> bool:
        """Whether the head has left, after which only the connection can carry a failure."""
        state = self._state
        return state is not _NO_HEAD and state is not _HEAD

    @property
    def complete(self) -> bool:
        """Whether the whole answer has left."""
        return self._state is _COMPLETE

    @property
    def is_full(self) -> bool:
        """Whether the head has left, and all of the body that may follow it."""
        return self.head_sent and (self._body is not _SENT or self._sent == self._promised)

    @property
    def is_open_ended(self) -> bool:
        """Whether more may come, and nothing tells how much; False before `start`."""
        may_follow = self._state in _AFTER_PIECE and self._body is _SENT
        return may_follow and self._promised is None

    @property
    def ends_here(self) -> bool:
        """Whether the answer is whole by its framing, though nobody has said so.

        It has a head, and no body that is to follow: HEAD, 204, 304, all of its Content-Length.
        """
        return self.status > 0 and (self._body is not _SENT or self._sent == self._promised)

    @property
    def is_measured(self) -> bool:
        """Whether the frontend can tell by itself that the body is not complete."""
        return not self.head_sent or self._promised is not None

    @property
    def body_bytes(self) -> int:
        """Bytes of the body that have left."""
        return self._sent

    @property
    def head_bytes(self) -> int:
        """Bytes of the head, as far as it is known."""
        return len(self._head)
