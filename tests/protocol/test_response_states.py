"""The table of an answer's states: each step in each state, by the table and by `Response` itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Final

import pytest

from uwsgibridge.protocol.errors import InvalidResponse
from uwsgibridge.protocol.response import Response
from uwsgibridge.protocol.response_states import FOLLOWING, State, Step, refusal

HEAD_SENT: Final = "the head of this response was already sent"
NO_HEAD: Final = "the body began before the head: first call start_response (WSGI), or send http.response.start (ASGI)"
COMPLETE: Final = "the response was already complete"

# What each pair leads to: the following state, or the sentence of its refusal.
EXPECTED: Final[dict[tuple[State, Step], State | str]] = {
    (State.NO_HEAD, Step.START): State.HEAD,
    (State.NO_HEAD, Step.PIECE): NO_HEAD,
    (State.NO_HEAD, Step.LAST): NO_HEAD,
    (State.HEAD, Step.START): State.HEAD,
    (State.HEAD, Step.PIECE): State.BODY,
    (State.HEAD, Step.LAST): State.COMPLETE,
    (State.BODY, Step.START): HEAD_SENT,
    (State.BODY, Step.PIECE): State.BODY,
    (State.BODY, Step.LAST): State.COMPLETE,
    (State.COMPLETE, Step.START): HEAD_SENT,
    (State.COMPLETE, Step.PIECE): COMPLETE,
    (State.COMPLETE, Step.LAST): COMPLETE,
}

# How a `Response` comes into each state.
WAYS: Final[dict[State, tuple[Step, ...]]] = {
    State.NO_HEAD: (),
    State.HEAD: (Step.START,),
    State.BODY: (Step.START, Step.PIECE),
    State.COMPLETE: (Step.START, Step.LAST),
}

TAKES: Final[dict[Step, Callable[[Response], object]]] = {
    Step.START: lambda response: response.start(200, b"200 OK", []),
    Step.PIECE: lambda response: response.send(b"x"),
    Step.LAST: lambda response: response.send(b"x", last=True),
}

PAIRS: Final = [
    pytest.param(state, step, id=f"{step.name}-{state.name}".lower())
    for state, step in product(State, Step)
]


def response_in(state: State) -> Response:
    response = Response("GET")
    for step in WAYS[state]:
        TAKES[step](response)
    return response


def seen(response: Response) -> tuple[bool, bool, bool]:
    """What tells the states apart from outside: a head, that it has left, and that all has."""
    return response.status > 0, response.is_head_sent, response.is_complete


SEEN: Final = {state: seen(response_in(state)) for state in State}


def test_each_state_is_seen() -> None:
    assert SEEN == {
        State.NO_HEAD: (False, False, False),
        State.HEAD: (True, False, False),
        State.BODY: (True, True, False),
        State.COMPLETE: (True, True, True),
    }


@pytest.mark.parametrize(("state", "step"), PAIRS)
def test_a_step_leads_on_or_is_refused_in_words(state: State, step: Step) -> None:
    expected = EXPECTED[state, step]
    response = response_in(state)
    if isinstance(expected, State):
        assert FOLLOWING[step][state] is expected
        TAKES[step](response)
        assert seen(response) == SEEN[expected]
        return
    assert state not in FOLLOWING[step]
    assert str(refusal(step, state)) == expected
    with pytest.raises(InvalidResponse) as caught:
        TAKES[step](response)
    assert str(caught.value) == expected
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert seen(response) == SEEN[state], "a refused step changes nothing"


@pytest.mark.parametrize("state", [State.NO_HEAD, State.COMPLETE])
def test_a_body_by_other_means_is_a_piece(state: State) -> None:
    with pytest.raises(InvalidResponse) as caught:
        response_in(state).allow(1)
    assert str(caught.value) == EXPECTED[state, Step.PIECE]


def test_a_head_that_replaces_one_with_its_body_elsewhere_has_its_own_body() -> None:
    """HEAD gets the length that the answer to GET has, whatever the first head named."""
    response = Response("HEAD")
    response.start(200, b"200 OK", [])
    response.omit_body()
    response.start(500, b"500 Oops", [])
    (head,) = response.send(b"oops", last=True)
    assert b"\r\nContent-Length: 4\r\n" in head
