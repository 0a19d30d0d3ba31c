"""What is known of a WebSocket's client, and when it is pinged next."""

from __future__ import annotations

from typing import Final

import pytest

from uwsgibridge.hosts.asgi.signs_of_life import FOLLOWING, Sign, Step, seconds_to_ping

EXPECTED: Final[dict[tuple[Sign, Step], Sign]] = {
    (Sign.UNHEARD, Step.TAKEN): Sign.UNHEARD,
    (Sign.UNHEARD, Step.PING): Sign.UNHEARD_PINGED,
    (Sign.UNHEARD_PINGED, Step.TAKEN): Sign.UNHEARD,
    (Sign.UNHEARD_PINGED, Step.PING): Sign.UNHEARD_PINGED,
    (Sign.HEARD, Step.TAKEN): Sign.HEARD,
    (Sign.HEARD, Step.PING): Sign.PINGED,
    (Sign.PINGED, Step.TAKEN): Sign.HEARD,
    (Sign.PINGED, Step.PING): Sign.PINGED,
}


def test_each_step_leads_from_each_state_to_the_expected_one() -> None:
    assert {(sign, step): FOLLOWING[step][sign] for step in Step for sign in Sign} == EXPECTED


def test_taking_something_is_no_byte_of_the_client() -> None:
    """A frontend that buffers takes what nobody reads."""
    for sign in Sign:
        assert FOLLOWING[Step.TAKEN][sign].is_unheard is sign.is_unheard
        assert not FOLLOWING[Step.TAKEN][sign].is_missing
        assert FOLLOWING[Step.PING][sign].is_missing


@pytest.mark.parametrize(
    ("sign", "ping", "first_sign", "seconds"),
    [
        (Sign.HEARD, 20.0, 30.0, 20.0),
        (Sign.PINGED, 0.0, 30.0, 0.0),
        (Sign.UNHEARD, 20.0, 0.0, 20.0),
        (Sign.UNHEARD, 20.0, 30.0, 15.0),
        (Sign.UNHEARD, 10.0, 30.0, 10.0),
        (Sign.UNHEARD_PINGED, 0.0, 30.0, 15.0),
        (Sign.UNHEARD, 0.0, 0.0, 0.0),
    ],
)
def test_the_next_ping_is_due_in_these_seconds(
    sign: Sign, ping: float, first_sign: float, seconds: float
) -> None:
    assert seconds_to_ping(sign, ping, first_sign) == seconds
