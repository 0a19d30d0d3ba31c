"""OpenTelemetry's SDK in forked workers: no span is lost, whoever made the provider, and whichever way a worker ends."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.bridge_process import run_to_its_end, running_process
from tests.raw_client import ask

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"

PLAIN = """
from opentelemetry import trace

def app(environ, start_response):
    with trace.get_tracer("application").start_as_current_span("own"):
        start_response("200 OK", [])
        return [b"x"]
"""

WITH_PROVIDER = """
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
"""


class Collector:
    """Takes spans by OTLP over HTTP.

    Attributes:
        status: that it answers with.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        self._requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.status == 200:
                    collector._requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def environment(self, **further: str) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            # Longer than the test: what arrives has been flushed at an end.
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
            **further,
        }

    def spans(self) -> list[Span]:
        return [
            span
            for request in self._requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resources(self) -> list[dict[str, str]]:
        return [
            {it.key: it.value.string_value for it in found.resource.attributes}
            for request in self._requests
            for found in request.resource_spans
        ]


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    collector = Collector(status)
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


def write_app(directory: Path, *, own_provider: bool) -> None:
    own = f"{WITH_PROVIDER}\nfrom opentelemetry import trace\ntrace.set_tracer_provider(provider)\n"
    (directory / "spanned.py").write_text((own if own_provider else "") + PLAIN)


@pytest.mark.parametrize("own_provider", [False, True], ids=["ours", "of-the-application"])
def test_each_request_has_a_span_although_its_worker_is_recycled(
    tmp_path: Path, own_provider: bool
):
    write_app(tmp_path, own_provider=own_provider)
    count = 12
    with (
        collecting() as collector,
        running_process(
            *("serve", "spanned:app", "--bind", "127.0.0.1:0", "--otel", "--preload"),
            *("--max-requests", "4", "--max-requests-jitter", "0", "--control-socket", "off"),
            directory=tmp_path,
            environment=collector.environment(UWSGIBRIDGE_WORKERS="2"),
        ) as process,
    ):
        address = process.address
        for number in range(count):
            if number == 8:  # of two workers, one has had its four requests
                process.events.wait_many(3, event="worker started")
            assert ask(address, HTTP_TRACEPARENT=f"00-{TRACE}-{PARENT}-01").status == 200
        assert process.stop() == 0
        spans = collector.spans()

    assert Counter(it.name for it in spans) == {"GET": count, "own": count}
    assert {it.trace_id.hex() for it in spans} == {TRACE}
    servers = {it.span_id for it in spans if it.kind == Span.SPAN_KIND_SERVER}
    assert {it.parent_span_id.hex() for it in spans if it.span_id in servers} == {PARENT}
    assert {it.parent_span_id for it in spans if it.span_id not in servers} == servers
    if not own_provider:
        found = collector.resources()
        assert {it["service.name"] for it in found} == {"spanned:app"}
        # Each worker that has served is an instance of its own.
        assert len({it["service.instance.id"] for it in found}) == len(found) >= 2


def test_collector_that_fails_disturbs_no_request(tmp_path: Path):
    write_app(tmp_path, own_provider=False)
    with (
        collecting(status=400) as collector,
        running_process(
            *("serve", "spanned:app", "--bind", "127.0.0.1:0", "--otel"),
            directory=tmp_path,
            environment=collector.environment(
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1", OTEL_SERVICE_NAME="shop"
            ),
        ) as process,
    ):
        address = process.address
        assert [ask(address).status for _ in range(2)] == [200, 200]
        event = process.events.wait(event="spans can't be exported")
        collector.status = 200
        assert ask(address).status == 200
        process.events.wait(event="spans are exported again")
        assert process.stop() == 0
        lines = process.events.other_text()

    assert "400" in event["reason"]
    assert len(process.events.find(event="spans can't be exported")) == 1
    assert {it["service.name"] for it in collector.resources()} == {"shop"}
    assert lines == ""


def test_end_does_not_wait_long_for_a_collector_that_hangs(tmp_path: Path):
    write_app(tmp_path, own_provider=False)
    import socket

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running_process(
            *("serve", "spanned:app", "--bind", "127.0.0.1:0"),
            *("--otel", "--otel-flush-seconds", "0.1"),
            directory=tmp_path,
            environment={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"
            },
        ) as process,
    ):
        assert ask(process.address).status == 200
        assert process.stop() == 0
        event = "spans are lost: they could not be exported before the worker's end"
        assert process.events.find(event=event, option="--otel-flush-seconds")


@pytest.mark.parametrize(
    ("workers", "variables", "words"),
    [
        ("0", {"OTEL_TRACES_EXPORTER": "zipkin"}, "there is no exporter 'zipkin'"),
        ("1", {"PYTHONPATH": "hidden"}, "pip install 'uwsgibridge[otel]'"),
    ],
)
def test_what_is_not_installed_is_named(
    tmp_path: Path, workers: str, variables: dict[str, str], words: str
):
    (tmp_path / "plain.py").write_text("def app(environ, start_response): pass\n")
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")
    environment = {"UWSGIBRIDGE_WORKERS": workers, **variables}
    if "PYTHONPATH" in variables:
        environment["PYTHONPATH"] = os.fspath(hidden.parent)
    status, text = run_to_its_end(
        *("serve", "plain:app", "--bind", "127.0.0.1:0", "--otel"),
        directory=tmp_path,
        environment=environment,
    )
    assert status == 2
    assert words in text
    assert "Traceback" not in text
