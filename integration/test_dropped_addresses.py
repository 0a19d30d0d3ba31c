"""An upgrade in place whose new configuration drops an address: what the kernel took there is answered."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from integration.connecting import connect
from integration.gate import Gate
from integration.process_tree import family
from integration.workers import EVERY_INTERFACE, EVERY_SOCKET, PATIENCE_SECONDS, write
from tests.processes import wait_gone
from uwsgibridge.protocol.packet import encode_packet
from uwsgibridge.testing import event_with
from uwsgibridge.testing.bridge_process import BridgeProcess

BODY = b"x" * 100

# Two Pythons start, one after the other, while all others of the machine are busy.
UPGRADE_SECONDS = 120.0

LISTENING = event_with(event="listening")


def packet(path: str) -> bytes:
    variables = {
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": path,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(BODY)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": "80",
    }
    return encode_packet(variables) + BODY


def answer_of(connection: socket.socket) -> str:
    """Read an answer to its end; the version that answered, or what went wrong."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except OSError as error:
        return repr(error)
    head, _, body = received.partition(b"\r\n\r\n")
    return body.split()[0].decode() if b" 200 " in head.split(b"\r\n")[0] else repr(received)


@contextlib.contextmanager
def bridge(
    directory: Path, kind_of_socket: str, interface: str, *arguments: str
) -> Iterator[tuple[BridgeProcess, str, Path]]:
    """Run one that listens at two addresses; the one that is to be dropped, and where that is said."""
    tcp, unix = "127.0.0.1:0", f"unix:{directory}/app.sock"
    dropped, kept = (tcp, unix) if kind_of_socket == "tcp" else (unix, tcp)
    options, new = directory / "options.toml", directory / "new.toml"
    options.write_text(f'bind = ["{dropped}", "{kept}"]\n')
    new.write_text(f'bind = ["{kept}"]\n')
    with BridgeProcess(
        *(f"versioned:{interface}", "--app-dir", str(directory), "--config", str(options)),
        *("--lifespan", "off", *arguments),
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
        graceful_timeout_seconds=PATIENCE_SECONDS,
    ) as process:
        yield process, process.address, options


def upgrade(process: BridgeProcess, directory: Path, options: Path) -> int:
    """Ask for an upgrade that drops the address; since when to look at the log."""
    since = len(process.log_events())
    (directory / "new.toml").rename(options)
    process.signal(signal.SIGUSR2)
    return since


def is_refused(address: str) -> bool:
    try:
        connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


@EVERY_SOCKET
@EVERY_INTERFACE
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
def test_what_waits_at_a_dropped_address_is_answered(tmp_path, kind_of_socket, interface, preload):
    busy = ("--workers", "1", "--accept-margin", "0", *preload)
    busy += ("--threads", "1") if interface == "wsgi" else ("--max-concurrency", "1")
    with (
        Gate(tmp_path) as gate,
        contextlib.ExitStack() as stack,
    ):
        write(tmp_path, "one", f"def wait(): {gate.code}\n")
        with bridge(tmp_path, kind_of_socket, interface, *busy) as (process, dropped, options):
            [[old]] = family(process.pid).values()
            connections = [stack.enter_context(closing(connect(dropped))) for _ in range(12)]
            connections[0].sendall(packet("/held"))
            gate.wait_arrival()
            for connection in connections[1:]:
                connection.sendall(packet("/"))
            since = upgrade(process, tmp_path, options)
            process.wait_for_event(
                event_with(event="reloaded"), since=since, timeout_seconds=UPGRADE_SECONDS
            )
            deadline = monotonic() + PATIENCE_SECONDS
            while not is_refused(dropped):
                assert monotonic() < deadline, "something listens at the dropped address"
            gate.open()
            assert [answer_of(it) for it in connections] == ["one"] * len(connections)
            assert wait_gone(old, PATIENCE_SECONDS)
            assert [
                it for it in process.log_events(since=since) if it["level"] in {"error", "warning"}
            ] == []
            assert process.stop() == 0


@EVERY_SOCKET
@EVERY_INTERFACE
def test_each_request_to_a_dropped_address_is_answered_or_refused(
    tmp_path, kind_of_socket, interface
):
    write(tmp_path, "one")
    with bridge(tmp_path, kind_of_socket, interface, "--workers", "2") as (
        process,
        dropped,
        options,
    ):
        seen, lock = Counter[str](), threading.Lock()
        begun, pause = threading.Barrier(5), threading.Event()

        def ask_until_refused() -> None:
            is_first = True
            deadline = monotonic() + UPGRADE_SECONDS
            while monotonic() < deadline:
                pause.wait(0.002)  # the upgrade needs the machine, too
                try:
                    connection = connect(dropped)
                except (ConnectionRefusedError, FileNotFoundError):
                    what = "refused"
                else:
                    with closing(connection):
                        try:
                            connection.sendall(packet("/"))
                            what = answer_of(connection)
                        except OSError as error:
                            what = repr(error)
                with lock:
                    seen[what] += 1
                if what == "refused":
                    return
                if is_first:
                    is_first = False
                    begun.wait(PATIENCE_SECONDS)

        threads = [threading.Thread(target=ask_until_refused) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait(PATIENCE_SECONDS)
        since = upgrade(process, tmp_path, options)
        for thread in threads:
            thread.join()
        assert seen.pop("refused") == len(threads)
        assert set(seen) == {"one"}, seen
        process.wait_for_event(
            event_with(event="reloaded"), since=since, timeout_seconds=UPGRADE_SECONDS
        )
        kept = str(process.wait_for_event(LISTENING, since=since)["address"])
        with closing(connect(kept)) as connection:
            connection.sendall(packet("/"))
            assert answer_of(connection) == "one"
        assert process.stop() == 0
