"""Makes the plan of a configuration of uWSGI that a test has as a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uwsgibridge.migration.plan import Finding, Plan, Verdict
from uwsgibridge.migration.uwsgi.reading import read_configuration
from uwsgibridge.migration.uwsgi.table import make_plan


def plan_of(
    directory: Path, *lines: str, ignored: Sequence[str] = (), is_root: bool = False
) -> Plan:
    """Make the plan of ``[uwsgi]`` with a socket, a module and these lines."""
    text = ["[uwsgi]", "socket = 127.0.0.1:3031", "module = app", *lines]
    (directory / "a.ini").write_text("\n".join(text) + "\n")
    reading = read_configuration(["a.ini"], {}, str(directory))
    return make_plan(
        reading.settings,
        start=str(directory),
        is_root=is_root,
        ignored=ignored,
        findings=reading.findings,
    )


def verdicts(plan: Plan, name: str) -> list[Verdict]:
    """Give what becomes of an option."""
    return [it.verdict for it in findings(plan, name)]


def findings(plan: Plan, name: str) -> list[Finding]:
    """Give all that is said of an option."""
    return [it for it in plan.findings if it.setting.name == name]
