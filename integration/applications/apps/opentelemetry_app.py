"""OpenTelemetry around an ASGI and a WSGI application, with what it keeps sent only at the end.

The batch processor would send after a minute: what arrives sooner was flushed when the worker ended.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import flask
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as AsgiMiddleware
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WsgiMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

_SINK = f"http://127.0.0.1:{os.environ['SINK_PORT']}"
_MINUTE_MILLISECONDS = 60_000

_traces = TracerProvider()
_traces.add_span_processor(
    BatchSpanProcessor(
        OTLPSpanExporter(f"{_SINK}/v1/traces"), schedule_delay_millis=_MINUTE_MILLISECONDS
    )
)
trace.set_tracer_provider(_traces)

metrics.set_meter_provider(
    MeterProvider(
        [
            PeriodicExportingMetricReader(
                OTLPMetricExporter(f"{_SINK}/v1/metrics"),
                export_interval_millis=_MINUTE_MILLISECONDS,
            )
        ]
    )
)
_greetings = metrics.get_meter("test").create_counter("greetings")
_tracer = trace.get_tracer("test")


def _greet() -> str:
    with _tracer.start_as_current_span("greet") as span:
        _greetings.add(1)
        return f"{span.get_span_context().trace_id:032x}"


async def hello(_request: Request) -> Response:
    await anyio.lowlevel.checkpoint()
    return PlainTextResponse(_greet())


async def events(_request: Request) -> Response:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "data: event\n\n"
            await anyio.sleep(0.02)

    return StreamingResponse(endless(), media_type="text/event-stream")


asgi = AsgiMiddleware(Starlette(routes=[Route("/hello", hello), Route("/events", events)]))

_flask = flask.Flask(__name__)


@_flask.get("/hello")
def hello_of_flask() -> str:
    return _greet()


@_flask.get("/download")
def download() -> flask.Response:
    def pieces() -> Iterator[bytes]:
        for _ in range(2500):
            yield bytes(16 * 1024)

    return flask.Response(pieces(), mimetype="application/octet-stream")


wsgi = WsgiMiddleware(_flask.wsgi_app)
