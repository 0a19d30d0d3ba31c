"""Numbers of uWSGI are what atoi(3) reads: ASCII digits, behind one sign at the most."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.uwsgi.planning import plan_of, verdicts
from uwsgibridge.migration.plan import Verdict
from uwsgibridge.migration.uwsgi.meaning import is_plain_number, number


@pytest.mark.parametrize("text", ["\u0663", "--5", "+-5", "\uff13", "- 5"])
def test_what_atoi_does_not_read_is_no_number(text: str, tmp_path: Path) -> None:
    assert number(text) == 0
    assert not is_plain_number(text)
    assert verdicts(plan_of(tmp_path, f"processes = {text}"), "processes")[-1] is Verdict.REFUSED


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:\u0663\u0660\u0663\u0661", "127.0.0.1:", "127.0.0.1:%(port)", "/run/a:b.sock"],
)
def test_what_has_a_colon_and_no_port_is_no_address(text: str, tmp_path: Path) -> None:
    # uWSGI 2.0.31 listens on a TCP port by chance with each of them.
    assert Verdict.REFUSED in verdicts(plan_of(tmp_path, f"socket = {text}"), "socket")
