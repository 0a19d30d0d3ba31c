"""Spans of OpenTelemetry: one for each request, with the right parent, in the place where the application makes its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import uwsgibridge
from tests.asgi_messages import Receive, Send
from tests.bridge import on_each_loop, running
from tests.log_events import PATIENCE_SECONDS, LogEvents
from tests.raw_client import connect, packet
from tests.websocket_client import opened
from uwsgibridge.protocol.packet import Packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.logs import make_logger
from uwsgibridge.telemetry.otel import Otel
from uwsgibridge.telemetry.otel_spans import Spans as OtelSpans
from uwsgibridge.telemetry.request_ids import fields_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"

StartResponse = Callable[..., Any]


class Spans(InMemorySpanExporter):
    """Keeps the spans that have ended, and tells of each."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def export(self, spans: Any) -> Any:
        with self._changed:
            result = super().export(spans)
            self._changed.notify_all()
        return result

    def wait_many(self, count: int, kind: SpanKind = SpanKind.SERVER) -> list[ReadableSpan]:
        def found() -> list[ReadableSpan]:
            return [it for it in self.get_finished_spans() if it.kind is kind]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, PATIENCE_SECONDS)
            return found()

    def wait(self, kind: SpanKind = SpanKind.SERVER) -> ReadableSpan:
        [span] = self.wait_many(1, kind)
        return span


_kept = Spans()


