"""Reads when the frontend has sent a request: the var ``UWSGIBRIDGE_SENT``, which the shipped params set to ``$msec``.

Nginx evaluates it as it makes the packet, just before it connects. What has passed since then is the time that the request has
waited in Nginx for a connection, in the backlog of the socket, and in the bridge. Both clocks have to agree, since they are
those of the machines' walls.
"""

from __future__ import annotations

import re
from typing import Final

from uwsgibridge.fast import accelerator

SENT_VAR: Final = "UWSGIBRIDGE_SENT"

# As nginx writes $msec (ngx_http_variable_msec): seconds since 1970, a point, three digits.
_MOMENT: Final = re.compile(r"([0-9]{1,12})\.([0-9]{3})", re.ASCII)

# A clock that is behind the frontend's by more says nothing about an age.
_MOST_AHEAD_SECONDS: Final = 1.0

# No frontend waits that long for an answer: the clocks differ.
_MOST_SECONDS: Final = 86_400.0


def read_moment(text: str) -> float | None:
    """Give the moment that a text names, in seconds since 1970; None where it is not written as Nginx writes ``$msec``."""
    found = _MOMENT.fullmatch(text)
    return None if found is None else int(found[1]) + int(found[2]) / 1000


def seconds_since_sent(variables: dict[str, str], now: float) -> float | None:
    """Tell how long ago the frontend has sent a request.

    Args:
        variables: the vars of the request.
        now: the present moment, of `time.time()`.

    Returns:
        Seconds, 0 at the least; None where the frontend does not say it. A moment that is more than a second ahead of
        `now`, or more than a day behind it, is no moment of this request.
    """
    if accelerator is not None:
        return accelerator.seconds_since_sent(variables, now)
    text = variables.get(SENT_VAR)
    moment = None if text is None else read_moment(text)
    if moment is None:
        return None
    seconds = now - moment
    return max(0.0, seconds) if -_MOST_AHEAD_SECONDS <= seconds <= _MOST_SECONDS else None
