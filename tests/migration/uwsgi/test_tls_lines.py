"""What uWSGI's sockets with TLS become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uwsgibridge.migration.plan import Plan, Verdict
from uwsgibridge.migration.uwsgi.reading import read_configuration
from uwsgibridge.migration.uwsgi.table import make_plan

TLS = {"bind_tls_certificate": ("/c.pem",), "bind_tls_key": ("/k.pem",)}


def plan_of(directory: Path, *lines: str) -> Plan:
    """Make the plan of a configuration with no other socket."""
    (directory / "a.ini").write_text("\n".join(["[uwsgi]", "module = app", *lines]) + "\n")
    reading = read_configuration(["a.ini"], {}, str(directory))
    return make_plan(
        reading.settings, start=str(directory), is_root=False, findings=reading.findings
    )


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (["suwsgi-socket = :3031,/c.pem,/k.pem"], {"bind": (":3031",), **TLS, "bind_tls_client_ca": None}),
        (["ssl-socket = /run/s,/c.pem,/k.pem"], {"bind": ("unix:/run/s",), **TLS}),
        (["suwsgi-socket = 127.0.0.1:1,/c.pem,/k.pem,HIGH,!/ca.pem"], {**TLS, "bind_tls_client_ca": "/ca.pem"}),
        (["suwsgi-socket = 127.0.0.1:1,/c.pem,/k.pem", "ssl-socket = 127.0.0.1:2,/c.pem,/k.pem"],
         {"bind": ("127.0.0.1:1", "127.0.0.1:2"), **TLS}),
    ],
)  # fmt: skip
def test_becomes_options(tmp_path: Path, lines: list[str], values: dict[str, Any]) -> None:
    plan = plan_of(tmp_path, *lines)
    assert {name: plan.values.get(name) for name in values} == values
    assert all(it.verdict is not Verdict.REFUSED for it in plan.findings)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["suwsgi-socket = :3031"], "ADDRESS,CERTIFICATE,KEY"),
        (["suwsgi-socket = :3031,/c.pem"], "ADDRESS,CERTIFICATE,KEY"),
        (["socket = :3032", "suwsgi-socket = :3031,/c.pem,/k.pem"], "All sockets speak TLS"),
        (["suwsgi-socket = :1,/c.pem,/k.pem", "suwsgi-socket = :2,/d.pem,/k.pem"], "the same certificate"),
        (["suwsgi-socket = :1,/c.pem,/k.pem", "suwsgi-socket = :2,/c.pem,/k.pem,,!/ca.pem"], "client CA"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused(tmp_path: Path, lines: list[str], says: str) -> None:
    refused = [
        it.text for it in plan_of(tmp_path, *lines).findings if it.verdict is Verdict.REFUSED
    ]
    assert any(says in it for it in refused), refused


def test_clients_without_a_certificate_are_warned_of(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "suwsgi-socket = :3031,/c.pem,/k.pem,,/ca.pem")
    assert plan.values["bind_tls_client_ca"] == "/ca.pem"
    assert any("each client needs one" in it.text for it in plan.findings)
