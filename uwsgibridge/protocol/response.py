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

States: no head yet, head pending, body, complete. An `IncompleteBody` at the end tells the host to
break the connection instead of closing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from uwsgibridge.protocol.errors import IncompleteBody, InvalidResponse

# Up to here a copy is cheaper than a second system call.
_JOIN_BYTES: Final = 65_536

# Names may come from clients, by way of an application: neither their number nor their bytes
# may grow with what is asked.
_MAX_REMEMBERED: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Those that a header's value must not have: all but the tab (RFC 9110, section 5.5).
_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])

# What a header's name means to us. Plain integers: an enum's costs show on the request path.
_PLAIN: Final = 0
_CONTENT_LENGTH: Final = 1
_HOP_BY_HOP: Final = 2
_CONTENT_TYPE: Final = 3
_ACCEL_BUFFERING: Final = 4
_ACCEL_EXPIRES: Final = 5

_SPECIAL: Final = {
    b"content-length": _CONTENT_LENGTH,
    b"content-type": _CONTENT_TYPE,
    b"x-accel-buffering": _ACCEL_BUFFERING,
    b"x-accel-expires": _ACCEL_EXPIRES,
    # Names that a frontend on the other side of a hop must not be sent (RFC 9110, section 7.6.1;
    # PEP 3333, "Other HTTP Features").
    b"connection": _HOP_BY_HOP,
    b"keep-alive": _HOP_BY_HOP,
    b"proxy-authenticate": _HOP_BY_HOP,
    b"proxy-authorization": _HOP_BY_HOP,
    b"proxy-connection": _HOP_BY_HOP,
    b"te": _HOP_BY_HOP,
    b"trailer": _HOP_BY_HOP,
    b"trailers": _HOP_BY_HOP,
    b"transfer-encoding": _HOP_BY_HOP,
    b"upgrade": _HOP_BY_HOP,
}

# More digits than any size that exists; int() of thousands of them is refused by Python itself.
_MAX_LENGTH_DIGITS: Final = 18

# What a content type means to us.
_NO_STREAM: Final = 0
_LINES: Final = 1
_EVENTS: Final = 2

# Types whose readers take each line, event or part as it comes.
_STREAMS: Final = {
    b"application/json-lines": _LINES,
    b"application/json-seq": _LINES,  # RFC 7464
    b"application/jsonl": _LINES,
    b"application/jsonlines": _LINES,
    b"application/ndjson": _LINES,
    b"application/stream+json": _LINES,
    b"application/x-json-stream": _LINES,
    b"application/x-jsonlines": _LINES,
    b"application/x-ndjson": _LINES,
    b"multipart/mixed": _LINES,  # GraphQL's subscriptions and deferred parts
    b"multipart/x-mixed-replace": _LINES,
    b"text/event-stream": _EVENTS,
}
_STREAM_SUFFIXES: Final = (b"+json-seq", b"+jsonl", b"+ndjson")  # RFC 8091, and by analogy

_kinds: dict[bytes, int] = {}
_stream_kinds: dict[bytes, int] = {}

Buffer: TypeAlias = bytes | memoryview


