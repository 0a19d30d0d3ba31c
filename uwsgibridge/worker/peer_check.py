"""Refuses the connections of peers that may not connect, counts them, and logs that once a second."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

from uwsgibridge.connection.peers import AllowedPeers
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.telemetry.once_a_second import Later, OnceASecond
from uwsgibridge.telemetry.reporting import Reporter

# Tells whether the connection with this descriptor is to be served.
Admits: TypeAlias = Callable[[int], bool]

_REASON: Final = "peer_not_allowed"


class PeerCheck:
    """Looks at the peers of one worker; from any thread.

    Args:
        allowed: the rule.
        reporter: logs and counts what was refused.
        later: has a function called in so many seconds.
    """

    def __init__(self, allowed: AllowedPeers, reporter: Reporter, later: Later) -> None:
        self._allowed = allowed
        self._reporter = reporter
        self._refused = OnceASecond(self._write, later)

    def of(self, listening: ListeningSocket) -> Admits | None:
        """Make the check for the connections of a socket; None where all peers may connect."""
        family = int(listening.socket.family)
        return partial(self._admits, family) if self._allowed.restricts(family) else None

    def _admits(self, family: int, descriptor: int) -> bool:
        try:
            peer = self._allowed.refused(descriptor, family)
        except OSError:
            # The peer has reset the connection. Its request may be there all the same, and could be run.
            return False
        if peer is None:
            return True
        self._reporter.counters.count_refusal(_REASON)
        option = "--allow-user" if family == socket.AF_UNIX else "--allow-from"
        self._refused.note(_REASON, peer=peer, option=option)
        return False

    def _write(self, reason: str, count: int, facts: Mapping[str, object]) -> None:
        self._reporter.log.warning(
            "refused: this peer may not connect", reason=reason, connections=count, **facts
        )
