"""Looks how far the requests of an ASGI host are.

A host keeps no table from connections to exchanges, which each request would pay for. The coroutine of a task knows its
exchange.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from uwsgibridge.hosts.asgi.http import HttpExchange
from uwsgibridge.hosts.exchange_states import Life
from uwsgibridge.hosts.underway import Phase, Underway

if TYPE_CHECKING:
    from uwsgibridge.connection.connection import Connection
    from uwsgibridge.loop.interface import Task


def list_underway(
    in_flight: Collection[Connection],
    given_up: Collection[Connection],
    websockets: Mapping[Connection, object],
) -> list[Underway]:
    """Put the tables of a host together.

    Args:
        in_flight: the connections that hold a place.
        given_up: those whose task goes on although the client has an answer.
        websockets: those that are WebSockets.
    """
    lost = set(given_up)
    found = [_describe(it, Phase.GIVEN_UP) for it in lost]
    for connection in list(in_flight):
        if connection in websockets:
            found.append(_describe(connection, Phase.WEBSOCKET, is_open_ended=True))
        elif connection not in lost:
            found.append(_look_at(connection))
    return found


def _describe(connection: Connection, phase: Phase, *, is_open_ended: bool = False) -> Underway:
    return Underway(
        connection,
        phase,
        connection.accepted_at,  # a task runs at once
        task=getattr(connection, "task", None),
        is_open_ended=is_open_ended,
    )


def _look_at(connection: Connection) -> Underway:
    exchange = _exchange_of(getattr(connection, "task", None))
    if exchange is None:
        return _describe(connection, Phase.APPLICATION)
    # Of this room. The answer is asked for only where Python has begun it: that takes it from the accelerator.
    has_begun = exchange._has_written  # noqa: SLF001
    is_open_ended = has_begun and exchange._response.is_event_stream  # noqa: SLF001
    if exchange._life in {Life.ENDED, Life.OVER}:  # noqa: SLF001
        phase = Phase.AFTER_ANSWER
    elif has_begun:
        phase = Phase.SENDING
    elif exchange._body_wait is not None:  # noqa: SLF001
        phase = Phase.READING_BODY
    else:
        phase = Phase.APPLICATION
    return _describe(connection, phase, is_open_ended=is_open_ended)


def _exchange_of(task: Task | None) -> HttpExchange | None:
    """Give what a task of asyncio or trio runs; None where that can't be told."""
    get_coroutine = getattr(task, "get_coro", None)
    if get_coroutine is None:
        owner = getattr(
            getattr(task, "function", None), "__self__", None
        )  # a handle of `TrioTasks`
    else:
        frame = getattr(get_coroutine(), "cr_frame", None)
        owner = frame.f_locals.get("self") if frame is not None else None
    return owner if isinstance(owner, HttpExchange) else None
