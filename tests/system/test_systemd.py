"""systemd's side is a datagram socket and an environment: what is said to it, and what is taken from it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.errors import SettingsError
from uwsgibridge.system.systemd import Notifier, inherited_sockets

OURS = str(os.getpid())
NOT_OURS = str(os.getppid())
UNTOUCHED = {"PATH": "/usr/bin", "LISTEN_PORT": "80", "NOTIFY_ADMINS": "yes"}


class Systemd:
    """The socket at which systemd listens for notifications."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.bind(address)
        name = self._socket.getsockname()
        # What stands in NOTIFY_SOCKET.
        self.name = "@" + name[1:].decode() if isinstance(name, bytes) else name

    def receive(self) -> list[str]:
        return self._socket.recv(65_536).decode().split("\n")

    def is_silent(self) -> bool:
        """A datagram is there as soon as it is sent."""
        self._socket.setblocking(False)
        try:
            return not self._socket.recv(65_536)
        except BlockingIOError:
            return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(directory: Path) -> Iterator[Systemd]:
    listening = Systemd(f"{directory}/notify")
    yield listening
    listening.close()


def notifier(name: str, **variables: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": name, **variables})


# Notifications.


def test_each_notification_is_one_datagram(systemd: Systemd) -> None:
    notify = notifier(systemd.name)
    notify.starting(365.5)
    notify.ready("2 workers")
    notify.status("3 workers")
    notify.watchdog()
    notify.stopping()
    assert systemd.receive() == ["EXTEND_TIMEOUT_USEC=365500000"]
    assert systemd.receive() == ["READY=1", "STATUS=2 workers"]
    assert systemd.receive() == ["STATUS=3 workers"]
    assert systemd.receive() == ["WATCHDOG=1"]
    assert systemd.receive() == ["STOPPING=1"]
    assert systemd.is_silent()


def test_reload_is_told_with_the_time_of_the_monotonic_clock(systemd: Systemd) -> None:
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    notifier(systemd.name).reloading()
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    first, second = systemd.receive()
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before - 1e-6 <= int(microseconds) / 1e6 <= after


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_abstract_socket_is_spoken_to() -> None:
    listening = Systemd("")  # the kernel chooses a name
    try:
        assert listening.name.startswith("@")
        notifier(listening.name).stopping()
        assert listening.receive() == ["STOPPING=1"]
    finally:
        listening.close()


def test_status_stays_one_line(systemd: Systemd) -> None:
    notifier(systemd.name).status("reload failed:\nSTOPPING=1\r\n  no module\tshop")
    assert systemd.receive() == ["STATUS=reload failed: STOPPING=1 no module shop"]


@pytest.mark.parametrize("character", ["x", "é", "\N{SNAKE}"])
def test_message_with_a_long_status_is_not_too_long_for_systemd(
    systemd: Systemd, character: str
) -> None:
    notifier(systemd.name).ready(character * 5000)
    first, second = systemd.receive()
    assert first == "READY=1"
    assert second.startswith("STATUS=" + character * 500)
    assert len(f"{first}\n{second}".encode()) <= 4096


def test_status_that_is_no_unicode_is_sent_with_marks(systemd: Systemd) -> None:
    notifier(systemd.name).status("no module \udcff")
    assert systemd.receive() == ["STATUS=no module ?"]


def say_everything(notify: Notifier) -> None:
    notify.ready("2 workers")
    notify.reloading()
    notify.status("2 workers")
    notify.watchdog()
    notify.stopping()


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"NOTIFY_SOCKET": "notify"}],
)
def test_without_a_socket_of_systemd_nothing_is_sent(
    directory: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    monkeypatch.chdir(directory)  # a relative name is none that systemd would give
    listening = Systemd("notify")
    try:
        notify = Notifier.from_environment({**environ, "WATCHDOG_USEC": "1000000"})
        say_everything(notify)
        assert listening.is_silent()
        assert notify.watchdog_seconds is None
    finally:
        listening.close()


@pytest.mark.parametrize("name", ["gone", "x" * 200, "directory"])
def test_socket_that_is_not_there_hinders_nobody(directory: Path, name: str) -> None:
    (directory / "directory").mkdir()
    say_everything(notifier(f"{directory}/{name}"))
    if sys.platform == "linux":
        say_everything(notifier(f"@{directory}/{name}"))


def fill(name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        while True:
            sender.sendto(b"STATUS=busy", name)


def test_socket_that_takes_no_more_makes_nobody_wait(systemd: Systemd) -> None:
    with pytest.raises(OSError):  # EAGAIN on Linux, ENOBUFS on macOS
        fill(systemd.name)
    notify = notifier(systemd.name)
    thread = threading.Thread(target=say_everything, args=(notify,))
    thread.start()
    thread.join(PATIENCE_SECONDS)
    waits = thread.is_alive()
    systemd.close()  # releases one that waits
    thread.join()
    assert not waits


# The environment.


def test_variables_are_taken_and_can_be_put_back(systemd: Systemd) -> None:
    said = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": OURS}
    environ = {**UNTOUCHED, **said}
    notify = Notifier.from_environment(environ)
    assert environ == UNTOUCHED
    notify.restore(environ)
    assert environ == {**UNTOUCHED, **said}
    Notifier.from_environment(environ).stopping()
    assert systemd.receive() == ["STOPPING=1"]


def test_variables_that_were_not_there_are_not_put_back() -> None:
    environ = dict(UNTOUCHED)
    Notifier.from_environment(environ).restore(environ)
    assert environ == UNTOUCHED


# The watchdog.


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": OURS}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": NOT_OURS}, None),
        ({"WATCHDOG_USEC": "nonsense", "WATCHDOG_PID": NOT_OURS}, None),
        ({"WATCHDOG_PID": OURS}, None),
        ({"WATCHDOG_USEC": "1"}, 0.000_000_5),
    ],
)
def test_watchdog_is_served_twice_in_its_time(
    systemd: Systemd, variables: dict[str, str], seconds: float | None
) -> None:
    assert notifier(systemd.name, **variables).watchdog_seconds == seconds


