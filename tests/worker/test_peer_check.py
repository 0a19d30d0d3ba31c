"""Who may connect, and what those see that may not."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.bridge import on_each_loop, on_each_socket, running
from tests.raw_client import connect, packet
from uwsgibridge import Settings
from uwsgibridge.config.address import TcpAddress
from uwsgibridge.connection.peers import AllowedPeers
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.telemetry.counters import Counters
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.telemetry.reporting import Reporter
from uwsgibridge.worker.peer_check import PeerCheck

NOBODY_HERE: dict[str, dict[str, Any]] = {
    "tcp": {"allow_from": ("192.0.2.0/24",)},
    "unix": {"allow_user": ("65533",)},
}
WE: dict[str, dict[str, Any]] = {
    "tcp": {"allow_from": ("192.0.2.0/24", "127.0.0.0/8")},
    "unix": {"allow_user": ("65533", str(os.getuid()))},
}
SHOWN = {"tcp": "127.0.0.1", "unix": f"uid {os.getuid()}"}
OPTION = {"tcp": "--allow-from", "unix": "--allow-user"}


def asked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


async def asked_async(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def first_byte(connection: socket.socket) -> bytes:
    """Send a request; nothing comes back where the connection is closed, mostly by a reset since nobody has read it."""
    try:
        connection.sendall(packet())
        return connection.recv(1)
    except (ConnectionResetError, BrokenPipeError):
        return b""


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("app", [asked, asked_async])
def test_a_peer_that_is_not_named_is_closed_and_its_request_is_not_run(
    app: Any, family: str, loop: str
) -> None:
    with running(app, family, loop=loop, lifespan="off", **NOBODY_HERE[family]) as bridge:
        answers = []
        for _ in range(3):
            with connect(bridge.address) as connection:
                answers.append(first_byte(connection))
        event = bridge.events.wait(event="refused: this peer may not connect")
    assert answers == [b""] * 3
    assert bridge.counters.refused == {"peer_not_allowed": 3}
    assert bridge.counters.all_requests == 0
    assert (event["reason"], event["connections"]) == ("peer_not_allowed", 1)
    assert (event["peer"], event["option"]) == (SHOWN[family], OPTION[family])


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("app", [asked, asked_async])
def test_a_peer_that_is_named_is_served(app: Any, family: str, loop: str) -> None:
    with running(app, family, loop=loop, lifespan="off", **WE[family]) as bridge:
        assert [bridge.ask().body for _ in range(3)] == [b"ok"] * 3
    assert bridge.counters.refused == {}


def test_each_option_is_for_its_own_sockets() -> None:
    with running(asked, "both", **NOBODY_HERE["tcp"]) as bridge:
        tcp, unix = bridge.addresses
        with connect(unix) as connection:
            connection.sendall(packet())
            assert connection.recv(12) == b"HTTP/1.1 200"
        with connect(tcp) as connection:
            assert first_byte(connection) == b""


def test_threads_that_accept_by_themselves_look_as_well() -> None:
    """The loop lends its socket to the threads while it is idle."""
    with running(asked, "unix", threads=1, **NOBODY_HERE["unix"]) as bridge:
        for _ in range(20):
            with connect(bridge.address) as connection:
                assert first_byte(connection) == b""
    assert bridge.counters.refused == {"peer_not_allowed": 20}
    assert bridge.counters.all_requests == 0


def allowed(*networks: str) -> AllowedPeers:
    return AllowedPeers(Settings(allow_from=networks))


def test_ipv4_peers_of_a_socket_for_both_versions_are_ipv4() -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        port = listening.getsockname()[1]
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        accepted = stack.enter_context(listening.accept()[0])
        assert accepted.getpeername()[0] == "::ffff:127.0.0.1"
        number, family = accepted.fileno(), int(accepted.family)
        assert allowed("127.0.0.1").refused(number, family) is None
        assert allowed("::/0", "10.0.0.0/8").refused(number, family) == "::ffff:127.0.0.1"
        assert os.fstat(number)  # it is still open


@pytest.mark.parametrize(
    ("peer", "networks", "has"),
    [
        ("10.255.0.1", ("10.0.0.0/8",), True),
        ("11.0.0.1", ("10.0.0.0/8",), False),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("fe80::1%2", ("fe80::1",), True),
        ("2001:db9::1", ("2001:db8::/32",), False),
        ("::1", ("0.0.0.0/0",), False),
        ("1.2.3.4", ("::/0",), False),
        ("1.2.3.4", ("::/0", "0.0.0.0/0"), True),
    ],
)
def test_addresses(peer: str, networks: tuple[str, ...], has: bool) -> None:
    assert allowed(*networks)._has(peer) is has


def test_the_request_of_a_peer_that_is_gone_is_not_run() -> None:
    """Linux gives what a peer has sent before it reset the connection, but not who it was."""
    reporter = Reporter(None, make_logger("json", "debug"), Counters(), 8192)
    check = PeerCheck(allowed("127.0.0.1"), reporter, lambda _seconds, _function: None)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        host, port = listening.getsockname()
        admits = check.of(ListeningSocket(listening, TcpAddress(host, port)))
        assert admits is not None
        client = socket.create_connection((host, port))
        accepted = stack.enter_context(listening.accept()[0])
        assert admits(accepted.fileno())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert not admits(accepted.fileno())
    assert reporter.counters.refused == {}
