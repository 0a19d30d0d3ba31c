"""An application that closes the server's own listening socket, as programs do that close all they know of."""

from __future__ import annotations

import pytest

from integration.workers import (
    EVERY_INTERFACE,
    EVERY_SOCKET,
    PATIENCE_SECONDS,
    Load,
    fetch,
    wait_gone,
    workers,
)
from uwsgibridge.testing import event_with

# What becomes of the number of each listening socket of this process, when /held is asked for.
FIRST = """
import os, socket, stat
def listening():
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            one = socket.socket(fileno=number)
        except OSError:
            continue
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            yield number
        one.detach()
def wait():
    for number in list(listening()):
        HOW
"""
CLOSED = "os.close(number)"
A_FILE = "other = os.open('/dev/null', os.O_RDONLY); os.dup2(other, number)"
A_SOCKET = "other = socket.socket(); os.dup2(other.fileno(), number); globals()['kept'] = other"
ANOTHER_SERVER = A_SOCKET.replace("socket.socket()", "socket.create_server(('127.0.0.1', 0))")

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
@EVERY_WAY
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
