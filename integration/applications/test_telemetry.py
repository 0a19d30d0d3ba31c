"""OpenTelemetry, Sentry and prometheus_client: what they are given arrives, also when a worker ends."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import requests

from integration.applications.checks import (
    ABORT_SECONDS,
    Checks,
    downloading,
    in_background,
    new_browser,
    read_until_the_end,
    streaming,
)
from integration.applications.sink import Sink
from integration.applications.site import ON_EVERY_LOOP, ON_THREADS, PATIENCE_SECONDS, Kind, Site
from tests.processes import wait_gone
from uwsgibridge.control.client import ask

REQUESTS = 20
# The id of the client's own span.
PARENT = "b7ad6b7169203331"

DOWNLOAD_BYTES = 2500 * 16 * 1024


@contextlib.contextmanager
def endless_events(site: Site) -> Iterator[Callable[[], None]]:
    with streaming("GET", f"{site.url}/events") as lines:
        assert next(lines) == b"data: event"
        yield read_until_the_end(lines)


class OverAsgi(Checks):
    kinds: ClassVar[tuple[Kind, ...]] = ON_EVERY_LOOP

    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return endless_events(site)


class OverWsgi(Checks):
    kinds: ClassVar[tuple[Kind, ...]] = ON_THREADS

    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return downloading(f"{site.url}/download", DOWNLOAD_BYTES)


# --- OpenTelemetry --------------------------------------------------------------------------------


class OfOpenTelemetry(Checks):
    span: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = (
        "opentelemetry.sdk",
        "opentelemetry.exporter",
        "opentelemetry.instrumentation.asgi",
        "opentelemetry.instrumentation.flask",
        "flask",
    )

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)

    def ask(self, site: Site, browser: requests.Session) -> None:
        trace = secrets.token_hex(16)
        assert greet(site, browser, trace) == trace

    def test_every_span_arrives_although_its_worker_ends(self, site: Site) -> None:
        trace = secrets.token_hex(16)
        with new_browser() as browser:
            for _ in range(REQUESTS):
                greet(site, browser, trace)
            old = [it["pid"] for it in site.workers()]
            ask(site.control, "reload", timeout_seconds=PATIENCE_SECONDS)
            assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in old)
            for _ in range(REQUESTS):
                greet(site, browser, trace)
        assert site.stack.stop() == 0
        found = [it for it in spans(site.sink) if it.trace_id.hex() == trace]
        assert Counter(it.name for it in found) == {
            "greet": 2 * REQUESTS,
            self.span: 2 * REQUESTS,
            **({f"{self.span} http send": 4 * REQUESTS} if site.kind.loop != "threads" else {}),
        }
        assert {it.parent_span_id.hex() for it in found if it.name == self.span} == {PARENT}
        assert greetings(site.sink) >= 2 * REQUESTS


def greet(site: Site, browser: requests.Session, trace: str) -> str:
    """Ask as a part of a trace; the one that the application sees."""
    headers = {"traceparent": f"00-{trace}-{PARENT}-01"}
    return browser.get(f"{site.url}/hello", headers=headers, timeout=20).text


def spans(sink: Sink) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return [
        span
        for delivery in sink.deliveries()
        if delivery.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(delivery.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def greetings(sink: Sink) -> int:
    """Count what all workers have counted; each sends its sum once, when it ends."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    return sum(
        point.as_int
        for delivery in sink.deliveries()
        if delivery.path == "/v1/metrics"
        for resource in metrics_service_pb2.ExportMetricsServiceRequest.FromString(
            delivery.body
        ).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "greetings"
        for point in metric.sum.data_points
    )


class TestOpenTelemetryOverAsgi(OverAsgi, OfOpenTelemetry):
    app: ClassVar[str] = "opentelemetry_app:asgi"
    span: ClassVar[str] = "GET /hello"


class TestOpenTelemetryOverWsgi(OverWsgi, OfOpenTelemetry):
    app: ClassVar[str] = "opentelemetry_app:wsgi"
    span: ClassVar[str] = "GET /hello"


# --- Sentry ---------------------------------------------------------------------------------------


