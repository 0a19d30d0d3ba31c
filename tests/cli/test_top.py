"""``ctl top``: its screen at several sizes, its keys in a real terminal, and latencies between two rounds."""

from __future__ import annotations

import copy
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from typing import Any

import pytest
from rich.console import Console

from tests.cli.test_ctl import directory, path, supervisor
from tests.control_server import REQUESTS, WORKER, FakeSupervisor
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.cli.latency import quantile_between
from uwsgibridge.cli.top_screen import ORDERS, draw

__all__ = ["directory", "path", "supervisor"]  # fixtures


def screen(
    status: dict[str, Any], earlier: dict[str, Any], requests: Any = (), **options: Any
) -> list[str]:
    options = {"width": 80, "height": 24, "left_out": 0, "order": ORDERS[0], **options}
    console = Console(width=options["width"], height=options["height"], force_terminal=True)
    with console.capture() as capture:
        console.print(draw(status, earlier, list(requests), **options))
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in capture.get().splitlines()]


def two_rounds() -> tuple[dict[str, Any], dict[str, Any]]:
    """Answers to `status`, ten seconds apart."""
    earlier = FakeSupervisor().status_answer
    status = copy.deepcopy(earlier)
    status["started_seconds_ago"] += 10
    status["requests"] += 1_000
    status["workers"][0]["requests"] += 500
    status["workers"][0]["cpu_seconds"] += 5
    status["latency"]["counts"] = [150, 90, 20, 0]
    return status, earlier


def test_at_80_columns_nothing_is_wider():
    status, earlier = two_rounds()
    lines = screen(status, earlier, REQUESTS, left_out=7)
    assert max(map(len, lines)) <= 80
    assert lines[:3] == [
        "mysite.wsgi  running, up 22.3 s, generation 3, pid 1",
        "requests/s 100.0   p50 10.0 ms   p99 910.0 ms   in flight 10   waiting 0",
        "errors 4   refused 3   slow 0   crashed 0",
    ]
    assert lines[6].split() == [
        "12",
        "ready",
        "3",
        "50.0",
        "50.0",
        "2/8",
        "1.0",
        "ms",
        "11.8",
        "MiB",
        "12.0",
        "s",
    ]
    assert "and 7 more requests" in lines
    assert any("/orders/\\x1b[2Jnew" in line for line in lines)
    assert not any("APPLICATION" in line for line in lines)


def test_at_200_columns_the_application_is_there():
    status, earlier = two_rounds()
    lines = screen(status, earlier, REQUESTS, width=200)
    assert any("shop.wsgi" in line for line in lines)
    assert max(map(len, lines)) <= 200


@pytest.mark.parametrize("height", [10, 24, 50])
def test_many_workers_and_requests_fit(height):
    status, earlier = two_rounds()
    status["workers"] = [{**WORKER, "pid": number} for number in range(100)]
    lines = screen(status, earlier, REQUESTS * 30, height=height)
    assert len(lines) <= max(height, 19)
    assert any(re.match(r"and \d+ more workers", line) for line in lines)
    assert any(re.match(r"and \d+ more requests", line) for line in lines)


def test_markup_of_a_client_is_text():
    status, earlier = two_rounds()
    request = {**REQUESTS[1], "path": "/[bold red]x[/]", "method": "[link=x]"}
    lines = screen(status, earlier, [request])
    assert any(re.search(r"\[link=x\] +/\[bold red\]x\[/\]", line) for line in lines)


def test_each_order_has_its_largest_worker_first():
    status, earlier = two_rounds()
    status["workers"] = [
        {**WORKER, "pid": 1, "rss_bytes": 1, "queue_seconds": 2.0},
        {**WORKER, "pid": 2, "rss_bytes": 9, "queue_seconds": 1.0},
    ]
    status["workers"][1]["requests"] = 101
    status["workers"][0]["cpu_seconds"] = 3.0
    earlier["workers"] = [{**WORKER, "pid": 1}, {**WORKER, "pid": 2}]
    first = {order.name: screen(status, earlier, order=order)[6].split()[0] for order in ORDERS}
    assert first == {"pid": "1", "CPU": "1", "requests/s": "2", "memory": "2", "queue": "1"}


@pytest.mark.parametrize(
    ("counts", "part", "seconds"),
    [
        ([10, 0, 0, 0], 0.5, 0.005),
        ([0, 10, 0, 0], 0.5, 0.055),
        ([5, 5, 0, 0], 0.5, 0.01),
        ([0, 0, 0, 4], 0.99, 1.0),  # above the last bound
        ([0, 0, 0, 0], 0.5, None),
        ([-1, 0, 0, 0], 0.5, None),
    ],
)
def test_latencies_are_of_the_requests_between_two_rounds(counts, part, seconds):
    bounds = [0.01, 0.1, 1.0]
    earlier = {"latency": {"bounds": bounds, "counts": [7, 7, 7, 7]}}
    now = {"latency": {"bounds": bounds, "counts": [7 + it for it in counts]}}
    found = quantile_between(now, earlier, part)
    assert found == (seconds if seconds is None else pytest.approx(seconds))
    assert quantile_between(now, {}, part) is None
    other = {"latency": {"bounds": [1.0], "counts": [0, 0]}}
    assert quantile_between(now, other, part) is None


class Terminal:
    """A process in a terminal of 80 columns.

    Attributes:
        shown: all that it has written.
    """

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uwsgibridge", "ctl", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(theirs)
        self.shown = ""

    def wait(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert select.select([self._ours], [], [], max(0, left))[0], self.shown
            self.shown += os.read(self._ours, 65_536).decode("utf-8", "replace")

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def close(self) -> int:
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            os.close(self._ours)


def test_keys_of_a_terminal(path, supervisor):
    terminal = Terminal("--control-socket", str(path), "top", "--interval-seconds", "3600")
    terminal.wait("Workers by pid")
    terminal.wait("q quit")
    asked = len(supervisor.asked)
    terminal.press("s")
    terminal.wait("Workers by CPU")
    assert len(supervisor.asked) == asked
    terminal.press("r")
    terminal.press("s")
    terminal.wait("Workers by requests/s")
    assert supervisor.asked[asked:] == ["status", ("requests", 200, 0.0, False)]
    terminal.press("q")
    assert terminal.close() == 0


def test_rounds_are_printed_on_a_terminal_that_wants_no_screen(path):
    terminal = Terminal("--control-socket", str(path), "top", "--count", "1")
    terminal.wait("workers wanted: 2")
    assert terminal.close() == 0
    assert "q quit" not in terminal.shown
