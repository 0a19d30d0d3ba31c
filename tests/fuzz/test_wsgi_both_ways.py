"""Whatever a WSGI application does, its client, the log and the counters get the same from the accelerator and from Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ways import go, python_alone
from tests.wsgi_conversation import Conversations

App: TypeAlias = Callable[[Any, Any], Any]


@pytest.fixture(autouse=True, params=["accelerated"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test goes both ways by itself."""
    yield from go(request.param)


statuses = st.sampled_from(
    [
        "200 OK",
        "200",
        "404 Not Found",
        "204 No Content",
        "304 Not Modified",
        "100 Continue",
        "2xx",
        "500 \xe9",
        "200 \n",
    ]
)
names = st.sampled_from(
    [
        "Content-Type",
        "content-length",
        "X-A",
        "Connection",
        "X-Accel-Buffering",
        "X-Accel-Expires",
        "bad name",
        "",
    ]
)
values = st.sampled_from(
    [
        "text/plain",
        "text/event-stream",
        "0",
        "3",
        "5",
        "10",
        "x",
        " 5",
        "\t",
        "\xe9",
        "\u20ac",
        "a\nb",
        "9" * 19,
    ]
)
headers = st.lists(st.tuples(names, values), max_size=4)
plain_headers = st.sampled_from(
    [
        [("Content-Type", "text/plain")],
        [("Content-Type", "text/plain"), ("Content-Length", "3")],
        [("Content-Type", "text/event-stream")],
        [("X-A", "x"), ("Content-Length", "5"), ("Connection", "close")],
    ]
)
odd_headers = st.sampled_from(
    [None, (), [None], [("X-A",)], [("X-A", 1)], [["X-A", "1"]], "ab", {"X-A": "1"}]
)
pieces = st.sampled_from([b"", b"abc", b"abcde", b"x" * 20, None, "text", bytearray(b"abc")])
plain_pieces = st.sampled_from([b"", b"abc", b"abcde", b"x" * 70_000])


class Failure(Exception):
    """What an application raises."""


class Items:
    """An iterable with a `close`."""

    def __init__(self, items: list[Any], fails: str) -> None:
        self._items = items
        self._fails = fails

    def __iter__(self) -> Iterator[Any]:
        if self._fails == "iter":
            raise Failure("iter")
        yield from self._items
        if self._fails == "next":
            raise Failure("next")

    def close(self) -> None:
        if self._fails == "close":
            raise Failure("close")


kinds: list[Callable[[list[Any], str], Any]] = [
    lambda items, fails: items,
    lambda items, fails: tuple(items),
    Items,
    lambda items, fails: iter(items),
    lambda items, fails: (it for it in items),
    lambda items, fails: b"bytes",
    lambda items, fails: "text",
    lambda items, fails: None,
    lambda items, fails: 5,
]


def make_app(
    status: Any,
    given: Any,
    items: list[Any],
    kind: Callable[[list[Any], str], Any],
    fails: str,
    again: str,
    written: list[Any],
) -> App:
    def app(environ: Any, start_response: Any) -> Iterable[Any]:
        environ["wsgi.input"].read()
        if fails == "first":
            raise Failure("first")
        write = start_response(status, given)
        if again == "twice":
            start_response(status, given)
        elif again == "exc_info":
            try:
                raise Failure("replaced")
            except Failure:
                write = start_response("503 Busy", [("X-A", "1")], sys.exc_info())
        for piece in written:
            write(piece)
        if fails == "call":
            raise Failure("call")
        if fails == "text":
            environ["wsgi.errors"].write("unfinished")
        answer: Iterable[Any] = kind(list(items), fails)
        return answer

    return app


def conversation(app: App, variables: dict[str, str], body: bytes, logs_access: bool) -> object:
    host = Conversations(app, logs_access=logs_access)
    # Three times: the first time, Python meets the names of the headers.
    answers = [host.ask(variables, body) for _ in range(3)]
    events = [
        {key: it for key, it in event.items() if key not in {"timestamp", "exception"}}
        for event in host.events.find()
    ]
    return answers, events, host.accesses, asdict(host.counters), len(host.in_flight)


@given(
    status=statuses,
    given_headers=plain_headers | headers | odd_headers,
    items=st.lists(plain_pieces | pieces, max_size=3)
    | st.lists(plain_pieces, min_size=1, max_size=1),
    kind=st.sampled_from(kinds),
    fails=st.sampled_from(["", "", "", "first", "call", "iter", "next", "close", "text"]),
    again=st.sampled_from(["", "", "", "twice", "exc_info"]),
    written=st.just([]) | st.lists(pieces, max_size=2),
    method=st.sampled_from(["GET", "GET", "POST", "HEAD"]),
    body=st.sampled_from([b"", b"body"]),
    logs_access=st.booleans(),
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
) -> None:
    app = make_app(status, given_headers, items, kind, fails, again, written)
    variables = {"REQUEST_METHOD": method}
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
