"""What the demo's stream and clock send."""

from __future__ import annotations

import json
from datetime import datetime
from types import SimpleNamespace

import pytest

from uwsgibridge.demo import streams

CLOCK = "uwsgibridge.demo.streams.time"


def test_a_chunk_is_one_line_with_its_number() -> None:
    chunk = streams.stream_chunk(7)

    assert chunk.startswith(b"chunk  7 of 20 at ")
    assert chunk.count(b"\n") == 1
    assert chunk.endswith(b"\n")


def test_an_event_is_fields_and_an_empty_line() -> None:
    lines = streams.clock_event(3).decode().split("\n")

    assert lines[0] == "id: 3"
    assert lines[1].startswith("data: ")
    assert lines[2:] == ["", ""]
    data = json.loads(lines[1].removeprefix("data: "))
    assert data["tick"] == 3
    assert datetime.fromisoformat(data["time"]).utcoffset() is not None


@pytest.mark.parametrize(
    ("now", "wait_seconds"),
    [
        (1000.0, 1.0),
        (1000.25, 0.75),
        (1000.5, 0.5),
        (1000.75, 1.25),
        (1000.9990234375, 1.0009765625),
    ],
)
def test_the_clock_waits_for_the_full_second_and_never_ticks_twice_in_one(
    monkeypatch: pytest.MonkeyPatch, now: float, wait_seconds: float
) -> None:
    monkeypatch.setattr(CLOCK, SimpleNamespace(time=lambda: now))

    assert streams.seconds_to_next_tick() == wait_seconds