@pytest.fixture(scope="module", autouse=True)
def provider() -> None:
    """What an application does as it is imported; a process has one provider for ever."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        own = TracerProvider(shutdown_on_exit=False)
        own.add_span_processor(SimpleSpanProcessor(_kept))
        trace.set_tracer_provider(own)


@pytest.fixture
def spans() -> Spans:
    _kept.clear()
    return _kept


def own_span(name: str = "own") -> None:
    with trace.get_tracer("application").start_as_current_span(name):
        pass


def wsgi(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    own_span()
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise LookupError("no such thing")
    if path == "/routed":
        trace.get_current_span().set_attribute("http.route", "/{name}")
    status = "503 Service Unavailable" if path == "/503" else "404 Not Found"
    start_response(status if path in {"/503", "/404"} else "200 OK", [])
    return [environ["HTTP_TRACEPARENT"].encode()]


async def asgi(scope: Any, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        own_span()
        await receive()
        return

    async def child() -> None:
        own_span()

    if is_trio():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
    else:
        await asyncio.create_task(child())
    if scope["path"] == "/raises":
        raise LookupError("no such thing")
    headers = dict(scope["headers"])
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": headers[b"traceparent"]})


def is_trio() -> bool:
    import sniffio

    return sniffio.current_async_library() == "trio"


each_way = pytest.mark.parametrize(
    ("app", "loop"), [(wsgi, "trio"), (asgi, "trio"), (asgi, "asyncio"), (asgi, "uvloop")]
)


def otel(app: Any, loop: str = "trio", **settings: Any) -> Any:
    return running(app, loop=loop, otel=True, lifespan="off", **settings)


def parent_of(span: ReadableSpan) -> str:
    return "" if span.parent is None else trace.format_span_id(span.parent.span_id)


def id_of(span: ReadableSpan) -> str:
    return trace.format_span_id(span.context.span_id)


@each_way
def test_span_is_between_that_of_the_client_and_that_of_the_application(
    app: Any, loop: str, spans: Spans
):
    with otel(app, loop) as bridge:
        answer = bridge.ask("/a", HTTP_TRACEPARENT=TRACEPARENT)
        span, own = spans.wait(), spans.wait(SpanKind.INTERNAL)

    assert (trace.format_trace_id(span.context.trace_id), parent_of(span)) == (TRACE, PARENT)
    assert parent_of(own) == id_of(span)
    # For who takes the trace from the headers.
    assert answer.body.decode() == f"00-{TRACE}-{id_of(span)}-01"
    assert span.name == "GET"
    assert span.status.status_code is StatusCode.UNSET


def test_attributes_are_those_of_the_semantic_conventions(spans: Spans):
    variables = {
        "HTTP_HOST": "example.org:8080",
        "HTTP_USER_AGENT": "agent",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "1",
        "HTTPS": "on",
        "SERVER_PROTOCOL": "HTTP/2.0",
    }
    with otel(wsgi) as bridge:
        bridge.ask("/a", QUERY_STRING="token=1", **variables)
        bridge.ask("/a", method="BREW", **variables)
        first, second = spans.wait_many(2)

    assert dict(first.attributes or {}) == {
        "http.request.method": "GET",
        "url.path": "/a",
        "url.scheme": "https",
        "server.address": "example.org",
        "server.port": 8080,
        "client.address": "192.0.2.7",
        "network.protocol.version": "2",
        "user_agent.original": "agent",
        "http.response.status_code": 200,
    }
    assert second.name == "HTTP"
    assert (second.attributes or {})["http.request.method"] == "_OTHER"
    assert (second.attributes or {})["http.request.method_original"] == "BREW"


@each_way
def test_failure_of_the_application_is_one_of_the_span(app: Any, loop: str, spans: Spans):
    with otel(app, loop) as bridge:
        assert bridge.ask("/raises").status == 500
        span = spans.wait()
        event = bridge.events.wait(event="application failed")

    attributes = dict(span.attributes or {})
    assert attributes["error.type"] == "LookupError"
    assert attributes["http.response.status_code"] == 500
    assert span.status.status_code is StatusCode.ERROR
    [told] = span.events
    assert (told.attributes or {})["exception.message"] == "no such thing"
    assert (told.attributes or {})["exception.stacktrace"] == event["exception"]
    assert event["trace_id"] == trace.format_trace_id(span.context.trace_id)
    assert event["span_id"] == id_of(span)


@pytest.mark.parametrize(
    ("path", "status", "error_type", "name"),
    [
        ("/503", 503, "503", "GET"),
        ("/404", 404, None, "GET"),
        ("/routed", 200, None, "GET /{name}"),
    ],
)
def test_status_and_route(path: str, status: int, error_type: str | None, name: str, spans: Spans):
    with otel(wsgi) as bridge:
        bridge.ask(path)
        span = spans.wait()
    attributes = dict(span.attributes or {})
    assert attributes["http.response.status_code"] == status
    assert attributes.get("error.type") == error_type
    assert (span.status.status_code is StatusCode.ERROR) == (status >= 500)
    assert span.name == name


def test_refused_request_has_a_span_below_its_parent(spans: Spans):
    with otel(wsgi, max_body_bytes=1) as bridge:
        assert bridge.ask("/", body=b"ab", HTTP_TRACEPARENT=TRACEPARENT).status == 413
        span = spans.wait()
    assert parent_of(span) == PARENT
    assert (span.attributes or {})["http.response.status_code"] == 413


@on_each_loop
def test_websocket_is_one_span_up_to_its_end(loop: str, spans: Spans):
    with otel(asgi, loop) as bridge:
        with opened(bridge, "/chat", HTTP_TRACEPARENT=TRACEPARENT):
            own = spans.wait(SpanKind.INTERNAL)
            assert not [it for it in spans.get_finished_spans() if it.kind is SpanKind.SERVER]
        span = spans.wait()
    assert parent_of(own) == id_of(span)
    assert (span.attributes or {})["http.response.status_code"] == 101


def test_request_over_its_time_ends_its_span(spans: Spans):
    release = threading.Event()

    def hang(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        release.wait(PATIENCE_SECONDS)
        start_response("200 OK", [])
        return []

    with otel(hang, request_timeout_seconds=0.05) as bridge:
        assert bridge.ask("/").status == 504
        span = spans.wait()
        release.set()
    assert (span.attributes or {})["http.response.status_code"] == 504
    assert span.status.status_code is StatusCode.ERROR
    assert len(spans.wait_many(1)) == 1


def test_client_that_leaves_ends_its_span(spans: Spans):
    begun = threading.Event()
    left = threading.Event()

    def wait(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        begun.set()
        left.wait(PATIENCE_SECONDS)
        start_response("200 OK", [])
        return [b"x"]

    with otel(wait) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(packet("/"))
            assert begun.wait(PATIENCE_SECONDS)
        left.set()
        span = spans.wait()
    assert "http.response.status_code" not in (span.attributes or {})


def test_instrumented_application_is_below(spans: Spans):
    with otel(OpenTelemetryMiddleware(wsgi)) as bridge:
        assert bridge.ask("/", HTTP_TRACEPARENT=TRACEPARENT).status == 200
        span = spans.wait()
    inner = {it.name: it for it in spans.get_finished_spans() if it.kind is SpanKind.INTERNAL}
    theirs = next(it for name, it in inner.items() if name != "own")
    assert parent_of(theirs) == id_of(span)
    assert parent_of(inner["own"]) == id_of(theirs)


def test_failing_extension_harms_no_request(monkeypatch: pytest.MonkeyPatch):
    from opentelemetry import propagate

    def fail(*_arguments: Any, **_named: Any) -> None:
        raise ArithmeticError("broken")

    def plain(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [str(len(str(uwsgibridge.request_id()))).encode()]

    monkeypatch.setattr(propagate, "extract", fail)
    with otel(plain) as bridge:
        assert [bridge.ask("/").body for _ in range(2)] == [b"32", b"32"]
        bridge.events.wait(detail="ArithmeticError: broken")
    told = "a request has no span: OpenTelemetry failed"
    assert len(bridge.events.find(event=told)) == 1


@each_way
@pytest.mark.parametrize(
    "given",
    [
        "",
        TRACEPARENT.upper(),
        TRACEPARENT.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{TRACEPARENT}-more",
        TRACEPARENT[:-1],
    ],
)
def test_without_a_sdk_a_trace_is_begun_where_none_counts(app: Any, loop: str, given: str):
    variables = {"HTTP_TRACEPARENT": given, "HTTP_TRACESTATE": "a=b"} if given else {}
    with running(app, loop=loop, trace_context=True, lifespan="off") as bridge:
        begun = bridge.ask("/", **variables).body.decode()
        bridge.ask("/raises", HTTP_TRACEPARENT=TRACEPARENT)
        event = bridge.events.wait(event="application failed")
    version, trace_id, span_id, flags = begun.split("-")
    assert (version, flags, len(trace_id), len(span_id)) == ("00", "00", 32, 16)
    assert trace_id not in {TRACE, "0" * 32}
    assert (event["trace_id"], event["span_id"]) == (TRACE, PARENT)


@pytest.mark.parametrize("given", [TRACEPARENT, f"01-{TRACE}-{PARENT}-01-more"])
def test_valid_traceparent_stays_as_it_is(given: str):
    with running(wsgi, trace_context=True) as bridge:
        assert bridge.ask("/", HTTP_TRACEPARENT=given).body.decode() == given


def test_switched_off_sdk_leaves_no_trace_in_the_log():
    request = Request(Packet(0, {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, 0))
    begun = contextvars.Context()
    begun.run(OtelSpans(trace.NoOpTracer(), make_logger("json", stream=LogEvents())).begin, request)
    assert fields_of(request).keys() == {"request_id"}


def test_provider_whose_thread_is_gone_is_told_of(monkeypatch: pytest.MonkeyPatch):
    forked = TracerProvider(shutdown_on_exit=False)
    forked.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    forked.shutdown()  # as a fork leaves it where the SDK does nothing about that
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: forked)
    events = LogEvents()
    Otel("app", make_logger("json", stream=events))
    told = "OpenTelemetry's thread that exports the application's spans does not run in this worker"
    assert events.find(event=told)
