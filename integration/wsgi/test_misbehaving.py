"""Applications that misbehave, behind a real Nginx: what the client gets, and what the log says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from integration.wsgi.apps.misbehaving import ROWS, Row
from integration.wsgi.fetching import fetch
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

numbers = itertools.count()


@pytest.fixture(scope="module")
def misbehaving(serve: Callable[..., LocalStack]) -> Iterator[LocalStack]:
    """One bridge with one thread for all rows: it must outlive them."""
    stack = serve("misbehaving:application", serve_args=("--threads", "1"))
    pid = stack.pid
    yield stack
    assert fetch(f"{stack.url}/settled/last").status == 200
    assert stack.pid == pid
    assert "Exception ignored" not in stack.bridge_log


@pytest.mark.parametrize(("name", "row"), ROWS.items(), ids=ROWS)
def test_it_is_seen_by_the_client_and_told_once(misbehaving: LocalStack, name: str, row: Row):
    path = f"/{name}/{next(numbers)}"
    body = None if row.body_bytes is None else bytes(row.body_bytes)
    answer = fetch(misbehaving.url + path, method=row.method, body=body)

    # The only thread answers, so it is done with the request before, close() included.
    settled = f"/settled{path}"
    closed = fetch(misbehaving.url + settled).json()
    assert closed == [1] * len(closed), "close() is called exactly once, whatever happened"

    assert answer.seen == (row.nginx_status or row.seen)
    assert "X-Injected" not in answer.headers
    if row.text is not None:
        assert answer.body == row.text
    if row.seen == 500:
        assert answer.body == b"The application failed. The server's log says why.\n"

    misbehaving.wait_for_event(event_with(line=settled))
    told = [event for event in misbehaving.log_events() if event.get("path") == path]
    if row.event is None:
        assert told == []
        return
    (event,) = told
    assert event["event"] == row.event
    assert row.says in str(event.get("exception", event.get("detail", "")))
    assert row.fields.items() <= event.items()
    assert event["method"] == row.method
    assert event["app"] == "integration.wsgi.apps.misbehaving:application"
    # A traceback begins in the application, whatever led there.
    files = [line for line in str(event.get("exception", "")).splitlines() if "  File " in line]
    assert not files or "/uwsgibridge/" not in files[0]


def test_bare_bytes_are_sent_and_told_once(serve: Callable[..., LocalStack]):
    """By the letter an iterable of integers; Nginx's own test applications return them."""
    stack = serve("bare_bytes:application", serve_args=("--threads", "1"))
    for _ in range(3):
        assert fetch(f"{stack.url}/bare").body == b"by the letter integers"
    fetch(f"{stack.url}/settled")
    stack.wait_for_event(event_with(line="/settled"))
    told = [event for event in stack.log_events() if "returned bytes" in str(event["event"])]
    (event,) = told
    assert event["level"] == "warning"
    assert event["app"] == "integration.wsgi.apps.bare_bytes:application"
    assert event["hint"] == "return [body]"


def test_items_that_are_none_are_told_once(misbehaving: LocalStack):
    before = len(misbehaving.log_events())
    for number in range(3):
        fetch(f"{misbehaving.url}/has-none-second/{number}")
    fetch(f"{misbehaving.url}/settled/none")
    misbehaving.wait_for_event(event_with(line="/settled/none"), since=before)
    told = [it for it in misbehaving.log_events() if "yielded None" in str(it["event"])]
    (event,) = told
    assert event["level"] == "warning"
    assert event["app"] == "integration.wsgi.apps.misbehaving:application"
    assert event["hint"] == "yield b''"


def test_the_table_is_large_enough():
    assert len(ROWS) >= 40
