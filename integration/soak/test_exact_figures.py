"""What wrk has counted is what the figures say, whatever becomes of the workers meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Final

import pytest

from integration.soak.wrk import wrk_or_skip
from integration.workers import EVERY_INTERFACE, PATIENCE_SECONDS, workers
from uwsgibridge.client.asking import request
from uwsgibridge.control.client import ask
from uwsgibridge.frontend.options import Site, StaticDirectory
from uwsgibridge.testing import LocalStack, event_with

SCRIPT: Final = Path(__file__).with_name("counting.lua")
CONNECTIONS: Final = 16
THREADS: Final = 2

# Long enough for everything that is to happen; the file ends it before.
MOST_SECONDS: Final = 240


@pytest.mark.soak
@EVERY_INTERFACE
def test_every_answer_is_counted_once(tmp_path: Path, interface: str) -> None:
    compare(tmp_path, interface, reloads=10, kills=20, upgrades=1)


def test_every_answer_is_counted_once_in_small(tmp_path: Path) -> None:
    compare(tmp_path, "wsgi", reloads=1, kills=3, upgrades=0)


def compare(directory: Path, interface: str, *, reloads: int, kills: int, upgrades: int) -> None:
    """Have wrk ask while workers come and go, and hold its counts against the figures."""
    wrk = wrk_or_skip()
    own = directory / "own"
    own.mkdir()
    (own / "file").write_text("Nginx's own\n")
    control, status, enough = (directory / it for it in ("control", "status", "enough"))
    options = (*("--control-socket", str(control), "--status-bind", f"unix:{status}"),)
    site = Site(static=(StaticDirectory("/own/", str(own)),))
    with workers(directory, "unix", interface, *options, site=site) as stack:
        load = subprocess.Popen(
            [
                *(wrk, "--threads", str(THREADS), "--connections", str(CONNECTIONS)),
                *("--duration", f"{MOST_SECONDS}s", "--timeout", "60s", "--script", str(SCRIPT)),
                *(stack.url, "--", str(enough), "/own/file"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            change_workers(stack, control, reloads=reloads, kills=kills, upgrades=upgrades)
        finally:
            enough.touch()
            counted = end_load(load)
        figures = figures_at(f"unix:{status}")
    seen = {
        name: value for name, value in figures.items() if name.startswith("uwsgibridge_requests")
    }
    sys.stdout.write(f"\nwrk: {counted}\nfigures: {seen}\n")
    assert counted["others"] == counted["broken"] == 0
    assert counted["asked"] == counted["succeeded"] + counted["failed"]
    answered = figures['uwsgibridge_requests_total{mount="/",method="GET",status="2xx"}']
    assert answered == counted["succeeded"]
    # Nginx has answered 502 to what a killed worker held. A connection that it had accepted, and whose packet it had not
    # read, was no request to it.
    aborted = figures["uwsgibridge_requests_aborted_total"]
    assert 0 <= counted["failed"] - aborted <= kills
    others = sum(it for name, it in seen.items() if "status=" in name) - answered
    assert others == 0


def end_load(load: subprocess.Popen[str]) -> dict[str, int]:
    """Wait until nothing is on its way to the bridge, and end wrk; give what it has counted."""
    assert load.stdout is not None
    with load, stopping_late(load):
        over = 0
        for line in load.stdout:
            over += line == "over\n"
            if over == THREADS:
                load.send_signal(signal.SIGINT)
            if line.startswith("{"):
                counted: dict[str, int] = json.loads(line)
                return counted
    raise AssertionError("wrk has not told what it has counted")


@contextlib.contextmanager
def stopping_late(load: subprocess.Popen[str]) -> Iterator[None]:
    """Kill wrk where it takes too long."""
    timer = threading.Timer(PATIENCE_SECONDS, load.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def change_workers(
    stack: LocalStack, control: Path, *, reloads: int, kills: int, upgrades: int
) -> None:
    for number in range(max(reloads, kills)):
        if number < kills:
            kill_one(stack, control)
        if number < reloads:
            signal_and_wait(stack, signal.SIGHUP)
        if number < upgrades:
            signal_and_wait(stack, signal.SIGUSR2)
        wanted = 1 + number % 3
        ask(control, "scale", workers=wanted)
        wait_for_workers(control, wanted)
    # One more, so that the workers that have counted so far have all ended.
    signal_and_wait(stack, signal.SIGHUP)


def kill_one(stack: LocalStack, control: Path) -> None:
    since = len(stack.log_events())
    ready = [
        it["pid"] for it in ask(control, "status")["workers"] if it["state"] in {"ready", "busy"}
    ]
    os.kill(ready[0], signal.SIGKILL)
    stack.wait_for_event(
        lambda event: event.get("event") == "worker ended" and event.get("worker") == ready[0],
        since=since,
        timeout_seconds=PATIENCE_SECONDS,
    )


def signal_and_wait(stack: LocalStack, number: int) -> None:
    since = len(stack.log_events())
    stack.bridge.signal(number)
    stack.wait_for_event(
        event_with(event="reloaded"), since=since, timeout_seconds=PATIENCE_SECONDS
    )
    stack.wait_for_event(
        event_with(event="generation has ended"), since=since, timeout_seconds=PATIENCE_SECONDS
    )


def wait_for_workers(control: Path, wanted: int) -> None:
    end = monotonic() + PATIENCE_SECONDS
    while True:
        states = [it["state"] for it in ask(control, "status")["workers"]]
        if len(states) == wanted and set(states) <= {"ready", "busy"}:
            return
        assert monotonic() < end, states


def figures_at(address: str) -> dict[str, float]:
    """Read the figures by their names with labels."""
    answer = request(address, "/metrics")
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
