"""What is done with each request as it begins and ends, so that all that is told of it can be found together."""

from __future__ import annotations

from collections.abc import Callable

from uwsgibridge.config.settings import Settings
from uwsgibridge.protocol.request import Request
from uwsgibridge.quick_dataclass import dataclass
from uwsgibridge.telemetry.access import Access, AccessSink
from uwsgibridge.telemetry.logs import Logger, add_context
from uwsgibridge.telemetry.request_ids import (
    Begin,
    IdHeader,
    current_request,
    fields_of_current_request,
    request_ids,
)
from uwsgibridge.telemetry.tracing import take_trace


@dataclass(frozen=True, slots=True)
class Tracking:
    """What a worker does to tell its requests apart.

    Attributes:
        begin: called with each request in its own context, before the application is; it does not raise.
        id_header: has the request's id in each answer; None for no such header.
        access_log: learns of each request that is over; None where nobody asks for that.
        finish: called at the worker's end; it may wait for `Settings.otel_flush_seconds`.
    """

    begin: Begin
    id_header: IdHeader | None
    access_log: AccessSink | None
    finish: Callable[[], object] | None = None


def make_tracking(
    settings: Settings, app_name: str, access_log: AccessSink | None, logger: Logger
) -> Tracking:
    """Make what the settings ask for; where they ask for nothing, a request begins with one context variable.

    Args:
        settings: of the worker.
        app_name: of the first application.
        access_log: what else learns of each request that is over.
        logger: where failures are told.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    request_ids.sources = settings.request_id_from
    add_context(fields_of_current_request)
    steps: list[Begin] = [current_request.set]
    id_header = None
    finish = None
    if settings.request_id_header:
        id_header = IdHeader(settings.request_id_header)
        steps.append(id_header.tell_application)
    if settings.otel:
        # Imported here: it takes a tenth of a second, and few workers have it.
        from uwsgibridge.telemetry.otel import Otel

        otel = Otel(app_name, logger)
        steps.append(otel.spans.begin)
        access_log = otel.spans if access_log is None else _Both(access_log, otel.spans)

        def finish() -> None:
            otel.finish(settings.otel_flush_seconds)

    elif settings.trace_context:
        steps.append(take_trace)
    return Tracking(_joined(steps), id_header, access_log, finish)


def _joined(steps: list[Begin]) -> Begin:
    if len(steps) == 1:
        return steps[0]

    def begin(request: Request) -> None:
        for step in steps:
            step(request)

    return begin


class _Both:
    """Two that learn of each request that is over."""

    def __init__(self, first: AccessSink, second: AccessSink) -> None:
        self._first, self._second = first, second

    def write(self, access: Access) -> None:
        """Record an access; from any thread."""
        self._first.write(access)
        self._second.write(access)
