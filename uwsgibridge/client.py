"""A uwsgi client: asks a uwsgi port what Nginx would ask it.

For health checks, for looking at an application without a frontend, and for tests. It is
synchronous and stands on stdlib sockets. One connection carries one request; it is never
half-closed, since a uwsgi server may take that for a client that went away.
"""

from __future__ import annotations

import errno
import io
import selectors
import shutil
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeAlias, cast
from urllib.parse import unquote_to_bytes

from uwsgibridge.config.address import (
    FORMS_TO_CONNECT,
    AddressError,
    DescriptorAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)
from uwsgibridge.protocol.packet import MODIFIER_REQUEST, PING, PONG, encode_packet

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Address: TypeAlias = str | TcpAddress | UnixAddress | DescriptorAddress
_Reader: TypeAlias = "io.BufferedReader[_Exchange]"
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

DEFAULT_PING_TIMEOUT_SECONDS: Final = 5.0
DEFAULT_REQUEST_TIMEOUT_SECONDS: Final = 60.0

# Eleven days: below what epoll_wait can count in milliseconds, above what anyone waits.
_LONGEST_TIMEOUT_SECONDS: Final = 1_000_000.0
_CHUNK_BYTES: Final = 64 * 1024
# What the email package, to which http.client hands the head, says of a line that is no header; it
# drops that line and all after it.
_HEAD_DEFECTS: Final = (FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect)
# A body of unknown size is kept in memory up to this, and in a temporary file beyond it.
_SPOOLED_BODY_BYTES: Final = 1024 * 1024
# A server that is silent for so long is asked once whether it speaks HTTP.
_SILENCE_SECONDS: Final = 1.0
# A uwsgi server answers a ping in some milliseconds, and an HTTP server the end of a line.
_PROBE_SECONDS: Final = 0.5
# ``<`` begins the page that an HTTP server sends, without a head, to a line that names no version
# (HTTP/0.9).
_BEGINNINGS_OF_HTTP: Final = (b"HTTP", b"<")


class ClientError(Exception):
    """No (whole) answer came; the message is a sentence that says what to do about it."""


class PingError(ClientError):
    """The ping was not answered as a uwsgi server answers it."""


class RequestError(ClientError):
    """The request was not answered, or not with HTTP."""


class TruncatedAnswerError(RequestError):
    """The answer began and broke off.

    Attributes:
        received_bytes: how much of the body had arrived; 0 where the head was cut.
    """

    def __init__(self, message: str, *, received_bytes: int) -> None:
        super().__init__(message)
        self.received_bytes = received_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """The status line and the headers of an answer.

    Attributes:
        status: such as 200.
        reason: such as ``OK``; may be empty.
        headers: names and values in the order and spelling of the wire, repeats included.
        head: the same as the bytes that arrived, with the empty line that ends them.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    head: bytes

    def header(self, name: str) -> str | None:
        """Give the value of the first header called `name` in any case, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(ResponseHead):
    """A whole answer.

    Attributes:
        body: all of it.
    """

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedResponse(ResponseHead):
    """An answer whose body is still to be read.

    Attributes:
        chunks: the body as it arrives, in pieces of at most 64 KiB; raises as `stream` does.
    """

    chunks: Iterator[bytes]


def ping(address: Address, *, timeout_seconds: float = DEFAULT_PING_TIMEOUT_SECONDS) -> float:
    """Ask whether a uwsgi server answers at `address`.

    Args:
        address: text such as ``127.0.0.1:3031`` or ``unix:/run/app.sock``, or a parsed address.
        timeout_seconds: for connecting and the answer together. Looking up a host name is not in
            it: the resolver has its own limits.

    Returns:
        The seconds from connecting to the answer.

    Raises:
        PingError: nothing or something else listens there, or no answer came in time.
        ValueError: the address (as `AddressError`) or the timeout makes no sense.
    """
    target = _dialable(address)
    deadline = _Deadline(timeout_seconds)
    started = time.perf_counter()
    answer = b""
    with _connect(target, deadline, PingError) as connection:
        try:
            connection.settimeout(deadline.remaining_seconds())
            connection.sendall(PING)
            while len(answer) < len(PONG):
                connection.settimeout(deadline.remaining_seconds())
                piece = connection.recv(len(PONG) - len(answer))
                if not piece:
                    break
                answer += piece
        except TimeoutError as error:
            raise PingError(
                f"{target} took the connection and gave no answer within {timeout_seconds:g} s: "
                "the server there is stuck, or it does not speak uwsgi"
            ) from error
        except OSError as error:
            raise PingError(
                f"{target} broke the connection ({_strerror(error)}): "
                "check that the address is one of the bridge's --bind addresses"
            ) from error
    elapsed_seconds = time.perf_counter() - started
    if answer == PONG:
        return elapsed_seconds
    if answer == b"HTTP":
        raise PingError(_http_server_at(target))
    said = f"answered {answer!r}" if answer else "closed the connection"
    raise PingError(
        f"{target} {said} where a uwsgi server answers a ping: something else listens there; "
        "name an address that the bridge is bound to (--bind)"
    )


