"""The load that waits for no answers, and the chart of what came of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree as ET

from benchmarks.overload.chart import line_chart
from benchmarks.overload.open_loop import Load, Outcome, drive, good_per_second, most_late
from tests.log_events import PATIENCE_SECONDS


@contextmanager
def server(answers: int) -> Iterator[int]:
    """Answer so many requests, and leave the others without an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_SECONDS)

        def serve() -> None:
            for _ in range(answers):
                accepted, _address = listening.accept()
                with accepted:
                    accepted.recv(1000)
                    accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(PATIENCE_SECONDS)


def test_requests_come_whatever_becomes_of_those_before_them() -> None:
    with server(answers=2) as port:
        load = Load(port, "x", rate=100, seconds=0.05, patience_seconds=0.1)
        outcomes = drive(load, time.monotonic())
    assert sorted(it.status for it in outcomes) == [0, 0, 0, 200, 200]
    assert all(it.ended_at - it.sent_at >= 0.1 for it in outcomes if not it.status)
    assert max(it.sent_at for it in outcomes) >= 0.04
    assert most_late(outcomes) < PATIENCE_SECONDS


def test_a_load_that_comes_late_is_told() -> None:
    with server(answers=1) as port:
        load = Load(port, "x", rate=10, seconds=0.1, patience_seconds=PATIENCE_SECONDS)
        outcomes = drive(load, time.monotonic() - 3)
    assert most_late(outcomes) > 2.9


def test_no_more_connections_are_open_than_may_be() -> None:
    with server(answers=0) as port:
        load = Load(port, "x", rate=1000, seconds=0.02, patience_seconds=0.1, most_open=3)
        outcomes = drive(load, time.monotonic())
    assert len(outcomes) == 20
    assert sum(it.ended_at > it.sent_at for it in outcomes) == 3


def test_good_answers_are_counted_in_the_second_in_which_they_come() -> None:
    outcomes = [
        Outcome(0, at, status) for at, status in ((0.5, 200), (2.1, 200), (2.9, 200), (2.5, 503))
    ]
    assert good_per_second(outcomes, 0, 4) == [1, 0, 2, 0]
    assert good_per_second(outcomes, 2, 3) == [2]


def test_a_chart_has_a_line_for_each_server() -> None:
    chart = line_chart("a < b", {"one": [1, 2, 3], "two": [0, 0]}, shaded=(0, 1), words="stall")
    root = ET.fromstring(chart)
    lines = [it for it in root if it.tag.endswith("polyline")]
    assert [len(it.attrib["points"].split()) for it in lines] == [3, 2]
    assert {"a < b", "one", "two", "stall"} <= {it.text for it in root}
