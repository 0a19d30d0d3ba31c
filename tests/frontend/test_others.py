"""Values that have no place in a configuration of Apache or lighttpd are refused, each with its option's name."""

from __future__ import annotations

from typing import Any

import pytest

from uwsgibridge.frontend.apache import render_apache
from uwsgibridge.frontend.lighttpd import render_lighttpd
from uwsgibridge.frontend.options import StaticDirectory
from uwsgibridge.frontend.others import Certificate, OtherSite
from uwsgibridge.frontend.values import OptionError


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--name", {"name": "x y"}),
        ("--upstream", {"upstreams": ()}),
        ("--upstream", {"upstreams": ("app; evil:3031",)}),
        ("--upstream", {"upstreams": ("fd://3",)}),
        ("--upstream", {"upstreams": ("app:0",)}),
        ("--upstream", {"upstreams": ('unix:/run/"x".sock',)}),
        ("--upstream", {"upstreams": ("unix:/run/a\nb.sock",)}),
        ("--upstream", {"upstreams": ("unix:/run/%{HTTP_HOST}.sock",)}),
        ("--listen", {"listen": ("80>",)}),
        ("--server-name", {"server_names": ("a b",)}),
        ("--server-name", {"server_names": ("_",)}),
        ("--server-name", {"server_names": (".example.org",)}),
        ("--static", {"static": (StaticDirectory("/s/", '/srv/"x"'),)}),
        ("--static", {"static": (StaticDirectory("/s/", "/srv/x\\y"),)}),
        ("--client-max-body-bytes", {"client_max_body_bytes": -1}),
        ("--read-timeout-seconds", {"read_timeout_seconds": 0}),
    ],
)
def test_a_site_names_the_option_that_is_wrong(option: str, values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"^{option}[ :,]"):
        OtherSite(**values)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--tls-certificate", {"file": "a.pem", "key": "/k"}),
        ("--tls-certificate-key", {"file": "/a", "key": '/k"'}),
        ("--tls-listen", {"file": "/a", "key": "/k", "listen": ("x",)}),
    ],
)
def test_tls_names_the_option_that_is_wrong(option: str, values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"^{option}[ :]"):
        Certificate(**values)


def test_lighttpd_counts_bodies_in_kib_and_never_takes_too_little() -> None:
    for size_bytes, line in ((0, " = 0"), (1, " = 1"), (1024, " = 1"), (1025, " = 2")):
        text = render_lighttpd(OtherSite(client_max_body_bytes=size_bytes))
        assert f"\nserver.max-request-size{line}\n" in text


def test_the_usual_ports_are_left_to_the_distributions_own_files() -> None:
    assert "\nListen" not in render_apache(OtherSite())
    assert "\nListen 8080\n" in render_apache(OtherSite(listen=("80", "8080")))
    assert "SERVER[" not in render_lighttpd(OtherSite())
    assert '\n$SERVER["socket"] == ":8080" { }\n' in render_lighttpd(
        OtherSite(listen=("80", "8080"))
    )
