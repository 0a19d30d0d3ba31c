"""Listening sockets: bound where they should be, taken over from others, and gone after."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.listening import opened, refusal
from tests.other_users import as_nobody
from uwsgibridge.config.address import DescriptorAddress, TcpAddress
from uwsgibridge.connection.sockets import open_sockets

# TCP.


def need_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


def test_tcp_port_0_is_told_as_the_real_one():
    with opened("127.0.0.1:0") as listening:
        assert isinstance(listening.address, TcpAddress)
        assert listening.address.host == "127.0.0.1"
        assert listening.address.port == listening.socket.getsockname()[1] != 0
        assert not listening.is_unix
        assert listening.socket.gettimeout() == 0
        socket.create_connection(("127.0.0.1", listening.address.port)).close()


def test_ipv6_is_listened_at():
    need_ipv6()
    with opened("[::1]:0") as listening:
        assert str(listening.address).startswith("[::1]:")
        socket.create_connection(("::1", listening.socket.getsockname()[1])).close()


def test_ipv6_leaves_ipv4_to_others():
    need_ipv6()
    for _ in range(10):
        with opened("[::]:0") as six:
            port = six.socket.getsockname()[1]
            with socket.socket() as other:
                # The system gives a port that is free for IPv6; another test may have it for IPv4.
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if other.connect_ex(("127.0.0.1", port)) == 0:
                    continue
            with opened(f"0.0.0.0:{port}") as four:
                assert four.socket.getsockname()[1] == port
                return
    raise AssertionError("no port was free for both")


def test_name_with_port_0_gets_one_port():
    with open_sockets(["localhost:0"], mode="0660", backlog=1) as sockets:
        assert len(sockets) == 1


def test_several_addresses_are_opened_in_order():
    with open_sockets(["127.0.0.1:0", "127.0.0.1:0"], mode="0660", backlog=1) as sockets:
        one, two = (listening.socket.getsockname() for listening in sockets)
        assert one != two
    assert [listening.socket.fileno() for listening in sockets] == [-1, -1]


def test_port_in_use_is_refused():
    with opened("127.0.0.1:0") as listening:
        reason = refusal(str(listening.address))

    assert reason.startswith(str(listening.address))
    assert "in use" in reason
    assert "--bind" in reason


HOLDS = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as taken:
    print(taken.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_who_uses_a_port_is_named():
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        reason = refusal(f"127.0.0.1:{port}")
        other.communicate("")
    assert reason.startswith(f"127.0.0.1:{port}: the port is in use by ")
    assert f"(pid {other.pid}); stop it" in reason


def test_address_that_is_named_twice_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with opened("127.0.0.1:0") as free:
        port = free.socket.getsockname()[1]
    monkeypatch.chdir(tmp_path)
    for first, second in (
        (f"127.0.0.1:{port}", f"127.0.0.1:{port}"),
        (f":{port}", f"0.0.0.0:{port}"),
        ("unix:a.sock", "unix:a.sock"),
        ("unix:/tmp/a.sock", "unix:///tmp/a.sock"),
    ):
        assert refusal(first, second).endswith(": it is named twice; leave one of them out")


def test_port_that_another_address_of_ours_has_is_told_as_that():
    with opened("127.0.0.1:0") as free:
        port = free.socket.getsockname()[1]
    reason = refusal(f"0.0.0.0:{port}", f"127.0.0.1:{port}")
    assert reason.startswith(f"127.0.0.1:{port}: the port is in use by this process itself")


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_link_local_address_without_its_interface_is_told_as_that():
    assert "[fe80::1%eth0]:0" in refusal("[fe80::1]:0")


def test_port_that_was_in_use_can_be_had_at_once():
    with opened("127.0.0.1:0") as listening:
        address = listening.socket.getsockname()
        client = socket.create_connection(address)
        listening.socket.setblocking(True)
        client.send(b"x")  # else a deferred accept waits for it
        accepted, _ = listening.socket.accept()
        accepted.close()  # ours first: the port lingers in TIME_WAIT
        client.close()
    with opened(str(listening.address)) as again:
        assert again.socket.getsockname() == address


def test_address_of_another_machine_is_refused():
    # TEST-NET-3 (RFC 5737): nobody has it.
    assert "this machine has no such address" in refusal("203.0.113.1:0")


def test_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch):
    def getaddrinfo(*args: object, **options: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    reason = refusal("nowhere.example:3031")

    assert "'nowhere.example' is not known" in reason


@pytest.mark.parametrize("host", ["a..b", "x" * 64], ids=["empty-label", "long-label"])
def test_impossible_name_is_refused(host: str):
    assert host in refusal(f"{host}:3031")


def test_port_without_permission_is_refused():
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) < 2:
        pytest.skip("this machine lets everybody have every port")
    with as_nobody():
        reason = refusal("127.0.0.1:1")

    assert "no permission for this port" in reason


def test_none_stays_open_when_one_can_not_be_had(directory: Path):
    with opened("127.0.0.1:0") as taken:
        refusal(f"unix:{directory / 'app.sock'}", str(taken.address))

    assert list(directory.iterdir()) == []


# Inherited descriptors.


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def test_an_inherited_listening_socket_is_accepted_on(
    directory: Path, family: socket.AddressFamily
):
    with socket.socket(family) as inherited:
        inherited.bind(
            ("127.0.0.1", 0) if family == socket.AF_INET else str(directory / "app.sock")
        )
        inherited.listen()
        name = inherited.getsockname()
        descriptor = os.dup(inherited.fileno())
        with opened(f"fd://{descriptor}") as listening:
            assert listening.address == DescriptorAddress(descriptor)
            assert listening.is_unix == (family == socket.AF_UNIX)
            assert listening.socket.getsockname() == name
            assert listening.socket.gettimeout() == 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    # Whoever has made the file removes it.
    assert len(list(directory.iterdir())) == (family == socket.AF_UNIX)


def test_descriptor_that_is_not_open_is_refused():
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    assert f"descriptor {writer} is not an inherited socket" in refusal(f"fd://{writer}")


def test_descriptor_of_a_file_is_refused_and_left_open(directory: Path):
    with (directory / "file").open("w") as file:
        assert "is not an inherited socket" in refusal(f"fd://{file.fileno()}")
        os.fstat(file.fileno())


def test_datagram_socket_is_refused_and_left_open():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        assert "is not a stream socket" in refusal(f"fd://{datagram.fileno()}")
        os.fstat(datagram.fileno())


def test_socket_that_does_not_listen_is_refused_and_left_open():
    with socket.socket() as silent:
        assert "does not listen" in refusal(f"fd://{silent.fileno()}")
        os.fstat(silent.fileno())
