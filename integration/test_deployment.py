"""The Compose deployment as an operator sees it: hardened, healthy, and back after what goes wrong."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from uwsgibridge.testing import event_with

APPS = Path(__file__).parent / "apps"

# More than all the buffers between the application and a client that does not read.
MUCH = 64_000_000

SERVICES = pytest.mark.parametrize("service", ["bridge", "nginx"])


@pytest.fixture(scope="session", params=["tcp", "unix"])
def own_stack(request, compose_stack):
    """A stack that may be broken; each test leaves it running."""
    return compose_stack("exercises.wsgi:application", app_dir=APPS, socket=request.param)


def said_by(container, *command):
    result = container.exec_run(list(command))
    return result.exit_code, result.output.decode()


def process_status(container):
    _, text = said_by(container, "cat", "/proc/1/status")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@SERVICES
def test_a_container_is_healthy(own_stack, service):
    state = getattr(own_stack, service).attrs["State"]
    assert state["Health"]["Status"] == "healthy"
    assert state["Health"]["FailingStreak"] == 0


@SERVICES
def test_a_container_has_no_privileges(own_stack, service):
    container = getattr(own_stack, service)
    host = container.attrs["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    # And so it is for what runs in it.
    status = process_status(container)
    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split()
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert status["NoNewPrivs"] == "1"


@SERVICES
def test_a_container_writes_nowhere_but_to_tmp(own_stack, service):
    container = getattr(own_stack, service)
    for directory in ("/", "/etc", "/usr/bin", "/opt", "/run"):
        code, words = said_by(container, "touch", f"{directory}/intruder")
        assert code != 0, directory
        assert "Read-only file system" in words
    assert said_by(container, "touch", "/tmp/intruder") == (0, "")
    assert said_by(container, "rm", "/tmp/intruder") == (0, "")


def test_only_nginx_is_published_and_to_this_machine_alone(own_stack):
    assert not [one for one in own_stack.bridge.ports.values() if one]
    published = [one for ports in own_stack.nginx.ports.values() if ports for one in ports]
    assert [one["HostIp"] for one in published] == ["127.0.0.1"]


def test_the_health_checks_are_the_projects_own(own_stack):
    command = own_stack.bridge.attrs["Config"]["Healthcheck"]["Test"]
    assert command[1:3] == ["uwsgibridge", "ping"]
    code, words = said_by(own_stack.bridge, *command[1:])
    assert (code, words) == (0, "")


def test_the_socket_is_for_nginx_and_nobody_else(own_stack):
    over_unix = "UWSGIBRIDGE_BIND=unix:/run/uwsgibridge/app.sock" in environment(own_stack.bridge)
    listing = "srw-rw---- 10001:10001 app.sock\n" if over_unix else ""
    show = 'cd /run/uwsgibridge; for name in $(ls -A); do stat -c "%A %u:%g %n" $name; done'
    # Nothing is left of the name under which it was bound.
    assert said_by(own_stack.bridge, "sh", "-c", show) == (0, listing)
    code, _ = said_by(own_stack.nginx, "touch", "/run/uwsgibridge/intruder")
    assert code != 0


def environment(container):
    return container.attrs["Config"]["Env"]


def test_a_killed_bridge_is_502_and_comes_back(own_stack, client):
    before = len(own_stack.log_events())
    own_stack.bridge.kill()
    answer = client.get(f"{own_stack.url}/arrived", timeout=20)
    assert answer.status_code == 502
    assert "does not answer" in answer.text
    own_stack.wait_until_up()
    own_stack.wait_for_event(event_with(event="listening"), since=before)
    assert client.get(f"{own_stack.url}/arrived", timeout=20).status_code == 200


def test_a_bridge_that_ends_by_itself_is_started_again(own_stack, client):
    before = len(own_stack.log_events())
    code = "import os, signal; os.kill(1, signal.SIGTERM)"
    assert said_by(own_stack.bridge, "python", "-c", code)[0] == 0
    own_stack.wait_for_event(event_with(event="stopped"), since=before)
    own_stack.wait_for_event(event_with(event="listening"), since=before, timeout_seconds=30)
    assert client.get(f"{own_stack.url}/arrived", timeout=20).status_code == 200


def test_a_stopped_bridge_lets_its_requests_end(own_stack, client):
    before = len(own_stack.log_events())
    stopping = threading.Thread(target=own_stack.compose, args=("stop", "bridge"))
    with client.get(f"{own_stack.url}/body?bytes={MUCH}", stream=True, timeout=30) as answer:
        pieces = answer.iter_content(100_000)
        received = len(next(pieces))
        stopping.start()
        own_stack.wait_for_event(event_with(signal="SIGTERM"), since=before, timeout_seconds=30)
        received += sum(map(len, pieces))
    stopping.join(60)
    assert not stopping.is_alive()
    assert received == MUCH
    assert own_stack.bridge.attrs["State"]["ExitCode"] == 0
    own_stack.wait_for_event(event_with(event="stopped"), since=before)
    own_stack.wait_until_up()


def test_both_end_well_when_they_are_stopped(own_stack):
    own_stack.compose("stop")
    for container in (own_stack.bridge, own_stack.nginx):
        state = container.attrs["State"]
        assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False)
    own_stack.wait_until_up()


def test_a_bridge_with_another_address_is_found(own_stack, client):
    """Nginx looks the name up again while it runs; the file of a socket is found anyway."""
    old = own_stack.bridge
    own_stack.compose("rm", "--stop", "--force", "bridge")
    with occupying_its_address(old):
        own_stack.wait_until_up()
        assert address_of(own_stack.bridge) != address_of(old)
        # Nginx believes the old address for five seconds; there a connection is refused at once.
        status = 502
        deadline = time.monotonic() + 15
        while status == 502 and time.monotonic() < deadline:
            status = client.get(f"{own_stack.url}/arrived", timeout=20).status_code
        assert status == 200


@contextlib.contextmanager
def occupying_its_address(gone):
    (network,) = gone.attrs["NetworkSettings"]["Networks"]
    other = gone.client.containers.run(
        gone.attrs["Image"], ["infinity"], entrypoint=["sleep"], network=network, detach=True
    )
    try:
        other.reload()
        assert address_of(other) == address_of(gone)
        yield
    finally:
        other.remove(force=True)


def address_of(container):
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    return network["IPAddress"]