class OfSentry(Checks):
    needs: ClassVar[tuple[str, ...]] = ("sentry_sdk", "flask", "starlette")
    # The bridge's own word of a failure that is meant, and Flask's.
    excused: ClassVar[tuple[str, ...]] = (
        r'^\{.*"application failed".*\n',
        r'^\{.*"application wrote to wsgi.errors".*\n',
    )

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
            name = self._fail(site, browser)
        site.sink.wait(lambda _: len(failures(site.sink, name)), 1, seconds=20)
        (event,) = failures(site.sink, name)
        assert event["request"]["url"] == f"{site.url}/fail"
        (exception,) = event["exception"]["values"]
        assert exception["type"] == "ValueError"
        assert exception["stacktrace"]["frames"][-1]["module"].endswith("sentry_app")

    def ask(self, site: Site, browser: requests.Session) -> None:
        assert browser.get(f"{site.url}/hello", timeout=20).text == "hello"

    def test_every_event_arrives_although_its_worker_ends(self, site: Site) -> None:
        with new_browser() as browser:
            names = [self._fail(site, browser) for _ in range(REQUESTS)]
        assert site.stack.stop() == 0
        assert [len(failures(site.sink, name)) for name in names] == [1] * REQUESTS

    def _fail(self, site: Site, browser: requests.Session) -> str:
        name = secrets.token_hex(8)
        answer = browser.get(f"{site.url}/fail?id={name}", timeout=20)
        assert answer.status_code == 500
        return name


def failures(sink: Sink, name: str) -> list[dict[str, Any]]:
    """List the events about one failure."""
    found = []
    for delivery in sink.deliveries():
        if delivery.path == "/api/1/envelope/" and name.encode() in delivery.body:
            # The head of the envelope, and for each item its own and itself.
            lines = [json.loads(line) for line in delivery.body.splitlines() if line]
            items = zip(lines[1::2], lines[2::2], strict=True)
            found += [item for head, item in items if head["type"] == "event"]
    return found


class TestSentryOverAsgi(OverAsgi, OfSentry):
    app: ClassVar[str] = "sentry_app:asgi"


class TestSentryOverWsgi(OverWsgi, OfSentry):
    app: ClassVar[str] = "sentry_app:wsgi"


# --- Prometheus -----------------------------------------------------------------------------------


class OfPrometheus(Checks):
    needs: ClassVar[tuple[str, ...]] = ("prometheus_client", "flask", "starlette")
    environment: ClassVar[Mapping[str, str]] = {"PROMETHEUS_MULTIPROC_DIR": "{directory}/figures"}
    serve_args: ClassVar[tuple[str, ...]] = (
        *("--workers", "2"),
        *("--on-worker-exit", "integration.applications.apps.prometheus_app:forget"),
    )

    def prepare(self, directory: Path) -> None:
        (directory / "figures").mkdir()

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            before = figure(site, browser, "greetings_total")
            for _ in range(REQUESTS):
                self.ask(site, browser)
            # Whichever worker had them, and whichever is asked.
            assert {figure(site, browser, "greetings_total") for _ in range(8)} == {
                before + REQUESTS
            }

    def ask(self, site: Site, browser: requests.Session) -> None:
        answer = browser.get(f"{site.url}/hello", timeout=20, headers={"Connection": "close"})
        assert answer.text == "hello"

    def test_figures_outlive_their_workers_and_what_is_open_does_not(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
            counted = figure(site, browser, "greetings_total")
            with self.open(site) as finish:
                site.wait(
                    lambda: figure(site, browser, "streams") == 1,
                    seconds=ABORT_SECONDS,
                    why="the stream is not counted",
                )
                old = [it["pid"] for it in site.workers()]
                with in_background(finish):
                    ask(site.control, "reload", timeout_seconds=PATIENCE_SECONDS)
                assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in old)
            assert figure(site, browser, "greetings_total") == counted
            assert figure(site, browser, "streams") == 0
        names = [path.name for path in (site.directory / "figures").iterdir()]
        dead = [f"gauge_livesum_{pid}.db" for pid in old]
        assert [it for it in names if it in dead] == []


def figure(site: Site, browser: requests.Session, name: str) -> int:
    """Read one figure as Prometheus would."""
    text = browser.get(f"{site.url}/metrics/", timeout=20, headers={"Connection": "close"}).text
    found = re.findall(rf"^{name} ([0-9.]+)$", text, re.MULTILINE)
    return int(float(found[0])) if found else 0


class TestPrometheusOverAsgi(OverAsgi, OfPrometheus):
    app: ClassVar[str] = "prometheus_app:asgi"


class TestPrometheusOverWsgi(OverWsgi, OfPrometheus):
    app: ClassVar[str] = "prometheus_app:wsgi"