def request(
    address: Address,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Headers = (),
    body: bytes | IO[bytes] = b"",
    vars: Mapping[str, str | None] | None = None,  # noqa: A002 - the protocol's word for them
    modifier1: int = MODIFIER_REQUEST,
    timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
) -> Response:
    """Send one request and wait for the whole answer.

    The body of the answer is held in memory; `stream` is for large ones. Arguments and errors are
    those of `stream`.
    """
    with stream(
        address,
        path,
        method=method,
        headers=headers,
        body=body,
        vars=vars,
        modifier1=modifier1,
        timeout_seconds=timeout_seconds,
    ) as answer:
        return Response(
            status=answer.status,
            reason=answer.reason,
            headers=answer.headers,
            head=answer.head,
            body=b"".join(answer.chunks),
        )


@contextmanager
def stream(
    address: Address,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Headers = (),
    body: bytes | IO[bytes] = b"",
    vars: Mapping[str, str | None] | None = None,  # noqa: A002 - the protocol's word for them
    modifier1: int = MODIFIER_REQUEST,
    timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
) -> Iterator[StreamedResponse]:
    """Send one request and hand over the answer as soon as its head is there.

    The connection is closed when the context is left, whether or not the body was read. A request
    body goes out while the answer is read, so that an application may answer as it reads.

    A server that answers 400, or is silent for a second, may be an HTTP server: a ping on a second
    connection finds out.

    Args:
        address: text such as ``127.0.0.1:3031`` or ``unix:/run/app.sock``, or a parsed address.
        path: the request target, percent-encoded, with its query string; other characters than
            ASCII go out as UTF-8. Nothing is normalised: ``//`` and ``..`` stay.
        method: sent as it is.
        headers: sent as ``HTTP_*`` vars, in latin-1; repeats are joined as nginx >= 1.23 does.
            ``Host: localhost`` is added where there is none, and Content-Length for a body.
        body: ``b""`` is none at all. A file is read from where it stands; one that can't seek is
            first copied, since uwsgi wants the length ahead. Stays open.
        vars: laid over the vars that Nginx's ``uwsgi_params`` would send; None removes one.
        modifier1: 0, or 30 to have SCRIPT_NAME cut off the front of PATH_INFO.
        timeout_seconds: for everything from connecting to the last byte of the answer, however
            steadily it trickles. Looking up a host name is not in it.

    Yields:
        The head, and the body as an iterator.

    Raises:
        TruncatedAnswerError: the connection ended inside the head, before Content-Length bytes,
            or with a reset.
        RequestError: there is no connection, no answer in time, or it isn't HTTP; the server speaks HTTP
            and not uwsgi; or `body` can't
            be read.
        ValueError: the address (as `AddressError`) or the timeout makes no sense, or the vars
            don't fit the 65,535 bytes of a packet.
    """
    target = _dialable(address)
    with _measured(body) as (source, body_bytes):
        packet = encode_packet(
            _build_vars(path, method, headers, body_bytes, vars or {}), modifier1=modifier1
        )
        deadline = _Deadline(timeout_seconds)
        with (
            _connect(target, deadline, RequestError) as connection,
            closing(_Exchange(connection, packet, source, body_bytes or 0, deadline)) as exchange,
        ):
            exchange.when_silent = partial(_refuse_http_server, target, deadline)
            reader = io.BufferedReader(exchange, _CHUNK_BYTES)
            parsed, head = _read_head(reader, target, method, deadline)
            if parsed.status == HTTPStatus.BAD_REQUEST:
                _refuse_http_server(target, deadline)
            yield StreamedResponse(
                status=parsed.status,
                reason=parsed.reason,
                headers=parsed.getheaders(),
                head=head,
                chunks=_read_body(reader, parsed.length, target, deadline),
            )


