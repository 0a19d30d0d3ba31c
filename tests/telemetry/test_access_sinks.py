"""Which requests are in the access log."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.log_events import LogEvents
from tests.telemetry.test_access_log import access
from uwsgibridge import Settings
from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.access_sinks import FilteredAccessLog, make_access_log
from uwsgibridge.telemetry.logs import make_logger


class Kept:
    def __init__(self) -> None:
        self.written: list[Access] = []

    def write(self, access: Access) -> None:
        self.written.append(access)


@pytest.mark.parametrize(
    ("statuses", "slow_seconds", "fields", "is_kept"),
    [
        (("5xx",), 0, {"status": 500}, True),
        (("5xx",), 0, {"status": 599}, True),
        (("5xx",), 0, {"status": 404}, False),
        (("5xx", "404"), 0, {"status": 404}, True),
        (("5xx", "404"), 0, {"status": 403}, False),
        (("4xx",), 0, {"status": 0}, True),  # a client that left: 499
        (("499",), 0, {"status": 0}, True),
        ((), 1, {"application_seconds": 0.9, "queue_seconds": 0.05}, False),
        ((), 1, {"application_seconds": 0.5, "queue_seconds": 0.5}, True),
        (("5xx",), 1, {"application_seconds": 2.0}, True),
        (("2xx",), 1, {}, True),
        (("5xx",), 1, {}, False),
    ],
)
def test_request_is_kept_where_one_condition_holds(
    statuses: tuple[str, ...], slow_seconds: float, fields: dict[str, Any], is_kept: bool
) -> None:
    kept = Kept()
    it = access(**fields)
    FilteredAccessLog(kept, statuses, slow_seconds).write(it)
    assert kept.written == ([it] if is_kept else [])


@pytest.mark.parametrize(
    ("options", "is_on"),
    [
        ({}, False),
        ({"access_log_format": "json"}, False),
        ({"access_log": True}, True),
        ({"access_log_status": ("404",)}, True),
        ({"access_log_slow_seconds": 1.0}, True),
    ],
)
def test_what_says_something_of_the_log_switches_it_on(
    options: dict[str, Any], is_on: bool
) -> None:
    made = make_access_log(Settings(**options), make_logger("json"))
    assert (made is not None) is is_on


def test_file_switches_it_on(tmp_path: Path) -> None:
    made = make_access_log(
        Settings(access_log_file=str(tmp_path / "log"), access_log_format="%(status)"),
        make_logger("json"),
    )
    assert made is not None
    made.write(access())
    assert (tmp_path / "log").read_text() == "200\n"


def test_log_tells_of_lines_that_the_file_did_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "log")
    events = LogEvents()
    made = make_access_log(Settings(access_log_file=path), make_logger("json", stream=events))
    assert made is not None

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        made.write(access())
    made.write(access())
    event = events.wait(event="log lines are lost: they could not be written")
    assert (event["path"], event["lines"]) == (path, 1)
    assert event["reason"] == "No space left on device"
