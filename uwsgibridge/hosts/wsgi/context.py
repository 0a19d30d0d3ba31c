"""The context that the requests of one WSGI host share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Any

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.figures.memory import Recorders
from uwsgibridge.hosts.offload import Offload
from uwsgibridge.hosts.streams import OpenStreams
from uwsgibridge.hosts.wsgi.error_stream import ErrorStream
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.reporting import Reporter
from uwsgibridge.telemetry.request_ids import Begin, current_request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from uwsgibridge.config.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class ExchangeContext:
    """What the requests of one host share.

    Attributes:
        app: the application.
        base_environ: the part that is the same in each environ.
        errors: the stream `wsgi.errors`, which is also in `base_environ`.
        reporter: logs failures.
        lingering: ends connections.
        offload: has Nginx send files; None where no directory is mapped.
        streams: tells which streams have to end as the server stops.
        recorders: make what records requests.
        release: called when a request is over.
        settings: the deadlines.
        begin: called with each request in its own context, before the application is.
        logs_access: whether there is an access log.
        end_lock: decides whether the request's thread ends a connection, or who gives the request up.
    """

    app: WSGIApplication
    base_environ: dict[str, Any]
    errors: ErrorStream
    reporter: Reporter
    lingering: LingeringClose
    offload: Offload | None
    streams: OpenStreams
    recorders: Recorders
    release: Callable[[Connection], None]
    settings: Settings
    logs_access: bool
    begin: Begin = current_request.set
    end_lock: threading.Lock = field(default_factory=threading.Lock)
