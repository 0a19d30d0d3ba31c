"""An application that closes the server's own listening socket, as programs do that close all they know of."""

from __future__ import annotations

import socket
import urllib.error
from time import monotonic

import pytest

from integration.listening_sockets import LISTENING
from integration.workers import (
    EVERY_INTERFACE,
    EVERY_SOCKET,
    PATIENCE_SECONDS,
    Load,
    fetch,
    workers,
    write,
)
from tests.processes import wait_gone
from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing import event_with
from uwsgibridge.testing.bridge_process import BridgeProcess

# What becomes of the number of each listening socket of this process, when /held is asked for.
FIRST = f"""{LISTENING}
def wait():
    for number in list(listening()):
        HOW
"""
CLOSED = "os.close(number)"
A_FILE = "other = os.open('/dev/null', os.O_RDONLY); os.dup2(other, number)"
A_SOCKET = "other = socket.socket(); os.dup2(other.fileno(), number); globals()['kept'] = other"
ANOTHER_SERVER = A_SOCKET.replace("socket.socket()", "socket.create_server(('127.0.0.1', 0))")

SHUT_DOWN = "one = socket.socket(fileno=os.dup(number)); one.shutdown(socket.SHUT_RDWR)"

EVERY_WAY = pytest.mark.parametrize(
    "how",
    [CLOSED, A_FILE, A_SOCKET, ANOTHER_SERVER],
    ids=["closed", "file", "socket", "another-server"],
)
EVERY_HOST = pytest.mark.parametrize(
    ("interface", "loop"),
    [("wsgi", "auto"), ("asgi", "asyncio"), ("asgi", "uvloop")],
)


@EVERY_SOCKET
@EVERY_INTERFACE
@EVERY_WAY
def test_a_worker_that_can_accept_nothing_is_replaced(tmp_path, kind_of_socket, interface, how):
    with workers(tmp_path, kind_of_socket, interface, first=FIRST.replace("HOW", how)) as stack:
        since = len(stack.log_events())
        _, pid = fetch(f"{stack.url}/held")
        event = stack.wait_for_event(
            event_with(event="stopping to be started again", worker=pid),
            since=since,
            timeout_seconds=PATIENCE_SECONDS,
        )
        assert "nothing can be accepted at fd://" in event["reason"]
        assert "closed it?" in event["reason"]
        assert wait_gone(pid, PATIENCE_SECONDS)
        with Load(stack.url) as load:
            pass
        assert set(load.seen) == {"one"}
        assert "ulimit" not in stack.bridge_log
        assert "Traceback" not in stack.bridge_log
        assert stack.stop() == 0


@EVERY_SOCKET
@EVERY_HOST
@pytest.mark.parametrize(
    "how",
    [CLOSED, A_FILE, A_SOCKET, ANOTHER_SERVER, SHUT_DOWN],
    ids=["closed", "file", "socket", "another-server", "shut-down"],
)
def test_a_process_without_a_supervisor_ends_with_a_reason(
    tmp_path, kind_of_socket, interface, loop, how
):
    with workers(
        tmp_path,
        *(kind_of_socket, interface, "--workers", "0", "--loop", loop),
        first=FIRST.replace("HOW", how),
    ) as stack:
        assert fetch(f"{stack.url}/held")[0] == "one"
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 1
        assert stack.log.wait_ended(PATIENCE_SECONDS)
        [event] = [it for it in stack.log_events() if it["event"] == "stopping to be started again"]
        assert event["level"] == "error"
        assert "nothing can be accepted at" in event["reason"]
        assert "Error: stopped: nothing can be accepted at" in stack.bridge_log
        assert "ulimit" not in stack.bridge_log
        assert "Traceback" not in stack.bridge_log


@EVERY_SOCKET
@EVERY_INTERFACE
@pytest.mark.parametrize("count", [1, 2])
def test_a_socket_that_the_application_has_shut_down_for_all_is_made_anew(
    tmp_path, kind_of_socket, interface, count
):
    first = FIRST.replace("HOW", SHUT_DOWN)
    with workers(
        tmp_path, kind_of_socket, interface, "--workers", str(count), first=first
    ) as stack:
        address = stack.address
        since = len(stack.log_events())
        fetch(f"{stack.url}/held")
        event = stack.wait_for_event(
            event_with(
                event="nobody can connect any more: the listening socket was shut down",
                address=address,
            ),
            since=since,
            timeout_seconds=PATIENCE_SECONDS,
        )
        assert event["level"] == "error"
        stack.wait_for_event(
            event_with(event="listening", address=address),
            since=since,
            timeout_seconds=PATIENCE_SECONDS,
        )
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                assert fetch(stack.url)[0] == "one"
                break
            except urllib.error.HTTPError:  # until the new workers are up
                assert monotonic() < deadline, "it is not served again"
        assert "ulimit" not in stack.bridge_log
        assert "Traceback" not in stack.bridge_log
        assert stack.stop() == 0


@pytest.mark.each("kind_of_socket")
@EVERY_SOCKET
def test_a_socket_that_was_handed_over_and_is_shut_down(tmp_path, kind_of_socket):
    """TCP listens again, for whoever has it; a unix socket is shut down for good."""
    write(tmp_path, "one", FIRST.replace("HOW", SHUT_DOWN))
    with socket.socket(socket.AF_INET if kind_of_socket == "tcp" else socket.AF_UNIX) as listening:
        if kind_of_socket == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as other:
                port = other.getsockname()[1]
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", port))  # one that is named, as systemd's are
        else:
            listening.bind(f"{tmp_path}/s")
        listening.listen()
        where = f"127.0.0.1:{port}" if kind_of_socket == "tcp" else f"unix:{tmp_path}/s"
        with (
            BridgeProcess(
                *("versioned:wsgi", "--app-dir", str(tmp_path), "--bind", "fd://0"),
                *("--workers", "2"),
                environment={"PYTHONDONTWRITEBYTECODE": "1"},
                stdin=listening.fileno(),
            ) as process,
            PrivateNginx(Site(upstreams=(where,))) as nginx,
        ):
            since = len(process.log_events())
            fetch(f"{nginx.url}/held")
            if kind_of_socket == "tcp":
                process.wait_for_event(
                    event_with(event="listening"), since=since, timeout_seconds=PATIENCE_SECONDS
                )
                assert fetch(nginx.url)[0] == "one"
                assert process.stop() == 0
            else:
                assert process.wait_ended(PATIENCE_SECONDS) == 1
                assert process.log.wait_ended(PATIENCE_SECONDS)
                assert "Error: stopped: nothing can be accepted at fd://" in process.log.text()
                assert "Traceback" not in process.log.text()
