"""``uwsgibridge request``: what it sends, what it prints, and its exit status."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from uwsgibridge.cli import main
from uwsgibridge.protocol.packet import PING, PONG, PacketLimits, parse_packet

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-One: 1\r\n\r\n"
ANSWER = HEAD + b"caf\xc3\xa9\r\n"
COMMAND = [sys.executable, "-m", "uwsgibridge", "request"]


@dataclass
class StandIn:
    """A uwsgi server that gives the same answer to each request, and keeps what it was asked."""

    address: str = ""
    answer: bytes = ANSWER
    vars: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def handle(self, file: socketserver.StreamRequestHandler) -> None:
        header = file.rfile.read(4)
        if header == PING:
            file.wfile.write(PONG)
            return
        packet_bytes = header + file.rfile.read(int.from_bytes(header[1:3], "little"))
        packet = parse_packet(memoryview(packet_bytes), PacketLimits())
        assert packet is not None
        self.vars = packet.vars
        self.body = file.rfile.read(int(packet.vars["CONTENT_LENGTH"] or 0))
        file.wfile.write(self.answer)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    this = StandIn()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            this.handle(self)

    with serving(Handler) as address:
        this.address = address
        yield this


@contextmanager
def serving(
    handler: type[socketserver.BaseRequestHandler],
    server: type[socketserver.TCPServer] = socketserver.TCPServer,
) -> Iterator[str]:
    with server(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


def run(*arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["request", *arguments], input=stdin)


# what is sent


def test_a_plain_get_prints_the_body(stand_in: StandIn) -> None:
    result = run(stand_in.address)
    assert (result.stdout_bytes, result.stderr, result.exit_code) == (b"caf\xc3\xa9\r\n", "", 0)
    assert stand_in.vars["REQUEST_METHOD"] == "GET"
    assert stand_in.vars["REQUEST_URI"] == "/"
    assert stand_in.vars["CONTENT_LENGTH"] == stand_in.vars["CONTENT_TYPE"] == ""


def test_path_method_headers_and_vars_are_sent(stand_in: StandIn) -> None:
    result = run(
        *(stand_in.address, "/a%20b?q=1", "-X", "DELETE"),
        *("-H", "X-Colons: a: b", "-H", "x-empty:", "-H", "Host: example.org"),
        *("--var", "REMOTE_ADDR=192.0.2.7", "--var", "X=a=b", "--var", "HTTPS="),
    )
    assert result.exit_code == 0
    expected = {
        "REQUEST_METHOD": "DELETE",
        "REQUEST_URI": "/a%20b?q=1",
        "PATH_INFO": "/a b",
        "HTTP_X_COLONS": "a: b",
        "HTTP_X_EMPTY": "",
        "HTTP_HOST": "example.org",
        "REMOTE_ADDR": "192.0.2.7",
        "X": "a=b",
        "HTTPS": "",
    }
    assert {name: stand_in.vars[name] for name in expected} == expected


def test_text_goes_out_as_the_bytes_that_the_shell_passed(stand_in: StandIn) -> None:
    arguments = [b"/\xc3\xa9\xff", b"-H", b"X-A: \xc3\xa9\xff", b"--var", b"B=\xe2\x82\xac\xff"]
    subprocess.run(
        [*map(str.encode, COMMAND), stand_in.address.encode(), *arguments, b"-d", b"\xc3\xa9\xff"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert stand_in.vars["PATH_INFO"] == "/\xc3\xa9\xff"
    assert stand_in.vars["HTTP_X_A"] == "\xc3\xa9\xff"
    assert stand_in.vars["B"] == "\xe2\x82\xac\xff"
    assert stand_in.body == b"\xc3\xa9\xff"


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["-d", "a=1"], b"a=1"),
        (["-d", "a=1", "-d", "b=2"], b"a=1&b=2"),
        (["-d", ""], b""),
        (["-d", "@-"], b"standard\r\ninput\n"),
    ],
)
def test_data_is_posted_as_a_form(stand_in: StandIn, arguments: list[str], body: bytes) -> None:
    result = run(stand_in.address, *arguments, stdin=b"standard\r\ninput\n")
    assert result.exit_code == 0
    assert stand_in.body == body
    assert stand_in.vars["REQUEST_METHOD"] == "POST"
    assert stand_in.vars["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert stand_in.vars["CONTENT_LENGTH"] == str(len(body))


def test_a_file_is_sent_byte_for_byte(stand_in: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "item.json"
    content = bytes(range(256)) * 1000
    file.write_bytes(content)
    result = run(
        *(stand_in.address, "-X", "PUT", "-H", "content-type: application/json", "-d", f"@{file}")
    )
    assert result.exit_code == 0
    assert stand_in.body == content
    assert stand_in.vars["REQUEST_METHOD"] == "PUT"
    assert stand_in.vars["CONTENT_TYPE"] == "application/json"


@pytest.mark.parametrize("how", ["pipe", "file"])
def test_standard_input_becomes_the_body(stand_in: StandIn, tmp_path: Path, how: str) -> None:
    content = b"x" * 2_000_000
    (tmp_path / "large.bin").write_bytes(content)
    with (tmp_path / "large.bin").open("rb") as file:
        subprocess.run(
            [*COMMAND, stand_in.address, "-d", "@-"],
            check=True,
            capture_output=True,
            timeout=30,
            **({"input": content} if how == "pipe" else {"stdin": file}),
        )
    assert stand_in.body == content


# what is printed


def test_include_prints_the_head_as_it_came(stand_in: StandIn) -> None:
    assert run(stand_in.address, "-i").stdout_bytes == ANSWER


def test_output_goes_to_a_file(stand_in: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "answer"
    result = run(stand_in.address, "-o", str(file))
    assert (result.stdout_bytes, result.exit_code) == (b"", 0)
    assert file.read_bytes() == b"caf\xc3\xa9\r\n"


def test_an_empty_answer_empties_the_file(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    file = tmp_path / "answer"
    file.write_text("old")
    assert run(stand_in.address, "-o", str(file)).exit_code == 0
    assert file.read_bytes() == b""


def test_a_file_is_not_touched_where_no_answer_came(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.answer = b""
    file = tmp_path / "answer"
    file.write_text("old")
    assert run(stand_in.address, "-o", str(file)).exit_code == 1
    assert file.read_text() == "old"


def test_chunks_are_printed_as_they_come() -> None:
    printed = threading.Event()

    class Streaming(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\nfirst")
            assert printed.wait(20)
            self.request.sendall(b"second")

    with (
        serving(Streaming) as address,
        subprocess.Popen(
            [*COMMAND, address],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.read(5) == b"first"
        printed.set()
        assert process.stdout.read() == b"second"
        assert process.wait(20) == 0


def test_a_reader_that_has_enough_is_no_error(stand_in: StandIn) -> None:
    size_bytes = 4 * 1024 * 1024  # more than a pipe and the sockets hold
    stand_in.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size_bytes
    stand_in.answer += bytes(size_bytes)
    with subprocess.Popen(
        [*COMMAND, stand_in.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(20)


# exit status


@pytest.mark.parametrize(
    "status", [b"400 Bad Request", b"404 Not Found", b"500 Internal Server Error", b"599 "]
)
def test_any_status_is_success_unless_fail_is_asked_for(stand_in: StandIn, status: bytes) -> None:
    stand_in.answer = b"HTTP/1.1 " + status + b"\r\n\r\nsorry"
    result = run(stand_in.address)
    assert (result.stdout, result.exit_code) == ("sorry", 0)
    failed = run(stand_in.address, "--fail")
    assert (failed.stdout, failed.exit_code) == ("", 1)
    answered = status.decode().strip()
    assert failed.stderr == f"Error: {stand_in.address} answered {answered}\n"


@pytest.mark.parametrize("status", [b"200 OK", b"399 "])
def test_fail_is_for_400_and_up(stand_in: StandIn, status: bytes) -> None:
    stand_in.answer = b"HTTP/1.1 " + status + b"\r\n\r\nfine"
    result = run(stand_in.address, "--fail")
    assert (result.stdout, result.exit_code) == ("fine", 0)


def test_a_truncated_answer_is_1_with_what_came(stand_in: StandIn) -> None:
    stand_in.answer = HEAD + b"caf"
    result = run(stand_in.address)
    assert (result.stdout, result.exit_code) == ("caf", 1)
    assert "broke off after 3 of 7 bytes" in result.stderr


def test_nothing_listens(stand_in: StandIn) -> None:
    with serving(socketserver.BaseRequestHandler) as address:
        pass
    result = run(address)
    assert (result.stdout, result.exit_code) == ("", 1)
    assert f"Nothing listens at {address}" in result.stderr


HTTP_SERVERS: dict[str, type[socketserver.BaseRequestHandler]] = {}


def http_server(handler: type[socketserver.BaseRequestHandler]) -> type:
    HTTP_SERVERS[handler.__name__] = handler
    return handler


@http_server
class RefusesAtOnce(socketserver.BaseRequestHandler):
    """As Nginx, Apache and Node do: the first byte is none of a method."""

    def handle(self) -> None:
        self.request.recv(1)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad")


@http_server
class WaitsForALine(socketserver.StreamRequestHandler):
    """As Go's servers do: no line ends in a packet."""

    def handle(self) -> None:
        if self.rfile.readline():
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad")