def _build_vars(
    path: str,
    method: str,
    headers: Headers,
    body_bytes: int | None,
    overrides: Mapping[str, str | None],
) -> dict[str, str]:
    """Give what nginx's ``uwsgi_params`` and ``ngx_http_uwsgi_create_request`` send, in that order."""
    # From the command line a path may hold bytes that are no UTF-8: they go out as they came.
    request_uri = path.encode("utf-8", "surrogateescape").decode("latin-1")
    raw_path, _, query_string = request_uri.partition("?")
    from_headers = {"HTTP_HOST": "localhost"}
    seen: set[str] = set()
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        key = "HTTP_" + name.upper().replace("-", "_")
        if key in seen:
            separator = "; " if key == "HTTP_COOKIE" else ", "
            from_headers[key] += separator + value
        else:
            from_headers[key] = value
            seen.add(key)
    if body_bytes is not None:
        from_headers.setdefault("HTTP_CONTENT_LENGTH", str(body_bytes))
    variables = {
        "QUERY_STRING": query_string,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": from_headers.get("HTTP_CONTENT_TYPE", ""),
        "CONTENT_LENGTH": from_headers.get("HTTP_CONTENT_LENGTH", ""),
        "REQUEST_URI": request_uri,
        "PATH_INFO": unquote_to_bytes(raw_path.encode("latin-1")).decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "localhost",
        **from_headers,
    }
    for name, override in overrides.items():
        if override is None:
            variables.pop(name, None)
        else:
            variables[name] = override
    return variables


@contextmanager
def _measured(body: bytes | IO[bytes]) -> Iterator[tuple[IO[bytes], int | None]]:
    """Give the body as a file and its size, None where there is no body."""
    if isinstance(body, bytes | bytearray | memoryview):
        yield io.BytesIO(body), len(body) or None
        return
    with ExitStack() as stack:
        try:
            if body.seekable():
                start = body.tell()
                size_bytes = body.seek(0, io.SEEK_END) - start
                body.seek(start)
            else:
                copy = stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED_BODY_BYTES))
                shutil.copyfileobj(body, copy)
                size_bytes = copy.tell()
                copy.seek(0)
                body = copy
        except OSError as error:
            raise RequestError(f"The request's body can't be read: {_strerror(error)}") from error
        yield body, size_bytes


def _read_head(
    reader: _Reader, target: TcpAddress | UnixAddress, method: str, deadline: _Deadline
) -> tuple[HTTPResponse, bytes]:
    lines = _HeadLines(reader)
    # HTTPResponse asks its socket for nothing but makefile().
    parsed = HTTPResponse(cast("socket.socket", lines), method=method)
    problem: HTTPException | OSError | None = None
    try:
        # Closed as soon as it has read the head, which it keeps: one that is left open complains when it is
        # collected, from Python 3.13 on.
        with parsed:
            parsed.begin()
    except TimeoutError as error:
        raise RequestError(
            f"{target} sent no head of an answer within {deadline.seconds:g} s: the application "
            "is slow or stuck (--timeout-seconds allows it more), or the server does not speak uwsgi"
        ) from error
    except (HTTPException, OSError) as error:
        problem = error
    head = b"".join(lines.seen)
    if not head:
        raise RequestError(
            f"{target} closed the connection without an answer: it refused the request or was "
            "stopped; its log says which"
        ) from problem
    if not head.startswith(b"HTTP/"):
        raise RequestError(
            f"{target} answered {head[:40]!r}, which is not HTTP: "
            "name an address that the bridge is bound to (--bind)"
        ) from problem
    if lines.ended or isinstance(problem, OSError):
        raise TruncatedAnswerError(
            f"{target}: the answer broke off inside its head, after {len(head)} bytes: "
            "the server failed or was stopped; its log says which",
            received_bytes=0,
        ) from problem
    if problem is not None:
        raise RequestError(f"{target} sent a head that is not valid HTTP: {problem}") from problem
    if any(isinstance(defect, _HEAD_DEFECTS) for defect in parsed.headers.defects):
        raise RequestError(f"{target} sent a head with a line that is no header: {head[:200]!r}")
    if lines.seen[0].split(None, 2)[1] == b"100":
        # http.client skips it silently; nginx's ngx_http_uwsgi_process_header does not.
        raise RequestError(
            f"{target} sent an interim answer 100, which Nginx takes for the final one"
        )
    return parsed, head


