"""Each application with ``--preload --workers 2``: loaded once, served by both, and loaded anew by a reload."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration.applications import (
    test_blacksheep_and_falcon as frameworks,
)
from integration.applications import (
    test_datasette as datasette,
)
from integration.applications import (
    test_django as django,
)
from integration.applications import (
    test_graphql as graphql,
)
from integration.applications import (
    test_mcp as mcp,
)
from integration.applications import (
    test_notebooks as notebooks,
)
from integration.applications import (
    test_socketio as socketio,
)
from integration.applications import (
    test_telemetry as telemetry,
)
from integration.applications import (
    test_wsgi_servers as servers,
)
from integration.applications.checks import Checks, asking
from integration.applications.conftest import serving
from integration.applications.sink import Sink
from integration.applications.site import PATIENCE_SECONDS, Site
from tests.processes import wait_gone
from uwsgibridge.control.client import ask

WARNING = "threads that the application has started as it was imported do not run in the workers"


@dataclass(frozen=True, slots=True)
class Preloaded:
    """An application, and what is peculiar to it.

    Attributes:
        checks: what its users do.
        sessions: whether a client's requests have to reach the same worker, which one of two does not do.
        threads: that it starts while it is imported.
    """

    checks: type[Checks]
    sessions: bool = False
    threads: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.checks.__name__.removeprefix("Test")


# OpenTelemetry itself starts them anew in each fork.
OF_OPENTELEMETRY = ["OtelBatchSpanRecordProcessor", "OtelPeriodicExportingMetricReader"]

CASES = [
    Preloaded(frameworks.TestEventsOfBlackSheep),
    Preloaded(frameworks.TestEventsOfFalcon),
    Preloaded(frameworks.TestFalconOverWsgi),
    Preloaded(datasette.TestDatasette),
    # Its rooms are in memory.
    Preloaded(django.TestWebSocketOfChannels, sessions=True),
    Preloaded(graphql.TestSubscriptionsOverWebSocket),
    Preloaded(mcp.TestSdkOverStreamableHttp, sessions=True),
    Preloaded(mcp.TestSdkOverSse, sessions=True),
    Preloaded(mcp.TestFastMcpOverStreamableHttp),
    Preloaded(mcp.TestFastMcpOverSse, sessions=True),
    Preloaded(notebooks.TestGradio, sessions=True),
    Preloaded(notebooks.TestStreamlit),
    Preloaded(notebooks.TestMarimo),
    Preloaded(socketio.TestWebSocket, sessions=True),
    Preloaded(telemetry.TestOpenTelemetryOverAsgi, threads=OF_OPENTELEMETRY),
    Preloaded(telemetry.TestOpenTelemetryOverWsgi, threads=OF_OPENTELEMETRY),
    Preloaded(telemetry.TestSentryOverAsgi),
    Preloaded(telemetry.TestSentryOverWsgi),
    Preloaded(telemetry.TestPrometheusOverAsgi),
    Preloaded(telemetry.TestPrometheusOverWsgi),
    Preloaded(servers.TestRadicale),
    Preloaded(servers.TestWsgiDav),
    Preloaded(servers.TestKlaus),
]

# Tests of those classes.
EVERY_SPAN = "test_every_span_arrives_although_its_worker_ends"
EVERY_EVENT = "test_every_event_arrives_although_its_worker_ends"
FIGURES = "test_figures_outlive_their_workers_and_what_is_open_does_not"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_works_preloaded_and_after_a_reload(case: Preloaded, sink: Sink, tmp_path: Path) -> None:
    checks = case.checks()
    with serving(
        case.checks, case.checks.kinds[0], tmp_path, sink, "--preload", "--workers", "2"
    ) as site:
        each_worker_answers(checks, site)
        old = [it["pid"] for it in site.workers()]
        ask(site.control, "reload", timeout_seconds=PATIENCE_SECONDS)
        assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in old)
        each_worker_answers(checks, site)
        if case.sessions:
            ask(site.control, "scale", workers=1)
            site.wait(lambda: len(site.workers()) == 1, seconds=PATIENCE_SECONDS, why="not scaled")
        checks.use(site)
        assert site.stack.stop() == 0
    told = [it["threads"] for it in site.stack.log.events() if WARNING in str(it["event"])]
    # The events of both generations.
    assert told == ([case.threads] * 2 if case.threads else [])
    checks.look_at(re.sub(rf"(?m)^.*{WARNING}.*\n", "", site.stack.log.text()))


@pytest.mark.parametrize(
    ("checks", "test"),
    [
        (telemetry.TestOpenTelemetryOverAsgi, EVERY_SPAN),
        (telemetry.TestOpenTelemetryOverWsgi, EVERY_SPAN),
        (telemetry.TestSentryOverAsgi, EVERY_EVENT),
        (telemetry.TestSentryOverWsgi, EVERY_EVENT),
        (telemetry.TestPrometheusOverAsgi, FIGURES),
        (telemetry.TestPrometheusOverWsgi, FIGURES),
    ],
)
def test_what_preloaded_workers_tell_arrives(
    checks: type[Checks], test: str, sink: Sink, tmp_path: Path
) -> None:
    with serving(checks, checks.kinds[0], tmp_path, sink, "--preload", "--workers", "2") as site:
        getattr(checks(), test)(site)


def each_worker_answers(checks: Checks, site: Site) -> None:
    """Ask until both have answered, and have been asked for nothing in vain."""
    with asking(checks, site) as outcomes:
        site.wait(
            lambda: [it["requests"] > 0 for it in site.workers()] == [True, True],
            seconds=PATIENCE_SECONDS,
            why="only one of the workers is asked",
        )
    assert [it for it in outcomes if it is not None] == []
