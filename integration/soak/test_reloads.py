"""Reloads and upgrades in a row under load: not one request fails; figures are printed (`pytest -s`)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from integration.process_tree import everybody, settle
from integration.workers import (
    EVERY_INTERFACE,
    EVERY_SOCKET,
    PATIENCE_SECONDS,
    Load,
    one_round,
    workers,
    write,
)
from tests.processes import wait_gone
from uwsgibridge.testing import event_with

CONNECTIONS = 32
RELOADS = 20
UPGRADES = 2


@pytest.mark.soak
@EVERY_SOCKET
@EVERY_INTERFACE
def test_twenty_reloads_and_two_upgrades_lose_nothing(
    tmp_path: Path,
    kind_of_socket: str,
    interface: str,
    record_property: Callable[[str, object], None],
) -> None:
    control = tmp_path / "control.sock"
    changes = [signal.SIGHUP] * RELOADS + [signal.SIGUSR2] * UPGRADES
    with workers(tmp_path, kind_of_socket, interface, "--control-socket", str(control)) as stack:
        files = settle(stack.pid, control, 2)
        with Load(stack.url, threads=CONNECTIONS, pause_seconds=0.0) as load:
            begun_at = monotonic()
            for number, change in enumerate(changes):
                old = everybody(stack.pid)
                write(tmp_path, f"version-{number}")
                since = len(stack.log_events())
                stack.bridge.signal(change)
                stack.wait_for_event(
                    event_with(event="reloaded"), since=since, timeout_seconds=PATIENCE_SECONDS
                )
                assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in old)
            seconds = monotonic() - begun_at
        assert set(one_round(stack.url)) == {f"version-{len(changes) - 1}"}
        settle(stack.pid, control, 2, files)
        assert "upstream" not in stack.nginx_log
    slowest = max(it.seconds for it in load.outcomes)
    figures = (
        f"{len(load.outcomes)} requests, {RELOADS} reloads and {UPGRADES} upgrades "
        f"in {seconds:.1f} s; the slowest request took {slowest * 1000:.0f} ms"
    )
    record_property("reloads", figures)
    sys.stdout.write(f"\n{interface} over {kind_of_socket}: {figures}\n")
    # All of them were answered, by each version.
    assert set(load.seen) == {"one", *(f"version-{number}" for number in range(len(changes)))}
