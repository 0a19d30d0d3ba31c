"""Which file the log goes to where several lines name one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.uwsgi.planning import findings, plan_of

DAEMONIZE, DAEMONIZE2 = "daemonize = /var/log/d.log", "daemonize2 = /var/log/d2.log"
LOGTO, LOGTO2 = "logto = /var/log/to.log", "logto2 = /var/log/to2.log"
LOGGER = "logger = file:/var/log/logger.log"


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ([DAEMONIZE, LOGTO], "/var/log/d.log"),
        ([LOGTO, DAEMONIZE], "/var/log/d.log"),
        ([LOGTO, DAEMONIZE2], "/var/log/d2.log"),
        ([LOGTO2, DAEMONIZE], "/var/log/to2.log"),
        ([DAEMONIZE2, LOGTO2], "/var/log/d2.log"),
        ([LOGTO], "/var/log/to.log"),
        ([DAEMONIZE, LOGGER], "/var/log/logger.log"),
    ],
)
def test_the_log_goes_where_uwsgi_has_it_in_the_end(
    tmp_path: Path, lines: list[str], path: str
) -> None:
    plan = plan_of(tmp_path, *lines)
    assert plan.values["log_file"] == path
    said = [it.text for it in plan.findings if "the log goes to" in it.text]
    assert all(it.endswith(f"the log goes to {path}.") for it in said)


def test_a_line_that_counts_for_nothing_says_so(tmp_path: Path) -> None:
    [finding] = findings(plan_of(tmp_path, DAEMONIZE, LOGTO), "logto")
    assert finding.text == "uWSGI logs to the file of daemonize."
