"""What stands behind a value is a part of it under uWSGI, and each such line is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.uwsgi.planning import findings, plan_of, verdicts
from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.table import _NAMES, ROW_OF


def test_each_of_the_groups_is_one() -> None:
    assert {it for it in _NAMES if ROW_OF[it].group != it} == set()


@pytest.mark.parametrize("name", sorted(_NAMES))
@pytest.mark.parametrize("comment", ["# why", "; why"])
def test_a_name_with_a_comment_is_warned_of(tmp_path: Path, name: str, comment: str) -> None:
    found = findings(plan_of(tmp_path, f"{name} = /s=a  {comment}"), name)
    text = f"uWSGI has no comments behind values: '/s=a  {comment}' is the whole value."
    assert [it.verdict for it in found if it.text == text] == [Verdict.WARNED]


@pytest.mark.parametrize(
    "line", ["pidfile = a#b", "attach-daemon = sleep 5 ; true", "log-format = %(uri) # %(status)"]
)
def test_what_is_no_comment_is_not(tmp_path: Path, line: str) -> None:
    name = line.partition(" ")[0]
    assert Verdict.WARNED not in verdicts(plan_of(tmp_path, line), name)
