"""A stop of one bridge of several: Nginx is refused at once and takes another, so that nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from integration.gate import Gate
from integration.process_tree import everybody
from integration.workers import EVERY_SOCKET, PATIENCE_SECONDS, Load, write
from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing import event_with
from uwsgibridge.testing.bridge_process import BridgeProcess

STOPPING = event_with(event="stopping: running requests may end")

KINDS = pytest.mark.parametrize(
    "arguments",
    [("--workers", "2"), ("--workers", "2", "--preload"), ("--workers", "0")],
    ids=["forked", "preloaded", "unsupervised"],
)

# Each run is one stop, and what it loses is a matter of microseconds.
RUNS = 3


def address_of(kind_of_socket: str, directory: Path, name: str) -> str:
    return "127.0.0.1:0" if kind_of_socket == "tcp" else f"unix:{directory}/{name}.sock"


@contextlib.contextmanager
def bridge(directory: Path, address: str, *arguments: str) -> Iterator[BridgeProcess]:
    with BridgeProcess(
        *("versioned:wsgi", "--app-dir", str(directory), "--bind", address, *arguments),
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        yield process


def refuses(address: str) -> bool:
    """Whether a connection is refused, as the kernel says at once where nobody listens."""
    path = address.removeprefix("unix:")
    family_ = socket.AF_UNIX if path != address else socket.AF_INET
    host, _, port = address.rpartition(":")
    with socket.socket(family_) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        try:
            peer.connect(path if path != address else (host, int(port)))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
    return False


def is_listening(address: str) -> bool:
    """Whether the kernel has a listening TCP socket there, whoever holds it."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(port) and row[3] == "0A" for row in rows)


@EVERY_SOCKET
@KINDS
def test_a_stop_among_two_loses_nothing(tmp_path, kind_of_socket, arguments):
    write(tmp_path, "one")
    seen = []
    for run in range(RUNS):
        with (
            bridge(tmp_path, address_of(kind_of_socket, tmp_path, f"a{run}"), *arguments) as first,
            bridge(tmp_path, address_of(kind_of_socket, tmp_path, f"b{run}"), *arguments) as other,
            PrivateNginx(Site(upstreams=(first.address, other.address))) as nginx,
        ):
            with Load(nginx.url, threads=16, pause_seconds=0.0, body=b"x" * 100) as load:
                first.signal(signal.SIGTERM)
                assert first.wait_ended(PATIENCE_SECONDS) == 0
            seen.append(load.seen)
    assert all(set(it) == {"one"} for it in seen), seen


@EVERY_SOCKET
@KINDS
def test_a_stop_refuses_at_once_whatever_still_runs(tmp_path, kind_of_socket, arguments):
    with Gate(tmp_path) as gate:
        write(tmp_path, "one", f"def wait(): {gate.code}\n")
        address = address_of(kind_of_socket, tmp_path, "app")
        with (
            bridge(tmp_path, address, *arguments) as process,
            PrivateNginx(Site(upstreams=(process.address,))) as nginx,
            socket.create_connection(("127.0.0.1", nginx.port)) as client,
        ):
            client.sendall(b"GET /held HTTP/1.0\r\n\r\n")
            gate.wait_arrival()
            process.signal(signal.SIGTERM)
            process.wait_for_event(STOPPING)
            deadline = monotonic() + 3
            while not refuses(process.address):
                assert monotonic() < deadline, "something listens during the drain"
            assert kind_of_socket == "unix" or not is_listening(process.address)
            gate.open()
            assert b" 200 " in client.makefile("rb").readline()
            assert process.wait_ended(PATIENCE_SECONDS) == 0


@EVERY_SOCKET
def test_a_signal_to_all_processes_at_once_loses_nothing(tmp_path, kind_of_socket):
    """As systemd sends it, unless the unit says otherwise; here, to the workers first."""
    write(tmp_path, "one")
    with (
        bridge(tmp_path, address_of(kind_of_socket, tmp_path, "a"), "--workers", "2") as first,
        bridge(tmp_path, address_of(kind_of_socket, tmp_path, "b"), "--workers", "2") as other,
        PrivateNginx(Site(upstreams=(first.address, other.address))) as nginx,
        Load(nginx.url, threads=16, pause_seconds=0.0, body=b"x" * 100) as load,
    ):
        for pid in (*everybody(first.pid), first.pid):
            os.kill(pid, signal.SIGTERM)
        assert first.wait_ended(PATIENCE_SECONDS) == 0
        load.stop()
    assert load.seen == {"one": len(load.outcomes)}
