"""docs/metrics.md has each figure, and the dashboard and the alerts name no other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uwsgibridge.figures.family import Kind
from uwsgibridge.figures.reference import all_families, table_lines
from uwsgibridge.figures.text import series_name

DOCS = Path(__file__).parents[2] / "docs"
METRIC = re.compile(r"\buwsgibridge_\w+")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def series() -> dict[str, set[str]]:
    """Give the labels of each series that there is, by its name."""
    found = {}
    for family in all_families():
        labels = {name for name, _ in family.samples[0].labels}
        if family.kind is Kind.HISTOGRAM:
            found[f"{family.name}_bucket"] = {*labels, "le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = labels
        else:
            found[series_name(family)] = labels
    return found


def expressions() -> Iterator[str]:
    """Give each expression of the dashboard, with values in the place of its variables."""
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    targets: list[dict[str, Any]] = [
        it for panel in dashboard["panels"] for it in panel.get("targets", [])
    ]
    assert len(targets) > 20
    for target in targets:
        yield target["expr"].replace("$__rate_interval", "5m")


def test_the_table_is_that_of_the_source() -> None:
    lines = (DOCS / "metrics.md").read_text().splitlines()
    start = lines.index(table_lines()[0])
    assert lines[start:] == table_lines(), "write it anew: python -m uwsgibridge.figures.reference"


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "alerts.yml"])
def test_each_figure_that_is_named_exists(name: str) -> None:
    named = set(METRIC.findall((DOCS / name).read_text()))
    assert len(named) > 5
    assert named <= set(series())


def test_panels_group_by_labels_that_their_figures_have() -> None:
    for expression in expressions():
        known = {"job", "instance"}.union(*(series()[it] for it in METRIC.findall(expression)))
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(grouped.split(", ")) <= known, expression
        for selected in re.findall(r"(\w+)=~?\"", expression):
            assert selected in known, expression


def test_panels_have_places_and_numbers_of_their_own() -> None:
    panels = json.loads((DOCS / "grafana-dashboard.json").read_text())["panels"]
    assert len({it["id"] for it in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    promtool("check", "rules", DOCS / "alerts.yml")
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))
    # And each expression of the dashboard is one.
    rules = [
        {"record": f"panel:number:{number}", "expr": it} for number, it in enumerate(expressions())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "a", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


def test_each_alert_is_tested() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (DOCS / "alerts.yml").read_text()))
    tested = Path(__file__).with_name("alerts_test.yml").read_text()
    assert alerts
    for alert in alerts:
        assert len(re.findall(rf"alertname: {alert}\b", tested)) == 2, alert
