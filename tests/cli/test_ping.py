"""``uwsgibridge ping``: its words and its exit status."""

from __future__ import annotations

import re
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from uwsgibridge.cli import main
from uwsgibridge.protocol.packet import PONG

if TYPE_CHECKING:
    from collections.abc import Iterator


class Uwsgi(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert self.request.recv(4) == b"d\0\0\0"
        self.request.sendall(PONG)


class Closing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(4)


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    server_class = HTTPServer if issubclass(handler, BaseHTTPRequestHandler) else None
    with (server_class or socketserver.TCPServer)(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["ping", *arguments])


def test_a_bridge_that_answers_is_told() -> None:
    with serving(Uwsgi) as address:
        result = run(address)
    assert re.fullmatch(rf"{address} answered in \d+\.\d ms\n", result.stdout)
    assert (result.stderr, result.exit_code) == ("", 0)


def test_quiet_says_nothing_of_success() -> None:
    with serving(Uwsgi) as address:
        result = run(address, "--quiet")
    assert (result.output, result.exit_code) == ("", 0)


def test_ping_runs_as_a_process() -> None:
    with serving(Uwsgi) as address:
        done = subprocess.run(
            [sys.executable, "-m", "uwsgibridge", "ping", address],
            capture_output=True,
            timeout=30,
            check=True,
        )
    assert done.stdout.startswith(f"{address} answered in ".encode())


def test_one_sentence_and_1_where_it_did_not_answer() -> None:
    with serving(Closing) as address:
        pass
    result = run(address, "--quiet")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"Error: Nothing listens at {address}: start the bridge with --bind {address}\n"
    )


def test_something_else_listens_there() -> None:
    with serving(Closing) as address:
        result = run(address)
    assert (result.stdout, result.exit_code) == ("", 1)
    assert "something else listens there" in result.stderr


def test_the_timeout_is_an_option() -> None:
    # A real HTTP server waits for the end of a line, which a ping does not have.
    with serving(BaseHTTPRequestHandler) as address:
        result = run(address, "--timeout-seconds", "0.1")
    assert (result.stdout, result.exit_code) == ("", 1)
    assert f"{address} took the connection and gave no answer within 0.1 s" in result.stderr
    assert "does not speak uwsgi" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'ADDRESS'"),
        (["nonsense"], "'nonsense' is not an address; write unix:"),
        (["fd://3"], "a descriptor of the server's"),
        (["127.0.0.1:9", "--timeout-seconds", "0"], "(--timeout-seconds) must be over 0"),
        (["127.0.0.1:9", "--timeout-seconds", "nan"], "(--timeout-seconds) must be over 0"),
        (["127.0.0.1:9", "--timeout-seconds", "soon"], "'soon' is no time"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_help_shows_how() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "uwsgibridge ping unix:/run/app.sock --timeout-seconds 1 --quiet\n" in result.stdout
    assert "[default: 5.0]" in " ".join(result.stdout.split())
