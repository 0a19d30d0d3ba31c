"""Connections that can't be had: each gets a sentence that says what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.uwsgi_server import (
    PATIENCE_SECONDS,
    SHORT_SECONDS,
    Peer,
    free_port,
    serving,
)
from uwsgibridge.client import (
    PingError,
    RequestError,
    ping,
    request,
)
from uwsgibridge.config.address import AddressError, UnixAddress
from uwsgibridge.protocol.packet import PING, PONG


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


def test_a_socket_that_is_removed_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    stands = Path.stat

    def removed_before(self: Path) -> os.stat_result:
        path.unlink()
        return stands(self)

    monkeypatch.setattr(Path, "stat", removed_before)
    with pytest.raises(PingError, match=r"no such socket: unix:.*app\.sock; start"):
        ping(f"unix:{path}")


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
