"""What uWSGI's loggers for syslog become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.migration.uwsgi.planning import findings, plan_of
from uwsgibridge.migration.plan import Verdict

APP = "module = site:app"
DAEMON = {"syslog_facility": "daemon"}


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (["logger = syslog"], {"log_to": ("syslog",), "log_identifier": "uwsgi", **DAEMON}),
        (["logger = syslog:shop"], {"log_to": ("syslog",), "log_identifier": "shop", **DAEMON}),
        (["logger = syslog:shop,local6"], {"log_to": ("syslog",), "log_identifier": "shop", "syslog_facility": "local6"}),
        (["log-syslog = shop"], {"log_to": ("syslog",), "log_identifier": "shop", **DAEMON}),
        (["log-syslog"], {"log_to": ("syslog",), "log_identifier": "uwsgi", **DAEMON}),
        (["logger = rsyslog:192.0.2.1:5514,shop"], {"log_to": ("syslog:192.0.2.1:5514",), "log_identifier": "shop", **DAEMON}),
        (["logger = rsyslog:192.0.2.1"], {"log_to": ("syslog:192.0.2.1:514",), "log_identifier": "uwsgi", **DAEMON}),
        (["logger = syslog:a", "logger = file:/var/log/a.log"], {"log_to": ("stderr", "syslog"), "log_file": "/var/log/a.log"}),
        (["req-logger = syslog:shop"], {"log_to": ("stderr", "syslog"), "access_log": True}),
        (["logger = syslog:shop", "req-logger = rsyslog:192.0.2.1:514,shop"], {"log_to": ("syslog", "syslog:192.0.2.1:514"), "access_log": True}),
    ],
)  # fmt: skip
def test_becomes_a_place_of_the_log(
    tmp_path: Path, lines: list[str], values: dict[str, Any]
) -> None:
    plan = plan_of(tmp_path, APP, *lines)
    assert {name: plan.values.get(name) for name in values} == values


@pytest.mark.parametrize("line", ["logger = syslog:a b", "logger = syslog:shop,kern"])
def test_what_syslog_does_not_take_is_warned_of(tmp_path: Path, line: str) -> None:
    plan = plan_of(tmp_path, APP, line)
    (found,) = findings(plan, "logger")
    assert found.verdict is Verdict.WARNED
    assert "standard error alone" in found.text
    assert "log_to" not in plan.values


def test_the_same_place_twice_has_each_line_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, APP, "logger = syslog:shop,local0", "req-logger = syslog:shop,local0")
    assert plan.values["log_to"] == ("syslog",)
    assert plan.values["access_log"] is True
    found = findings(plan, "req-logger")
    assert [it.verdict for it in found] == [Verdict.WARNED, Verdict.MAPPED]
    assert "those of the access log as well" in found[0].text


@pytest.mark.parametrize("second", ["syslog:requests,local1", "rsyslog:192.0.2.1:514,requests"])
def test_two_loggers_with_two_names_have_the_first_one(tmp_path: Path, second: str) -> None:
    plan = plan_of(tmp_path, APP, "logger = syslog:shop,local0", f"req-logger = {second}")
    assert (plan.values["log_identifier"], plan.values["syslog_facility"]) == ("shop", "local0")
    _, told, _ = findings(plan, "req-logger")
    assert told.verdict is Verdict.WARNED
    assert "--log-identifier shop --syslog-facility local0" in told.text


def test_two_loggers_with_one_name_are_no_difference(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, APP, "logger = syslog:shop", "logger = rsyslog:192.0.2.1:514,shop")
    assert plan.values["log_to"] == ("syslog", "syslog:192.0.2.1:514")
    assert {it.verdict for it in findings(plan, "logger")} == {Verdict.MAPPED}
