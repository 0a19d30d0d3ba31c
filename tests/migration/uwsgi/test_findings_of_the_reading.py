"""What the reading finds stands in the plan, beside what the table of options says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from uwsgibridge.migration.plan import Finding, Verdict
from uwsgibridge.migration.report import describe_refusals, describe_warnings
from uwsgibridge.migration.uwsgi.reading import read_configuration
from uwsgibridge.migration.uwsgi.table import make_plan

YAML = 'uwsgi:\n  socket: "127.0.0.1:3031"\n  module: a\n  processes: 2\n'
INI = "[uwsgi]\nmodule = a\nsocket = 127.0.0.1:3031\nif-env = NO\nthreads = 2\nendif\nprocname = $(NO)\nprocesses = 2\n"


def findings(directory: Path, text: str, *, ignored: Sequence[str] = ()) -> list[Finding]:
    name = "a.yaml" if text.startswith("uwsgi:") else "a.ini"
    (directory / name).write_text(text)
    reading = read_configuration([name], {}, str(directory))
    plan = make_plan(
        reading.settings,
        start=str(directory),
        is_root=False,
        ignored=ignored,
        findings=reading.findings,
    )
    assert describe_refusals(plan) or describe_warnings(plan)
    return plan.findings


def test_they_stand_in_the_order_of_the_lines(tmp_path: Path) -> None:
    written = [it for it in findings(tmp_path, INI) if it.setting.place.line]
    found = [(it.setting.place.line, it.verdict) for it in written]
    assert found == [
        (2, Verdict.MAPPED),
        (3, Verdict.MAPPED),
        (4, Verdict.PASSED_OVER),
        (6, Verdict.PASSED_OVER),
        (7, Verdict.MAPPED),
        (7, Verdict.WARNED),
        (8, Verdict.MAPPED),
    ]


def test_a_refusal_of_the_reading_can_be_ignored(tmp_path: Path) -> None:
    assert [it.group for it in findings(tmp_path, YAML) if it.verdict is Verdict.REFUSED] == [
        "yaml-form"
    ]
    found = findings(tmp_path, YAML, ignored=["yaml-form"])
    assert [it.group for it in found if it.verdict is Verdict.WARNED] == ["yaml-form"]
    assert not [it for it in found if it.verdict is Verdict.REFUSED]


def test_an_option_that_is_ignored_has_no_finding_of_the_reading(tmp_path: Path) -> None:
    found = findings(tmp_path, INI + "chmod-socket = $(NO)\n", ignored=["chmod-socket"])
    assert [it.text for it in found if it.setting.name == "chmod-socket"] == [
        "--ignore leaves it out."
    ]


@pytest.mark.parametrize("name", ["user", "timeout", "modules", "app"])
@pytest.mark.parametrize("value", ["%({})", "%({} + 1)"])
def test_nobody_means_an_option_by_a_placeholder(tmp_path: Path, name: str, value: str) -> None:
    lines = f"{name} = 5\nmodule = {value.format(name)}\nsocket = :1\nmax-request = 5\n"
    found = findings(tmp_path, f"[uwsgi]\n{lines}")
    assert [it.verdict for it in found if it.setting.name == name] == [Verdict.PASSED_OVER]
    assert [it.verdict for it in found if it.setting.name == "max-request"] == [Verdict.WARNED]


def test_app_is_not_taken_for_pp(tmp_path: Path) -> None:
    found = findings(tmp_path, "[uwsgi]\napp = a\nmodule = a\nsocket = :1\nmax-request = 5\n")
    assert [it.verdict for it in found if it.setting.name == "app"] == [Verdict.PASSED_OVER]