@http_server
class OfPython(BaseHTTPRequestHandler):
    """http.server waits for a line, and then answers as HTTP/0.9 does."""

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.mark.parametrize("kind", HTTP_SERVERS)
def test_an_http_server_is_named(kind: str) -> None:
    with serving(HTTP_SERVERS[kind], server=socketserver.ThreadingTCPServer) as address:
        result = run(address, "--timeout-seconds", "60")
    assert (result.stdout, result.exit_code) == ("", 1)
    assert f"An HTTP server answers at {address}" in result.stderr
    assert "--bind" in result.stderr


@pytest.mark.parametrize("pause_seconds", [0.0, 1.5])
def test_a_uwsgi_server_that_answers_400_or_late_is_no_http_server(pause_seconds: float) -> None:
    pings = []

    class Uwsgi(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            header = self.request.recv(4)
            if header == PING:
                pings.append(header)
                self.request.sendall(PONG)
                return
            # Not for something to happen: this server is slow.
            threading.Event().wait(pause_seconds)
            self.request.recv(65_536)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\nno such field")

    with serving(Uwsgi, server=socketserver.ThreadingTCPServer) as address:
        result = run(address, "--timeout-seconds", "60")
    assert (result.stdout, result.exit_code) == ("no such field", 0)
    assert pings


def test_the_timeout_is_an_option() -> None:
    over = threading.Event()

    class Stalling(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            over.wait(20)

    with serving(Stalling) as address:
        result = run(address, "--timeout-seconds", "0.1")
        over.set()
    assert result.exit_code == 1
    assert "within 0.1 s" in result.stderr
    assert "--timeout-seconds" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "'nonsense' is not an address"),
        (["127.0.0.1:9", "http://localhost/"], "PATH begins with a slash"),
        (["127.0.0.1:9", "-H", "no colon"], "-H takes 'NAME: VALUE', not 'no colon'"),
        (["127.0.0.1:9", "-H", ": value"], "-H takes 'NAME: VALUE'"),
        (["127.0.0.1:9", "-H", "X-\u20ac: 1"], "-H takes 'NAME: VALUE'"),
        (["127.0.0.1:9", "--var", "NAME"], "--var takes NAME=VALUE, not 'NAME'"),
        (["127.0.0.1:9", "--var", "=VALUE"], "--var takes NAME=VALUE"),
        (["127.0.0.1:9", "-d", "@/absent/file"], "-d @/absent/file: No such file"),
        (["127.0.0.1:9", "-d", "a=1", "-d", "@-"], "@FILE stands alone"),
        (["127.0.0.1:9", "--timeout-seconds", "0"], "(--timeout-seconds) must be over 0"),
        (["127.0.0.1:9", "-H", "X: " + "x" * 66_000], "65535"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


@pytest.mark.parametrize("name", ["/absent/answer", "/dev/full"])
def test_an_answer_that_cannot_be_written_is_1(stand_in: StandIn, name: str) -> None:
    if name == "/dev/full" and not Path(name).exists():
        pytest.skip("this system has no /dev/full")
    result = run(stand_in.address, "-o", name)
    assert result.exit_code == 1
    assert name in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_standard_output_that_is_full_is_1(stand_in: StandIn) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, stand_in.address],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: The answer can't be written to standard output: No sp")
    assert done.stderr.count(b"\n") == 1


def test_help_shows_how() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert (
        "  uwsgibridge request 127.0.0.1:3031 /upload -X PUT -d @- < large.bin\n" in result.stdout
    )
