"""A private Nginx: it serves when `start` returns, says why when it can't, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import trio

from uwsgibridge.frontend.binary import NginxNotFoundError
from uwsgibridge.frontend.options import Site, StaticDirectory, Tls
from uwsgibridge.frontend.private import NginxStartError, PrivateNginx

PATIENCE_SECONDS = 20.0
LATE_BODY = b"the answer of a request that was running"


@pytest.fixture
def backend() -> Iterator[socket.socket]:
    """A listening socket: what Nginx passes on waits there until the test takes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_SECONDS)
        yield listener


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which temporary ones are made, short enough for a unix socket."""
    path = tmp_path_factory.mktemp("t")
    monkeypatch.setattr("tempfile.tempdir", str(path))
    return path


def site_of(backend: socket.socket, **values: Any) -> Site:
    return Site(upstreams=(f"127.0.0.1:{backend.getsockname()[1]}",), **values)


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "nginx"
    # Asked for its version, it says nothing.
    path.write_text(f'#!/bin/sh\n[ "$1" = -V ] && exit 0\n{text}\n')
    path.chmod(0o755)
    return path


def take_request(backend: socket.socket) -> socket.socket:
    """Accept what Nginx sends, and read its packet."""
    connection, _ = backend.accept()
    connection.settimeout(PATIENCE_SECONDS)
    with connection.makefile("rb") as stream:
        head = stream.read(4)
        stream.read(int.from_bytes(head[1:3], "little"))
    return connection


def test_it_serves_as_soon_as_it_has_started_and_no_longer_than_it_runs(temporary: Path) -> None:
    with PrivateNginx(Site(upstreams=(f"unix:{temporary}/none.sock",))) as nginx:
        assert requests.get(nginx.url, timeout=PATIENCE_SECONDS).status_code == 502
        assert nginx.url == f"http://127.0.0.1:{nginx.port}"
        assert [nginx.directory] == list(temporary.iterdir())
    assert not connects(nginx.port)
    assert not list(temporary.iterdir())


def test_a_request_that_runs_ends_before_it(backend: socket.socket, tmp_path: Path) -> None:
    answers: list[requests.Response] = []
    static = (StaticDirectory("/static/", str(tmp_path)),)
    nginx = PrivateNginx(site_of(backend, static=static), grace_seconds=PATIENCE_SECONDS)
    nginx.start()
    client = threading.Thread(
        target=lambda: answers.append(requests.get(nginx.url, timeout=PATIENCE_SECONDS))
    )
    client.start()
    with (
        take_request(backend) as connection,
        socket.create_connection(("127.0.0.1", nginx.port), PATIENCE_SECONDS) as idle,
        idle.makefile("rb") as stream,
    ):
        # Nginx answers this by itself, and keeps the connection until it is asked to end.
        idle.sendall(b"GET /static/.hidden HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 404 " in stream.readline()
        stop = threading.Thread(target=nginx.stop)
        stop.start()
        stream.read()
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + LATE_BODY)
    client.join(PATIENCE_SECONDS)
    stop.join(PATIENCE_SECONDS)
    assert answers[0].content == LATE_BODY
    assert not stop.is_alive()
    assert not connects(nginx.port)


def test_a_request_that_does_not_end_does_not_hold_it_up(
    backend: socket.socket, temporary: Path
) -> None:
    nginx = PrivateNginx(site_of(backend), grace_seconds=0.1)
    with nginx, socket.create_connection(("127.0.0.1", nginx.port), PATIENCE_SECONDS) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with take_request(backend):
            nginx.stop()
            assert client.recv(1024) == b""
    assert not list(temporary.iterdir())


def test_its_log_can_be_read_while_it_runs_and_after_it(backend: socket.socket) -> None:
    with PrivateNginx(site_of(backend)) as nginx:
        backend.close()
        requests.get(nginx.url, timeout=PATIENCE_SECONDS)
        assert "Connection refused" in nginx.error_log()
    assert "Connection refused" in nginx.error_log()


def test_its_errors_can_go_to_a_file_too(backend: socket.socket, tmp_path: Path) -> None:
    with (tmp_path / "errors").open("w") as errors:
        with PrivateNginx(site_of(backend), errors_to=errors) as nginx:
            backend.close()
            requests.get(nginx.url, timeout=PATIENCE_SECONDS)
        assert "Connection refused" in (tmp_path / "errors").read_text()


def test_an_upload_larger_than_its_buffer_is_no_error(
    backend: socket.socket, tmp_path: Path
) -> None:
    with (tmp_path / "errors").open("w") as errors:
        with (
            PrivateNginx(site_of(backend), errors_to=errors) as nginx,
            ThreadPoolExecutor() as pool,
        ):
            answer = pool.submit(
                requests.post, nginx.url, data=bytes(1_000_000), timeout=PATIENCE_SECONDS
            )
            # Nginx has all of the body before it connects.
            with take_request(backend) as taken:
                taken.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                assert answer.result().status_code == 204
        # It is in the log of its own, which is read when something is wrong.
        assert "buffered to a temporary file" in nginx.error_log()
    assert not (tmp_path / "errors").read_text()


def test_it_outlives_the_thread_that_started_it(backend: socket.socket) -> None:
    nginx = PrivateNginx(site_of(backend))
    starter = threading.Thread(target=nginx.start)
    starter.start()
    starter.join(PATIENCE_SECONDS)
    try:
        assert connects(nginx.port)
    finally:
        nginx.stop()


def test_it_runs_again_on_the_same_port_at_once(backend: socket.socket) -> None:
    nginx = PrivateNginx(site_of(backend))
    for _ in range(2):
        with nginx, socket.create_connection(("127.0.0.1", nginx.port), PATIENCE_SECONDS) as client:
            # Closed by Nginx first: the kernel keeps the port for such a connection for a minute.
            client.sendall(b"nonsense\r\n\r\n")
            with client.makefile("rb") as stream:
                assert b" 400 " in stream.read()
        nginx = PrivateNginx(site_of(backend), port=nginx.port)


def test_in_trio_it_is_the_same(backend: socket.socket, temporary: Path) -> None:
    nginx = PrivateNginx(site_of(backend))

    async def main() -> None:
        async with nginx:
            assert connects(nginx.port)

    trio.run(main)
    assert not connects(nginx.port)
    assert not list(temporary.iterdir())


def test_in_trio_a_cancelled_block_stops_it(backend: socket.socket, temporary: Path) -> None:
    nginx = PrivateNginx(site_of(backend))

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with nginx:
                assert connects(nginx.port)
                scope.cancel()
                await trio.sleep_forever()

    trio.run(main)
    assert not connects(nginx.port)
    assert not list(temporary.iterdir())


@pytest.mark.trio
async def test_in_trio_an_end_of_its_own_is_noticed(backend: socket.socket) -> None:
    async with PrivateNginx(site_of(backend)) as nginx:
        assert nginx.directory is not None
        os.kill(int((nginx.directory / "nginx.pid").read_text()), signal.SIGTERM)
        with trio.fail_after(PATIENCE_SECONDS):
            await nginx.wait_ended()
        assert "exiting" in nginx.error_log()


def test_a_taken_port_is_one_sentence_that_names_the_option(
    backend: socket.socket, temporary: Path
) -> None:
    port = backend.getsockname()[1]
    with pytest.raises(NginxStartError) as caught:
        PrivateNginx(site_of(backend), port=port).start()
    assert str(caught.value) == (
        f"port {port} of 127.0.0.1 is in use; choose another with --port (0 takes a free one)"
    )
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("host", ["203.0.113.1", "not an address"])
def test_an_address_of_somewhere_else_is_refused(host: str) -> None:
    with pytest.raises(NginxStartError, match=host):
        PrivateNginx(Site(), host=host).start()


def test_a_configuration_that_nginx_refuses_is_told_in_its_words(temporary: Path) -> None:
    site = Site(tls=Tls(enabled=True, certificate="/nowhere/cert.pem"))
    with pytest.raises(
        NginxStartError,
        match=r'^Nginx refuses its configuration: cannot load certificate "/nowhere/cert.pem"',
    ):
        PrivateNginx(site).start()
    assert not list(temporary.iterdir())


def test_a_program_that_ends_at_its_start_is_told(tmp_path: Path, temporary: Path) -> None:
    binary = script(
        tmp_path,
        '[ "$1" = -t ] && exit 0\n'
        'echo "2026/01/01 00:00:00 [emerg] 7#7: no luck" > "$2/error.log"; exit 1',
    )
    with pytest.raises(NginxStartError, match=r"^Nginx ended at its start: no luck$"):
        PrivateNginx(Site(), binary=binary).start()
    assert not list(temporary.iterdir())


def test_a_program_that_does_not_serve_is_given_up(tmp_path: Path, temporary: Path) -> None:
    binary = script(tmp_path, '[ "$1" = -t ] && exit 0\nexec sleep 40')
    with pytest.raises(NginxStartError, match=r"does not serve requests within 0.2 s"):
        PrivateNginx(Site(), binary=binary, start_timeout_seconds=0.2, grace_seconds=0.1).start()
    assert not list(temporary.iterdir())


def test_a_file_that_is_no_program_is_told(tmp_path: Path, temporary: Path) -> None:
    binary = tmp_path / "nginx"
    binary.write_bytes(b"\0")
    binary.chmod(0o755)
    with pytest.raises(NginxNotFoundError, match="cannot be run: Exec format error"):
        PrivateNginx(Site(), binary=binary).start()
    assert not list(temporary.iterdir())


def test_a_directory_too_deep_for_a_socket_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(NginxStartError, match="TMPDIR"):
        PrivateNginx(Site()).start()
    assert not list(deep.iterdir())


ORPHANED = """
import sys, tempfile
from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.binary import NginxNotFoundError
from uwsgibridge.frontend.private import PrivateNginx

