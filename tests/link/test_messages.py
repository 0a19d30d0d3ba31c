"""What supervisor, template and worker say to each other: it comes back as it was, and junk does no harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import SettingsError
from uwsgibridge.link.figures import Figures
from uwsgibridge.link.messages import (
    LAST,
    MAX_BYTES,
    PING,
    STACKS,
    STOP,
    Blueprint,
    Fork,
    Leave,
    Report,
    ReportEvent,
    WorkerMessage,
)

FIGURES = Figures(
    requests=7, in_flight=3, capacity=8, queue_seconds=0.25, client_gone=1, refused={"stopping": 2}
)

JUNK = [
    b"",
    b"\x00\xff",
    b"{",
    b"[]",
    b"{}",
    b"3",
    b"null",
    b'"text"',
    b'{"fork": 1}',
    b'{"leave": 1}',
    b'{"leave": {"descriptors": 5, "begins": true}}',
    b'{"figures": 5}',
]


def test_blueprint_comes_back() -> None:
    settings = Settings(
        bind=("fd://5", "fd://6"), workers=3, threads=2, mount=("/a=one:app", "/b=two:app")
    )
    for app_name in ("site:app", None):
        for arguments in ((), ("uwsgibridge", "serve", "--title", "caf\udce9 \n\x00 ü")):
            blueprint = Blueprint(app_name, settings, 4, arguments)
            assert Blueprint.decode(blueprint.encode()) == blueprint


def test_blueprint_of_another_version_is_taken_as_far_as_it_is_known() -> None:
    settings = Settings(threads=2)
    raw: dict[str, Any] = json.loads(Blueprint("site:app", settings, 4, ("serve",)).encode())
    raw["mood"] = raw["settings"]["mood"] = "good"
    assert Blueprint.decode(json.dumps(raw).encode()) == Blueprint(
        "site:app", settings, 4, ("serve",)
    )
    del raw["arguments"], raw["settings"]["threads"]
    assert Blueprint.decode(json.dumps(raw).encode()) == Blueprint("site:app", Settings(), 4)


def test_blueprint_is_checked_where_it_arrives() -> None:
    raw: dict[str, Any] = json.loads(Blueprint("site:app", Settings(), 4).encode())
    raw["settings"]["threads"] = 0
    with pytest.raises(SettingsError, match="--threads"):
        Blueprint.decode(json.dumps(raw).encode())


@pytest.mark.parametrize("max_requests", [0, 1000])
def test_fork_comes_back(max_requests: int) -> None:
    assert Fork.decode(Fork(max_requests, 3).encode()) == Fork(max_requests, 3)
    # Of an older supervisor.
    assert Fork.decode(b'{"fork": {"max_requests": 5}}') == Fork(5)


@pytest.mark.parametrize(
    "report",
    [
        Report(ReportEvent.FORKED, 17, number=2),
        Report(ReportEvent.READY, 17, has_schedule=True),
        Report(ReportEvent.READY, 17, end_seconds=12.5),
        Report(ReportEvent.EXITED, 17, -9),
    ],
)
def test_report_comes_back(report: Report) -> None:
    assert Report.decode(report.encode()) == report


@pytest.mark.parametrize("begins", [False, True])
def test_leave_comes_back(begins: bool) -> None:
    leave = Leave((5, 7), begins)
    assert Leave.decode(leave.encode()) == leave


def test_report_without_a_status_has_none_to_tell() -> None:
    assert Report.decode(b'{"event": "ready", "pid": 17}') == Report(ReportEvent.READY, 17)


def test_report_of_an_event_that_this_version_does_not_know_is_none() -> None:
    assert Report.decode(b'{"event": "reborn", "pid": 17}') is None


@pytest.mark.parametrize(
    "message",
    [
        WorkerMessage(figures=FIGURES),
        WorkerMessage(figures=Figures()),
        WorkerMessage(stacks="Thread MainThread:\n  File …"),
        WorkerMessage(stacks=""),
        WorkerMessage(has_enough=True),
        WorkerMessage(),
    ],
)
def test_message_of_a_worker_comes_back(message: WorkerMessage) -> None:
    assert WorkerMessage.decode(message.encode()) == message


def test_figures_of_another_version_are_taken_as_far_as_they_are_known() -> None:
    raw = {"figures": {"requests": 7, "temperature": 21.5}, "mood": "good"}
    message = WorkerMessage.decode(json.dumps(raw).encode())
    assert message == WorkerMessage(figures=Figures(requests=7))


# A datagram that is longer than the receiver's buffer arrives cut, and so is no JSON.
@pytest.mark.parametrize("character", ["a", "\n", "\x00", "é", "\udcff", "𝄞"])
def test_long_stacks_are_cut_to_one_datagram(character: str) -> None:
    data = WorkerMessage(stacks=character * 200_000).encode()
    assert len(data) <= MAX_BYTES
    stacks = WorkerMessage.decode(data).stacks
    assert stacks
    kept, said = stacks.rsplit("\n", 1)
    assert set(kept) == {character}
    assert said == f"[{200_000 - len(kept)} more characters do not fit]"
    # It is as much as fits: one character is twelve bytes at the most.
    assert len(json.dumps(stacks)) > MAX_BYTES * 0.9


def test_stacks_of_many_requests_fit() -> None:
    stacks = '  File "/srv/site/views.py", line 12, in view\n' * 1_000
    assert WorkerMessage.decode(WorkerMessage(stacks=stacks).encode()).stacks == stacks


@pytest.mark.parametrize("junk", JUNK)
def test_junk_says_nothing(junk: bytes) -> None:
    assert Fork.decode(junk) is None
    assert Leave.decode(junk) is None
    assert Report.decode(junk) is None
    assert WorkerMessage.decode(junk) == WorkerMessage()


@given(st.binary(max_size=200))
def test_nothing_raises(data: bytes) -> None:
    Fork.decode(data)
    Leave.decode(data)
    Report.decode(data)
    WorkerMessage.decode(data)


def test_plain_words_are_nobody_elses_message() -> None:
    words = {STOP, PING, STACKS, LAST}
    assert len(words) == 4
    assert [Fork.decode(word) for word in words] == [None] * 4
    assert [Leave.decode(word) for word in words] == [None] * 4
    assert Fork.decode(Leave((5,)).encode()) is None
    assert Leave.decode(Fork(1).encode()) is None
