"""Spans of OpenTelemetry for requests: one for each, from before the application is called to its real end.

Names and values are those of the semantic conventions for HTTP servers, the stable ones
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server). The query is left out, because it may hold tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import time_ns
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.tracing import Trace, keep_trace, trace_of

_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
_OTHER_METHOD: Final = "_OTHER"

# Of a span whose client has the beginning of an answer alone.
_BROKEN: Final = "broken"


class _Vars(Getter[dict[str, str]], Setter[dict[str, str]]):
    """Headers of a request, by its vars."""

    def get(self, carrier: dict[str, str], key: str) -> list[str] | None:
        found = carrier.get(_var(key))
        return None if found is None else [found]

    def keys(self, carrier: dict[str, str]) -> list[str]:
        return [name[5:].replace("_", "-").lower() for name in carrier if name.startswith("HTTP_")]

    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        carrier[_var(key)] = value


_VARS: Final = _Vars()


def _var(key: str) -> str:
    return "HTTP_" + key.upper().replace("-", "_")


class _SpanTrace(Trace):
    """The trace of a request with a span."""

    __slots__ = ("error_type", "span")

    def __init__(self, span: Span) -> None:
        found = span.get_span_context()
        if found.is_valid:  # not with OTEL_SDK_DISABLED
            trace_id = trace.format_trace_id(found.trace_id)
            super().__init__(trace_id, trace.format_span_id(found.span_id))
        else:
            super().__init__("", "")
        self.span = span
        self.error_type = ""

    def fail(self, error: BaseException, traceback: str) -> None:
        kind = type(error)
        self.error_type = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        self.span.record_exception(error, attributes={"exception.stacktrace": traceback})


class Spans:
    """Begins and ends the spans; also an `AccessSink`, since that learns of each end, and once.

    What OpenTelemetry or an extension of it raises is logged, once, and harms no request.

    Args:
        tracer: makes the spans.
        logger: where failures are told.
    """

    def __init__(self, tracer: Tracer, logger: Logger) -> None:
        self._tracer = tracer
        self._log = logger
        self._has_failed = False

    def begin(self, request: Request) -> None:
        """Begin the span of a request, in the request's own context, where it is the current one from now on."""
        try:
            # What the propagators say, which OTEL_PROPAGATORS names; of a traceparent, the rules of W3C.
            parent = propagate.extract(request.vars, getter=_VARS)
            span = self._start(request, parent, None)
            inside = trace.set_span_in_context(span, parent)
            # Never detached: the context ends with the request.
            context.attach(inside)
            # For an application that takes the trace from its headers, in a thread of its own or for a queue.
            propagate.inject(request.vars, inside, setter=_VARS)
        except Exception as error:  # noqa: BLE001 - samplers and propagators are anybody's code
            self._tell(error)

    def write(self, access: Access) -> None:
        """End the span of a request that is over; from any thread."""
        try:
            self._end(access)
        except Exception as error:  # noqa: BLE001 - as in `begin`
            self._tell(error)

    def _end(self, access: Access) -> None:
        found = trace_of(access.request)
        if not isinstance(found, _SpanTrace):
            # Nothing was called: the request was refused, or a file was sent.
            began = time_ns() - round(access.total_seconds * 1e9)
            parent = propagate.extract(access.request.vars, getter=_VARS)
            self._start(access.request, parent, began)
            found = trace_of(access.request)
            assert isinstance(found, _SpanTrace)
        span = found.span
        if span.is_recording():
            self._describe_end(span, access, found.error_type)
        span.end()

    def _start(self, request: Request, parent: context.Context, began: int | None) -> Span:
        span = self._tracer.start_span(
            _method(request),
            parent,
            SpanKind.SERVER,
            # At the start, since samplers decide by them.
            dict(_attributes(request)),
            start_time=began,
        )
        keep_trace(request, _SpanTrace(span))
        return span

    def _describe_end(self, span: Span, access: Access, error_type: str) -> None:
        status = access.status
        if status:
            span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, status)
            if status >= 500:
                error_type = error_type or str(status)
            elif not access.complete:
                error_type = error_type or _BROKEN
        # An attribute that the application has set: it alone knows its routes.
        route = (getattr(span, "attributes", None) or {}).get(http_attributes.HTTP_ROUTE)
        if route and getattr(span, "name", "") == _method(access.request):
            span.update_name(f"{_method(access.request)} {route}")
        if error_type:
            span.set_attribute(error_attributes.ERROR_TYPE, error_type)
            span.set_status(Status(StatusCode.ERROR))

    def _tell(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._log.warning(
                "a request has no span: OpenTelemetry failed",
                detail=f"{type(error).__name__}: {error}"[:500],
                option="--otel",
            )


def _method(request: Request) -> str:
    method = request.method
    # The conventions' name of a span whose method is none of the known ones.
    return method if method in _METHODS else "HTTP"


def _attributes(request: Request) -> Iterable[tuple[str, str | int]]:
    variables = request.vars
    method = request.method
    if method in _METHODS:
        yield http_attributes.HTTP_REQUEST_METHOD, method
    else:
        yield http_attributes.HTTP_REQUEST_METHOD, _OTHER_METHOD
        yield http_attributes.HTTP_REQUEST_METHOD_ORIGINAL, method
    yield url_attributes.URL_PATH, request.path
    yield url_attributes.URL_SCHEME, request.scheme
    # The Host header goes before the name that Nginx has: that is one for all names of its server.
    name, port = _split(variables.get("HTTP_HOST", ""))
    yield server_attributes.SERVER_ADDRESS, name or request.server[0]
    if port or request.server[1]:
        yield server_attributes.SERVER_PORT, port or request.server[1]
    client = request.client
    if client is not None:
        yield client_attributes.CLIENT_ADDRESS, client[0]
    yield network_attributes.NETWORK_PROTOCOL_VERSION, request.http_version
    agent = variables.get("HTTP_USER_AGENT")
    if agent:
        yield user_agent_attributes.USER_AGENT_ORIGINAL, agent


def _split(host: str) -> tuple[str, int]:
    """Split the Host header (RFC 9110, section 7.2)."""
    end = host.rfind("]") + 1
    name, colon, port = host[end:].partition(":")
    is_port = colon and port.isascii() and port.isdigit() and len(port) <= 5
    return host[:end] + name, int(port) if is_port else 0
