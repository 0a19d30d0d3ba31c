"""Addresses that uWSGI reads in its own way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.uwsgi.planning import findings, plan_of
from uwsgibridge.migration.plan import Verdict


def test_the_beginning_of_an_address_is_refused(tmp_path: Path) -> None:
    *_, found = findings(plan_of(tmp_path, "socket = 172.*:8000"), "socket")
    assert found.verdict is Verdict.REFUSED
    assert "begins with 172.;" in found.text


def test_a_star_alone_is_all_addresses(tmp_path: Path) -> None:
    assert plan_of(tmp_path, "socket = *:8000").values["bind"] == ("127.0.0.1:3031", ":8000")


@pytest.mark.parametrize("address", ["@app", "\\0app"])
def test_both_forms_of_an_abstract_socket_are_refused(tmp_path: Path, address: str) -> None:
    *_, found = findings(plan_of(tmp_path, f"socket = {address}"), "socket")
    assert found.verdict is Verdict.REFUSED
    assert "an abstract socket" in found.text