@pytest.mark.parametrize("value", ["", "0", "-1", "30s", "1.5", "³", "18446744073709551615"])
def test_watchdog_that_is_no_time_is_refused(systemd: Systemd, value: str) -> None:
    with pytest.raises(SettingsError, match=r"^WATCHDOG_USEC=.*; unset it, or "):
        notifier(systemd.name, WATCHDOG_USEC=value)


# Inherited sockets.


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": OURS},
        {"LISTEN_PID": NOT_OURS, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "app.socket"},
        {"LISTEN_PID": NOT_OURS, "LISTEN_FDS": "nonsense"},
        {"LISTEN_PID": OURS, "LISTEN_FDS": "0", "LISTEN_PIDFDID": "7"},
    ],
)
def test_no_sockets_where_none_are_meant_for_this_process(variables: dict[str, str]) -> None:
    environ = {**UNTOUCHED, **variables}
    assert inherited_sockets(environ) == []
    assert environ == UNTOUCHED


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"LISTEN_PID": "me", "LISTEN_FDS": "1"}, "LISTEN_PID"),
        ({"LISTEN_PID": "", "LISTEN_FDS": "1"}, "LISTEN_PID"),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": ""}, "LISTEN_FDS"),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "-1"}, "LISTEN_FDS"),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "1 "}, "LISTEN_FDS"),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "٣"}, "LISTEN_FDS"),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "9" * 20}, "LISTEN_FDS"),
    ],
)
def test_variables_that_are_no_numbers_are_refused(variables: dict[str, str], name: str) -> None:
    environ = {**UNTOUCHED, **variables}
    with pytest.raises(SettingsError, match=f"^{name}='.*' is not a whole number; unset it"):
        inherited_sockets(environ)
    assert environ == UNTOUCHED


# Puts descriptors where systemd does, which takes a process of its own, and says what came of it.
ACTIVATED = """
import json, os, sys

from uwsgibridge.errors import SettingsError
from uwsgibridge.system.systemd import inherited_sockets

promised, *passed = map(int, sys.argv[1:])
for descriptor, it in enumerate(passed, start=3):
    os.dup2(it, descriptor)  # inheritable
os.closerange(3 + len(passed), 256)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(promised), "LISTEN_FDNAMES": "a:b"}
try:
    found = inherited_sockets(environ)
except SettingsError as error:
    found = str(error)
print(json.dumps([found, [os.get_inheritable(fd) for fd in range(3, 3 + len(passed))], environ]))
"""


def activated(promised: int, *listening: socket.socket) -> list[object]:
    """Call it where so many descriptors are promised and these are passed."""
    # Ascending, so that putting one in its place never overwrites another.
    passed = sorted(it.fileno() for it in listening)
    finished = subprocess.run(
        [sys.executable, "-c", ACTIVATED, str(promised), *map(str, passed)],
        cwd=Path(__file__).parents[2],
        pass_fds=passed,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    answer: list[object] = json.loads(finished.stdout)
    return answer


def test_sockets_are_those_from_descriptor_3_on_and_stay_in_this_process() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        assert activated(2, one, two) == [[3, 4], [False, False], {}]


def test_sockets_beyond_those_promised_are_left_alone() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        assert activated(1, one, two) == [[3], [False, True], {}]


@pytest.mark.parametrize("promised", [2, 10**18])
def test_descriptor_that_is_promised_and_not_open_is_refused(promised: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        refusal, _, environ = activated(promised, one)
    assert refusal == (
        f"LISTEN_FDS={promised}, but descriptor 4 is not open; "
        "unset it, or have systemd set it with a socket unit"
    )
    assert environ == {}
