"""The log at journald and syslog, by real sockets: what arrives, and that nothing waits for who receives it."""

from __future__ import annotations

import os
import re
import socket
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.log_events import PATIENCE_SECONDS, LogEvents
from uwsgibridge.config.address import TcpAddress, UnixAddress
from uwsgibridge.config.settings import Settings
from uwsgibridge.telemetry.access_sinks import make_access_log
from uwsgibridge.telemetry.journald import Journald
from uwsgibridge.telemetry.line_buffer import LineBuffer
from uwsgibridge.telemetry.logs import EventLogger, make_logger, stream_target
from uwsgibridge.telemetry.service_log import make_service_logger
from uwsgibridge.telemetry.syslog import Syslog


class Receiver:
    """A daemon's socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(PATIENCE_SECONDS)

    def receive(self) -> bytes:
        """Wait for a datagram; one that comes as a file is read."""
        data, files, _, _ = socket.recv_fds(self.socket, 1_000_000, 1)
        for it in files:
            data += os.pread(it, 10_000_000, 0)
            os.close(it)
        return data

    def receive_all(self) -> list[bytes]:
        """Give what is there."""
        self.socket.setblocking(False)
        received = []
        try:
            while True:
                received.append(self.socket.recv(1_000_000))
        except BlockingIOError:
            return received
        finally:
            self.socket.settimeout(PATIENCE_SECONDS)

    def close(self) -> None:
        """End, as a daemon does."""
        self.socket.close()
        Path(self.path).unlink(missing_ok=True)


@pytest.fixture
def path() -> Iterator[str]:
    # pytest's own paths may be too long for a unix socket.
    with tempfile.TemporaryDirectory() as directory:
        yield f"{directory}/log"


@pytest.fixture
def receiver(path: str) -> Iterator[Receiver]:
    made = Receiver(path)
    yield made
    made.close()


def fields_of(entry: bytes) -> dict[str, str]:
    """Read an entry of the journal."""
    fields = {}
    while entry:
        head, _, entry = entry.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", entry[:8])
            value, entry = entry[8 : 8 + size], entry[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def journal(path: str, **options: Any) -> tuple[EventLogger, LineBuffer]:
    target = Journald("shop", path)
    return make_logger(targets=[target], facts={"worker": 7}, **options), target.buffer


def syslog(address: UnixAddress | TcpAddress, *, has_json: bool = False) -> EventLogger:
    target = Syslog("syslog:x", address, "shop", "local3", has_json=has_json)
    return make_logger(targets=[target], facts={"worker": 7})


def test_an_entry_of_the_journal_has_the_fields_of_its_event(receiver: Receiver) -> None:
    log, _ = journal(receiver.path)
    try:
        raise ValueError("of the application")
    except ValueError:
        log.exception(
            "application failed",
            path="/a b",
            where="/srv/shop/views.py:41",
            request_id="abc",
            tries=3,
        )
    fields = fields_of(receiver.receive())
    trace = fields["UWSGIBRIDGE_EXCEPTION"]
    assert trace.startswith("Traceback")
    assert trace.endswith("ValueError: of the application")
    assert fields["MESSAGE"].splitlines()[0].startswith('application failed worker=7 path="/a b"')
    assert fields["MESSAGE"].endswith("\n" + trace)
    expected = {
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "shop",
        "CODE_FILE": "/srv/shop/views.py",
        "CODE_LINE": "41",
        "REQUEST_ID": "abc",
        "UWSGIBRIDGE_EVENT": "application failed",
        "UWSGIBRIDGE_PATH": "/a b",
        "UWSGIBRIDGE_TRIES": "3",
        "UWSGIBRIDGE_WORKER": "7",
        "UWSGIBRIDGE_LEVEL": "error",
    }
    assert expected.items() <= fields.items()


def test_no_text_makes_a_field_of_its_own(receiver: Receiver) -> None:
    log, _ = journal(receiver.path)
    log.info("told", path="/x\nPRIORITY=0", **{"é=\n_b": "odd name", "x" * 99: "long name"})
    fields = fields_of(receiver.receive())
    assert fields["PRIORITY"] == "6"
    assert fields["UWSGIBRIDGE_PATH"] == "/x\nPRIORITY=0"
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", it) for it in fields)


def test_a_large_entry_of_the_journal_goes_as_a_file(receiver: Receiver) -> None:
    log, buffer = journal(receiver.path)
    log.error("told", line="x" * 3_000_000)
    fields = fields_of(receiver.receive())
    assert len(fields["UWSGIBRIDGE_LINE"]) == 3_000_000
    assert buffer.buffer_bytes == 1024 * 1024


def test_the_machines_daemon_gets_the_form_of_syslog(receiver: Receiver) -> None:
    log = syslog(UnixAddress(receiver.path))
    log.warning("refused", path='/a"b', status=400, user=None)
    text = receiver.receive().decode()
    # Facility 19, severity 4.
    assert re.fullmatch(
        r'<156>[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d shop\[\d+\]: refused worker=7 path="/a\\"b" status=400',
        text,
    )


def test_a_line_end_of_a_client_ends_no_message(receiver: Receiver) -> None:
    log = syslog(UnixAddress(receiver.path))
    log.warning("refused", path="/x\n<0>forged")
    assert receiver.receive().decode().endswith(r'path="/x\n<0>forged"')


def test_a_message_as_json(receiver: Receiver) -> None:
    log = syslog(UnixAddress(receiver.path), has_json=True)
    log.info("told", path="/x")
    head, _, text = receiver.receive().decode().partition("]: ")
    assert head.startswith("<158>")
    assert text.startswith('{"worker": 7, "path": "/x", "event": "told"')


def test_a_message_is_cut_where_a_daemon_would_cut_it(receiver: Receiver) -> None:
    log = syslog(UnixAddress(receiver.path))
    log.error("told", line="ü" * 20_000)
    message = receiver.receive()
    assert 8190 <= len(message) <= 8192
    assert message.decode().endswith("üü...")


def test_a_daemon_of_the_network_gets_structured_data() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(PATIENCE_SECONDS)
        log = syslog(TcpAddress("127.0.0.1", daemon.getsockname()[1]))
        log.error(
            "application failed", path='/a"]\\', exception="Traceback\nValueError", **{"a =b": 1}
        )
        text = daemon.recv(65_536).decode()
    match = re.fullmatch(
        r"<155>1 (\S+Z) (\S+) shop (\d+) - \[uwsgibridge@32473 (.*)\] application failed\n(.*)",
        text,
        re.DOTALL,
    )
    assert match
    assert match[2] == socket.gethostname()
    assert int(match[3]) == os.getpid()
    assert match[4] == r'worker="7" path="/a\"\]\\" a__b="1"'
    assert match[5] == "Traceback\nValueError"


def test_a_daemon_of_the_network_that_is_not_there_holds_nothing_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    log = syslog(TcpAddress("127.0.0.1", port))
    for number in range(20):
        log.info("lost", number=number)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", port))
        daemon.settimeout(PATIENCE_SECONDS)
        log.info("heard")
        assert b"heard" in daemon.recv(65_536)


def test_a_daemon_that_hangs_holds_nothing_up_and_what_is_lost_is_told(
    receiver: Receiver,
) -> None:
    log, buffer = journal(receiver.path, buffer_bytes=20_000)
    begin = monotonic()
    for number in range(2_000):
        log.info("told", number=number)
    assert monotonic() - begin < PATIENCE_SECONDS / 2
    received: list[dict[str, str]] = []
    while (
        not received
        or received[-1]["UWSGIBRIDGE_EVENT"] != "log lines were dropped: nobody read them"
    ):
        received.append(fields_of(receiver.receive()))
    numbers = [int(it["UWSGIBRIDGE_NUMBER"]) for it in received[:-1]]
    assert numbers == list(range(len(numbers)))
    assert int(received[-1]["UWSGIBRIDGE_LINES"]) == 2_000 - len(numbers)
    assert received[-1]["PRIORITY"] == "3"
    buffer.finish(0)


def test_lines_wait_for_a_daemon_that_is_started_again(
    path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    first = Receiver(path)
    log, _ = journal(path)
    log.info("one")
    assert b"one" in first.receive()
    first.close()
    log.info("two")
    log.info("three")
    second = Receiver(path)
    # The kept lines come by themselves, and before the next one.
    texts = [fields_of(second.receive())["UWSGIBRIDGE_EVENT"] for _ in range(2)]
    log.info("four")
    texts.append(fields_of(second.receive())["UWSGIBRIDGE_EVENT"])
    second.close()
    assert texts == ["two", "three", "four"]
    said = capfd.readouterr().err
    assert said.count("Warning: --log-to journald can't be reached: No such file or directory") == 1


def test_a_replaced_socket_is_found_at_once(path: str) -> None:
    first = Receiver(path)
    log, _ = journal(path)
    log.info("one")
    first.close()
    second = Receiver(path)
    log.info("two")
    assert [b"two" in it for it in second.receive_all()] == [True]
    second.close()


def test_a_child_sends_by_itself(receiver: Receiver) -> None:
    log, _ = journal(receiver.path)
    log.info("of the parent")
    receiver.receive()
    pid = os.fork()
    if pid == 0:
        log.info("of the child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert fields_of(receiver.receive())["UWSGIBRIDGE_EVENT"] == "of the child"


def test_a_place_for_people_takes_nothing_from_the_next(receiver: Receiver) -> None:
    text = LogEvents()
    targets = [
        stream_target("text", text),
        Syslog("x", UnixAddress(receiver.path), "shop", "user", has_json=False),
    ]
    make_logger(targets=targets).error("told", line="below", status=500)
    assert "told" in text.other_text()
    assert receiver.receive().decode().endswith(": told status=500\nbelow")


def test_all_places_get_each_event_and_each_line_of_the_access_log(
    receiver: Receiver, path: str
) -> None:
    other = Receiver(f"{path}2")
    settings = Settings(
        workers=1,
        log_to=(f"syslog:{receiver.path}", f"syslog:{other.path}"),
        log_identifier="shop",
        access_log=True,
        access_log_format="%(status) %(method)",
    )
    log = make_service_logger(settings, {"worker": 7})
    log.info("told")
    try:
        raise ValueError("both have it")
    except ValueError:
        log.exception("failed")
    make_access_log(settings, log)
    for it in (receiver, other):
        assert it.receive().decode().endswith(": told worker=7")
        assert it.receive().decode().endswith("ValueError: both have it")
    other.close()
    assert isinstance(make_service_logger(replace(settings, log_to=("stderr",))), EventLogger)
