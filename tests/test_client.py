"""The uwsgi client against stand-in servers that answer well, badly, late or not at all."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from uwsgibridge.client import (
    PingError,
    RequestError,
    TruncatedAnswerError,
    ping,
    request,
    stream,
)
from uwsgibridge.config.address import AddressError, TcpAddress, UnixAddress
from uwsgibridge.protocol.packet import PING, PONG, Packet, PacketLimits, parse_packet

# A test that hangs is a failure: longer than any answer takes on a busy machine.
PATIENCE_SECONDS = 20.0
# For an answer that never comes.
SHORT_SECONDS = 0.1

OK = b"HTTP/1.1 200 OK\r\n"


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.body_start = b""

    def receive_packet(self) -> Packet:
        received = b""
        while True:
            piece = self.connection.recv(65_536)
            assert piece, "the client went away inside its packet"
            received += piece
            packet = parse_packet(memoryview(received), PacketLimits())
            if packet is not None:
                self.body_start = received[packet.size_bytes :]
                return packet

    def receive_request(self) -> tuple[dict[str, str], bytes]:
        variables = self.receive_packet().vars
        body = self.body_start
        while len(body) < int(variables.get("CONTENT_LENGTH") or 0):
            piece = self.connection.recv(65_536)
            assert piece, "the client went away inside its body"
            body += piece
        return variables, body

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def reset(self) -> None:
        if self.connection.family != socket.AF_UNIX:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


Behaviour = Callable[[Peer], object]
Serve = Callable[[Behaviour], Any]


def listen(family: str, directory: Path) -> tuple[socket.socket, str]:
    if family == "unix":
        path = directory / "app.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        return listener, f"unix:{path}"
    if family == "ipv6":
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        return listener, f"[::1]:{listener.getsockname()[1]}"
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(behaviour: Behaviour, family: str, directory: Path) -> Iterator[str]:
    """Accept one connection, behave, close; what the behaviour raises fails the test."""
    listener, address = listen(family, directory)
    problems: list[BaseException] = []

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            connection.settimeout(PATIENCE_SECONDS)
            with connection:
                behaviour(Peer(connection))
        except BaseException as problem:
            problems.append(problem)

    with listener:
        listener.settimeout(PATIENCE_SECONDS)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address
        finally:
            thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    if problems:
        raise problems[0]


@pytest.fixture(params=["ipv4", "ipv6", "unix"])
def serve_all(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    return lambda behaviour: serving(behaviour, request.param, tmp_path)


@pytest.fixture(params=["ipv4", "unix"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    return lambda behaviour: serving(behaviour, request.param, tmp_path)


def answering(answer: bytes, seen: list[tuple[dict[str, str], bytes]] | None = None) -> Behaviour:
    def behave(peer: Peer) -> None:
        received = peer.receive_request()
        if seen is not None:
            seen.append(received)
        peer.send(answer)

    return behave


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def vars_of(path: str = "/", **options: Any) -> dict[str, str]:
    """Give the vars that a server receives for one request."""
    seen: list[tuple[dict[str, str], bytes]] = []
    with serving(answering(OK + b"\r\n", seen), "ipv4", Path()) as address:
        assert request(address, path, **options).status == 200
    return seen[0][0]


# ping


def test_ping_measures_the_round_trip(serve_all: Serve) -> None:
    asked: list[bytes] = []

    def pong(peer: Peer) -> None:
        asked.append(peer.connection.recv(100))
        for byte in PONG:
            peer.send(bytes([byte]))

    with serve_all(pong) as address:
        elapsed_seconds = ping(address)
    assert asked == [PING]
    assert 0 < elapsed_seconds < PATIENCE_SECONDS


def test_ping_takes_a_parsed_address() -> None:
    def pong(peer: Peer) -> None:
        peer.connection.recv(100)
        peer.send(PONG)

    with serving(pong, "ipv4", Path()) as address:
        assert ping(TcpAddress("127.0.0.1", int(address.rpartition(":")[2]))) > 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "An HTTP server answers at"),
        (b"", "closed the connection where a uwsgi server"),
        (PONG[:3], "something else listens there"),
        (b"+OK\r\n", "something else listens there"),
        # A TCP connection to itself, or an echo server, gives the question back.
        (PING, "something else listens there"),
    ],
)
def test_ping_refuses_any_other_answer(serve: Serve, answer: bytes, says: str) -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(100)
        peer.send(answer)

    with serve(behave) as address, pytest.raises(PingError, match=says) as raised:
        ping(address)
    assert address in str(raised.value)


def test_ping_explains_a_reset(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(1)  # on a unix socket, unread input resets
        peer.reset()

    with serve(behave) as address, pytest.raises(PingError, match="broke the connection"):
        ping(address)


def test_ping_has_a_deadline(serve: Serve) -> None:
    over = threading.Event()

    with serve(lambda _peer: over.wait(PATIENCE_SECONDS)) as address:
        with pytest.raises(PingError, match=r"no answer within 0\.1 s"):
            ping(address, timeout_seconds=SHORT_SECONDS)
        over.set()


# no connection


@pytest.mark.parametrize(("call", "error"), [(ping, PingError), (request, RequestError)])
def test_nothing_listens(call: Callable[[str], Any], error: type[Exception]) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(error, match=f"Nothing listens at {address}: .* --bind {address}"):
        call(address)


def test_a_missing_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(PingError, match=r"no such socket: unix:.*absent\.sock; start"):
        ping(f"unix:{tmp_path}/absent.sock")


def test_a_socket_without_a_server_is_told(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(PingError, match="its server is gone"):
        ping(UnixAddress(str(path)))


def test_a_file_instead_of_a_socket_is_told(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    path.write_text("")
    with pytest.raises(PingError, match="is a file and no socket"):
        ping(f"unix:{path}")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Act as a user to whom permissions apply; root, as in a container, may do everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_socket_without_permission_is_told(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0)
        listener.listen()
        with unprivileged(), pytest.raises(PingError, match=r"Permission denied .* --socket-mode"):
            ping(f"unix:{path}")
    assert stat.S_ISSOCK(path.stat().st_mode)


def test_a_full_queue_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        try:
            while True:
                connection = socket.socket(socket.AF_UNIX)
                waiting.append(connection)
                connection.setblocking(False)
                connection.connect(path)
        except BlockingIOError:
            pass
        started = time.monotonic()
        with pytest.raises(PingError, match=r"did not accept a connection within 0\.1 s"):
            ping(f"unix:{path}", timeout_seconds=SHORT_SECONDS)
        assert time.monotonic() - started >= SHORT_SECONDS

        # A place in the queue becomes free while the client waits for it.
        def pong() -> None:
            for expected in [b""] * (len(waiting) - 1) + [PING]:
                accepted, _ = listener.accept()
                with accepted:
                    accepted.settimeout(PATIENCE_SECONDS)
                    assert accepted.recv(100) == expected
                    if expected:
                        accepted.sendall(PONG)

        for connection in waiting:
            connection.close()
        listener.settimeout(PATIENCE_SECONDS)
        thread = threading.Thread(target=pong)
        thread.start()
        assert ping(f"unix:{path}", timeout_seconds=PATIENCE_SECONDS) > 0
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_an_unknown_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(PingError, match=r"host name of app:3031 has no address \(Name or service"):
        ping("app:3031")


def test_all_addresses_of_a_host_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(100)
        peer.send(PONG)

    with serving(behave, "ipv4", Path()) as address:
        port = int(address.rpartition(":")[2])
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", each))
            for each in (free_port(), port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: found)
        assert ping(f"app:{port}") > 0


def test_other_connection_errors_keep_their_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(RequestError, match=r"127\.0\.0\.1:9 can't be reached: Network is unreach"):
        request("127.0.0.1:9")


@pytest.mark.parametrize("address", ["", "nonsense", "/run/app.sock", "fd://3"])
@pytest.mark.parametrize("call", [ping, request])
def test_a_wrong_address_is_an_address_error(call: Callable[[str], Any], address: str) -> None:
    with pytest.raises(AddressError):
        call(address)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_makes_no_sense(seconds: float) -> None:
    for call in (ping, request):
        with pytest.raises(ValueError, match="timeout-seconds"):
            call("127.0.0.1:9", timeout_seconds=seconds)


# what is sent


def test_vars_are_those_of_nginx() -> None:
    assert vars_of("/caf%C3%A9/a%2525b?q=%20+&q=2") == {
        "QUERY_STRING": "q=%20+&q=2",
        "REQUEST_METHOD": "GET",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "REQUEST_URI": "/caf%C3%A9/a%2525b?q=%20+&q=2",
        "PATH_INFO": "/caf\xc3\xa9/a%25b",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "localhost",
        "HTTP_HOST": "localhost",
    }


@pytest.mark.parametrize(
    ("path", "request_uri", "path_info"),
    [
        ("/caf\u00e9", "/caf\xc3\xa9", "/caf\xc3\xa9"),
        ("/\u20ac", "/\xe2\x82\xac", "/\xe2\x82\xac"),
        ("/\udcff", "/\xff", "/\xff"),  # a byte of the command line that is not UTF-8
        ("/a%2Fb%zz%", "/a%2Fb%zz%", "/a/b%zz%"),
        ("//a/../b", "//a/../b", "//a/../b"),
        ("*", "*", "*"),
    ],
)
def test_paths_are_split_and_decoded(path: str, request_uri: str, path_info: str) -> None:
    received = vars_of(path)
    assert (received["REQUEST_URI"], received["PATH_INFO"]) == (request_uri, path_info)


def test_headers_become_vars_and_repeats_are_joined() -> None:
    received = vars_of(
        headers=[
            ("X-One", "1"),
            ("Cookie", "a=1"),
            ("x-one", "2"),
            ("Cookie", "b=2"),
            ("Host", "example.org:8080"),
            ("X-Name", "caf\xe9"),
        ]
    )
    assert received["HTTP_X_ONE"] == "1, 2"
    assert received["HTTP_COOKIE"] == "a=1; b=2"
    assert received["HTTP_HOST"] == "example.org:8080"
    assert received["HTTP_X_NAME"] == "caf\xe9"


def test_headers_may_be_a_mapping() -> None:
    assert vars_of(headers={"X-One": "1"})["HTTP_X_ONE"] == "1"


def test_vars_override_add_and_remove() -> None:
    received = vars_of(
        headers={"X-One": "1"},
        vars={"REMOTE_ADDR": "192.0.2.7", "HTTPS": "on", "PATH_INFO": None, "HTTP_X_ONE": None},
    )
    assert received["REMOTE_ADDR"] == "192.0.2.7"
    assert received["HTTPS"] == "on"
    assert not {"PATH_INFO", "HTTP_X_ONE"} & received.keys()


def test_removing_a_var_that_is_not_there_is_no_error() -> None:
    assert "HTTP_ABSENT" not in vars_of(vars={"HTTP_ABSENT": None})


def test_modifier1_is_sent() -> None:
    seen: list[Packet] = []

    def behave(peer: Peer) -> None:
        seen.append(peer.receive_packet())
        peer.send(OK + b"\r\n")

    with serving(behave, "ipv4", Path()) as address:
        request(address, modifier1=30)
    assert seen[0].modifier1 == 30


def test_vars_over_the_size_of_a_packet_are_refused_before_connecting() -> None:
    with pytest.raises(ValueError, match="65535"):
        request(f"127.0.0.1:{free_port()}", headers={"X-Big": "x" * 65_500})


def pipe_with(data: bytes) -> io.FileIO:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return io.FileIO(reading)


def file_at(data: bytes, position: int) -> io.BytesIO:
    file = io.BytesIO(data)
    file.seek(position)
    return file


@pytest.mark.parametrize(
    ("make_body", "sent", "content_length"),
    [
        (lambda: b"", b"", ""),
        (lambda: b"a=1", b"a=1", "3"),
        (lambda: b"x" * 300_000, b"x" * 300_000, "300000"),
        (lambda: file_at(b"skipped, sent", 9), b"sent", "4"),
        (lambda: file_at(b"", 0), b"", "0"),
        (lambda: pipe_with(b"piped"), b"piped", "5"),
    ],
)
def test_bodies_are_sent_whole(
    serve: Serve, make_body: Callable[[], Any], sent: bytes, content_length: str
) -> None:
    seen: list[tuple[dict[str, str], bytes]] = []
    body = make_body()
    with serve(answering(OK + b"\r\n", seen)) as address:
        request(address, method="PUT", headers={"Content-Type": "text/plain"}, body=body)
    if not isinstance(body, bytes):
        assert not body.closed
        body.close()
    received, received_body = seen[0]
    assert received_body == sent
    assert received["REQUEST_METHOD"] == "PUT"
    assert received["CONTENT_LENGTH"] == content_length
    assert received["CONTENT_TYPE"] == received["HTTP_CONTENT_TYPE"] == "text/plain"
    assert received.get("HTTP_CONTENT_LENGTH", "") == content_length


def test_a_content_length_of_the_caller_stands() -> None:
    assert vars_of(headers={"Content-Length": "2"}, body=b"four")["CONTENT_LENGTH"] == "2"


class ShrinkingFile(io.BytesIO):
    """Says that it holds 100,000 bytes, and gives 10."""

    def __init__(self) -> None:
        super().__init__(bytes(100_000))

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(10) if self.tell() == 0 else b""


class UnreadableFile(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (ShrinkingFile(), "ended 99990 bytes early"),
        (UnreadableFile(b"x"), "body can't be read: Input/output error"),
    ],
)
def test_a_body_that_fails_is_not_the_servers_fault(
    serve: Serve, body: io.BytesIO, says: str
) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_packet()
        while peer.connection.recv(65_536):
            pass

    with serve(behave) as address, pytest.raises(RequestError, match=says):
        request(address, body=body)


def test_the_connection_is_never_half_closed(serve: Serve) -> None:
    head_arrived = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"Content-Length: 4\r\n\r\n")
        assert head_arrived.wait(PATIENCE_SECONDS)
        peer.connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # and not b"", the end of the request
            peer.connection.recv(1)
        peer.send(b"body")

    with serve(behave) as address, stream(address, body=b"1234") as answer:
        head_arrived.set()
        assert b"".join(answer.chunks) == b"body"


# what is received


def test_a_whole_answer_is_read(serve_all: Serve) -> None:
    head = (
        OK + b"Content-Length: 5\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Name: caf\xe9\r\n\r\n"
    )
    with serve_all(answering(head + b"hello")) as address:
        response = request(address)
    assert (response.status, response.reason, response.body) == (200, "OK", b"hello")
    assert response.headers == [
        ("Content-Length", "5"),
        ("Set-Cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("X-Name", "caf\xe9"),
    ]
    assert response.head == head
    assert response.header("SET-COOKIE") == "a=1"
    assert response.header("absent") is None


def test_an_answer_byte_by_byte(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_request()
        for byte in b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n":
            peer.send(bytes([byte]))

    with serve(behave) as address:
        response = request(address)
    assert (response.status, response.reason, response.body) == (404, "Not Found", b"no\n")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"\r\nuntil the close", b"until the close"),
        (OK + b"\r\n", b""),
        (OK + b"Content-Length: 2\r\n\r\nabcd", b"ab"),
        # Nginx doesn't undo it either: an application server that sends it is at fault.
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b"1\r\na\r\n0\r\n\r\n"),
    ],
)
def test_where_a_body_ends(serve: Serve, answer: bytes, body: bytes) -> None:
    with serve(answering(answer)) as address:
        assert request(address).body == body


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", OK + b"Content-Length: 0\r\n\r\n"),
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_no_body_is_waited_for_where_none_can_come(
    serve: Serve, method: str, answer: bytes
) -> None:
    answered = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(answer)
        assert answered.wait(PATIENCE_SECONDS)

    with serve(behave) as address:
        assert request(address, method=method, timeout_seconds=PATIENCE_SECONDS / 2).body == b""
        answered.set()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "closed the connection without an answer"),
        (PONG, "which is not HTTP"),
        (b"Status: 200 OK\r\n\r\n", "which is not HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "not valid HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "not valid HTTP"),
        (OK + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n", "not valid HTTP: .*65536"),
        (OK + b"X: 1\r\n" * 200 + b"\r\n", "not valid HTTP: .*100 headers"),
        (OK + b"X-One: 1\r\nno header\r\nX-Two: 2\r\n\r\n", "a line that is no header"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n", "interim answer 100"),
    ],
)
def test_what_is_not_an_answer(serve: Serve, answer: bytes, says: str) -> None:
    with serve(answering(answer)) as address, pytest.raises(RequestError, match=says) as raised:
        request(address)
    assert not isinstance(raised.value, TruncatedAnswerError)
    assert address in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "received_bytes"),
    [
        (b"HTTP/1.1 20", 0),
        (OK + b"Content-Le", 0),
        (OK + b"Content-Length: 4\r\n", 0),
        (OK + b"Content-Length: 10\r\n\r\n", 0),
        (OK + b"Content-Length: 10\r\n\r\n12345", 5),
    ],
)
def test_an_answer_cut_by_a_close(serve: Serve, answer: bytes, received_bytes: int) -> None:
    with (
        serve(answering(answer)) as address,
        pytest.raises(TruncatedAnswerError, match="broke off") as raised,
    ):
        request(address)
    assert raised.value.received_bytes == received_bytes


@pytest.mark.parametrize("answer", [OK + b"\r\nbody", OK + b"Content-Le", b"HTTP/1.1 x"])
def test_nothing_is_left_open_for_the_collector_to_complain_of(
    serve: Serve, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[object] = []
    with serve(answering(answer)) as address, suppress(RequestError, TruncatedAnswerError):
        request(address)
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    gc.collect()
    assert not complaints


@pytest.mark.parametrize("length", [b"", b"Content-Length: 10\r\n"])
def test_an_answer_cut_by_a_reset(serve: Serve, length: bytes) -> None:
    arrived = threading.Event()

    def behave(peer: Peer) -> None:
        # The last byte of the request stays unread: that resets a unix socket.
        peer.connection.recv(4)
        peer.send(OK + length + b"\r\n12345")
        assert arrived.wait(PATIENCE_SECONDS)
        peer.reset()

    with serve(behave) as address, stream(address) as answer:
        assert next(answer.chunks) == b"12345"
        arrived.set()
        with pytest.raises(TruncatedAnswerError, match="broke off after 5") as raised:
            next(answer.chunks)
    assert raised.value.received_bytes == 5


def test_a_reset_inside_the_head(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.connection.recv(4)
        peer.send(OK)
        peer.reset()

    with serve(behave) as address, pytest.raises(TruncatedAnswerError, match="inside its head"):
        request(address)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"", r"no head of an answer within 0\.1 s"),
        (OK, r"no head of an answer within 0\.1 s"),
        (OK + b"\r\n123", r"did not complete its answer within 0\.1 s \(3 bytes"),
    ],
)
def test_an_answer_that_stalls_meets_the_deadline(serve: Serve, start: bytes, says: str) -> None:
    over = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(start)
        over.wait(PATIENCE_SECONDS)

    with serve(behave) as address:
        with pytest.raises(RequestError, match=says):
            request(address, timeout_seconds=SHORT_SECONDS)
        over.set()


def test_the_deadline_is_for_all_of_an_answer_that_never_stops(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"\r\n")
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                peer.send(b"x")

    with (
        serve(behave) as address,
        pytest.raises(RequestError, match="did not complete its answer"),
        stream(address, timeout_seconds=SHORT_SECONDS) as answer,
    ):
        for _chunk in answer.chunks:
            pass


def test_the_deadline_is_for_a_body_that_nobody_reads(serve: Serve) -> None:
    over = threading.Event()

    def behave(peer: Peer) -> None:
        peer.receive_packet()
        over.wait(PATIENCE_SECONDS)

    with serve(behave) as address:
        with pytest.raises(RequestError, match=r"within 0\.1 s"):
            request(address, body=bytes(16 * 1024 * 1024), timeout_seconds=SHORT_SECONDS)
        over.set()


def test_an_early_refusal_of_a_large_body_is_read(serve: Serve) -> None:
    def behave(peer: Peer) -> None:
        peer.receive_packet()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
        # and closes with most of the body unread, which is a reset

    with serve(behave) as address:
        response = request(address, body=bytes(16 * 1024 * 1024))
    assert (response.status, response.body) == (413, b"no\n")


class BodyThatIsRefused(io.BytesIO):
    """Is read after the connection was found writable; the server refuses it just then."""

    def __init__(self) -> None:
        super().__init__(bytes(1000))
        self.wanted = threading.Event()
        self.refused = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        self.wanted.set()
        assert self.refused.wait(PATIENCE_SECONDS)
        return super().read(size)


def test_a_refusal_between_two_looks_at_the_connection_is_read(serve: Serve) -> None:
    body = BodyThatIsRefused()

    def behave(peer: Peer) -> None:
        assert body.wanted.wait(PATIENCE_SECONDS)
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
        peer.connection.close()
        body.refused.set()

    with serve(behave) as address:
        response = request(address, body=body)
    assert (response.status, response.body) == (413, b"no\n")


def test_an_answer_may_come_while_the_body_still_goes_out(serve: Serve) -> None:
    sent = os.urandom(1024 * 1024) * 8

    def echo(peer: Peer) -> None:
        remaining_bytes = int(peer.receive_packet().vars["CONTENT_LENGTH"])
        peer.send(OK + b"\r\n")
        piece = peer.body_start
        while True:
            peer.send(piece)
            remaining_bytes -= len(piece)
            if not remaining_bytes:
                return
            piece = peer.connection.recv(65_536)
            assert piece

    with serve(echo) as address:
        assert request(address, body=sent).body == sent


def test_a_download_is_not_held_in_memory(serve: Serve) -> None:
    piece = bytes(1024 * 1024)

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"Content-Length: %d\r\n\r\n" % (64 * len(piece)))
        for _ in range(64):
            peer.send(piece)

    with serve(behave) as address, stream(address) as answer:
        tracemalloc.start()
        try:
            received_bytes = sum(len(chunk) for chunk in answer.chunks)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received_bytes == 64 * len(piece)
    assert peak_bytes < 1024 * 1024


def test_leaving_the_context_closes_the_connection(serve: Serve) -> None:
    seen_at_the_end: list[bytes] = []

    def behave(peer: Peer) -> None:
        peer.receive_request()
        peer.send(OK + b"Content-Length: 10\r\n\r\n")
        seen_at_the_end.append(peer.connection.recv(1))

    with serve(behave) as address, stream(address) as answer:
        assert answer.status == 200
    assert seen_at_the_end == [b""]


# a real bridge

ECHO_APP = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("201 Created", [("X-Path", environ["PATH_INFO"]), ("X-Client", environ["REMOTE_ADDR"])])
    return [environ["REQUEST_METHOD"].encode(), b" ", body]
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Run `serve` on TCP and on a unix socket; gives both addresses."""
    directory = tmp_path_factory.mktemp("bridge")
    (directory / "echo_app.py").write_text(ECHO_APP)
    arguments = ["serve", "echo_app:app", "--app-dir", str(directory), "--log-format", "json"]
    binds = ["--bind", "127.0.0.1:0", "--bind", f"unix:{directory}/app.sock"]
    with subprocess.Popen(
        [sys.executable, "-m", "uwsgibridge", *arguments, *binds], stderr=subprocess.PIPE, text=True
    ) as process:
        # Ends the wait below for a bridge that never gets ready.
        watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
        watchdog.start()
        assert process.stderr is not None
        addresses: list[str] = []
        log: list[str] = []
        try:
            while len(addresses) < 2:
                log.append(process.stderr.readline())
                assert log[-1], f"the bridge ended early: {log}"
                event = json.loads(log[-1])
                if event["event"] == "listening":
                    addresses.append(event["address"])
            watchdog.cancel()
            yield addresses
        finally:
            watchdog.cancel()
            process.terminate()
            _, rest = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, "".join(log) + rest


@pytest.mark.parametrize("index", [0, 1], ids=["tcp", "unix"])
def test_a_real_bridge_is_pinged_and_requested(bridge: list[str], index: int) -> None:
    address = bridge[index]
    assert address.startswith(("127.0.0.1:", "unix:")[index])
    assert 0 < ping(address) < PATIENCE_SECONDS
    response = request(
        address,
        "/caf%C3%A9",
        method="PUT",
        body=b"x" * 200_000,
        vars={"REMOTE_ADDR": "192.0.2.7"},
    )
    assert (response.status, response.reason) == (201, "Created")
    assert response.header("X-Path") == "/caf\xc3\xa9"
    assert response.header("X-Client") == "192.0.2.7"
    assert response.body == b"PUT " + b"x" * 200_000
