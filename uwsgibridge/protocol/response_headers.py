"""What the headers of an answer mean to us, and what must not leave in one.

The rules are those of RFC 9110 and of nginx's ``ngx_http_uwsgi_process_header``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from uwsgibridge.fast import accelerator
from uwsgibridge.protocol.errors import InvalidResponse

# Names may come from clients, by way of an application: neither their number nor their bytes
# may grow with what is asked.
_MAX_REMEMBERED: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Those that a header's value must not have: all but the tab (RFC 9110, section 5.5).
_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])

# What a header's name means to us. Plain integers: an enum's costs show on the request path.
PLAIN: Final = 0
CONTENT_LENGTH: Final = 1
HOP_BY_HOP: Final = 2
CONTENT_TYPE: Final = 3
ACCEL_BUFFERING: Final = 4
ACCEL_EXPIRES: Final = 5

_SPECIAL: Final = {
    b"content-length": CONTENT_LENGTH,
    b"content-type": CONTENT_TYPE,
    b"x-accel-buffering": ACCEL_BUFFERING,
    b"x-accel-expires": ACCEL_EXPIRES,
    # Names that a frontend on the other side of a hop must not be sent (RFC 9110, section 7.6.1;
    # PEP 3333, "Other HTTP Features").
    b"connection": HOP_BY_HOP,
    b"keep-alive": HOP_BY_HOP,
    b"proxy-authenticate": HOP_BY_HOP,
    b"proxy-authorization": HOP_BY_HOP,
    b"proxy-connection": HOP_BY_HOP,
    b"te": HOP_BY_HOP,
    b"trailer": HOP_BY_HOP,
    b"trailers": HOP_BY_HOP,
    b"transfer-encoding": HOP_BY_HOP,
    b"upgrade": HOP_BY_HOP,
}

# More digits than any size that exists; int() of thousands of them is refused by Python itself.
_MAX_LENGTH_DIGITS: Final = 18

# What a content type means to us.
NO_STREAM: Final = 0
LINES: Final = 1
EVENTS: Final = 2

# Types whose readers take each line, event or part as it comes.
_STREAMS: Final = {
    b"application/json-lines": LINES,
    b"application/json-seq": LINES,  # RFC 7464
    b"application/jsonl": LINES,
    b"application/jsonlines": LINES,
    b"application/ndjson": LINES,
    b"application/stream+json": LINES,
    b"application/x-json-stream": LINES,
    b"application/x-jsonlines": LINES,
    b"application/x-ndjson": LINES,
    b"multipart/mixed": LINES,  # GraphQL's subscriptions and deferred parts
    b"multipart/x-mixed-replace": LINES,
    b"text/event-stream": EVENTS,
}
_STREAM_SUFFIXES: Final = (b"+json-seq", b"+jsonl", b"+ndjson")  # RFC 8091, and by analogy

Head: TypeAlias = tuple[bytes, int | None, int, bool, bool]

# The names and content types that were met so far, as they were written.
known_kinds: Final[dict[bytes, int]] = {}
known_stream_kinds: Final[dict[bytes, int]] = {}


def encode_head(status: int, line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Encode the head of an answer, without its end, and find out what its headers say.

    Args:
        status: the code.
        line: the same with its reason.
        headers: names and values; validated here.

    Returns:
        The bytes; the Content-Length; what the content type means; whether there is an X-Accel-Buffering
        and an X-Accel-Expires.

    Raises:
        InvalidResponse: what can't be sent, in words for the application's developer.
    """
    if accelerator is not None:
        plain = accelerator.encode_head(line, headers, known_kinds, known_stream_kinds)
        if plain is not None:
            return plain
    promised: int | None = None
    stream_kind = NO_STREAM
    sets_buffering = sets_expires = False
    lines = [b"HTTP/1.1 " + line]
    kinds = known_kinds
    try:
        for name, value in headers:
            kind = kinds.get(name)
            if kind is None:
                kind = _classify(name)
            if kind:
                if kind == HOP_BY_HOP:
                    continue
                if kind == CONTENT_LENGTH:
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
                elif kind == CONTENT_TYPE:
                    known = known_stream_kinds.get(bytes(value))
                    stream_kind = _find_stream_kind(value) if known is None else known
                elif kind == ACCEL_BUFFERING:
                    sets_buffering = True
                else:
                    sets_expires = True
            lines.append(b"%b: %b" % (name, value))
    except (TypeError, ValueError, AttributeError):
        raise InvalidResponse(
            f"headers must be pairs of bytes, not {_first_odd_header(headers)}"
        ) from None
    return _join_lines(lines), promised, stream_kind, sets_buffering, sets_expires


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
    return _join_lines(lines) + b"\r\n\r\n"


def _join_lines(lines: list[bytes]) -> bytes:
    """Join the lines of a head, without its end.

    Raises:
        InvalidResponse: one of them holds a control character.
    """
    head = b"\r\n".join(lines)
    # What is over the two characters of each break is an application's.
    if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
        raise _blame(lines)
    return head


def _parse_length(value: bytes) -> int:
    """Give the bytes that a Content-Length tells.

    Raises:
        InvalidResponse: it is no number.
    """
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise InvalidResponse(f"Content-Length is {value[:40]!r}, not a decimal number")
    return int(value)


def _classify(name: bytes) -> int:
    """Tell what a header of this name means to us, and remember it in `known_kinds`.

    Raises:
        InvalidResponse: it is no name.
        TypeError: it is not bytes.
    """
    if not _TOKEN.fullmatch(name):
        raise InvalidResponse(f"{name[:80]!r} is not a header name (RFC 9110, section 5.1)")
    kind = _SPECIAL.get(name.lower(), PLAIN)
    if len(name) <= _MAX_REMEMBERED_BYTES and len(known_kinds) < _MAX_REMEMBERED:
        known_kinds[name] = kind
    return kind


def _find_stream_kind(content_type: bytes) -> int:
    """Tell what a content type means to us, and remember it in `known_stream_kinds`."""
    media_type = content_type.partition(b";")[0].strip().lower()
    kind = _STREAMS.get(bytes(media_type), NO_STREAM)
    if media_type.endswith(_STREAM_SUFFIXES):
        kind = LINES
    if len(content_type) <= _MAX_REMEMBERED_BYTES and len(known_stream_kinds) < _MAX_REMEMBERED:
        known_stream_kinds[bytes(content_type)] = kind
    return kind


def _first_odd_header(headers: object) -> str:
    """Show the first item that is no pair of bytes, for the message of an error."""
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
