"""Tells the accelerator what it has to know for the HTTP exchanges of a host."""

from __future__ import annotations

import asyncio.coroutines
import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from uwsgibridge import fast
from uwsgibridge.application import forked_child
from uwsgibridge.fast import accelerator
from uwsgibridge.hosts.asgi.exchange import AsgiContext, Call
from uwsgibridge.hosts.asgi.http_states import Input, Stream
from uwsgibridge.hosts.asgi.tls import tls_extension
from uwsgibridge.hosts.exchange_states import Life
from uwsgibridge.protocol.request import ASGI_VERSIONS, HTTP_VERSIONS, Request, header_names
from uwsgibridge.protocol.response import Response
from uwsgibridge.protocol.response_headers import NO_STREAM, known_kinds, known_stream_kinds
from uwsgibridge.protocol.status import known_status_lines
from uwsgibridge.quick_dataclass import dataclass

if TYPE_CHECKING:
    from uwsgibridge.connection.connection import Connection
    from uwsgibridge.fast import HttpPlan
    from uwsgibridge.hosts.admission import Admission


@dataclass(frozen=True, slots=True)
class Places:
    """The tables that a host takes a request out of when the request is over.

    Attributes:
        admission: the requests in flight.
        given_up: those that were ended, and whose tasks go on.
        websockets: the open WebSockets.
        free_slots: of the flight recorder.
    """

    admission: Admission[Connection]
    given_up: set[Connection]
    websockets: Mapping[Connection, object]
    free_slots: list[memoryview]


if fast.accelerator is not None:
    # As the methods of Python that are coroutine functions.
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(fast.accelerator.Caller)
    else:
        mark = vars(asyncio.coroutines)["_is_coroutine"]
        setattr(fast.accelerator.Caller, "_is_coroutine", mark)  # noqa: B010 - mypy knows neither


def make_plan(context: AsgiContext, places: Places) -> HttpPlan | None:
    """Make the plan of a host, which has to be complete but for the plan; None without the accelerator.

    Args:
        context: of the host.
        places: the tables that `context.release` takes a request out of.
    """
    if fast.accelerator is None:
        return None
    return fast.accelerator.HttpPlan(
        # None where a test leaves the accelerator out, but the fields are those of its class.
        is_used=accelerator is not None,
        app=context.app,
        state=context.state,
        running=Life.RUNNING,
        ended=Life.ENDED,
        over=Life.OVER,
        arriving=Input.ARRIVING,
        whole=Input.WHOLE,
        no_stream=Stream.NONE,
        not_cancelled=Call.RUNNING,
        resume_response=_resume_response,
        tls_extension=tls_extension,
        close=context.lingering.close,
        release=context.release,
        given_up=places.given_up,
        websockets=places.websockets,
        free_slots=places.free_slots,
        in_flight=places.admission.in_flight,
        admission=places.admission,
        recorder=context.recorder,
        forked_child=vars(forked_child),
        kinds=known_kinds,
        stream_kinds=known_stream_kinds,
        status_lines=known_status_lines,
        header_names=header_names,
        http_versions=HTTP_VERSIONS,
        asgi=ASGI_VERSIONS,
        id_header=context.reporter.id_header_name,
        frontend_buffer_bytes=context.reporter.frontend_buffer_bytes,
        may_offload=context.offload is not None,
        logs_access=context.reporter.logs_access,
        log_sent=context.reporter.sent_writer,
    )


def _resume_response(
    request: Request,
    status: int | None,
    head: bytes | None,
    promised: int,
    sets_buffering: int,
    sets_expires: int,
    sent_bytes: int,
) -> Response:
    """Make the answer of an exchange, as far as the accelerator has brought it.

    Args:
        request: what was asked.
        status: the code; None where there is no head yet.
        head: the head without its end; None where there is none yet.
        promised: the Content-Length; -1 for none.
        sets_buffering: whether there is an X-Accel-Buffering.
        sets_expires: whether there is an X-Accel-Expires.
        sent_bytes: how many bytes of body the whole answer had that was sent; -1 where nothing was sent.
    """
    if status is None or head is None:
        return Response(request.method)
    length = None if promised < 0 else promised
    encoded = (head, length, NO_STREAM, bool(sets_buffering), bool(sets_expires))
    return Response.resume(request.method, status, encoded, None if sent_bytes < 0 else sent_bytes)
