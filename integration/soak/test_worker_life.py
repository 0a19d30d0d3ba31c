"""Workers that are killed, and workers that are replaced, again and again; `pytest -s` shows the figures."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.asgi.resident_memory import resident_bytes
from integration.crash_report import count_held
from integration.process_tree import settle
from integration.workers import EVERY_INTERFACE, EVERY_SOCKET, Load
from uwsgibridge.testing import LocalStack, event_with

APPS = Path(__file__).parents[1] / "apps"

KILLS = 30
RECYCLED = 1000
# How much memory the supervisor may grow: for what it allocates once, and for changes of the allocator's own.
WARM_UP = 100
MOST_GROWTH_BYTES = 2_000_000

Record = Callable[[str, object], None]


def serving(interface: str, kind_of_socket: str, *arguments: str) -> LocalStack:
    return LocalStack(
        f"worker_life:{interface}",
        app_dir=APPS,
        socket=kind_of_socket,  # type: ignore[arg-type] # pytest gives text
        serve_args=(
            *("--workers", "2", "--lifespan", "off", "--on-fork", "worker_life:on_fork"),
            *arguments,
        ),
    )


def report_figures(record_property: Record, name: str, figures: str) -> None:
    record_property(name, figures)
    sys.stdout.write(f"\n{name}: {figures}\n")


@pytest.mark.soak
@EVERY_SOCKET
@EVERY_INTERFACE
def test_a_worker_is_killed_each_second(
    kind_of_socket: str, interface: str, record_property: Record
) -> None:
    killed_at: list[float] = []
    accounted: list[int] = []
    back_seconds: list[float] = []
    with (
        serving(interface, kind_of_socket) as stack,
        Load(stack.url, threads=32, pause_seconds=0.0) as load,
    ):
        alive = [it["pid"] for it in stack.log_events() if it["event"] == "app: on_fork"]
        for _ in range(KILLS):
            since = len(stack.log_events())
            victim = alive.pop(0)
            assert isinstance(victim, int)
            killed_at.append(time.monotonic())
            os.kill(victim, signal.SIGKILL)
            report = stack.wait_for_event(
                event_with(event="worker ended", worker=victim), since=since
            )
            accounted.append(count_held(report))
            # It serves, which is more than being ready.
            successor = stack.wait_for_event(event_with(event="app: first request"), since=since)
            back_seconds.append(time.monotonic() - killed_at[-1])
            alive.append(successor["pid"])
            time.sleep(max(0.0, killed_at[-1] + 1 - time.monotonic()))  # each second is the task
    failed = [0] * KILLS
    for outcome in load.outcomes:
        if outcome.what != "alive":
            assert outcome.what == "status 502"
            ended_at = outcome.begun_at + outcome.seconds
            failed[sum(it <= ended_at for it in killed_at) - 1] += 1
    report_figures(
        record_property,
        f"{KILLS} kills, {kind_of_socket}, {interface}",
        f"{len(load.outcomes):,} requests, {sum(failed)} failed, {sum(accounted)} accounted for; "
        f"served again after {max(back_seconds):.3f} s at most",
    )
    assert all(it <= may for it, may in zip(failed, accounted, strict=True)), (failed, accounted)
    assert max(back_seconds) < 1


@pytest.mark.soak
def test_a_thousand_workers_are_recycled(tmp_path: Path, record_property: Record) -> None:
    control = tmp_path / "control"
    with serving("wsgi", "unix", "--max-requests", "10", "--control-socket", str(control)) as stack:
        files = settle(stack.pid, control, workers=2)
        began_at, since = time.monotonic(), 0
        with Load(stack.url, pause_seconds=0.0) as load:
            for count in range(1, RECYCLED + 1):
                if count == WARM_UP:
                    before = resident_bytes(stack.pid)
                event = stack.wait_for_event(event_with(event="recycling worker"), since=since)
                since += stack.log_events(since=since).index(event) + 1
        seconds = time.monotonic() - began_at
        # No process but two workers and their template, zombies included, and no more open files.
        settle(stack.pid, control, workers=2, files=files)
        after = resident_bytes(stack.pid)
        assert set(load.seen) == {"alive"}
        assert stack.stop() == 0
    report_figures(
        record_property,
        f"{RECYCLED:,} recycled workers",
        f"{seconds:.0f} s, {len(load.outcomes):,} requests, none failed; {files.total()} open files "
        f"before and after; memory of the supervisor {before / 1e6:.1f} MB after {WARM_UP}, "
        f"{after / 1e6:.1f} MB after all",
    )
    assert after - before < MOST_GROWTH_BYTES
