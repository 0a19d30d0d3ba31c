"""Answers requests of ``nginx --check --probe`` in the place of the applications, and keeps what arrived with them.

Who sends them tells the supervisor a token by its control socket, and each request has that token in a header. As long as a token
counts, the worker accepts without the accelerator, since that one looks for no such header; at all other times, a probe costs nothing.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.figures.recorder import Recorder
from uwsgibridge.hosts.exchange import record_own_answer
from uwsgibridge.hosts.host import Route, Select
from uwsgibridge.loop.interface import Loop, Task
from uwsgibridge.protocol import answers
from uwsgibridge.quick_dataclass import dataclass

if TYPE_CHECKING:
    from uwsgibridge.protocol.answers import OwnAnswer
    from uwsgibridge.protocol.request import Request

VAR: Final = "HTTP_UWSGIBRIDGE_PROBE"

# How long a token counts after it was told last.
PROBE_SECONDS: Final = 30.0

# How many tokens count at a time, and how many requests are kept of each.
MOST_TOKENS: Final = 4
MOST_ARRIVALS: Final = 64

# How long an answer in two parts waits between them: longer than a part needs that nobody holds back.
PAUSE_SECONDS: Final = 1.0

# The most that a head may be padded to.
_MOST_HEAD_BYTES: Final = 64 * 1024

# A token, the number of a request, and what its answer is to be: short, of two parts, or with a head of so many bytes.
_HEADER: Final = re.compile(r"([0-9a-f]{32}) ([0-9]{1,4}) (short|parts|head=([0-9]{1,6}))")


@dataclass(slots=True)
class Probe:
    """What is known of a token.

    Attributes:
        ends_at: when it is forgotten, of `time.monotonic()`.
        arrived: what came with it: a dict for each request, of values that JSON has.
    """

    ends_at: float
    arrived: list[dict[str, Any]] = field(default_factory=list)


class ProbeRefused(Exception):
    """A token can't count; the message says why."""


class Desk(Protocol):
    """What is needed of the listener."""

    def divert(self, route: Route | None) -> None:
        """Have all requests go another way, and none by the accelerator; or to their hosts again."""

    def hand_over(self, connection: Connection, select: Select) -> None:
        """Hand a request to its host."""

    def answer(self, connection: Connection, answer: OwnAnswer, request: Request | None) -> None:
        """Send a short answer, and end the connection."""

    def end_flight(self, connection: Connection) -> None:
        """Record the request no more as one that the worker holds."""

    def wait_for(self, connection: Connection) -> None:
        """Count a connection that no host has."""

    def remove_waiting(self, connection: Connection) -> None:
        """Count it no more."""


class Probes:
    """The tokens of a worker.

    Args:
        desk: the listener, whose requests are looked at while a token counts.
        loop: forgets tokens when their time is over; all methods belong to its thread.
        lingering: ends connections that were answered.
        recorder: of that thread.
    """

    def __init__(
        self, desk: Desk, loop: Loop, lingering: LingeringClose, recorder: Recorder
    ) -> None:
        self._desk = desk
        self._loop = loop
        self._lingering = lingering
        self._recorder = recorder
        self._probes: dict[str, Probe] = {}
        self._timer: Task | None = None

    def begin(self, token: str) -> list[dict[str, Any]]:
        """Have a token count from now on for `PROBE_SECONDS`, and give what has arrived with it so far.

        Raises:
            ProbeRefused: as many others count already.
        """
        probe = self._find(token)
        if probe is None:
            if len(self._probes.keys() - {token}) >= MOST_TOKENS:
                raise ProbeRefused(f"{MOST_TOKENS} probes run already, which is the most")
            if not self._probes:
                self._desk.divert(self._take)
                self._timer = self._loop.call_later(PROBE_SECONDS, self._forget)
            probe = self._probes[token] = Probe(0.0)
        probe.ends_at = monotonic() + PROBE_SECONDS
        return probe.arrived

    def end(self, token: str) -> None:
        """Have a token count no more."""
        if self._probes.pop(token, None) is not None and not self._probes:
            if self._timer is not None:
                self._timer.cancel()
            self._forget()

    def _take(self, connection: Connection, select: Select) -> None:
        """Note and answer a request that has a token, and hand over any other."""
        request = connection.request
        found = _HEADER.fullmatch(request.vars.get(VAR, ""))
        probe = self._find(found[1]) if found else None
        if found is None or probe is None:
            self._desk.hand_over(connection, select)
            return
        if len(probe.arrived) < MOST_ARRIVALS:
            probe.arrived.append(
                {
                    "number": int(found[2]),
                    "vars": {name: it for name, it in request.vars.items() if name != VAR},
                    "content_length": request.content_length,
                }
            )
        if found[3] == "parts":
            self._answer_in_parts(connection)
        else:
            answer = _make_answer(request, int(found[4] or 0))
            self._desk.answer(connection, answer, request)
        self._desk.end_flight(connection)

    def _answer_in_parts(self, connection: Connection) -> None:
        answer, later = answers.probed_in_parts(connection.request.method)
        try:
            connection.send(answer.data)
        except OSError:
            connection.force_close()
            return
        self._desk.wait_for(connection)
        record_own_answer(self._recorder, connection, answer.status)
        self._loop.call_later(PAUSE_SECONDS, partial(self._send_rest, connection, later))

    def _send_rest(self, connection: Connection, rest: bytes) -> None:
        if connection.closed:  # by a stop
            return
        try:
            connection.send(rest)
        except OSError:
            connection.force_close()
            self._desk.remove_waiting(connection)
        else:
            self._lingering.discard(connection, self._desk.remove_waiting)

    def _find(self, token: str) -> Probe | None:
        for known, probe in self._probes.items():
            if hmac.compare_digest(known, token) and probe.ends_at > monotonic():
                return probe
        return None

    def _forget(self) -> None:
        """Forget the tokens whose time is over, and look again when that of the others is."""
        now = monotonic()
        self._probes = {it: probe for it, probe in self._probes.items() if probe.ends_at > now}
        if self._probes:
            last = max(it.ends_at for it in self._probes.values())
            self._timer = self._loop.call_later(last - now, self._forget)
        else:
            self._timer = None
            self._desk.divert(None)


def _make_answer(request: Request, head_bytes: int) -> OwnAnswer:
    answer = answers.probed(request.method)
    missing = min(head_bytes, _MOST_HEAD_BYTES) - answer.data.index(b"\r\n\r\n") - 4
    return answers.probed(request.method, head_padding=missing) if missing > 0 else answer
