"""The first look at a server's answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from benchmarks.launching import free_port
from benchmarks.load import Request
from benchmarks.turn import WorkloadFailed, probe, probe_when_started


class Handler(BaseHTTPRequestHandler):
    late: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self.send_response({"/fails": 500, "/late": (self.late or [200]).pop()}.get(self.path, 200))
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"%d" % len(body))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("expected", [b"server", 6, None])
def test_the_body_or_its_length_is_what_is_expected(
    port: int, expected: bytes | int | None
) -> None:
    assert probe(port, "server", Request(), expected) == b"server"


def test_an_upload_is_sent(port: int) -> None:
    assert probe(port, "server", Request("/", upload_bytes=5), b"5") == b"5"


@pytest.mark.parametrize(
    ("path", "expected", "reason"),
    [
        ("/", b"other", "answered 6 bytes"),
        ("/", 7, "answered 6 bytes"),
        ("/fails", 6, "answered 500"),
    ],
)
def test_another_answer_is_a_failure(
    port: int, path: str, expected: bytes | int, reason: str
) -> None:
    with pytest.raises(WorkloadFailed, match=reason):
        probe(port, "server", Request(path), expected)


def test_no_answer_is_a_failure() -> None:
    with pytest.raises(WorkloadFailed, match="no answer"):
        probe(free_port(), "server", Request(), None)


def test_a_server_that_is_not_there_yet_is_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "late", [200, 502, 502])
    assert probe_when_started(port, "server", Request("/late"), 6) == b"server"
    assert Handler.late == []


def test_a_wrong_answer_is_not_waited_for(port: int) -> None:
    with pytest.raises(WorkloadFailed, match="answered 500"):
        probe_when_started(port, "server", Request("/fails"), 6)


def test_a_server_that_never_comes_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.turn._START_SECONDS", 0.02)
    with pytest.raises(WorkloadFailed, match="no answer"):
        probe_when_started(free_port(), "server", Request(), 6)
