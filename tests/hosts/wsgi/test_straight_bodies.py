"""Files and uploads on the straight way: what the accelerator does by itself, and how Python goes on where it does not."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.wsgi.test_straight import HEAD, TEXT, is_accelerated, read_and_close
from tests.log_events import PATIENCE_SECONDS
from tests.wsgi_conversation import Conversations
from uwsgibridge.hosts.files import FileWrapper

# Only with the accelerator is there such a way.
pytestmark = pytest.mark.each("either_way")

CONTENT = os.urandom(300_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "content"


def sending(
    path: Path,
    *,
    length: int | None = None,
    offset: int = 0,
    opened: Callable[[Path], Any] = lambda path: path.open("rb"),
    status: str = "200 OK",
) -> Any:
    def app(_environ: Any, start_response: Any) -> Any:
        headers = TEXT if length is None else [*TEXT, ("Content-Length", str(length))]
        start_response(status, headers)
        file = opened(path)
        file.seek(offset)
        return FileWrapper(file)

    return app


def answer_of(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def ask_while_reading(host: Conversations, **options: Any) -> tuple[bytes, bool]:
    """Ask, and read meanwhile, since the answer does not fit the connection."""
    got: list[tuple[bytes, bool]] = []
    readers: list[threading.Thread] = []

    def read_meanwhile(peer: socket.socket) -> None:
        mine = peer.dup()
        readers.append(threading.Thread(target=lambda: got.append(read_and_close(mine))))
        readers[0].start()

    host.ask(reads=read_meanwhile, **options)
    readers[0].join(PATIENCE_SECONDS)
    return got[0]


class TestFiles:
    @pytest.mark.parametrize("logs_access", [False, True])
    @pytest.mark.parametrize("family", ["unix", "tcp"])
    @pytest.mark.parametrize("is_told", [False, True])
    @pytest.mark.parametrize("size", [1, 4096, 16_384, 16_385, 60_000])
    def test_files_go_straight(
        self, path: Path, size: int, is_told: bool, family: str, logs_access: bool
    ) -> None:
        path.write_bytes(CONTENT[:size])
        host = Conversations(
            sending(path, length=size if is_told else None), logs_access=logs_access
        )
        for _ in range(2):
            host.concluded.clear()
            assert host.ask(family=family) == (answer_of(CONTENT[:size]), False)
        assert len(host.concluded) == (not is_accelerated())
        assert not host.in_flight
        assert host.accesses == [(200, size, True)] * (2 * logs_access)
        assert host.events.find() == []

    def test_a_file_is_sent_from_where_it_stands(self, path: Path) -> None:
        path.write_bytes(CONTENT[:60_000])
        host = Conversations(sending(path, offset=1000))
        for _ in range(2):
            assert host.ask() == (answer_of(CONTENT[1000:60_000]), False)

    @pytest.mark.parametrize("size", [0, 10, 60_000])
    def test_what_is_no_file_is_read(self, path: Path, size: int) -> None:
        path.write_bytes(CONTENT[:size])
        host = Conversations(sending(path, opened=lambda path: io.BytesIO(path.read_bytes())))
        for _ in range(2):
            received, is_broken = host.ask()
            assert (received.partition(b"\r\n\r\n")[2], is_broken) == (CONTENT[:size], False)

    @pytest.mark.parametrize("family", ["unix", "tcp"])
    @pytest.mark.parametrize("size", [16_384, 60_000, 300_000])
    @pytest.mark.parametrize("is_told", [False, True])
    def test_the_rest_of_a_file_that_does_not_fit_is_sent_by_python(
        self, path: Path, size: int, family: str, is_told: bool
    ) -> None:
        path.write_bytes(CONTENT[:size])
        host = Conversations(sending(path, length=size if is_told else None), logs_access=True)
        for _ in range(2):
            got = ask_while_reading(host, family=family, send_buffer_bytes=4096)
            assert got == (answer_of(CONTENT[:size]), False)
        assert host.accesses == [(200, size, True)] * 2

    def test_of_a_range_no_more_is_sent_than_its_length(self, path: Path) -> None:
        path.write_bytes(CONTENT[:60_000])
        host = Conversations(sending(path, length=30_000, offset=5))
        for _ in range(2):
            assert host.ask() == (answer_of(CONTENT[5:30_005]), False)

    def test_a_file_shorter_than_its_length_breaks_the_connection(self, path: Path) -> None:
        path.write_bytes(CONTENT[:60_000])
        host = Conversations(sending(path, length=60_001))
        for count in range(1, 3):
            received, is_broken = host.ask()
            assert (is_broken, host.counters.app_errors) == (True, count)
            assert len(received.partition(b"\r\n\r\n")[2]) <= 60_000

    @pytest.mark.parametrize(
        ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Gone")]
    )
    def test_an_answer_without_a_body_has_none(self, path: Path, method: str, status: str) -> None:
        path.write_bytes(CONTENT[:60_000])
        host = Conversations(sending(path, status=status))
        for _ in range(2):
            received, is_broken = host.ask({"REQUEST_METHOD": method})
            assert received.startswith(b"HTTP/1.1 " + status[:3].encode())
            assert (received.partition(b"\r\n\r\n")[2], is_broken) == (b"", False)

    @pytest.mark.parametrize("logs_access", [False, True])
    def test_a_client_that_has_left_is_counted(self, path: Path, logs_access: bool) -> None:
        path.write_bytes(CONTENT[:60_000])
        host = Conversations(sending(path), logs_access=logs_access)
        for count in range(1, 3):
            host.ask(leaves=True)
            assert host.counters.client_gone == count
        assert not host.in_flight

    def test_the_file_is_closed_after_the_answer(self, path: Path) -> None:
        path.write_bytes(CONTENT[:60_000])
        files: list[Any] = []

        def opened(path: Path) -> Any:
            files.append(path.open("rb"))
            return files[-1]

        host = Conversations(sending(path, opened=opened))
        for _ in range(2):
            host.ask()
        assert [file.closed for file in files] == [True, True]


# With its packet, it is larger than what is received at once; a close takes it from the kernel, if nobody has read it.
UPLOAD = os.urandom(65_500)


class TestUploads:
    @pytest.mark.parametrize("family", ["unix", "tcp"])
    def test_uploads_go_straight(self, family: str) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", TEXT)
            return [b"%d" % (environ["wsgi.input"].read() == UPLOAD)]

        host = Conversations(app, logs_access=True)
        for _ in range(2):
            host.concluded.clear()
            received, is_broken = host.ask({"REQUEST_METHOD": "POST"}, UPLOAD, family=family)
            assert (received.partition(b"\r\n\r\n")[2], is_broken) == (b"1", False)
        assert len(host.concluded) == (not is_accelerated())
        assert host.accesses == [(200, 1, True)] * 2

    @pytest.mark.parametrize("family", ["unix", "tcp"])
    @pytest.mark.parametrize("read_bytes", [0, 10, 65_499])
    def test_an_upload_that_is_not_read_is_ended_by_python(
        self, family: str, read_bytes: int
    ) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", TEXT)
            environ["wsgi.input"].read(read_bytes)
            return [b"whole"]

        host = Conversations(app)
        for _ in range(2):
            host.concluded.clear()
            received, is_broken = host.ask({"REQUEST_METHOD": "POST"}, UPLOAD, family=family)
            assert (received.partition(b"\r\n\r\n")[2], is_broken) == (b"whole", False)