def _read_body(
    reader: _Reader,
    length_bytes: int | None,
    target: TcpAddress | UnixAddress,
    deadline: _Deadline,
) -> Iterator[bytes]:
    # Not by HTTPResponse.read: it would undo Transfer-Encoding, which Nginx does not.
    received_bytes = 0
    while length_bytes is None or received_bytes < length_bytes:
        missing_bytes = _CHUNK_BYTES if length_bytes is None else length_bytes - received_bytes
        chunk, problem = b"", None
        try:
            chunk = reader.read1(min(_CHUNK_BYTES, missing_bytes))
        except TimeoutError as error:
            raise RequestError(
                f"{target} did not complete its answer within {deadline.seconds:g} s "
                f"({received_bytes} bytes of the body arrived); --timeout-seconds allows it more"
            ) from error
        except OSError as error:
            problem = error
        if not chunk:
            if problem is None and length_bytes is None:
                return
            of_length = "" if length_bytes is None else f" of {length_bytes}"
            raise TruncatedAnswerError(
                f"{target}: the answer broke off after {received_bytes}{of_length} bytes of its "
                "body: the application failed or the server was stopped; its log says which",
                received_bytes=received_bytes,
            ) from problem
        received_bytes += len(chunk)
        yield chunk


class _HeadLines(io.BufferedIOBase):
    """Lets HTTPResponse read the head, and keeps what it read.

    Attributes:
        seen: the lines so far.
        ended: whether the connection's end came inside or instead of a line.
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


class _Exchange(io.RawIOBase):
    """The connection as a file to read the answer from; the request goes out meanwhile.

    Reading drives both directions: an application that answers while it reads its body would
    otherwise fill both buffers and wait for us for ever. It does not own the connection.

    Attributes:
        when_silent: called once where the server has sent nothing for a second; may raise.
    """

    def __init__(
        self,
        connection: socket.socket,
        packet: bytes,
        body: IO[bytes],
        body_bytes: int,
        deadline: _Deadline,
    ) -> None:
        self._connection = connection
        self._pending = memoryview(packet)
        self._body = body
        self._unread_bytes = body_bytes
        self._deadline = deadline
        self.when_silent: Callable[[], None] | None = None
        self._silent_at = time.monotonic() + _SILENCE_SECONDS
        self._selector = selectors.DefaultSelector()
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while True:
            wait_seconds = self._deadline.remaining_seconds()
            if self.when_silent is not None:
                wait_seconds = min(wait_seconds, max(0.0, self._silent_at - time.monotonic()))
            ready = self._selector.select(wait_seconds)
            for _key, events in ready:
                if events & selectors.EVENT_READ:
                    self.when_silent = None
                    try:
                        return self._connection.recv_into(buffer)
                    except BlockingIOError:
                        pass
                if events & selectors.EVENT_WRITE:
                    self._send()
            if self.when_silent is not None and time.monotonic() >= self._silent_at:
                when_silent, self.when_silent = self.when_silent, None
                when_silent()

    def close(self) -> None:
        self._selector.close()
        super().close()

    def _send(self) -> None:
        if not self._pending and self._unread_bytes:
            self._pending = memoryview(self._next_piece())
        try:
            sent_bytes = self._connection.send(self._pending)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # It refuses the rest of the request; an answer may still be there to be read.
            self._unread_bytes = 0
            sent_bytes = len(self._pending)
        self._pending = self._pending[sent_bytes:]
        if not self._pending and not self._unread_bytes:
            self._selector.modify(self._connection, selectors.EVENT_READ)

    def _next_piece(self) -> bytes:
        try:
            piece = self._body.read(min(_CHUNK_BYTES, self._unread_bytes))
        except OSError as error:
            raise RequestError(f"The request's body can't be read: {_strerror(error)}") from error
        if not piece:
            raise RequestError(
                f"The file of the request's body ended {self._unread_bytes} bytes early: "
                "it became shorter while it was sent"
            )
        self._unread_bytes -= len(piece)
        return piece


class _Deadline:
    """One point in time for all the waits of a call."""

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
            raise ValueError(
                f"The timeout (--timeout-seconds) must be over 0 and at most "
                f"{_LONGEST_TIMEOUT_SECONDS:.0f} seconds, not {seconds:g}"
            )
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        remaining = self._at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining


def _refuse_http_server(target: TcpAddress | UnixAddress, deadline: _Deadline) -> None:
    """Ask on a second connection whether the server speaks HTTP.

    Raises:
        RequestError: it does.
    """
    answer = b""
    with suppress(OSError, ClientError), _connect(target, deadline, RequestError) as connection:
        # A server that reads lines has the end of none in a ping. A uwsgi server reads no more than the ping.
        for piece in (PING, b"\r\n\r\n"):
            connection.settimeout(min(_PROBE_SECONDS, deadline.remaining_seconds()))
            connection.sendall(piece)
            with suppress(TimeoutError):
                answer = connection.recv(_CHUNK_BYTES)
                break
    if answer.startswith(_BEGINNINGS_OF_HTTP):
        raise RequestError(_http_server_at(target))


def _http_server_at(target: TcpAddress | UnixAddress) -> str:
    return (
        f"An HTTP server answers at {target}: "
        "name an address that the bridge is bound to (--bind), not Nginx's"
    )


def _dialable(address: Address) -> TcpAddress | UnixAddress:
    parsed = parse_address(address, forms=FORMS_TO_CONNECT) if isinstance(address, str) else address
    if isinstance(parsed, DescriptorAddress):
        raise AddressError(
            f"{parsed} is a descriptor of the server's: name the address behind it, "
            "such as 127.0.0.1:3031 or unix:/run/app.sock"
        )
    return parsed


def _connect(
    target: TcpAddress | UnixAddress, deadline: _Deadline, failure: type[ClientError]
) -> socket.socket:
    try:
        if isinstance(target, TcpAddress):
            return _connect_tcp(target, deadline)
        return _connect_unix(target, deadline)
    except (TimeoutError, BlockingIOError) as error:
        raise failure(
            f"{target} did not accept a connection within {deadline.seconds:g} s: "
            "the server's queue is full, or a firewall drops the packets"
        ) from error
    except OSError as error:
        raise failure(_why_unreachable(target, error)) from error


def _connect_tcp(target: TcpAddress, deadline: _Deadline) -> socket.socket:
    problem: OSError | None = None
    for family, kind, protocol, _name, address in socket.getaddrinfo(
        target.host, target.port, type=socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.remaining_seconds())
            connection.connect(address)
            # A body after its packet must not wait for the packet's delayed acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError as error:
            connection.close()
            problem = error
    assert problem is not None  # getaddrinfo gives at least one address
    raise problem


def _connect_unix(target: UnixAddress, deadline: _Deadline) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Where the queue is full, a non-blocking connect (which settimeout makes it) fails at once,
        # and a blocking one waits for SO_SNDTIMEO (Linux: unix_stream_connect).
        seconds, fraction = divmod(deadline.remaining_seconds(), 1)
        timeval = struct.pack("@ll", int(seconds), max(1, int(fraction * 1_000_000)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        connection.connect(target.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _why_unreachable(target: TcpAddress | UnixAddress, error: OSError) -> str:
    if isinstance(target, TcpAddress):
        if isinstance(error, socket.gaierror):
            return f"The host name of {target} has no address ({_strerror(error)})"
        if error.errno == errno.ECONNREFUSED:
            return f"Nothing listens at {target}: start the bridge with --bind {target}"
        return f"{target} can't be reached: {_strerror(error)}"
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return f"There is no such socket: {target}; start the bridge with --bind {target}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"Permission denied on {target}: act as a user that may write to it, "
            "or start the bridge with another --socket-mode"
        )
    if error.errno == errno.ECONNREFUSED:
        if not stat.S_ISSOCK(Path(target.path).stat().st_mode):
            return f"{target} is a file and no socket: name the one given to --bind"
        return (
            f"Nothing listens at {target}, its server is gone: start the bridge with "
            f"--bind {target}, which replaces the left-over socket"
        )
    return f"{target} can't be reached: {_strerror(error)}"


def _strerror(error: OSError) -> str:
    return error.strerror or str(error)
