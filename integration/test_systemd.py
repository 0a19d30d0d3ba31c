"""A bridge that systemd has started: what it says to systemd, the sockets it inherits, the shipped units."""

from __future__ import annotations

import contextlib
import json
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from uwsgibridge.client import ping, request
from uwsgibridge.testing import BridgeProcess

PATIENCE_SECONDS = 20.0
DOCS = Path(__file__).parent.parent / "docs"

# Speaks to the same socket as the bridge: which of both was first is then to be seen.
APPLICATION = """
import json, os, socket

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"LOADED=1", os.environ["TOLD"])

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(dict(os.environ)).encode()]
"""

# A process learns its own id only once it runs; this one then becomes the bridge.
ACTIVATE = """#!/bin/sh
exec 3<&0 </dev/null
LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=app.socket exec {python} "$@"
"""


class Systemd:
    """The socket at which systemd listens for notifications."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def receive_until(
        self, assignment: str, timeout_seconds: float = PATIENCE_SECONDS
    ) -> list[str]:
        """Give the assignments of all datagrams up to the one that has this one."""
        deadline = time.monotonic() + timeout_seconds
        received: list[str] = []
        while assignment not in received:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                received += self._socket.recv(65_536).decode().split("\n")
            except TimeoutError:
                pytest.fail(f"{assignment} did not come in {timeout_seconds:g} s: {received}")
        return received

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    # pytest's own paths may be too long for a unix socket.
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "told.py").write_text(APPLICATION)
        yield Path(path)


@pytest.fixture
def systemd(directory: Path) -> Iterator[Systemd]:
    listening = Systemd(directory / "notify")
    yield listening
    listening.close()


def bridge(
    systemd: Systemd,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    watchdog_seconds: int = 60,
) -> BridgeProcess:
    directory = Path(systemd.path).parent
    return BridgeProcess(
        *("told:application", "--app-dir", str(directory), "--workers", "2", *arguments),
        environment={
            "TOLD": systemd.path,
            "NOTIFY_SOCKET": systemd.path,
            "WATCHDOG_USEC": str(watchdog_seconds * 1_000_000),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=stdin,
    )


def bound(systemd: Systemd, watchdog_seconds: int = 60) -> BridgeProcess:
    """Make a bridge that binds its socket itself."""
    address = f"unix:{Path(systemd.path).parent}/app.sock"
    return bridge(systemd, "--bind", address, watchdog_seconds=watchdog_seconds)


def environment_of_a_worker(address: str) -> dict[str, str]:
    answer = request(address, "/", timeout_seconds=PATIENCE_SECONDS)
    assert answer.status == 200
    variables: dict[str, str] = json.loads(answer.body)
    return variables


def meant_for_the_supervisor(variables: dict[str, str]) -> set[str]:
    return {name for name in variables if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))}


# Notifications.


def test_ready_is_said_once_the_workers_serve(systemd):
    with bound(systemd) as running:
        said = systemd.receive_until("READY=1")
        ping(running.address, timeout_seconds=PATIENCE_SECONDS)
    assert said[: said.index("READY=1")].count("LOADED=1") == 2
    assert "RELOADING=1" not in said


def test_reload_is_said_with_its_time_and_ends_with_ready(systemd):
    with bound(systemd) as running:
        systemd.receive_until("READY=1")
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        running.signal(signal.SIGHUP)
        said = systemd.receive_until("RELOADING=1")
        (microseconds,) = [it for it in said if it.startswith("MONOTONIC_USEC=")]
        # By this systemd tells the reload it has asked for from an earlier one.
        assert int(microseconds.partition("=")[2]) / 1e6 >= before - 1e-6
        assert "LOADED=1" not in said
        said = systemd.receive_until("READY=1")
        assert said[: said.index("READY=1")].count("LOADED=1") == 2
        ping(running.address, timeout_seconds=PATIENCE_SECONDS)


def test_reload_that_fails_ends_with_ready_since_the_old_code_serves(systemd, directory):
    with bound(systemd) as running:
        systemd.receive_until("READY=1")
        (directory / "told.py").write_text("raise RuntimeError('not today')\n")
        running.signal(signal.SIGHUP)
        systemd.receive_until("RELOADING=1")
        said = systemd.receive_until("READY=1")
        assert "LOADED=1" not in said
        ping(running.address, timeout_seconds=PATIENCE_SECONDS)


def test_stop_is_said_before_the_end(systemd):
    with bound(systemd) as running:
        systemd.receive_until("READY=1")
        running.signal(signal.SIGTERM)
        systemd.receive_until("STOPPING=1")
        assert running.wait_ended(PATIENCE_SECONDS) == 0


def test_watchdog_is_served_in_its_time(systemd):
    with bound(systemd, watchdog_seconds=1):
        systemd.receive_until("READY=1")
        deadline = time.monotonic() + 3
        for _ in range(2):
            systemd.receive_until("WATCHDOG=1", deadline - time.monotonic())


def test_application_can_not_speak_in_the_name_of_the_bridge(systemd):
    with bound(systemd) as running:
        systemd.receive_until("READY=1")
        variables = environment_of_a_worker(running.address)
        assert variables["TOLD"] == systemd.path
        assert not meant_for_the_supervisor(variables)


# Socket activation.


@pytest.fixture(params=["tcp", "unix"])
def inherited(request: pytest.FixtureRequest, directory: Path) -> Iterator[socket.socket]:
    """The socket that systemd listens on."""
    with contextlib.ExitStack() as stack:
        if request.param == "tcp":
            yield stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        else:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(f"{directory}/app.sock")
            listening.listen()
            yield listening


def address_of(listening: socket.socket) -> str:
    name = listening.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"


@contextlib.contextmanager
def activated(
    systemd: Systemd, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BridgeProcess]:
    wrapper = Path(systemd.path).parent / "activate"
    wrapper.write_text(ACTIVATE.format(python=sys.executable))
    wrapper.chmod(0o700)
    with monkeypatch.context() as patch:
        # BridgeProcess starts this, and passes the socket on as standard input.
        patch.setattr(sys, "executable", str(wrapper))
        running = bridge(systemd, stdin=listening.fileno())
        running.start()
    try:
        yield running
    finally:
        running.stop()


def test_inherited_socket_is_served_and_left_alone_at_the_end(systemd, inherited, monkeypatch):
    address = address_of(inherited)
    with activated(systemd, inherited, monkeypatch) as running:
        systemd.receive_until("READY=1")
        # In place of the default of --bind, not beside it.
        assert [it["address"] for it in running.log_events() if it["event"] == "listening"] == [
            "fd://3"
        ]
        assert not meant_for_the_supervisor(environment_of_a_worker(address))
        assert running.stop() == 0
    assert inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if address.startswith("unix:"):
        assert Path(address.removeprefix("unix:")).is_socket()


def test_request_between_two_services_is_answered_by_the_second(systemd, inherited, monkeypatch):
    with activated(systemd, inherited, monkeypatch):
        systemd.receive_until("READY=1")
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(environment_of_a_worker, address_of(inherited))
        assert select.select([inherited], [], [], PATIENCE_SECONDS)[0]  # it waits in the kernel
        with activated(systemd, inherited, monkeypatch):
            assert answer.result(PATIENCE_SECONDS)["TOLD"] == systemd.path


# The units in docs/.


def unit(kind: str) -> str:
    return (DOCS / f"uwsgibridge.{kind}").read_text("utf-8")


def test_systemd_has_nothing_against_the_units(directory):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    version = subprocess.run([analyze, "--version"], capture_output=True, text=True, check=True)
    service = unit("service").replace("/srv/mysite/venv/bin/uwsgibridge", "/bin/true")
    if int(version.stdout.split()[1].partition(".")[0]) < 253:
        # As the unit itself has it for those.
        service = service.replace("Type=notify-reload", "Type=notify")
    (directory / "mysite.service").write_text(service)
    (directory / "mysite.socket").write_text(unit("socket"))
    found = subprocess.run(
        [analyze, "verify", directory / "mysite.service", directory / "mysite.socket"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_systemd_has_nothing_against_the_units_for_many_applications(directory):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    service = (DOCS / "uwsgibridge@.service").read_text("utf-8")
    units = [directory / "uwsgibridge@blog.service", directory / "uwsgibridge@blog.socket"]
    units[0].write_text(
        service.replace("/usr/bin/uwsgibridge", "/bin/true").replace("man:uwsgibridge-serve(1)", "")
    )
    units[1].write_text((DOCS / "uwsgibridge@.socket").read_text("utf-8"))
    found = subprocess.run(
        [analyze, "verify", *units],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_what_one_application_may_not_do_none_of_many_may():
    """Both services have the same settings, but for those that say which application it is."""
    own = {"Type", "ExecStart", "ExecReload", "WorkingDirectory", "User", "Group"}
    one, many = (
        {
            line
            for line in (DOCS / name).read_text("utf-8").splitlines()
            if re.match(r"[A-Z]\w+=", line) and line.partition("=")[0] not in own
        }
        for name in ("uwsgibridge.service", "uwsgibridge@.service")
    )
    assert one - many == {
        "Description=mysite behind Nginx's uwsgi_pass",
        "Documentation=man:systemd.service(5)",
        "After=network.target",
        "RuntimeDirectory=mysite",
    }


def test_service_uses_options_that_there_are():
    command = [sys.executable, "-m", "uwsgibridge", "serve", "--help"]
    offered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = set(re.findall(r"(?<!\S)--[a-z-]+", unit("service")))
    assert {"--bind", "--config"} <= used
    assert all(re.search(rf"{option}\b", offered) for option in used)