class Response:
    """One answer in the making.

    Attributes:
        status: the HTTP status once `start` was called, else 0.
        head_sent: whether the head has left, after which only the connection can carry a failure.
        complete: whether the whole answer has left.
        excess_bytes: body bytes beyond the Content-Length, which were cut off.
        is_event_stream: whether its type is ``text/event-stream``.
    """

    # On the class: what most answers never change costs them nothing.
    status = 0
    head_sent = False
    complete = False
    excess_bytes = 0
    is_event_stream = False
    _head = b""
    _promised: int | None = None
    _sent = 0
    _is_head_request = False
    _no_body = False
    _body_is_elsewhere = False
    _if_unmeasured = b""  # a further header, sent only where the head has no Content-Length

    def __init__(self, method: str) -> None:
        if method == "HEAD":
            self._is_head_request = True

    def start(self, status: int, line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take status and headers; a head that has not left yet is replaced.

        Args:
            status: the code, 200 to 999.
            line: the same with its reason, as `protocol.status` gives it.
            headers: names and values; validated here.

        Raises:
            InvalidResponse: what can't be sent, in words for the application's developer.
        """
        if self.head_sent:
            raise InvalidResponse("the head of this response was already sent")
        if status < 200:
            raise InvalidResponse(
                f"status {status} is interim: a uwsgi frontend would take it for the final answer"
            )
        promised: int | None = None
        stream_kind = _NO_STREAM
        sets_buffering = sets_expires = False
        lines = [b"HTTP/1.1 " + line]
        kinds = _kinds
        try:
            for name, value in headers:
                kind = kinds.get(name)
                if kind is None:
                    kind = _classify(name)
                if kind:
                    if kind == _HOP_BY_HOP:
                        continue
                    if kind == _CONTENT_LENGTH:
                        # Not part of it (RFC 9110, section 5.5), and nginx would stumble over a tab.
                        value = value.strip(b" \t")  # noqa: PLW2901 - what is sent from here on
                        length = _parse_length(value)
                        if promised is not None:
                            if promised != length:
                                raise InvalidResponse(
                                    f"two Content-Length headers, {promised} and {length}"
                                )
                            continue
                        promised = length
                        if status == 204:
                            continue  # RFC 9110, section 8.6: not in a 204
                    elif kind == _CONTENT_TYPE:
                        known = _stream_kinds.get(bytes(value))
                        stream_kind = _find_stream_kind(value) if known is None else known
                    elif kind == _ACCEL_BUFFERING:
                        sets_buffering = True
                    else:
                        sets_expires = True
                lines.append(b"%b: %b" % (name, value))
        except (TypeError, ValueError, AttributeError):
            raise InvalidResponse(
                f"headers must be pairs of bytes, not {_first_odd_header(headers)}"
            ) from None
        head = _join(lines)
        self.status = status
        self._head = head
        self._promised = promised
        self._no_body = self._is_head_request or status in {204, 304}
        if stream_kind or self._is_head_request or self.is_event_stream or self._if_unmeasured:
            self.is_event_stream = stream_kind == _EVENTS
            self._if_unmeasured = b""
            if self._is_head_request:
                if not sets_expires and status not in {204, 304}:
                    # nginx would keep the empty body and give it to GET: ngx_http_uwsgi_module has no
                    # convert_head, and its key no method.
                    self._if_unmeasured = b"\r\nX-Accel-Expires: 0"
            elif stream_kind and not sets_buffering and not self._no_body:
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
        if not self.status:
            raise InvalidResponse("the body began before the head")
        if self.complete:
            raise InvalidResponse("the response was already complete")
        if type(chunk) is not bytes:
            # len() of a memoryview counts items, whatever their size.
            view = memoryview(chunk)
            chunk = view.cast("B") if view.c_contiguous else view.tobytes()
        size = len(chunk)
        promised = self._promised
        if self._no_body:
            if last and size and promised is None:
                self._tell_head_request(size)
            chunk, size = b"", 0
        elif promised is not None and self._sent + size > promised:
            allowed = promised - self._sent
            self.excess_bytes += size - allowed
            chunk, size = chunk[:allowed], allowed
        self._sent += size
        if last:
            if promised is not None and not self._no_body and self._sent != promised:
                self._sent -= size
                raise IncompleteBody(
                    f"the body has {self._sent + size} bytes, its Content-Length is {promised}"
                )
            self.complete = True
        if self.head_sent:
            return (chunk,) if size else ()
        self.head_sent = True
        if last and promised is None and not self._no_body:
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
            InvalidResponse: there is no head yet.
        """
        if not self.status:
            raise InvalidResponse("the body began before the head")
        if self._no_body:
            if last and self._promised is None:
                self._tell_head_request(available_bytes)
            return 0
        if self._promised is None:
            if last and not self.head_sent:
                self._promised = available_bytes
                self._head += b"\r\nContent-Length: %d" % available_bytes
            return available_bytes
        return min(available_bytes, self._promised - self._sent)

    def sent_elsewhere(self, size_bytes: int) -> None:
        """Count body bytes that were sent by other means, after the head."""
        self._sent += size_bytes

    def omit_body(self) -> None:
        """Send no body, whatever the application gives: Nginx sends the file in its place."""
        self._no_body = self._body_is_elsewhere = True
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
        has_length = self.status not in {204, 304} and not self._body_is_elsewhere
        if self._is_head_request and has_length and not self.head_sent:
            self._head += b"\r\nContent-Length: %d" % size_bytes
            self._if_unmeasured = b""

    @property
    def is_full(self) -> bool:
        """Whether the head has left, and all of the body that may follow it."""
        return self.head_sent and (self._no_body or self._sent == self._promised)

    @property
    def is_open_ended(self) -> bool:
        """Whether more may come, and nothing tells how much; False before `start`."""
        known = not self.status or self.complete or self._no_body or self._promised is not None
        return not known

    @property
    def ends_here(self) -> bool:
        """Whether the answer is whole by its framing, though nobody has said so.

        It has a head, and no body that is to follow: HEAD, 204, 304, all of its Content-Length.
        """
        return self.status > 0 and (self._no_body or self._sent == self._promised)

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


def encode_lines(line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode a head as it is, for an answer in which no header means anything to us.

    Args:
        line: code and reason.
        headers: validated here.

    Raises:
        InvalidResponse: as `Response.start`.
    """
    lines = [b"HTTP/1.1 " + line]
    try:
        for name, value in headers:
            _classify(name)
            lines.append(b"%b: %b" % (name, value))
    except (TypeError, ValueError, AttributeError):
        raise InvalidResponse(
            f"headers must be pairs of bytes, not {_first_odd_header(headers)}"
        ) from None
    return _join(lines) + b"\r\n\r\n"


def _join(lines: list[bytes]) -> bytes:
    head = b"\r\n".join(lines)
    # What is over the two characters of each break is an application's.
    if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
        raise _blame(lines)
    return head


def _parse_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise InvalidResponse(f"Content-Length is {value[:40]!r}, not a decimal number")
    return int(value)


def _classify(name: bytes) -> int:
    if not _TOKEN.fullmatch(name):
        raise InvalidResponse(f"{name[:80]!r} is not a header name (RFC 9110, section 5.1)")
    kind = _SPECIAL.get(name.lower(), _PLAIN)
    if len(name) <= _MAX_REMEMBERED_BYTES and len(_kinds) < _MAX_REMEMBERED:
        _kinds[name] = kind
    return kind


def _find_stream_kind(content_type: bytes) -> int:
    media_type = content_type.partition(b";")[0].strip().lower()
    kind = _STREAMS.get(bytes(media_type), _NO_STREAM)
    if media_type.endswith(_STREAM_SUFFIXES):
        kind = _LINES
    if len(content_type) <= _MAX_REMEMBERED_BYTES and len(_stream_kinds) < _MAX_REMEMBERED:
        _stream_kinds[bytes(content_type)] = kind
    return kind


def _first_odd_header(headers: object) -> str:
    for item in headers if isinstance(headers, list | tuple) else (headers,):
        if not (
            isinstance(item, tuple | list)
            and len(item) == 2
            and all(isinstance(part, bytes) for part in item)
        ):
            return repr(item)[:120]
    return "what was given"


def _blame(lines: list[bytes]) -> InvalidResponse:
    for line in lines:
        if len(line.translate(None, _CONTROLS)) != len(line):
            name = line.partition(b":")[0].decode("latin-1")
            return InvalidResponse(
                f"the value of {name[:80]!r} holds a CR, LF or NUL, or another control character"
            )
    raise AssertionError("unreachable: counted a character that no line holds")
