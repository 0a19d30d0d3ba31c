"""What is written is what Prometheus's own tools and client read back, in both formats."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from uwsgibridge.figures.family import Family, Histogram, Kind, Sample
from uwsgibridge.figures.text import TextFormat, render, write_number

NASTY = 'C:\\temp "quoted"\nsecond line'

REQUESTS = Family(
    "bridge_requests",
    Kind.COUNTER,
    f"Requests. {NASTY}",
    [
        Sample((("mount", "/"), ("status", "2xx")), 12_345_678_901),
        Sample((("mount", NASTY), ("status", "5xx")), 0),
    ],
)
CPU = Family("bridge_cpu_seconds", Kind.COUNTER, "CPU time.", [Sample((), 1.25)], "seconds")
IN_FLIGHT = Family("bridge_in_flight", Kind.GAUGE, "In flight.", [Sample((), -3)])
TIMES = Family(
    "bridge_request_seconds",
    Kind.HISTOGRAM,
    "Times.",
    [Histogram((("mount", "/"),), (0.005, 1, 2.5), (3, 0, 2, 1), 7.125)],
    "seconds",
)
BUILD = Family("bridge_build", Kind.INFO, "Versions.", [Sample((("version", "1.2"),), 1)])
EMPTY = Family("bridge_refusals", Kind.COUNTER, "Refusals.", [])
ALL = [REQUESTS, CPU, IN_FLIGHT, TIMES, BUILD, EMPTY]

READERS: dict[TextFormat, Callable[[str], Iterable[Metric]]] = {
    TextFormat.OPENMETRICS: read_openmetrics,
    TextFormat.PROMETHEUS: read_prometheus,
}

on_each_format = pytest.mark.parametrize("form", TextFormat)


def read_back(form: TextFormat, families: Iterable[Family] = ALL) -> dict[str, Metric]:
    return {it.name: it for it in READERS[form](render(families, form))}


@on_each_format
def test_samples_come_back(form: TextFormat) -> None:
    found = read_back(form)
    requests = [(it.name, it.labels, it.value) for it in found["bridge_requests"].samples]
    assert requests == [
        ("bridge_requests_total", {"mount": "/", "status": "2xx"}, 12_345_678_901),
        ("bridge_requests_total", {"mount": NASTY, "status": "5xx"}, 0),
    ]
    assert found["bridge_cpu_seconds"].samples[0].value == 1.25
    assert found["bridge_in_flight"].samples[0].value == -3
    assert found["bridge_in_flight"].type == "gauge"


@on_each_format
def test_a_histogram_is_cumulative(form: TextFormat) -> None:
    histogram = read_back(form)["bridge_request_seconds"]
    assert histogram.type == "histogram"
    assert [(it.name, it.labels.get("le"), it.value) for it in histogram.samples] == [
        ("bridge_request_seconds_bucket", "0.005", 3),
        # Both formats have the same text, so that no series changes its name with the format.
        ("bridge_request_seconds_bucket", "1.0", 3),
        ("bridge_request_seconds_bucket", "2.5", 5),
        ("bridge_request_seconds_bucket", "+Inf", 6),
        ("bridge_request_seconds_sum", None, 7.125),
        ("bridge_request_seconds_count", None, 6),
    ]
    assert all(it.labels["mount"] == "/" for it in histogram.samples)


def test_openmetrics_has_units_infos_and_an_end() -> None:
    found = read_back(TextFormat.OPENMETRICS)
    assert found["bridge_cpu_seconds"].unit == "seconds"
    assert found["bridge_cpu_seconds"].type == "counter"
    assert found["bridge_build"].type == "info"
    assert found["bridge_build"].samples[0].labels == {"version": "1.2"}
    assert found["bridge_refusals"].samples == []
    assert found["bridge_requests"].documentation == REQUESTS.help
    assert render(ALL, TextFormat.OPENMETRICS).endswith("\n# EOF\n")


def test_the_format_of_prometheus_knows_no_infos() -> None:
    text = render([BUILD], TextFormat.PROMETHEUS)
    assert text.splitlines()[1:] == [
        "# TYPE bridge_build_info gauge",
        'bridge_build_info{version="1.2"} 1',
    ]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
def test_promtool_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=render(ALL, TextFormat.PROMETHEUS),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (2**53 + 1, "9007199254740993"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (-0.5, "-0.5"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert write_number(value) == text
