"""The trace that a request belongs to, for ``--trace-context``: taken from its ``traceparent``, or begun here."""

from __future__ import annotations

import os
from typing import Final

from uwsgibridge.protocol.request import Request
from uwsgibridge.protocol.trace_context import TraceParent, format_traceparent, parse_traceparent

PARENT_VAR: Final = "HTTP_TRACEPARENT"
_STATE_VAR: Final = "HTTP_TRACESTATE"


class Trace:
    """What is kept with a request of its trace.

    Attributes:
        trace_id: 32 hexadecimal digits; empty where OpenTelemetry is switched off.
        span_id: 16 of them: of the span that the events of the log belong to.
    """

    __slots__ = ("span_id", "trace_id")

    def __init__(self, trace_id: str, span_id: str) -> None:
        self.trace_id = trace_id
        self.span_id = span_id

    def fail(self, error: BaseException, traceback: str) -> None:
        """Learn what the application has raised; where no span is recorded, that is for the log alone."""


def take_trace(request: Request) -> None:
    """Take the trace of a request from its ``traceparent``; where there is none that counts, begin one.

    The application's own calls go on with it: it finds the begun one as the header of its request.
    """
    variables = request.vars
    given = variables.get(PARENT_VAR)
    parent = None if given is None else parse_traceparent(given)
    if parent is None:
        parent = TraceParent(os.urandom(16).hex(), os.urandom(8).hex())
        variables[PARENT_VAR] = format_traceparent(parent)
        # A tracestate without its traceparent counts for nothing (section 3.3.1 of the specification).
        variables.pop(_STATE_VAR, None)
    keep_trace(request, Trace(*parent))


class Traces:
    """Whether any request of this process has a trace: where none has, each event of the log is spared the question."""

    are_kept = False


def keep_trace(request: Request, trace: Trace) -> None:
    """Keep the trace of a request with it."""
    Traces.are_kept = True
    request.trace = trace


def trace_of(request: Request) -> Trace | None:
    """Give the trace that a request belongs to, as far as it is known."""
    if not Traces.are_kept:
        return None
    found: Trace | None = getattr(request, "trace", None)
    return found
