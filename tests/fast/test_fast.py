"""What the accelerator takes for its own, what it keeps, and how it is left out."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ways import go, socket_pair
from uwsgibridge import fast
from uwsgibridge.fast import PURE_VARIABLE, Accelerator
from uwsgibridge.protocol import request as request_module
from uwsgibridge.protocol import response_headers
from uwsgibridge.protocol.packet import MAX_VARS_BYTES, Packet, encode_packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.response import Response

PATIENCE_SECONDS = 60.0
SOURCE = Path(fast.__file__).with_name("_fast.c")

SCRATCH = memoryview(bytearray(70_000))

# As the stock uwsgi_params have it, for a form that a browser posts.
OF_NGINX = {
    "QUERY_STRING": "a=1",
    "REQUEST_METHOD": "POST",
    "CONTENT_TYPE": "text/plain",
    "CONTENT_LENGTH": "4",
    "REQUEST_URI": "/x/y?a=1",
    "PATH_INFO": "/x/y",
    "DOCUMENT_ROOT": "/srv",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_SCHEME": "https",
    "HTTPS": "on",
    "REMOTE_ADDR": "192.0.2.1",
    "REMOTE_PORT": "4711",
    "SERVER_PORT": "443",
    "SERVER_NAME": "example.com",
    "HTTP_HOST": "example.com",
    "HTTP_CONTENT_LENGTH": "4",
    "HTTP_CONTENT_TYPE": "text/plain",
    "HTTP_PROXY": "http://elsewhere",
    "HTTP_COOKIE": "a=b; c=d",
}


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    way = go("accelerated")
    next(way)
    assert fast.accelerator is not None
    yield fast.accelerator
    next(way, None)


def parse(accelerator: Accelerator, data: bytes) -> Packet | None:
    return accelerator.parse_packet(memoryview(data), MAX_VARS_BYTES, 1000, Packet)


def test_it_was_built_from_the_source_that_is_here(accelerator: Accelerator) -> None:
    digest = fast._digest()
    assert digest == accelerator.SOURCE_DIGEST, (
        "install the package again: pip install --editable ."
    )


def test_a_request_of_nginx_is_its_own(accelerator: Accelerator) -> None:
    """Else all tests would pass with a module that does nothing."""
    data = encode_packet(OF_NGINX)
    packet = parse(accelerator, data + b"body")
    assert packet == Packet(0, OF_NGINX, len(data))
    assert accelerator.settle_vars(packet.vars, 0) == 4
    assert not packet.vars.keys() & {"HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"}
    scope = accelerator.http_scope(
        packet.vars,
        request_module.header_names,
        request_module.HTTP_VERSIONS,
        request_module.ASGI_VERSIONS,
    )
    assert scope is not None
    assert scope["headers"] == [
        (b"host", b"example.com"),
        (b"cookie", b"a=b; c=d"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"4"),
    ]
    assert (scope["scheme"], scope["server"]) == ("https", ("example.com", 443))


def test_an_answer_of_a_framework_is_its_own(accelerator: Accelerator) -> None:
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "12")]
    pairs = accelerator.encode_pairs(headers)
    assert pairs == [(b"Content-Type", b"text/html; charset=utf-8"), (b"Content-Length", b"12")]
    Response("GET").start(200, b"200 OK", pairs)  # the names are known from then on
    kinds, stream_kinds = response_headers.known_kinds, response_headers.known_stream_kinds
    assert accelerator.encode_head(b"200 OK", pairs, kinds, stream_kinds) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 12",
        12,
        0,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCRIPT_NAME", "/app/"),
        ("SERVER_NAME", None),
        ("SERVER_PORT", ""),
        ("REQUEST_METHOD", ""),
        ("CONTENT_LENGTH", "12x"),
        ("CONTENT_LENGTH", "11"),
        ("CONTENT_LENGTH", "9" * 19),
        ("PATH_INFO", "\u20ac"),
        ("PATH_INFO", None),
    ],
)
def test_what_is_not_its_own_is_left_as_it_was(
    accelerator: Accelerator, name: str, value: str | None
) -> None:
    variables = {key: text for key, text in OF_NGINX.items() if key != name or value is not None}
    if value is not None:
        variables[name] = value
    before = dict(variables)
    assert accelerator.settle_vars(variables, 10) is None
    assert variables == before


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.org", "example.org"),
        ("example.org:8080", "example.org"),
        (":8080", None),
        ("[::1]:80", None),
        ("", None),
        (None, None),
    ],
)
def test_a_server_without_a_name_has_the_one_that_was_asked_for(
    accelerator: Accelerator, host: str | None, name: str | None
) -> None:
    """As nginx sends it where no server_name is configured, which is the default."""
    variables = {**OF_NGINX, "SERVER_NAME": ""}
    del variables["HTTP_HOST"]
    if host is not None:
        variables["HTTP_HOST"] = host
    for _ in range(2):  # the second time, the text is kept
        settled = dict(variables)
        assert (accelerator.settle_vars(settled, 10) is None) is (name is None)
        assert settled["SERVER_NAME"] == (name or "")


def test_what_the_frontend_mounts_is_its_own(accelerator: Accelerator) -> None:
    variables = {**OF_NGINX, "SCRIPT_NAME": "/app"}
    assert accelerator.settle_vars(variables, 10) == 4
    assert (variables["SCRIPT_NAME"], variables["PATH_INFO"]) == ("/app", "/x/y")


def test_the_same_text_is_given_again_and_a_large_one_is_not_kept(accelerator: Accelerator) -> None:
    first = parse(accelerator, encode_packet({"A_NAME": "a value", "LARGE": "x" * 300}))
    second = parse(accelerator, encode_packet({"A_NAME": "a value", "LARGE": "x" * 300}))
    assert first is not None
    assert second is not None
    assert second.vars == first.vars
    assert second.vars["A_NAME"] is first.vars["A_NAME"]
    assert second.vars["LARGE"] is not first.vars["LARGE"]


def test_nothing_is_kept_of_what_comes_and_goes(accelerator: Accelerator) -> None:
    """Counted in blocks of memory: a reference too many for each packet would be thousands."""

    def work() -> None:
        for number in range(2000):
            packet = parse(accelerator, encode_packet({**OF_NGINX, "HTTP_X": str(number) * 99}))
            assert packet is not None
            accelerator.settle_vars(packet.vars, 0)
            accelerator.http_scope(
                packet.vars,
                request_module.header_names,
                request_module.HTTP_VERSIONS,
                request_module.ASGI_VERSIONS,
            )
            pairs = accelerator.encode_pairs([("X-A", str(number))])
            accelerator.encode_head(b"200 OK", pairs, {b"X-A": 0}, {})
            assert parse(accelerator, encode_packet([("A", "1"), ("A", "2")])) is None
            assert accelerator.encode_pairs([("X-A", "1"), ("X-A", 1)]) is None

    work()
    before = sys.getallocatedblocks()
    work()
    assert sys.getallocatedblocks() - before < 500


@pytest.mark.parametrize(
    "call",
    [
        "parse_packet()",
        "parse_packet(b'', 1, 1, dict)",
        "parse_packet('', 1, 1, tuple)",
        "parse_packet(b'', None, 1, tuple)",
        "parse_packet(b'', 1, 1 << 70, tuple)",
        "settle_vars([], 0)",
        "settle_vars({}, None)",
        "http_scope({}, {}, {}, [])",
        "encode_head('', [], {}, {})",
        "encode_head(b'', [(b'a', b'')], {b'a': None}, {})",
        "accept(None, 1)",
        "accept(0)",
        "environ({}, [], '')",
        "environ({})",
        "receive_request(None)",
        "receive_request(None, b'', 0, 1, 1, 0, 1)",
        "receive_request(None, b'', 1 << 40, 1, 1, 0, int)",
        "receive_request(None, b'', 0, 1, 1, None, int)",
        "take_and_close(None, None)",
        "take_and_close(None)",
        "begin_file(0, 0, 0)",
        "begin_file(None, 0, 0, 0)",
        "begin_file(0, 1 << 70, 0, 0)",
    ],
)
def test_wrong_arguments_are_refused(accelerator: Accelerator, call: str) -> None:
    with pytest.raises((TypeError, OverflowError)):
        eval(f"module.{call}", {"module": accelerator})


def environ_of(accelerator: Accelerator, variables: dict[str, str]) -> dict[str, object] | None:
    return accelerator.environ(variables, {"wsgi.version": (1, 0)}, "ours")


def test_an_environ_is_its_own(accelerator: Accelerator) -> None:
    environ = environ_of(accelerator, OF_NGINX)
    assert environ == {
        **OF_NGINX,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "SERVER_SOFTWARE": "ours",
    }
    assert list(environ)[: len(OF_NGINX)] == list(OF_NGINX)
    assert environ_of(accelerator, {**OF_NGINX, "SERVER_SOFTWARE": "theirs"}) == {
        **environ,
        "SERVER_SOFTWARE": "theirs",
    }
    assert environ_of(accelerator, {**OF_NGINX, "UWSGI_SCHEME": "https"}) is None


@pytest.mark.parametrize("family", ["unix", "tcp"])
class TestReceiving:
    def receive(
        self, accelerator: Accelerator, ours: object, max_body_bytes: int = 0, flags: int = 0
    ) -> tuple[Request, int, bytes] | int | None:
        return accelerator.receive_request(
            ours, SCRATCH, flags, MAX_VARS_BYTES, 1000, max_body_bytes, Request
        )

    def test_a_whole_request_is_received(self, accelerator: Accelerator, family: str) -> None:
        data = encode_packet(OF_NGINX) + b"body" + b"beyond"
        ours, peer = socket_pair(family)
        with peer:
            peer.sendall(data)
            for flags in (socket.MSG_PEEK, 0):
                received = self.receive(accelerator, ours, flags=flags)
                assert isinstance(received, tuple)
                request, count, body = received
                assert (type(request), count, body) == (Request, len(data), b"body")
                assert request.content_length == 4
                assert request.path == "/x/y"
            with pytest.raises(BlockingIOError):
                self.receive(accelerator, ours)
            ours.close()

    @pytest.mark.parametrize(
        "data",
        [
            encode_packet(OF_NGINX) + b"bod",
            encode_packet(OF_NGINX)[:-1],
            encode_packet({**OF_NGINX, "SCRIPT_NAME": "/x/"}) + b"body",
            encode_packet(OF_NGINX, modifier1=30) + b"body",
            encode_packet({}, modifier1=100),
            encode_packet({**OF_NGINX, "CONTENT_LENGTH": "11"}) + b"x" * 11,
            b"GET / HTTP/1.1",
            b"",
        ],
        ids=["body", "packet", "script", "modifier", "ping", "large", "http", "end"],
    )
    def test_what_is_none_is_where_it_was_received(
        self, accelerator: Accelerator, family: str, data: bytes
    ) -> None:
        ours, peer = socket_pair(family)
        with peer:
            peer.sendall(data)
            if not data:
                peer.shutdown(socket.SHUT_WR)
            assert self.receive(accelerator, ours, max_body_bytes=10) == len(data)
            assert SCRATCH[: len(data)] == data
            ours.close()

    def test_another_kind_of_connection_is_left_to_python(
        self, accelerator: Accelerator, family: str
    ) -> None:
        ours, peer = socket_pair(family)
        with peer, socket.socket() as other:
            assert self.receive(accelerator, other) is None
            assert accelerator.take_and_close(other, 0) is False
            assert other.fileno() >= 0
            ours.close()

    def test_what_was_peeked_at_is_taken_before_the_close(
        self, accelerator: Accelerator, family: str
    ) -> None:
        """Else the peer would be reset, and lose the answer."""
        ours, peer = socket_pair(family)
        with peer:
            peer.sendall(b"x" * 40_000)
            assert ours.recv(40_000, socket.MSG_PEEK | socket.MSG_WAITALL)
            ours.send(b"answer", 0)
            assert accelerator.take_and_close(ours, 40_000)
            assert ours.fileno() == -1
            assert accelerator.take_and_close(ours, 0)
            peer.settimeout(PATIENCE_SECONDS)
            assert peer.recv(100) + peer.recv(100) == b"answer"

    def test_what_was_taken_by_another_is_not_waited_for(
        self, accelerator: Accelerator, family: str
    ) -> None:
        ours, peer = socket_pair(family)
        with peer:
            assert accelerator.take_and_close(ours, 10)
            assert ours.fileno() == -1


class TestDescriptors:
    @pytest.mark.parametrize("family", ["unix", "tcp"])
    def test_the_last_byte_of_what_was_asked_for_stays_in_the_kernel(
        self, accelerator: Accelerator, family: str
    ) -> None:
        """With unread input, the close of a unix socket is a reset, which shows that there was no answer."""
        ours, peer = socket_pair(family)
        assert not isinstance(ours, socket.SocketType)
        with peer:
            with pytest.raises(BlockingIOError):
                ours.recv_keeping_last(1)
            with pytest.raises(BlockingIOError):
                ours.recv_keeping_last(10)
            peer.sendall(b"12345")
            assert ours.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL) == b"12345"
            assert ours.recv_keeping_last(3) == b"123"
            assert ours.recv(1, 0) == b"3"
            assert ours.recv_keeping_last(10) == b"45"
            peer.sendall(b"6789")
            assert ours.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL) == b"6789"
            assert ours.recv_keeping_last(5) == b"6789"
            peer.sendall(b"0")
            assert ours.recv(1, socket.MSG_PEEK | socket.MSG_WAITALL) == b"0"
            assert ours.recv_keeping_last(1) == b"0"
            assert ours.recv(1, 0) == b"0"
            peer.close()
            assert ours.recv_keeping_last(1) == b""
            assert ours.recv_keeping_last(10) == b""
            with pytest.raises(ValueError, match="no last byte"):
                ours.recv_keeping_last(0)
            with pytest.raises(TypeError):
                ours.recv_keeping_last(None)  # type: ignore[arg-type]
            ours.close()

    def test_it_says_what_the_system_says(self, accelerator: Accelerator) -> None:
        ours, peer = socket_pair("unix")
        with peer:
            assert ours.family == socket.AF_UNIX
            assert ours.type == socket.SOCK_STREAM
            assert not os.get_inheritable(ours.fileno())
            with pytest.raises(BlockingIOError):
                ours.recv(10, 0)
            peer.sendall(b"some bytes")
            buffer = bytearray(8)
            assert ours.recv_into(memoryview(buffer), 4, socket.MSG_PEEK) == 4
            assert ours.recv_into(memoryview(buffer), 0, 0) == 8
            assert bytes(buffer) == b"some byt"
            assert ours.recv(10, 0) == b"es"
            with pytest.raises(ValueError, match="smaller"):
                ours.recv_into(memoryview(buffer), 9, 0)
            with pytest.raises(ValueError, match="not negative"):
                ours.recv(-1, 0)
            with pytest.raises(BufferError):
                ours.recv_into(memoryview(b"x"), 0, 0)
            for wrong in ((), (None, 0), (b"x", None)):
                with pytest.raises(TypeError):
                    ours.send(*wrong)
            ours.shutdown(socket.SHUT_WR)
            assert peer.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            ours.send(b"x", 0)
        number = ours.fileno()
        ours.close()
        ours.close()
        assert ours.fileno() == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            ours.recv(1, 0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    def test_what_does_not_fit_is_not_sent(self, accelerator: Accelerator) -> None:
        ours, peer = socket_pair("unix")
        with peer:
            large = bytes(16_000_000)
            assert 0 < ours.send(memoryview(large), 0) < len(large)
            with pytest.raises(BlockingIOError):
                ours.send(b"x" * 70_000, 0)
            with pytest.raises(BlockingIOError):
                ours.send(b"x", 0)
            ours.close()

    def test_one_that_is_forgotten_is_closed(self, accelerator: Accelerator) -> None:
        ours, peer = socket_pair("tcp")
        with peer:
            with pytest.warns(ResourceWarning, match=f"unclosed.* {ours.fileno()}"):
                del ours
            assert select.select([peer], [], [], PATIENCE_SECONDS)[0]
            assert peer.recv(1) == b""

    def test_one_that_was_accepted_never_blocks(self, accelerator: Accelerator) -> None:
        """sendfile(2) has no flag that says so for one call."""
        ours, peer = socket_pair("unix")
        with peer:
            assert not os.get_blocking(ours.fileno())
            ours.close()

    def test_accepting_from_what_is_no_socket(self, accelerator: Accelerator) -> None:
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            accelerator.accept(-1, 1)
        assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(("whole", "first"), [(-1, 1), (1, -1), (16_385, 1), (1, 16_385)])
def test_no_more_of_a_file_is_read_than_there_is_room_for(
    accelerator: Accelerator, whole: int, first: int
) -> None:
    with SOURCE.open("rb") as file, pytest.raises(ValueError, match="so much"):
        accelerator.begin_file(file.fileno(), 0, whole, first)


def test_threads_at_once_get_their_own_vars(accelerator: Accelerator) -> None:
    """Several listeners in a process, as a test has them, share what is kept of the last packet."""
    wrong: list[object] = []

    def work(name: str) -> None:
        for number in range(3000):
            variables = {f"{name}_{i}": f"{name} {number} {i}" for i in range(6)}
            packet = parse(accelerator, encode_packet(variables))
            if packet is None or packet.vars != variables:
                wrong.append(packet)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ABCD"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert not wrong


CHILD = """
import os
from uwsgibridge import fast
from uwsgibridge.protocol.packet import PacketLimits, encode_packet, parse_packet
def parse(value):
    return parse_packet(memoryview(encode_packet({"A": value})), PacketLimits()).vars["A"]
