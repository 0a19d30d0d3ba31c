"""A stop that is put off, while load balancers forget the service: all is answered, and those who ask know of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

import pytest

from integration.gate import Gate
from integration.process_tree import everybody
from integration.workers import PATIENCE_SECONDS, Load, workers, write
from uwsgibridge.client import Response, request
from uwsgibridge.control.client import ask
from uwsgibridge.testing import BridgeProcess, LocalStack, event_with

DRAINING = event_with(event="draining: new requests are answered until the delay is over")
# Workers log the same event, without a reason.
STOPPING_BY_SIGNAL, STOPPING_IN_TIME = (
    event_with(event="stopping: running requests may end", reason=it)
    for it in ("SIGTERM", "the drain delay is over")
)
CUT_SHORT = event_with(event="drain delay is cut short")

# Never over by itself within a test.
LONG_SECONDS = 600


@pytest.fixture
def directory() -> Iterator[Path]:
    # pytest's own paths may be too long for a unix socket.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@contextlib.contextmanager
def delaying(directory: Path, *arguments: str, seconds: float = LONG_SECONDS, first: str = ""):
    with workers(
        directory,
        "tcp",
        "wsgi",
        *("--drain-delay-seconds", str(seconds), *arguments),
        *("--status-bind", f"unix:{directory}/status"),
        *("--control-socket", f"{directory}/control"),
        first=first,
        environment={"NOTIFY_SOCKET": f"{directory}/notify"},
        graceful_timeout_seconds=PATIENCE_SECONDS,
    ) as stack:
        yield stack


def health(directory: Path) -> Response:
    return request(f"unix:{directory}/status", "/healthz")


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < deadline
        sleep(0.01)


def cut_short(stack: LocalStack) -> None:
    """End the delay as an operator does, and see the stop that follows."""
    stack.bridge.signal(signal.SIGTERM)
    assert stack.wait_for_event(CUT_SHORT)["reason"] == "SIGTERM"
    stack.wait_for_event(STOPPING_BY_SIGNAL)


def test_all_goes_on_until_a_second_signal(directory):
    with (
        Gate(directory) as gate,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        delaying(directory, first=f"def wait(): {gate.code}\n") as stack,
        socket.create_connection(("127.0.0.1", urlsplit(stack.url).port)) as client,
    ):
        systemd.bind(f"{directory}/notify")
        systemd.settimeout(PATIENCE_SECONDS)
        assert health(directory).status == 200
        client.sendall(b"GET /held HTTP/1.0\r\n\r\n")
        gate.wait_arrival()
        with Load(stack.url) as load:
            stack.bridge.signal(signal.SIGTERM)
            begun = stack.wait_for_event(DRAINING)
            assert (begun["reason"], begun["seconds"]) == ("SIGTERM", LONG_SECONDS)
            told = health(directory)
            assert (told.status, told.body[:8]) == (503, b"draining")
            # The delay, and what the stop may take by its bounds: the time for running requests, and 15 s.
            seconds = LONG_SECONDS + int(PATIENCE_SECONDS) + 15
            assert systemd.recv(4096) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=%d000000" % seconds
            status = ask(directory / "control", "status")
            assert status["state"] == "draining"
            assert 0 < status["drain_delay_seconds_left"] <= LONG_SECONDS
            # Neither cuts the delay short.
            assert ask(directory / "control", "stop")["stopping"]
            stack.bridge.signal(signal.SIGUSR2)
            stack.wait_for_event(event_with(event="upgrade is not begun: the service stops"))
            # As with a signal to all processes: the worker that holds no request ends, and is replaced.
            before = everybody(stack.bridge.pid)
            for pid in before:
                os.kill(pid, signal.SIGTERM)
            wait_for(lambda: bool({it["pid"] for it in serving(directory)} - before))
            # Each request comes over a connection of its own: the sockets are open, and workers accept.
            answered = len(load.outcomes)
            wait_for(lambda: len(load.outcomes) > answered + 100)
        assert set(load.seen) == {"one"}
        cut_short(stack)
        assert b"stopping" in systemd.recv(4096).lower()
        gate.open()
        assert b" 200 " in client.makefile("rb").readline()
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0


def serving(directory: Path) -> list[dict[str, object]]:
    workers = ask(directory / "control", "status")["workers"]
    return [it for it in workers if it["state"] in {"ready", "busy"}]


def test_the_stop_comes_by_itself_when_the_delay_is_over(directory):
    with delaying(directory, seconds=1) as stack, Load(stack.url) as load:
        stack.bridge.signal(signal.SIGINT)
        stack.wait_for_event(DRAINING)
        begun = monotonic()
        stack.wait_for_event(STOPPING_IN_TIME)
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0
        load.stop()
        refused = [it.begun_at for it in load.outcomes if it.what != "one"]
        assert min(refused, default=begun + 1) > begun + 0.9


def test_a_reload_knows_no_delay(directory):
    with delaying(directory) as stack:
        write(directory, "two")
        stack.bridge.signal(signal.SIGHUP)
        stack.wait_for_event(event_with(event="generation has ended", generation=1))
        stack.bridge.signal(signal.SIGTERM)
        stack.wait_for_event(DRAINING)
        cut_short(stack)
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0


def test_a_stop_in_an_upgrade_is_put_off_by_the_new_program(directory):
    with delaying(directory) as stack:
        stack.bridge.signal(signal.SIGUSR2)
        # At this moment, the new program has not taken the workers over yet, which have served all the while.
        stack.wait_for_event(event_with(event="upgraded"), timeout_seconds=PATIENCE_SECONDS)
        with Load(stack.url) as load:
            stack.bridge.signal(signal.SIGTERM)
            stack.wait_for_event(DRAINING)
            assert health(directory).status == 503
        assert set(load.seen) == {"one"}
        cut_short(stack)
        assert stack.bridge.wait_ended(PATIENCE_SECONDS) == 0


def test_a_stop_before_the_service_has_served_comes_at_once(directory):
    with Gate(directory) as gate:
        write(directory, "one", first=gate.code + "\n")
        bridge = BridgeProcess(
            *("versioned:wsgi", "--app-dir", str(directory), "--bind", "127.0.0.1:0"),
            *("--workers", "2", "--drain-delay-seconds", str(LONG_SECONDS)),
        )
        process = bridge._spawn()
        try:
            gate.wait_arrival()
            process.send_signal(signal.SIGTERM)
            gate.open()
            _, told = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
        assert b"stopping: running requests may end" in told
        assert b"draining" not in told
