"""Whatever an ASGI application sends and receives, the accelerator and Python alone do the same with it."""

from __future__ import annotations

from collections import UserDict
from functools import partial
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi_conversation import Conversation
from tests.fuzz.test_packet import vars_of_a_packet
from tests.fuzz.test_response import bad_headers, headers, statuses
from tests.recorded import recorded
from tests.ways import go, python_alone


class Text(str):
    """A str that is none exactly."""

    __slots__ = ()


class Bytes(bytes):
    """Bytes that are none exactly."""


@pytest.fixture(autouse=True, params=["accelerated"])
def both_ways(request):
    """Each test goes both ways by itself."""
    yield from go(request.param)


kinds = st.sampled_from(
    ["http.response.start", "http.response.body", Text("http.response.start"), Text("http.response.body")]
)  # fmt: skip
chunks = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([65_536, 65_537]).map(bytes),
    st.sampled_from([Bytes(b"own"), bytearray(b"other"), memoryview(b"view")]),
)  # fmt: skip
plain_start = st.fixed_dictionaries(
    {"type": st.just("http.response.start"), "status": st.sampled_from([200, 200, 404, 204, 304])},
    optional={
        "headers": headers
        | st.sampled_from([b"5", b"0", b"7"]).map(lambda length: [(b"content-length", length)])
        | st.just([(b"content-type", b"text/event-stream")])
    },
)
plain_body = st.fixed_dictionaries(
    {"type": st.just("http.response.body")},
    optional={"body": st.just(b"hello") | chunks, "more_body": st.booleans()},
)
odd_message = st.fixed_dictionaries(
    {"type": kinds | st.none() | st.just("http.response.early_hint")},
    optional={
        "status": statuses | st.sampled_from([True, 200.0, "200", None, 99]),
        "headers": bad_headers | st.just(()) | st.none() | headers.map(tuple),
        "body": chunks | st.none() | st.just("text"),
        "more_body": st.sampled_from([True, False, 0, 1, None, ""]),
        "links": st.just([b"</a>; rel=preload"]),
        "reason": st.just("unknown to us"),
    },
)
messages = st.one_of(
    plain_start,
    plain_body,
    odd_message,
    st.sampled_from([None, {}, "http.response.start", {1: 2}]),
    (plain_start | plain_body).map(UserDict),
    st.just("receive"),
)
conversations = st.one_of(
    st.tuples(plain_start, plain_body),
    st.tuples(st.just("receive"), plain_start, plain_body, st.just("receive")),
    st.tuples(plain_start, plain_body, messages),
    st.lists(messages, max_size=5),
)


@given(
    conversations,
    st.sampled_from(["GET", "GET", "HEAD", "POST"]),
    st.sampled_from([0, 0, 4, 70_000]).map(bytes),
    st.sampled_from([0, 0, 2304, 16_384]),
    st.booleans(),
    st.sampled_from(["unix", "unix", "tcp"]),
    st.booleans(),
)
def test_conversations_are_the_same_both_ways(
    said: Any,
    method: str,
    body: bytes,
    send_buffer_bytes: int,
    logs_access: bool,
    family: str,
    tells_moment: bool,
) -> None:
    # Twice: what is new to the memos the first time is remembered the second time.
    for _ in range(2):
        converse = partial(
            outcome_of,
            said,
            {
                "REQUEST_METHOD": method,
                **({"UWSGIBRIDGE_SENT": f"{time():.3f}"} if tells_moment else {}),
            },
            body,
            send_buffer_bytes=send_buffer_bytes,
            logs_access=logs_access,
            family=family,
        )
        outcomes = [converse()]
        with python_alone():
            outcomes.append(converse())
        assert outcomes[0] == outcomes[1]


@given(
    vars_of_a_packet
    | st.dictionaries(
        st.sampled_from(["SSL_PROTOCOL", "SSL_CIPHER", "SCRIPT_NAME", "HTTP_X"]),
        st.sampled_from(["TLSv1.3", "/below", ""]),
    ).map(lambda it: list(it.items()))
)
def test_scopes_are_the_same_both_ways(variables: list[tuple[str, str]]) -> None:
    def scope() -> Any:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope)
            scope["state"]["mine"] = scope["extensions"]["uwsgi"]["vars"]["MINE"] = "mine"

        # Its length would be that of a body.
        given = {name: value for name, value in variables if name != "CONTENT_LENGTH"}
        conversation = Conversation(app, given)
        conversation.run()
        assert "mine" not in conversation.context.state
        assert "MINE" not in conversation.connection.request.vars
        return in_order(seen)

    accelerated = scope()
    with python_alone():
        assert scope() == accelerated


def outcome_of(said: Any, variables: dict[str, str], body: bytes, **options: Any) -> object:
    """Have an application say all that, and give what everybody has seen."""
    heard: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in said:
            try:
                heard.append(await (receive() if message == "receive" else send(message)))
            except Exception as error:
                heard.append((type(error), str(error)))

    conversation = Conversation(app, variables, body, **options)
    conversation.run()
    return heard, conversation.outcome, recorded(conversation.counters.memory)


def in_order(given_value: Any) -> Any:
    """Let the order of dicts count."""
    if isinstance(given_value, dict):
        return [(name, in_order(value)) for name, value in given_value.items()]
    return given_value
