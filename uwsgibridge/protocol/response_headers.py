"""Encodes the headers of an answer, refuses invalid ones, and finds those that the bridge acts on.

The rules are those of RFC 9110 and of nginx's ``ngx_http_uwsgi_process_header``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias, cast

from uwsgibridge.fast import accelerator
from uwsgibridge.protocol.errors import InvalidResponse

# How many names are remembered. An application may take a name from a request, so that neither their number nor
# their bytes may grow with the requests.
_MAX_REMEMBERED: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_BUILT_IN: Final = frozenset({list, tuple, dict, set, frozenset, str, bytes})

# Control characters that a header's value must not have: all but the tab (RFC 9110, section 5.5).
_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])

# Kinds of headers, by what the bridge does with them. They are plain integers, because an enum would cost each
# request time.
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
    # Hop-by-hop headers, which are not sent to the frontend (RFC 9110, section 7.6.1;
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

# No real size has more digits. Python's int() refuses thousands of digits.
_MAX_LENGTH_DIGITS: Final = 18

# Kinds of content types, by what the bridge does with them.
NO_STREAM: Final = 0
LINES: Final = 1
EVENTS: Final = 2

# Content types whose readers take each line, event or part as it comes.
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

# The kinds of names and content types that were met so far, as they were written.
known_kinds: Final[dict[bytes, int]] = {}
known_stream_kinds: Final[dict[bytes, int]] = {}

# The same by the texts of a WSGI application. What is here is in the dicts above, too, which have their limits.
known_text_kinds: Final[dict[str, int]] = {}
known_text_stream_kinds: Final[dict[str, int]] = {}


def encode_head(status: int, line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Encode the head of an answer, without its end, and find out what its headers say.

    Args:
        status: the code.
        line: the code with its reason.
        headers: names and values; they are validated here.

    Returns:
        The bytes; the Content-Length; the kind of the content type; whether there is an X-Accel-Buffering;
        whether there is an X-Accel-Expires.

    Raises:
        InvalidResponse: the head can't be sent; the message tells the application's developer why.
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
    pairs = list_headers(headers)
    try:
        for name, value in pairs:
            # `kinds.get` would take a lock in a free-threaded Python (3.13).
            kind = kinds[name] if name in kinds else _classify(name)
            if kind:
                if kind == HOP_BY_HOP:
                    continue
                if kind == CONTENT_LENGTH:
                    # Blanks around a value are no part of it (RFC 9110, section 5.5); nginx can't parse a tab there.
                    value = value.strip(b" \t")  # noqa: PLW2901 - the stripped value is sent
                    length = _parse_length(value)
                    if promised is not None:
                        if promised != length:
                            raise InvalidResponse(
                                f"two Content-Length headers, {promised} and {length}"
                            )
                        continue
                    promised = length
                    if status == 204:
                        continue  # a 204 has no Content-Length (RFC 9110, section 8.6)
                elif kind == CONTENT_TYPE:
                    content_type = bytes(value)
                    if content_type in known_stream_kinds:
                        stream_kind = known_stream_kinds[content_type]
                    else:
                        stream_kind = _find_stream_kind(value)
                elif kind == ACCEL_BUFFERING:
                    sets_buffering = True
                else:
                    sets_expires = True
            lines.append(b"%b: %b" % (name, value))
    except (TypeError, ValueError, AttributeError):
        raise not_pairs(pairs) from None
    return _join_lines(lines), promised, stream_kind, sets_buffering, sets_expires


def remember_texts(headers: Iterable[tuple[str, str]]) -> None:
    """Remember the kinds of headers by their texts, as far as `encode_head` has remembered them by their bytes.

    Args:
        headers: of a WSGI application, which `encode_head` has just encoded.
    """
    for name, value in headers:
        if type(name) is not str:
            continue
        if name not in known_text_kinds:
            encoded = name.encode("latin-1")
            if encoded not in known_kinds:
                continue
            known_text_kinds[name] = known_kinds[encoded]
        if (
            known_text_kinds[name] == CONTENT_TYPE
            and type(value) is str
            and value not in known_text_stream_kinds
        ):
            content_type = value.encode("latin-1")
            if content_type in known_stream_kinds:
                known_text_stream_kinds[value] = known_stream_kinds[content_type]


def encode_lines(line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode a head as it is, for an answer whose headers the bridge does not act on.

    Args:
        line: code and reason.
        headers: names and values; they are validated here.

    Raises:
        InvalidResponse: as `Response.start`.
    """
    lines = [b"HTTP/1.1 " + line]
    pairs = list_headers(headers)
    try:
        for name, value in pairs:
            _classify(name)
            lines.append(b"%b: %b" % (name, value))
    except (TypeError, ValueError, AttributeError):
        raise not_pairs(pairs) from None
    return _join_lines(lines) + b"\r\n\r\n"