assert parse("before") == "before"
child = os.fork()
if not child:
    os._exit(parse("before") + parse("child") != "beforechild")
assert parse("parent") == "parent"
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(fast.accelerator_state)
"""


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("1", f"off ({PURE_VARIABLE})"),
        ("yes", f"off ({PURE_VARIABLE})"),
        ("0", fast.accelerator_state),
        ("", fast.accelerator_state),
    ],
)
def test_the_environment_leaves_it_out(value: str, state: str) -> None:
    """And it goes on in a child that was forked."""
    assert run_python(CHILD, {PURE_VARIABLE: value}) == state


@pytest.mark.parametrize(
    ("module", "state"),
    [
        ("INTERFACE = 0", "built from another version"),
        (f"INTERFACE = {fast.INTERFACE}; SOURCE_DIGEST = 'another'", "built from another version"),
        ("import no_such_module", "not built"),
    ],
)
def test_one_of_another_version_is_left_out(tmp_path: Path, module: str, state: str) -> None:
    (tmp_path / "stand_in.py").write_text(module)
    code = (
        "import sys, importlib\n"
        "real = importlib.import_module\n"
        "importlib.import_module = lambda name: real('stand_in' if name.endswith('_fast') else name)\n"
        "from uwsgibridge import fast\n"
        "print(fast.accelerator_state, fast.accelerator)\n"
    )
    assert run_python(code, {PURE_VARIABLE: "", "PYTHONPATH": str(tmp_path)}) == f"{state} None"


def run_python(code: str, environ: dict[str, str]) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        cwd=SOURCE.parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()
