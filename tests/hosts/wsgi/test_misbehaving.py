"""Applications that misbehave, in a bridge of this process: what is answered, logged, counted and closed.

What Nginx makes of it is in integration/wsgi/test_misbehaving.py, from the same catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from integration.wsgi.apps import misbehaving
from integration.wsgi.apps.misbehaving import BROKE_A_RULE, FAILED, ROWS, Row
from tests.bridge import Bridge, on_each_socket, running
from tests.misbehaving import assert_seen

# No body, one that comes with the packet, and one that is larger than what the kernel buffers.
BODIES = (None, b"a body that is not read", bytes(1_000_000))

# Told once for each host, and without a path: that has a test of its own.
NONE_ITEM = "application yielded None, which WSGI does not know: it is passed over"


@pytest.fixture(autouse=True)
def made() -> Iterator[list[misbehaving.Closing]]:
    """The iterables that the applications of one test have made."""
    misbehaving.made.clear()
    yield misbehaving.made
    misbehaving.made.clear()


def requests_for(row: Row) -> list[dict[str, Any]]:
    """Give the arguments of the requests: the row's own, and others that must lead to the same."""
    body = None if row.body_bytes is None else bytes(row.body_bytes)
    own = {"method": row.method, "body": body}
    if body is not None or not row.takes_any_body or row.method != "GET":
        # Twice: the only thread is still there, and knows nothing of what was.
        return [own, own]
    return [own, *({"method": "POST", "body": body} for body in BODIES)]


def told_by(bridge: Bridge) -> list[dict[str, Any]]:
    events = [*bridge.events.find(level="error"), *bridge.events.find(level="warning")]
    return [event for event in events if event["event"] != NONE_ITEM]


@on_each_socket
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_misbehaviour_is_seen_by_the_client_and_logged_once(
    row: Row, family: str, made: list[misbehaving.Closing]
) -> None:
    requests = requests_for(row)
    with running(row.app, family, threads=1) as bridge:
        answers = [bridge.ask("/some/path", **request) for request in requests]

    assert_seen(answers, row)
    told = told_by(bridge)
    assert [event["event"] for event in told] == [row.event] * len(requests) * bool(row.event)
    for event in told:
        assert row.says in str(event.get("exception", event.get("detail", "")))
        assert row.fields.items() <= event.items()
        assert event["path"] == "/some/path"
    assert [event["method"] for event in told] == [it["method"] for it in requests][: len(told)]
    assert bridge.counters.app_errors == len(requests) * (row.event in {FAILED, BROKE_A_RULE})
    assert bridge.counters.client_gone == 0
    assert [iterable.closed for iterable in made] == [1] * len(made)