def list_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """List headers that code of the application makes one by one, so that its exceptions stay its own.

    Args:
        headers: as the application gave them.

    Returns:
        The headers themselves where they are of a built-in type, whose iteration runs no code of the application;
        else a list of them. The items are not validated.

    Raises:
        InvalidResponse: there is nothing to iterate over.
        Exception: what the application raises as it makes the headers.
    """
    if type(headers) in _BUILT_IN:
        return headers
    try:
        iterator = iter(headers)
    except TypeError as error:
        raise not_pairs(headers) from error
    return list(iterator)


def not_pairs(headers: object) -> InvalidResponse:
    """Make the error for headers that are no pairs of bytes; it shows the first item that is none.

    Args:
        headers: what `list_headers` gave.
    """
    return InvalidResponse(f"headers must be pairs of bytes, not {_first_odd_header(headers)}")


def _join_lines(lines: list[bytes]) -> bytes:
    """Join the lines of a head, without its end.

    Raises:
        InvalidResponse: a line has a control character.
    """
    head = b"\r\n".join(lines)
    # Each line break has two control characters. Further ones come from the application.
    if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
        raise _blame(lines)
    return head


def _parse_length(value: bytes) -> int:
    """Give the number of bytes that a Content-Length has.

    Raises:
        InvalidResponse: the value is no number.
    """
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise InvalidResponse(f"Content-Length is {value[:40]!r}, not a decimal number")
    return int(value)


def _classify(name: bytes) -> int:
    """Tell the kind of a header by its name, and remember it in `known_kinds`.

    Raises:
        InvalidResponse: the name is not valid.
        TypeError: the name is not bytes.
    """
    if not _TOKEN.fullmatch(name):
        raise InvalidResponse(f"{name[:80]!r} is not a header name (RFC 9110, section 5.1)")
    kind = _SPECIAL.get(name.lower(), PLAIN)
    if len(name) <= _MAX_REMEMBERED_BYTES and len(known_kinds) < _MAX_REMEMBERED:
        known_kinds[name] = kind
    return kind


def _find_stream_kind(content_type: bytes) -> int:
    """Tell the kind of a content type, and remember it in `known_stream_kinds`.

    One with a boundary is not remembered: it is another one in each answer, and would take the place of all others.
    """
    media_type = content_type.partition(b";")[0].strip().lower()
    kind = _STREAMS.get(bytes(media_type), NO_STREAM)
    if media_type.endswith(_STREAM_SUFFIXES):
        kind = LINES
    if (
        len(content_type) <= _MAX_REMEMBERED_BYTES
        and len(known_stream_kinds) < _MAX_REMEMBERED
        and b"boundary=" not in content_type.lower()
    ):
        known_stream_kinds[bytes(content_type)] = kind
    return kind


def _first_odd_header(headers: object) -> str:
    """Show the first item that is no pair of bytes, for an error message."""
    for item in headers if isinstance(headers, list | tuple) else (headers,):
        if not (
            isinstance(item, tuple | list)
            and len(item) == 2
            and all(isinstance(part, bytes) for part in item)
        ):
            return repr(item)[:120]
    # A type that is derived from bytes may raise where bytes do not.
    types = {type(part).__name__ for item in cast("Iterable[Any]", headers) for part in item}
    return f"of {' and '.join(sorted(types))}"


def _blame(lines: list[bytes]) -> InvalidResponse:
    for line in lines:
        if len(line.translate(None, _CONTROLS)) != len(line):
            name = line.partition(b":")[0].decode("latin-1")
            return InvalidResponse(
                f"the value of {name[:80]!r} holds a CR, LF or NUL, or another control character"
            )
    raise AssertionError("unreachable: counted a character that no line holds")
