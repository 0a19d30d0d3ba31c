"""ASGI applications that misbehave, on each loop: what is answered, logged and counted.

What Nginx makes of them is in integration/asgi/test_behaviours.py, from the same catalogue.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from integration.asgi.apps import http_rows  # noqa: F401 - it fills the table
from integration.asgi.apps.table import BROKE_A_RULE, CUT, FAILED, HTTP_ROWS, HttpRow
from tests.bridge import on_each_loop, on_each_socket, running
from tests.misbehaving import assert_seen

# No body, and one that is larger than what arrives with the packet and what the kernel buffers.
BODIES = (None, bytes(1_000_000))

# Nearly wrong: they leave something out, ask for what they may not have, or mend what was refused.
FORGIVEN: Final = {
    "answers-with-the-fewest-keys",
    "sends-hop-by-hop-headers",
    "starts-after-a-refused-body",
}

# Right ones are asked through Nginx alone, and so are those whose client leaves.
MISBEHAVING: Final[dict[str, HttpRow]] = {
    name: row
    for name, row in HTTP_ROWS.items()
    if name in FORGIVEN or (row.event in {FAILED, BROKE_A_RULE, CUT} and row.leaves_at is None)
}


def requests_for(row: HttpRow) -> list[dict[str, Any]]:
    """Give the arguments of the requests: the row's own, and others that must lead to the same."""
    own = {"method": row.method, "body": row.body}
    if row.body is not None or not row.takes_any_body:
        # Twice: the worker is still there, and knows nothing of what was.
        return [own, own]
    return [own, *({"method": "POST", "body": body} for body in BODIES)]


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("row", MISBEHAVING.values(), ids=MISBEHAVING)
def test_misbehaviour_is_seen_by_the_client_and_logged_once(
    row: HttpRow, family: str, loop: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        # Not the host's own call: what it raises goes through frames of an application.
        await row.app(scope, receive, send)

    requests = requests_for(row)
    with running(app, family, loop=loop, lifespan="off") as bridge:
        answers = [bridge.ask("/some/path", **request) for request in requests]

    assert_seen(answers, row)
    told = [*bridge.events.find(level="error"), *bridge.events.find(level="warning")]
    assert [event["event"] for event in told] == [row.event] * len(requests) * bool(row.event)
    for event, request in zip(told, requests, strict=bool(row.event)):
        assert row.says in str(event.get("exception", event.get("detail", "")))
        assert row.fields.items() <= event.items()
        assert (event["method"], event["path"]) == (request["method"], "/some/path")
    assert bridge.counters.app_errors == len(requests) * (row.event in {FAILED, BROKE_A_RULE})
    assert bridge.counters.client_gone == 0


def test_the_catalogue_is_large_enough() -> None:
    assert len(MISBEHAVING) >= 80
    assert MISBEHAVING.keys() >= FORGIVEN