tempfile.tempdir = sys.argv[1]
with PrivateNginx(Site(), errors_to=sys.stderr) as nginx:
    print(nginx.port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_its_parent_is_killed(temporary: Path, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANED, str(temporary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert connects(port)
        assert list(temporary.iterdir())
        parent.send_signal(number)
        # Parent, guard and Nginx hold the other end of this pipe: its end is the end of all.
        assert parent.communicate(timeout=PATIENCE_SECONDS)[1] == b""
    assert not connects(port)
    assert not list(temporary.iterdir())


INTERRUPTED = """
import select
from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.binary import NginxNotFoundError
from uwsgibridge.frontend.private import PrivateNginx

with PrivateNginx(Site()) as nginx:
    try:
        print("up", flush=True)
        input()
    except KeyboardInterrupt:
        # What Nginx has in front of it ends first; the end of Nginx would be told here.
        ended, _, _ = select.select([nginx._guard.stdout], [], [], 0.2)
        print("ended" if ended else "serves", flush=True)
"""


def test_ctrl_c_leaves_the_end_of_it_to_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.communicate(timeout=PATIENCE_SECONDS)[0] == b"serves\n"
    assert parent.returncode == 0


def test_nothing_is_left_when_its_guard_is_killed(backend: socket.socket, temporary: Path) -> None:
    with PrivateNginx(site_of(backend)) as nginx:
        assert connects(nginx.port)
        assert nginx._guard is not None
        nginx._guard.kill()
        # Less patient than Nginx, which closes an idle connection after 20 s.
        client = socket.create_connection(("127.0.0.1", nginx.port), 10.0)
    # Its worker is gone: nobody else would close this connection.
    with client, suppress(ConnectionResetError):
        assert client.recv(1) == b""
    assert not list(temporary.iterdir())


def test_an_ipv6_address_is_written_as_one(backend: socket.socket) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with PrivateNginx(site_of(backend), host="::1") as nginx:
        backend.close()
        assert nginx.url == f"http://[::1]:{nginx.port}"
        assert requests.get(nginx.url, timeout=PATIENCE_SECONDS).status_code == 502


def test_all_addresses_are_reached_by_that_of_this_machine(backend: socket.socket) -> None:
    with PrivateNginx(site_of(backend), host="0.0.0.0") as nginx:
        assert nginx.url == f"http://127.0.0.1:{nginx.port}"


def test_more_workers_serve_too(backend: socket.socket) -> None:
    with PrivateNginx(site_of(backend), worker_processes=2) as nginx:
        assert nginx.directory is not None
        assert "worker_processes 2;" in (nginx.directory / "nginx.conf").read_text()
        assert connects(nginx.port)
