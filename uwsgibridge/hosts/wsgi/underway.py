"""Looks how far the requests of a WSGI host are; it looks from another thread than the ones that run them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from uwsgibridge.hosts.exchange_states import Life
from uwsgibridge.hosts.underway import Phase, Underway

if TYPE_CHECKING:
    from uwsgibridge.connection.connection import Connection
    from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
    from uwsgibridge.hosts.wsgi.running import RunningRequests


def list_underway(
    in_flight: Collection[Connection],
    running: RunningRequests,
    given_up: Mapping[WsgiExchange, threading.Thread],
    websockets: Mapping[Connection, threading.Thread],
) -> list[Underway]:
    """Put the tables of a host together.

    Args:
        in_flight: the connections that hold a place.
        running: the requests that a thread runs.
        given_up: those whose thread goes on although the client has an answer.
        websockets: the connections of open WebSockets.
    """
    # The table of places is read first: a request that a thread takes meanwhile is then in both, and counts as running.
    places = list(in_flight)
    found = {
        exchange.connection: Underway(
            exchange.connection, _phase_of(exchange), exchange.started_at, thread
        )
        for exchange, thread in running.items()
    }
    for exchange, thread in list(given_up.items()):
        found[exchange.connection] = Underway(
            exchange.connection, Phase.GIVEN_UP, exchange.started_at, thread
        )
    for connection in places:
        if connection in websockets:
            found[connection] = Underway(
                connection,
                Phase.WEBSOCKET,
                connection.accepted_at,
                websockets[connection],
                is_open_ended=True,
            )
        elif connection not in found:
            found[connection] = Underway(connection, Phase.QUEUED)
    return list(found.values())


def _phase_of(exchange: WsgiExchange) -> Phase:
    with exchange.end_lock:  # the accelerator changes these within it
        life, has_begun = exchange._life, exchange.has_begun  # noqa: SLF001 - of this room
    if exchange.given_up:
        return Phase.GIVEN_UP
    if life in {Life.ENDED, Life.OVER}:
        return Phase.AFTER_ANSWER
    if exchange.body_wait_began is not None:
        return Phase.READING_BODY
    return Phase.SENDING if has_begun or exchange._has_written else Phase.APPLICATION  # noqa: SLF001
