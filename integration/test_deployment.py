"""The Compose deployment as an operator sees it: hardened, healthy, and back after what goes wrong.

The stack is the one that all tests share: those that break it leave it running and healthy.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from uwsgibridge.testing import event_with

pytestmark = pytest.mark.only(place="compose", interface="wsgi")

tcp_only = pytest.mark.only(socket="tcp")

# More than all the buffers between the application and a client that does not read.
MUCH = 64_000_000

SERVICES = pytest.mark.parametrize("service", ["bridge", "nginx"])


# Where nobody is, a connection is refused, or not answered.
NOT_THERE = {502, 504}


@pytest.fixture
def breakable(stack):
    yield stack
    stack.wait_until_up()


def said_by(container, *command):
    result = container.exec_run(list(command))
    return result.exit_code, result.output.decode()


def process_status(container):
    _, text = said_by(container, "cat", "/proc/1/status")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@SERVICES
def test_a_container_is_healthy(stack, service):
    state = getattr(stack, service).attrs["State"]
    assert state["Health"]["Status"] == "healthy"
    assert state["Health"]["FailingStreak"] == 0


def test_the_image_adds_less_than_80_mb_to_its_base(stack):
    history = stack.bridge.image.history()  # the newest first
    (first,) = [at for at, it in enumerate(history) if "uwsgibridge:x:10001" in it["CreatedBy"]]
    assert 1_000_000 < sum(it["Size"] for it in history[: first + 1]) < 80_000_000


@SERVICES
def test_a_container_has_no_privileges(stack, service):
    container = getattr(stack, service)
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
def test_a_container_writes_nowhere_but_to_tmp(stack, service):
    container = getattr(stack, service)
    for directory in ("/", "/etc", "/usr/bin", "/opt", "/run"):
        code, words = said_by(container, "touch", f"{directory}/intruder")
        assert code != 0, directory
        assert "Read-only file system" in words
    assert said_by(container, "touch", "/tmp/intruder") == (0, "")
    assert said_by(container, "rm", "/tmp/intruder") == (0, "")


def test_only_nginx_is_published_and_to_this_machine_alone(stack):
    assert not [one for one in stack.bridge.ports.values() if one]
    published = [one for ports in stack.nginx.ports.values() if ports for one in ports]
    assert [one["HostIp"] for one in published] == ["127.0.0.1"]


def test_the_health_checks_are_the_projects_own(stack):
    command = stack.bridge.attrs["Config"]["Healthcheck"]["Test"]
    assert command[1:3] == ["uwsgibridge", "ping"]
    code, words = said_by(stack.bridge, *command[1:])
    assert (code, words) == (0, "")


def test_the_socket_is_for_nginx_and_nobody_else(stack):
    over_unix = "UWSGIBRIDGE_BIND=unix:/run/uwsgibridge/app.sock" in environment(stack.bridge)
    listing = "srw-rw---- 10001:10001 app.sock\n" if over_unix else ""
    show = 'cd /run/uwsgibridge; for name in $(ls -A); do stat -c "%A %u:%g %n" $name; done'
    # Nothing is left of the name under which it was bound.
    assert said_by(stack.bridge, "sh", "-c", show) == (0, listing)
    code, _ = said_by(stack.nginx, "touch", "/run/uwsgibridge/intruder")
    assert code != 0


def environment(container):
    return container.attrs["Config"]["Env"]


def test_a_killed_bridge_is_seen_and_comes_back(breakable, client):
    before = len(breakable.log_events())
    breakable.bridge.kill()
    answer = client.get(f"{breakable.url}/arrived", timeout=20)
    assert answer.status_code in NOT_THERE
    assert "Please try again" in answer.text
    breakable.wait_until_up()
    breakable.wait_for_event(event_with(event="listening"), since=before)
    assert client.get(f"{breakable.url}/arrived", timeout=20).status_code == 200


@tcp_only
def test_a_bridge_that_ends_by_itself_is_started_again(breakable, client):
    before = len(breakable.log_events())
    code = "import os, signal; os.kill(1, signal.SIGTERM)"
    assert said_by(breakable.bridge, "python", "-c", code)[0] == 0
    breakable.wait_for_event(event_with(event="stopped"), since=before)
    breakable.wait_for_event(event_with(event="listening"), since=before, timeout_seconds=30)
    assert client.get(f"{breakable.url}/arrived", timeout=20).status_code == 200


# Over TCP, what the kernel has still to send of an answer goes with the container's network.
@pytest.mark.only(socket="unix")
def test_a_stopped_bridge_lets_its_requests_end(breakable, client):
    before = len(breakable.log_events())
    with (
        ThreadPoolExecutor() as pool,
        client.get(f"{breakable.url}/body?bytes={MUCH}", stream=True, timeout=30) as answer,
    ):
        pieces = answer.iter_content(100_000)
        received = len(next(pieces))
        stopping = pool.submit(breakable.compose, "stop", "bridge")
        breakable.wait_for_event(event_with(signal="SIGTERM"), since=before, timeout_seconds=30)
        received += sum(map(len, pieces))
        assert received == MUCH
        stopping.result(60)
    breakable.wait_for_event(event_with(event="stopped"), since=before)


def test_both_end_well_when_they_are_stopped(breakable):
    breakable.compose("stop")
    for container in (breakable.bridge, breakable.nginx):
        state = container.attrs["State"]
        assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False)


@tcp_only
def test_a_bridge_with_another_address_is_found(breakable, client):
    """Nginx looks the name up again while it runs."""
    old = breakable.bridge
    breakable.compose("rm", "--stop", "--force", "bridge")
    with occupying_its_address(old):
        breakable.wait_until_up()
        assert address_of(breakable.bridge) != address_of(old)
        # Nginx believes the old address for five seconds; there a connection is refused at once.
        status = 502
        deadline = time.monotonic() + 15
        while status in NOT_THERE and time.monotonic() < deadline:
            status = client.get(f"{breakable.url}/arrived", timeout=20).status_code
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
