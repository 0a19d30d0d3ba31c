"""Each scraper gets the format that it likes best."""

from __future__ import annotations

import pytest

from uwsgibridge.figures.negotiation import choose_format
from uwsgibridge.figures.text import TextFormat

OPENMETRICS, PROMETHEUS = TextFormat.OPENMETRICS, TextFormat.PROMETHEUS


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", PROMETHEUS),
        ("*/*", PROMETHEUS),  # curl
        # Prometheus 2.42 and 3.5, as they send it.
        ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", OPENMETRICS),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3", PROMETHEUS),
        ("application/openmetrics-text; version=0.0.1", PROMETHEUS),  # an older draft
        ("application/openmetrics-text", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        ("APPLICATION/OPENMETRICS-TEXT", OPENMETRICS),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.4", PROMETHEUS),
        # The range that describes a format most closely decides, not the one that likes it most.
        ("*/*;q=1,text/plain;q=0.1", OPENMETRICS),
        ("text/plain;q=0,*/*", OPENMETRICS),
        ("text/plain;q=0.9,text/plain;version=0.0.4;q=0.1,application/*;q=0.5", OPENMETRICS),
        # A browser.
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", PROMETHEUS),
        ("text/html", PROMETHEUS),
        # What is no range counts for nothing.
        ("application/openmetrics-text;q=much,text/plain;q=0.1", PROMETHEUS),
        ("application/openmetrics-text;q=nan,text/plain;q=0.1", PROMETHEUS),
        (",;,text,/,", PROMETHEUS),
    ],
)  # fmt: skip
def test_the_best_format_is_chosen(accept: str, form: TextFormat) -> None:
    assert choose_format(accept) is form
