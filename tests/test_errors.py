"""Errors that end a process: one tree, which also says the exit status."""

from __future__ import annotations

import re

import pytest

import uwsgibridge
from uwsgibridge import errors
from uwsgibridge.errors import BridgeError, StartFailed

CLASSES = [
    it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, BridgeError)
]


def test_the_tree_is_the_one_that_the_module_shows() -> None:
    shown = dict(re.findall(r"(\w+(?:Error|Unfit|Failed)) +(\d|the status)", errors.__doc__ or ""))
    assert shown.pop("StartFailed") == "the status"
    assert shown == {it.__name__: str(it.exit_status) for it in CLASSES if it is not StartFailed}


@pytest.mark.parametrize("name", ["ApplicationError", "BindError", "SettingsError", "WorkerUnfit"])
def test_what_serve_raises_can_be_caught_as_one(name: str) -> None:
    assert issubclass(getattr(uwsgibridge, name), uwsgibridge.BridgeError)


@pytest.mark.parametrize(("ended_with", "status"), [(3, 3), (7, 7), (0, 1), (-9, 1)])
def test_a_start_that_failed_ends_as_what_failed(ended_with: int, status: int) -> None:
    assert StartFailed(ended_with).exit_status == status
