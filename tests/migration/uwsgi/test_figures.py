"""What statistics and metrics of uWSGI become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.migration.uwsgi.planning import findings, plan_of, verdicts
from uwsgibridge.migration.plan import Verdict

MAPPED, WARNED, PASSED_OVER = Verdict.MAPPED, Verdict.WARNED, Verdict.PASSED_OVER


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (["stats = 127.0.0.1:1717"], {"uwsgi_stats": "127.0.0.1:1717"}),
        (["stats-server = :1717"], {"uwsgi_stats": ":1717"}),
        (["stats = /run/stats.sock", "stats-http = true"], {"uwsgi_stats": "unix:/run/stats.sock", "uwsgi_stats_http": True}),
        (["stats-push = statsd:127.0.0.1:8125"], {"statsd_host": "127.0.0.1:8125"}),
        (
            ["stats-push = statsd:[::1]:8125,shop", "stats-pusher-default-freq = 7"],
            {"statsd_host": "[::1]:8125", "statsd_prefix": "shop", "statsd_seconds": 7.0},
        ),
    ],
)  # fmt: skip
def test_it_becomes_options(tmp_path: Path, lines: list[str], values: dict[str, Any]) -> None:
    made = plan_of(tmp_path, *lines).values
    assert {name: made.get(name) for name in values} == values


def test_a_relative_path_is_below_the_directory(tmp_path: Path) -> None:
    assert plan_of(tmp_path, "stats = run/s").values["uwsgi_stats"] == f"unix:{tmp_path}/run/s"


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("stats = 1717", WARNED),  # uWSGI makes a file of that name
        ("stats = @abstract", WARNED),
        ("stats-http = true", PASSED_OVER),
        ("stats-push = carbon:127.0.0.1:2003", WARNED),
        ("stats-push = statsd:nowhere", WARNED),
        ("stats-push = statsd:127.0.0.1:8125,a|b", WARNED),
        ("stats-pusher-default-freq = 0", PASSED_OVER),
        ("stats-minified = true", PASSED_OVER),
        ("carbon = 127.0.0.1:2003", WARNED),
    ],
)
def test_what_has_no_counterpart_does_not_end_the_service(
    tmp_path: Path, line: str, verdict: Verdict
) -> None:
    name = line.partition(" ")[0]
    plan = plan_of(tmp_path, line)
    assert verdicts(plan, name) == [verdict]
    assert not {it for it in plan.values if it.startswith(("statsd", "uwsgi_stats"))}


def test_the_names_of_figures_are_other_ones(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "stats-push = statsd:127.0.0.1:8125")
    texts = [it.text for it in findings(plan, "stats-push") if it.verdict is WARNED]
    assert texts == [
        "Figures have names of their own, such as uwsgibridge.requests: docs/metrics.md."
    ]


def test_what_is_off_is_off(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "stats = /run/s", "stats-http = false")
    assert verdicts(plan, "stats-http") == [PASSED_OVER]
    assert verdicts(plan, "stats") == [MAPPED]
