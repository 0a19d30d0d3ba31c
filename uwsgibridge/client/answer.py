"""Reads an answer: its head with `http.client`, and its body as Nginx reads it."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from http.client import HTTPException, HTTPResponse
from typing import Final, TypeAlias, cast

from uwsgibridge.client.dialing import Deadline
from uwsgibridge.client.errors import RequestError, TruncatedAnswerError
from uwsgibridge.client.exchange import CHUNK_BYTES, Exchange
from uwsgibridge.client.route import Route

_Reader: TypeAlias = "io.BufferedReader[Exchange]"

# A crash, or a kill for its memory: what the log calls `worker ended`.
_DIED: Final = "the worker that had the request died"

# Defects by which the email package, which parses the head for http.client, reports a line that is no header. It
# drops that line and all lines after it.
_HEAD_DEFECTS: Final = (FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """The status line and the headers of an answer.

    Attributes:
        status: the code, such as 200.
        reason: the words after the code, such as ``OK``; may be empty.
        headers: names and values in the order and spelling of the wire, including repeated ones.
        head: the bytes of the head as they arrived, with the empty line at its end.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    head: bytes

    def header(self, name: str) -> str | None:
        """Give the value of the first header called `name`, whose case does not matter; None where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(ResponseHead):
    """A whole answer.

    Attributes:
        body: the whole body.
    """

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedResponse(ResponseHead):
    """An answer whose body has not been read.

    Attributes:
        chunks: the body as it arrives, in pieces of at most 64 KiB; raises as `stream` does.
    """

    chunks: Iterator[bytes]


def read_head(
    reader: _Reader, route: Route, method: str, deadline: Deadline
) -> tuple[HTTPResponse, bytes]:
    lines = _HeadLines(reader)
    # HTTPResponse only calls makefile() of its socket.
    parsed = HTTPResponse(cast("socket.socket", lines), method=method)
    problem: HTTPException | OSError | None = None
    try:
        # It is closed when it has read the head, which it keeps. From Python 3.13 on, an open one complains when it
        # is collected.
        with parsed:
            parsed.begin()
    except TimeoutError as error:
        raise RequestError(
            f"{route} sent no head of an answer within {deadline.seconds:g} s: the application "
            "is slow or stuck (--timeout-seconds allows it more), or the server does not speak uwsgi"
        ) from error
    except (HTTPException, OSError) as error:
        problem = error
    head = b"".join(lines.seen)
    if not head:
        raise RequestError(
            f"{route} closed the connection without an answer: it refused the request or was "
            f"stopped, or {_DIED}; its log says which{route.hint}"
        ) from problem
    if words := route.explain_answer(head):
        raise RequestError(words) from problem
    if not head.startswith(b"HTTP/"):
        raise RequestError(
            f"{route} answered {head[:40]!r}, which is not HTTP: "
            "name an address that the bridge is bound to (--bind)"
        ) from problem
    if lines.ended or isinstance(problem, OSError):
        raise TruncatedAnswerError(
            f"{route}: the answer broke off inside its head, after {len(head)} bytes: "
            f"the server failed or was stopped, or {_DIED}; its log says which",
            received_bytes=0,
        ) from problem
    if problem is not None:
        raise RequestError(f"{route} sent a head that is not valid HTTP: {problem}") from problem
    if any(isinstance(defect, _HEAD_DEFECTS) for defect in parsed.headers.defects):
        raise RequestError(f"{route} sent a head with a line that is no header: {head[:200]!r}")
    if lines.seen[0].split(None, 2)[1] == b"100":
        # http.client skips such a line silently, but nginx's ngx_http_uwsgi_process_header does not.
        raise RequestError(
            f"{route} sent an interim answer 100, which Nginx takes for the final one"
        )
    return parsed, head


def read_body(
    reader: _Reader,
    length_bytes: int | None,
    route: Route,
    deadline: Deadline,
) -> Iterator[bytes]:
    # Not with HTTPResponse.read, which would decode a Transfer-Encoding, as Nginx does not.
    received_bytes = 0
    while length_bytes is None or received_bytes < length_bytes:
        missing_bytes = CHUNK_BYTES if length_bytes is None else length_bytes - received_bytes
        chunk, problem = b"", None
        try:
            chunk = reader.read1(min(CHUNK_BYTES, missing_bytes))
        except TimeoutError as error:
            raise RequestError(
                f"{route} did not complete its answer within {deadline.seconds:g} s "
                f"({received_bytes} bytes of the body arrived); --timeout-seconds allows it more"
            ) from error
        except OSError as error:
            problem = error
        if not chunk:
            if problem is None and length_bytes is None:
                return
            of_length = "" if length_bytes is None else f" of {length_bytes}"
            raise TruncatedAnswerError(
                f"{route}: the answer broke off after {received_bytes}{of_length} bytes of its "
                f"body: the application failed or the server was stopped, or {_DIED}; its log says "
                "which",
                received_bytes=received_bytes,
            ) from problem
        received_bytes += len(chunk)
        yield chunk


class _HeadLines(io.BufferedIOBase):
    """Lets HTTPResponse read the head, and keeps the lines.

    Attributes:
        seen: the lines so far.
        ended: whether the connection has ended, within a line or before one.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self.seen: list[bytes] = []
        self.ended = False

    def makefile(self, _mode: str) -> _HeadLines:
        return self

    def readline(self, limit: int | None = -1, /) -> bytes:
        line = self._reader.readline(limit)
        self.seen.append(line)
        self.ended = not line.endswith(b"\n") and len(line) != limit
        return line
