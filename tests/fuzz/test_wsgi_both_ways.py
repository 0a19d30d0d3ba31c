"""Whatever a WSGI application does, its client, the log and the counters get the same from the accelerator and from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recorded import recorded
from tests.ways import go, python_alone
from tests.wsgi_applications import (
    AGAIN,
    FAILURES,
    KINDS,
    NAMES,
    ODD_HEADERS,
    PIECES,
    PLAIN_HEADERS,
    PLAIN_PIECES,
    STATUSES,
    UPLOAD,
    VALUES,
    App,
    make_app,
)
from tests.wsgi_conversation import Conversations


@pytest.fixture(autouse=True, params=["accelerated"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test goes both ways by itself."""
    yield from go(request.param)


headers = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4)
pieces = st.sampled_from(PIECES)
plain_pieces = st.sampled_from(PLAIN_PIECES)


def conversation(app: App, variables: dict[str, str], body: bytes, logs_access: bool) -> object:
    host = Conversations(app, logs_access=logs_access)
    # Three times: the first time, Python meets the names of the headers.
    answers = [host.ask(variables, body) for _ in range(3)]
    events = [
        {
            key: it
            for key, it in event.items()
            if key not in {"timestamp", "exception", "request_id"}
        }
        for event in host.events.find()
    ]
    counts = [
        host.counters.client_gone,
        host.counters.app_errors,
        host.counters.refused,
        recorded(host.counters.memory),
    ]
    return answers, events, host.accesses, counts, len(host.in_flight)


@given(
    status=st.sampled_from(STATUSES),
    given_headers=st.sampled_from(PLAIN_HEADERS) | headers | st.sampled_from(ODD_HEADERS),
    items=st.lists(plain_pieces | pieces, max_size=3)
    | st.lists(plain_pieces, min_size=1, max_size=1),
    kind=st.sampled_from(KINDS),
    fails=st.sampled_from(FAILURES),
    again=st.sampled_from(AGAIN),
    written=st.just([]) | st.lists(pieces, max_size=2),
    method=st.sampled_from(["GET", "GET", "POST", "HEAD"]),
    body=st.sampled_from([b"", b"body", UPLOAD]),
    logs_access=st.booleans(),
    tells_moment=st.booleans(),
)
def test_applications_get_the_same_both_ways(
    status: Any,
    given_headers: Any,
    items: list[Any],
    kind: Callable[[list[Any], str], Any],
    fails: str,
    again: str,
    written: list[Any],
    method: str,
    body: bytes,
    logs_access: bool,
    tells_moment: bool,
) -> None:
    app = make_app(status, given_headers, items, kind, fails, again, written)
    variables = {"REQUEST_METHOD": method}
    if tells_moment:
        variables["UWSGIBRIDGE_SENT"] = f"{time():.3f}"
    accelerated = conversation(app, variables, body, logs_access)
    with python_alone():
        assert conversation(app, variables, body, logs_access) == accelerated


@given(
    variables=st.dictionaries(
        st.sampled_from(
            ["HTTPS", "REQUEST_SCHEME", "SERVER_SOFTWARE", "HTTP_UPGRADE", "HTTP_X", "SCRIPT_NAME"]
        ),
        st.sampled_from(["", "on", "https", "http", "websocket", "x"]),
    ),
    body=st.binary(max_size=5),
)
def test_environs_of_requests_are_the_same_both_ways(
    variables: dict[str, str], body: bytes
) -> None:
    def environ() -> object:
        seen: list[object] = []

        def app(environ: Any, start_response: Any) -> list[bytes]:
            errors, source = environ.pop("wsgi.errors"), environ.pop("wsgi.input")
            seen.append((list(environ.items()), type(errors), source.read(), source.read()))
            start_response("200 OK", [])
            return [b""]

        host = Conversations(app)
        return [host.ask(variables, body) for _ in range(2)], seen

    accelerated = environ()
    with python_alone():
        assert environ() == accelerated
