"""The accept queue: real connections that nobody accepts are counted, and what can't be known is None."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.system.backlog import connections_waiting

PATIENCE_SECONDS = 10.0

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")


@contextlib.contextmanager
def bound(kind: str) -> Iterator[socket.socket]:
    """A socket with an address that does not listen yet."""
    with contextlib.ExitStack() as stack:
        if kind == "unix":
            # pytest's own paths may be too long for a unix socket.
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            made = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            made.bind(str(Path(directory) / "socket"))
        elif kind == "abstract":
            made = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            made.bind("")
        else:
            family, host = {
                "tcp": (socket.AF_INET, "127.0.0.1"),
                "tcp6": (socket.AF_INET6, "::1"),
            }[kind]
            made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            try:
                made.bind((host, 0))
            except OSError:
                pytest.skip("this machine has no IPv6 loopback")
        yield made


@contextlib.contextmanager
def queued(
    listening: socket.socket, count: int, *, address: str | None = None, data: bytes = b""
) -> Iterator[None]:
    """Connect so many times, and wait until the kernel has put each into the queue."""
    with contextlib.ExitStack() as stack:
        arrivals = stack.enter_context(select.epoll())
        arrivals.register(listening, select.EPOLLIN | select.EPOLLET)
        arrivals.poll(0)  # what was there before
        for _ in range(count):
            peer = stack.enter_context(socket.socket(listening.family, socket.SOCK_STREAM))
            peer.settimeout(PATIENCE_SECONDS)
            peer.connect(address or listening.getsockname())
            peer.sendall(data)
            assert arrivals.poll(PATIENCE_SECONDS)
        yield


@linux_only
@pytest.mark.parametrize("kind", ["unix", "abstract", "tcp", "tcp6"])
def test_connections_that_nobody_accepts_are_counted(kind: str) -> None:
    with bound(kind) as listening:
        listening.listen(32)
        assert connections_waiting(listening) == 0
        with queued(listening, 1):
            assert connections_waiting(listening) == 1
            with queued(listening, 16):
                assert connections_waiting(listening) == 17
                for _ in range(5):
                    listening.accept()[0].close()
                assert connections_waiting(listening) == 12


@linux_only
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_each_socket_has_its_own_queue(kind: str) -> None:
    with bound(kind) as one, bound(kind) as other:
        one.listen(8)
        other.listen(8)
        with queued(one, 2), queued(other, 3):
            assert (connections_waiting(one), connections_waiting(other)) == (2, 3)


@linux_only
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_peer_that_went_away_still_waits(kind: str) -> None:
    """It has a place in the queue until somebody accepts it."""
    with bound(kind) as listening:
        listening.listen(8)
        with queued(listening, 3):
            pass
        assert connections_waiting(listening) == 3


@linux_only
def test_connections_at_the_bridges_own_sockets_are_counted() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        with open_sockets((f"unix:{path}", "127.0.0.1:0"), mode="0600", backlog=8) as opened:
            over_unix, over_tcp = (it.socket for it in opened)
            # The unix socket was moved after its bind; TCP connections are held back until they
            # have sent something.
            with queued(over_unix, 3, address=path), queued(over_tcp, 4, data=b"x"):
                assert connections_waiting(over_unix) == 3
                assert connections_waiting(over_tcp) == 4


@linux_only
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_socket_that_does_not_listen_has_none(kind: str) -> None:
    with bound(kind) as listening:
        assert connections_waiting(listening) is None
        listening.listen(8)
        with queued(listening, 1), listening.accept()[0] as accepted:
            assert connections_waiting(accepted) is None
    assert connections_waiting(listening) is None  # closed


@linux_only
def test_other_kinds_of_sockets_have_none() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert connections_waiting(datagrams) is None
    one, other = socket.socketpair()
    with one, other:
        assert connections_waiting(one) is None


@linux_only
def test_without_a_descriptor_left_it_is_not_known() -> None:
    with bound("unix") as listening:
        listening.listen(8)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            waiting = connections_waiting(listening)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert waiting is None
        assert connections_waiting(listening) == 0


@linux_only
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_nothing_stays_open(kind: str) -> None:
    with bound(kind) as listening:
        listening.listen(8)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            connections_waiting(listening)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_another_system_does_not_tell(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with bound(kind) as listening:
        listening.listen(8)
        monkeypatch.setattr(sys, "platform", "darwin")
        assert connections_waiting(listening) is None
